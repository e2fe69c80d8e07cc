"""What is shown of migrations, jobs and events: the numbers, and that they cost one query."""

import datetime

import pytest
from django.db import connections
from django.utils import timezone

from background_migrations.errors import UnknownMigrationError
from background_migrations.models import BackgroundMigration
from background_migrations.reports import Defaults, event_reports, job_reports, migration_reports
from background_migrations.status import FailureErrorCode, Status
from background_migrations.work import WorkFunction
from tests.api_client import CountingCursor
from tests.factories import (
    BackgroundMigrationFactory,
    BackgroundMigrationJobFactory,
    ControlFactory,
    EventFactory,
    JobProgressFactory,
)

pytestmark = pytest.mark.django_db(databases=["registry"])

GRACE = 30.0
DEFAULTS = Defaults(functions={}, interval=0.0, grace=GRACE)


@pytest.fixture
def connection(monkeypatch):
    """The registry's connection, in the test's transaction, without seeded migrations."""
    BackgroundMigration.objects.all().delete()
    connections["registry"].ensure_connection()
    monkeypatch.setattr(connections["registry"].connection, "cursor_factory", CountingCursor)
    monkeypatch.setattr(CountingCursor, "queries", 0)
    return connections["registry"].connection


def only(connection, defaults=DEFAULTS, **options):
    (report,) = migration_reports(connection, defaults=defaults, **options)
    return report


def finished_pieces(migration, count, **values):
    for _ in range(count):
        JobProgressFactory(job__background_migration=migration, **values)


def claimed_piece(migration, **values):
    job = BackgroundMigrationJobFactory(background_migration=migration, status=1, finished_at=None)
    return JobProgressFactory(job=job, claimed=True, **{"rows": 0, **values})


# --- Migrations ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("migrations", [0, 1, 40])
def test_the_status_of_any_number_of_migrations_is_one_query(connection, migrations):
    for _ in range(migrations):
        migration = BackgroundMigrationFactory(running=True)
        finished_pieces(migration, 2)
        ControlFactory(migration=migration)
    CountingCursor.queries = 0
    assert len(migration_reports(connection, defaults=DEFAULTS)) == migrations
    assert CountingCursor.queries == 1


def test_migrations_come_by_id_with_their_columns(connection):
    names = ["b", "c", "a"]
    for name in names:
        BackgroundMigrationFactory(name=name)
    reports = migration_reports(connection, defaults=DEFAULTS)
    assert [report.name for report in reports] == names
    assert [report.name for report in migration_reports(connection, defaults=DEFAULTS, names=["a", "b"])] == ["b", "a"]
    report = reports[0]
    assert (report.status, report.job_signature_name) == (Status.ACTIVE, "populateBlobsIDColumn")
    assert (report.table_name, report.column_name, report.batch_size) == ("public.blobs", "id", 100)
    assert (report.min_value, report.max_value, report.batching_strategy) == (1, 2**63 - 1, None)
    assert report.created_at.tzinfo is not None
    assert (report.jobs, report.rows_done, report.throttled_by) == (0, 0, "")


def test_an_unknown_name_is_told(connection):
    BackgroundMigrationFactory(name="known")
    with pytest.raises(UnknownMigrationError, match="'missing'"):
        migration_reports(connection, defaults=DEFAULTS, names=["known", "missing"])


def test_no_names_are_not_all_names(connection):
    BackgroundMigrationFactory()
    assert migration_reports(connection, defaults=DEFAULTS, names=[]) == []


def test_progress_counts_rows_of_finished_pieces_and_what_the_others_have_done(connection):
    migration = BackgroundMigrationFactory(running=True, total_tuple_count=1_000)
    finished_pieces(migration, 3, rows=1)  # rows touched may be few: the batch is done all the same
    claimed_piece(migration, size=100, rows=50)
    report = only(connection)
    assert (report.rows_done, report.progress.percent, report.progress.capped) == (350, 35.0, False)
    assert (report.jobs, report.jobs_finished, report.jobs_running, report.jobs_failed) == (4, 3, 1, 0)


def test_a_piece_counts_no_more_than_its_size_until_it_is_finished(connection):
    migration = BackgroundMigrationFactory(running=True, total_tuple_count=1_000)
    claimed_piece(migration, size=100, rows=5_000)
    assert only(connection).progress.percent == 10.0


def test_jobs_of_gitlab_s_worker_count_by_the_migration_s_batch_size(connection):
    migration = BackgroundMigrationFactory(running=True, batch_size=250, total_tuple_count=1_000)
    BackgroundMigrationJobFactory.create_batch(2, background_migration=migration)
    finished_pieces(migration, 1)
    BackgroundMigrationJobFactory(background_migration=migration, failed=True)
    report = only(connection)
    assert (report.rows_done, report.progress.percent) == (600, 60.0)
    assert (report.jobs, report.jobs_finished, report.jobs_failed) == (4, 3, 1)


@pytest.mark.parametrize("jobs", [10, 15])
def test_progress_is_capped_while_the_estimate_is_used_up_and_not_all_is_done(connection, jobs):
    finished_pieces(BackgroundMigrationFactory(running=True, total_tuple_count=1_000), jobs)
    progress = only(connection).progress
    assert (progress.percent, progress.capped, progress.seconds_left) == (99.9, True, None)


def test_a_finished_migration_is_at_100_percent_whatever_was_estimated(connection):
    BackgroundMigrationFactory(status=int(Status.FINISHED), total_tuple_count=None)
    progress = only(connection).progress
    assert (progress.percent, progress.capped, progress.seconds_left) == (100.0, False, 0.0)


@pytest.mark.parametrize("total", [None, 0])
def test_without_an_estimate_a_migration_is_listed_without_progress(connection, total):
    finished_pieces(BackgroundMigrationFactory(running=True, total_tuple_count=total), 1)
    progress = only(connection).progress
    assert (progress.percent, progress.seconds_left) == (None, None)
    assert progress.rate == 200.0


def test_numbers_too_large_for_a_bigint_in_between_do_no_harm(connection):
    migration = BackgroundMigrationFactory(running=True, batch_size=2**31 - 1, total_tuple_count=2**62)
    BackgroundMigrationJobFactory.create_batch(3, background_migration=migration)
    assert only(connection).rows_done == 3 * (2**31 - 1)


# --- Pace ---------------------------------------------------------------------------------------------------------


def test_rate_and_time_left_come_from_the_last_jobs(connection):
    migration = BackgroundMigrationFactory(running=True, total_tuple_count=4_000)
    finished_pieces(migration, 5, size=100, seconds=0.5)
    progress = only(connection).progress
    assert progress.rate == pytest.approx(200.0)
    assert progress.seconds_left == pytest.approx(3_500 / 200)


def test_only_the_last_20_jobs_make_the_pace(connection):
    migration = BackgroundMigrationFactory(running=True, total_tuple_count=10_000)
    long_ago = timezone.now() - datetime.timedelta(days=1)
    finished_pieces(migration, 30, seconds=100.0, ended_at=long_ago)
    finished_pieces(migration, 20, seconds=0.5)
    assert only(connection).progress.rate == pytest.approx(200.0)


def test_pauses_between_jobs_count_and_a_control_beats_the_function_and_the_function_the_setting(connection):
    migration = BackgroundMigrationFactory(running=True, total_tuple_count=10_000, job_signature_name="slow")
    finished_pieces(migration, 1)
    slow = WorkFunction(run=lambda *_: 0, interval_seconds=9.5)
    assert only(connection, Defaults(functions={}, interval=1.5, grace=GRACE)).progress.rate == pytest.approx(50.0)
    defaults = Defaults(functions={"slow": slow}, interval=1.5, grace=GRACE)
    assert only(connection, defaults).progress.rate == pytest.approx(10.0)
    ControlFactory(migration=migration, interval_seconds=0.0)
    assert only(connection, defaults).progress.rate == pytest.approx(200.0)


def test_jobs_side_by_side_multiply_the_rate(connection):
    migration = BackgroundMigrationFactory(running=True, total_tuple_count=10_000)
    finished_pieces(migration, 4)
    ControlFactory(migration=migration, max_parallel_jobs=4)
    assert only(connection).progress.rate == pytest.approx(800.0)


def test_jobs_that_took_no_time_at_all_are_no_division_by_zero(connection):
    migration = BackgroundMigrationFactory(running=True, total_tuple_count=10_000)
    finished_pieces(migration, 1, seconds=0.0)
    assert only(connection).progress.rate is None


@pytest.mark.parametrize("status", [Status.PAUSED, Status.FAILED])
def test_what_does_not_run_has_no_pace(connection, status):
    finished_pieces(BackgroundMigrationFactory(status=int(status), total_tuple_count=1_000), 1)
    progress = only(connection).progress
    assert (progress.percent, progress.rate, progress.seconds_left) == (10.0, None, None)


# --- What holds it up ---------------------------------------------------------------------------------------------


def test_a_throttled_migration_says_by_what_and_why(connection):
    migration = BackgroundMigrationFactory(running=True)
    ControlFactory(migration=migration, throttled_by="wal_archive", throttled_reason="It is 50 segments behind.")
    report = only(connection)
    assert (report.throttled_by, report.throttled_reason) == ("wal_archive", "It is 50 segments behind.")


def test_a_claim_without_a_recent_sign_of_life_does_not_run(connection):
    migration = BackgroundMigrationFactory(running=True)
    claimed_piece(migration)
    claimed_piece(migration, seen_at=timezone.now() - datetime.timedelta(seconds=GRACE + 5))
    assert only(connection).jobs_running == 1


def test_an_unfinished_claim_on_gitlab_s_database_is_no_failed_job(connection):
    migration = BackgroundMigrationFactory(running=True)
    piece = claimed_piece(migration)
    migration.jobs.filter(pk=piece.job_id).update(status=int(Status.FAILED))
    report = only(connection)
    assert (report.jobs_running, report.jobs_failed) == (1, 0)
    ((job),) = job_reports(connection, migration.name, grace=GRACE)
    assert job.state == "running"


# --- Jobs ---------------------------------------------------------------------------------------------------------


def job_states(connection, migration, **options):
    return [job.state for job in job_reports(connection, migration.name, grace=GRACE, **options)]


def test_each_state_of_a_job_has_its_name(connection):
    migration = BackgroundMigrationFactory(running=True)
    soon = timezone.now() + datetime.timedelta(minutes=1)
    finished_pieces(migration, 1)
    claimed_piece(migration, worker="host:7")
    for values in ({"retry_at": soon}, {"set_aside": True}):
        job = BackgroundMigrationJobFactory(background_migration=migration, failed=True)
        JobProgressFactory(job=job, waiting=True, **values)
    claimed_piece(migration, seen_at=timezone.now() - datetime.timedelta(hours=1))
    BackgroundMigrationJobFactory(background_migration=migration)
    BackgroundMigrationJobFactory(background_migration=migration, failed=True)
    states = ["finished", "running", "failed", "set aside", "waiting", "finished", "failed"]
    assert job_states(connection, migration) == states
    _, running, failed, *_ = job_reports(connection, migration.name, grace=GRACE)
    assert (running.worker, running.retry_at) == ("host:7", None)
    assert (failed.worker, failed.retry_at) == (None, soon)


def test_pieces_of_a_job_are_summed_up_and_it_is_set_aside_when_all_that_is_left_is(connection):
    migration = BackgroundMigrationFactory(running=True)
    job = BackgroundMigrationJobFactory(background_migration=migration, failed=True, min_value=1, max_value=100)
    JobProgressFactory(job=job, min_value=1, max_value=50, rows=50)
    JobProgressFactory(job=job, min_value=51, max_value=75, rows=7, waiting=True, set_aside=True)
    (report,) = job_reports(connection, migration.name, grace=GRACE)
    assert (report.state, report.pieces, report.rows, report.seconds) == ("set aside", 2, 57, 1.0)
    assert report.next_value == 51
    JobProgressFactory(job=job, min_value=76, max_value=100, waiting=True)
    (report,) = job_reports(connection, migration.name, grace=GRACE)
    assert (report.state, report.pieces, report.next_value) == ("failed", 3, 51)


def test_jobs_are_listed_in_pages_and_the_failed_ones_alone(connection):
    migration = BackgroundMigrationFactory(running=True)
    jobs = BackgroundMigrationJobFactory.create_batch(5, background_migration=migration)
    failed = BackgroundMigrationJobFactory.create_batch(3, background_migration=migration, failed=True)
    BackgroundMigrationJobFactory()

    def ids(**options):
        return [job.id for job in job_reports(connection, migration.name, grace=GRACE, **options)]

    assert ids() == [job.id for job in [*jobs, *failed]]
    assert ids(limit=2) == [jobs[0].id, jobs[1].id]
    assert ids(after=jobs[1].id, limit=2) == [jobs[2].id, jobs[3].id]
    assert ids(failed_only=True) == [job.id for job in failed]
    assert ids(after=failed[-1].id) == []


# --- Events -------------------------------------------------------------------------------------------------------


def test_events_come_newest_first_and_of_one_migration_alone(connection):
    migration = BackgroundMigrationFactory()
    now = timezone.now()
    for number in range(5):
        # Clocks may go back; what was written later happened later.
        EventFactory(migration=migration, reason=str(number), created_at=now - datetime.timedelta(hours=number))
        EventFactory()
    assert [event.reason for event in event_reports(connection, migration.name)] == ["4", "3", "2", "1", "0"]
    assert [event.reason for event in event_reports(connection, migration.name, limit=2)] == ["4", "3"]


def test_an_event_carries_who_what_and_the_error(connection):
    migration = BackgroundMigrationFactory()
    EventFactory(
        migration=migration,
        kind="job_failed",
        actor="host:1",
        job_id=7,
        old_status=None,
        new_status=None,
        reason="duplicate key",
        error_class="UniqueViolation",
        sqlstate="23505",
    )
    (event,) = event_reports(connection, migration.name)
    assert (event.kind, event.actor, event.job_id) == ("job_failed", "host:1", 7)
    assert (event.old_status, event.new_status) == (None, None)
    assert (event.error_class, event.sqlstate, event.reason) == ("UniqueViolation", "23505", "duplicate key")


@pytest.mark.parametrize("read", [lambda *a: job_reports(*a, grace=GRACE), event_reports])
def test_jobs_and_events_of_an_unknown_migration_are_an_error(connection, read):
    with pytest.raises(UnknownMigrationError, match="'missing'"):
        read(connection, "missing")


def test_a_failure_code_of_a_later_release_is_shown_as_it_is(connection):
    BackgroundMigrationFactory(failed=True, name="known")
    BackgroundMigrationFactory(failed=True, name="unknown", failure_error_code=99)
    known, unknown = migration_reports(connection, defaults=DEFAULTS)
    assert (known.failure_error_code, unknown.failure_error_code) == (FailureErrorCode.MAX_JOB_RETRY, 99)
