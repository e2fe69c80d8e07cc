"""Help, what makes no sense, and what is shown: status, jobs, events, samples."""

import json
import re
from dataclasses import fields

import pytest

from background_migrations import arguments, services
from background_migrations.reports import EventReport, JobReport, MigrationReport
from background_migrations.sampling import Sample
from registry_project.management.commands.background_migrate import Command
from tests.background_migrations.by_hand import hand
from tests.background_migrations.cli.conftest import fail, statuses

LONG_NAME = "copy_" + "a_very_long_name_" * 5
CONTROLS = [f"--{control.replace('_', '-')}" for control in services.CONTROLS]
OPTIONS = {
    "status": ["--json", "--watch"],
    "pause": ["--json"],
    "resume": ["--json"],
    "run": ["--json", "--max-job-retry", "-r", "--concurrency"],
    "worker": ["--json", "--concurrency", "--interval", "--once"],
    "queue": ["--json", "--gitlab-worker-stopped"],
    "control": ["--json", *CONTROLS],
    "retry": ["--json"],
    "restart": ["--json"],
    "jobs": ["--json", "--failed", "--limit", "--after"],
    "sample": ["--json", "--rows"],
    "events": ["--json", "--limit"],
}


# --- Help and what makes no sense ----------------------------------------------------------------------------------


def test_there_is_every_command(run):
    code, out, _ = run("--help")
    assert code == 0
    assert set(OPTIONS) == set(arguments.COMMANDS)
    for command in OPTIONS:
        assert re.search(rf"^    {command} ", out, re.MULTILINE)
    assert "python manage.py background_migrate status" in out


@pytest.mark.parametrize(("command", "options"), OPTIONS.items())
def test_help_names_every_option_and_has_examples(run, command, options):
    code, out, _ = run(command, "--help")
    assert code == 0
    for option in options:
        assert f"{option} " in out or f"{option}\n" in out or f"{option}," in out
    assert f"examples:\n  python manage.py background_migrate {command}" in out
    assert max(map(len, out.splitlines())) <= 120


@pytest.mark.parametrize("command", arguments.COMMANDS)
def test_the_examples_can_be_typed(command):
    for example in arguments.COMMANDS[command][1].splitlines():
        parser = Command().create_parser("manage.py", "background_migrate")
        assert parser.parse_args(example.split()).background_command == command


@pytest.mark.parametrize(
    ("words", "text"),
    [
        ([], "status|pause|resume|run"),
        (["explode"], "invalid choice: 'explode'"),
        (["status", "--wach"], "--wach"),
        (["status", "one", "two"], "unrecognized arguments: two"),
        (["status", "--watch", "--json"], "not allowed with argument"),
        (["run", "-r", "0"], "'0' is not a whole number from 1 to 10"),
        (["run", "--max-job-retry", "11"], "'11' is not a whole number from 1 to 10"),
        (["run", "--max-job-retry", "many"], "'many' is not a whole number"),
        (["run", "--concurrency", "0"], "from 1 to 100"),
        (["worker", "--concurrency", "101"], "from 1 to 100"),
        (["worker", "--concurrency", "1.5"], "'1.5' is not a whole number"),
        (["worker", "--interval", "-1"], "'-1' is not a number of seconds"),
        (["worker", "--interval", "nan"], "'nan' is not a number of seconds"),
        (["worker", "--interval", "soon"], "'soon' is not a number of seconds"),
        (["worker", "count"], "unrecognized arguments: count"),
        (["retry"], "required: name"),
        (["restart"], "required: name"),
        (["jobs"], "required: name"),
        (["events"], "required: name"),
        (["sample"], "required: name"),
        (["control"], "required: name"),
        (["queue"], "required: name"),
        (["jobs", "count", "--limit", "0"], "'0' is not a whole number from 1"),
        (["jobs", "count", "--after", "-1"], "'-1' is not a whole number from 0"),
        (["jobs", "count", "--after", str(2**63)], "is not a whole number from 0 to 9223372036854775807"),
        (["events", "count", "--limit", "9" * 5_000], "--limit"),
        (["sample", "count", "--rows", "0"], "'0' is not a whole number from 1"),
        (["control", "count", "--batch-size", "many"], "'many' is not a whole number, nor `default`"),
        (["control", "count", "--interval-seconds", "soon"], "'soon' is not a number of seconds, nor `default`"),
        (["control", "count", "--adaptive", "maybe"], "'maybe' is not true or false, nor `default`"),
        (["control", "count", "--hold-until", "2026-12-01T20:00"], "is not a time with its zone"),
        (["control", "count", "--hold-until", "2026-13-01T20:00Z"], "is not a time with its zone"),
        (["control", "count", "--hold-until", "tomorrow"], "nor `default`"),
        (["control", "count", "--colour", "red"], "unrecognized arguments: --colour red"),
    ],
)
def test_a_command_line_that_makes_no_sense_is_exit_code_2_and_changes_nothing(bench, run, words, text):
    bench.queue()
    code, out, err = run(*words)
    assert (code, out) == (2, "")
    assert text in err.splitlines()[-1] or text in err
    assert err.splitlines()[-1].startswith("manage.py background_migrate")
    assert statuses(bench) == {"count": "active"}


@pytest.mark.parametrize("command", ["status", "pause", "resume", "run", "control", "retry", "restart", "jobs"])
def test_an_unknown_name_is_one_line_that_says_what_lists_them(bench, refused, command):
    bench.queue("paused", status=0)
    bench.queue("active")
    assert "There is no background migration 'missing'; `background_migrate status` lists them." in refused(
        command, "missing"
    )
    assert statuses(bench) == {"paused": "paused", "active": "active"}


@pytest.mark.parametrize("command", ["events", "sample"])
def test_so_is_one_whose_events_or_sample_are_asked_for(refused, command):
    assert "'missing'" in refused(command, "missing")


def test_a_refusal_ends_with_a_line_break(run):
    assert run("status", "missing")[2].endswith("lists them.\n")


# --- Status --------------------------------------------------------------------------------------------------------


def test_status_without_any_migration_says_so(done):
    assert done("status") == "There is no background migration.\n"
    assert json.loads(done("status", "--json")) == {"migrations": []}


def test_status_is_a_line_for_each_migration_with_every_column(bench, done):
    bench.fill(100)
    bench.control(bench.queue(batch_size=25, max_value=100), throttled_by="wal_archive", throttled_reason="too much")
    bench.queue("other", status=0)
    with hand(bench, interval=1.0) as worker:
        worker.execute()
    bench.control(bench.one("SELECT min(id) FROM batched_background_migrations"), throttled_by="wal_archive")
    heading, first, second = done("status").splitlines()
    columns = ["name", "status", "progress", "jobs done", "failed", "rows/s", "time left", "throttled by"]
    assert re.split(r"\s{2,}", heading) == columns
    assert re.fullmatch(r"count +running +25\.0 % +1 +0 +[\d,]+ +\d+ s +wal_archive", first)
    assert re.fullmatch(r"other +paused +0 +0", second)
    assert first.index("running") == heading.index("status") == second.index("paused")


def test_long_names_and_many_digits_break_no_line(bench, done):
    bench.queue(LONG_NAME, max_value=2**63 - 1)
    lines = done("status").splitlines()
    assert len(lines) == 2
    assert lines[1].startswith(f"{LONG_NAME}  active")


def test_status_as_json_has_every_fact(bench, done):
    bench.queue()
    (found,) = json.loads(done("status", "--json"))["migrations"]
    assert set(found) == {field.name for field in fields(MigrationReport)}
    assert (found["name"], found["status"], found["failure_error_code"]) == ("count", "active", None)
    assert found["progress"] == {"percent": None, "capped": False, "rate": None, "seconds_left": None}
    assert re.match(r"\d{4}-\d\d-\d\dT", found["created_at"])
    assert json.loads(done("status", "count", "--json"))["migrations"] == [found]


def test_status_of_one_says_all_that_is_known(bench, done):
    fail(bench)
    bench.control(bench.one("SELECT id FROM batched_background_migrations"), batch_size=5_000, adaptive=True)
    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in done("status", "count").splitlines())
    assert (facts["status"], facts["failure"], facts["jobs"]) == (
        "failed",
        "max_job_retry",
        "0 finished, 0 running, 2 failed",
    )
    assert facts["last error"].endswith("ValueError it never works")
    assert facts["controls"] == "batch-size 5000, adaptive true"
    assert (facts["table"], facts["strategy"], facts["bounds"]) == ("public.counters by id", "keyset", "1 to 20")
    assert facts["created"].endswith(" UTC")
    bench.control(bench.queue("throttled"), throttled_by="hook", throttled_reason="It is dinner time.")
    assert "\nthrottled by     hook: It is dinner time.\n" in done("status", "throttled")


def test_times_are_shown_in_the_configured_zone(bench, done, settings):
    settings.TIME_ZONE = "Asia/Tokyo"
    bench.queue()
    bench.connection.execute("UPDATE batched_background_migrations SET created_at = '2026-07-03 16:29:12.74+01'")
    assert "created          2026-07-04 00:29:12 JST\n" in done("status", "count")


# --- Jobs, events, sample ------------------------------------------------------------------------------------------


def test_jobs_are_listed_with_their_states(bench, done):
    bench.queue()
    assert done("jobs", "count") == "count has no job yet.\n"
    bench.connection.execute("DELETE FROM batched_background_migrations")
    fail(bench)
    heading, first, second = done("jobs", "count").splitlines()
    columns = ["job", "from", "to", "state", "attempts", "rows", "seconds", "worker", "next attempt"]
    assert heading.split("  ")[-1] == columns[-1]
    assert all(column in heading for column in columns)
    assert re.fullmatch(r" *\d+ +1 +10 +set aside +1 +0 +0\.000", first)
    assert re.fullmatch(r" *\d+ +11 +20 +set aside +1 +0 +0\.000", second)
    found = json.loads(done("jobs", "count", "--json"))["jobs"]
    assert [set(job) for job in found] == [{field.name for field in fields(JobReport)}] * 2
    assert (found[0]["state"], found[0]["status"], found[0]["failure_error_code"]) == ("set aside", "failed", 0)


def test_jobs_are_shown_in_pages(bench, done):
    bench.fill(30)
    bench.queue(batch_size=10, max_value=30)
    with hand(bench) as worker:
        worker.work_off()
    *_, last, more = done("jobs", "count", "--limit", "2").splitlines()
    last_id = last.split()[0]
    assert more == f"There may be more: --after {last_id}"
    (left,) = json.loads(done("jobs", "count", "--after", last_id, "--json"))["jobs"]
    assert left["min_value"] == 21
    assert json.loads(done("jobs", "count", "--failed", "--json")) == {"jobs": []}
    assert done("jobs", "count", "--failed") == "count has no failed job.\n"


def test_events_come_newest_first_in_one_line_each(bench, done):
    assert "'count'" not in done("status")
    fail(bench)
    lines = done("events", "count").splitlines()
    assert re.match(r"time +event +status +by +reason", lines[0])
    assert len(lines) == 1 + len(bench.rows("SELECT FROM registry_admin.background_migration_events"))
    assert re.search(r"Z?UTC +status +running → failed +tests +2 of its jobs had their last attempt", lines[1])
    assert re.search(r"job_set_aside \d+ +tests +ValueError it never works$", lines[2])
    found = json.loads(done("events", "count", "--limit", "1", "--json"))["events"]
    assert [set(event) for event in found] == [{field.name for field in fields(EventReport)}]
    assert (found[0]["old_status"], found[0]["new_status"]) == ("running", "failed")


def test_a_migration_without_events_says_so(bench, done):
    bench.queue()
    assert done("events", "count") == "Nothing has happened to count yet.\n"


def test_sample_prints_what_a_batch_takes_and_changes_nothing(bench, done):
    bench.fill(100)
    bench.queue(batch_size=10)
    out = done("sample", "count", "--rows", "20")
    facts = dict(re.split(r"\s{2,}", line, maxsplit=1) for line in out.splitlines()[:5])
    assert (facts["batch"], facts["rows touched"]) == ("1 to 20", "20")
    assert 'UPDATE "public"."counters"' in facts["slowest statement"]
    assert "Update on counters" in out
    assert out.endswith("Nothing was changed.\n")
    found = json.loads(done("sample", "count", "--json"))
    assert set(found) == {field.name for field in fields(Sample)}
    assert bench.hits() == {0: 100}


def test_a_long_plan_is_cut_and_json_has_all_of_it(bench, done):
    table = {"table": "public.manifests", "function": "copyManifestMediaTypeIDToNewBigIntColumn"}
    bench.queue(**table)
    out = done("sample", "count")
    assert len(out.splitlines()) < 60
    assert re.search(r"^… \d+ more lines; --json prints them all$", out, re.MULTILINE)
    assert json.loads(done("sample", "count", "--json"))["plan"].count("\n") > 60


def test_what_a_sampled_function_raises_is_one_line(bench, refused):
    bench.queue(function="broken")
    assert "it never works" in refused("sample", "count")
