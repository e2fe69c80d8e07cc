"""The pages of imports: what runs, what ended and how, what was left out; who may look; what they take at full size."""

import datetime

import pytest
from django.db import connections
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.utils import timezone

from metadata_import.models import ImportRun, ImportStatus
from metadata_import.statistics import Counts, ImportReport, Mode, facts
from tests.api_client import counted_statements
from tests.factories import (
    ImportItemFactory,
    ImportLeaseFactory,
    ImportRunFactory,
    ImportSkipFactory,
    UserFactory,
)
from tests.metadata_import.import_crowd import make_imports
from tests.staff import client_of

pytestmark = pytest.mark.django_db(databases=["default", "registry"])

HERE = "/admin/metadata_import/importrun/"
OWN = 4  # session, user, and permissions of the user and of its groups


@pytest.fixture
def viewer(db):
    return client_of("Viewer")


def page_of(run: ImportRun) -> str:
    return f"{HERE}{run.pk}/change/"


def text_of(answer) -> str:
    assert answer.status_code == 200, answer
    return answer.content.decode()


def a_report(**skip_counts: int) -> dict:
    """Return what a finished attempt leaves."""
    return facts(
        ImportReport(
            storage_driver="filesystem",
            root="/srv/registry",
            mode=Mode.FULL,
            dry_run=False,
            attempts=1,
            started_at=timezone.now(),
            finished_at=timezone.now(),
            seconds=75.0,
            steps=(),
            counts=Counts(5, 1234, 12, 23, 4096),
            newly_counted=Counts(),
            inserted_rows={"tags": 1230},
            skip_counts=skip_counts,
        )
    )


def test_a_run_is_told_apart_from_one_whose_process_is_gone(viewer):
    killed = ImportRunFactory(actor="gone@host, process 1")
    alive = ImportRunFactory()
    ImportLeaseFactory()
    states = {line.state.run.pk: line.status for line in viewer.get(HERE).context["lines"]}
    assert states == {alive.pk: "running", killed.pk: "killed"}
    page = text_of(viewer.get(page_of(killed)))
    assert "python manage.py database import /srv/registry" in page
    assert "goes on where it stopped" in page


def test_a_lease_that_is_not_renewed_or_whose_session_is_gone_keeps_nothing_alive(viewer, settings):
    ImportRunFactory()
    long_ago = timezone.now() - datetime.timedelta(seconds=settings.IMPORT_GRACE_SECONDS + 60)
    for facts_of_lease in ({"seen_at": long_ago}, {"backend_pid": 2**31 - 1}):
        lease = ImportLeaseFactory(**facts_of_lease)
        (line,) = viewer.get(HERE).context["lines"]
        assert line.status == "killed"
        lease.delete()


def test_a_running_one_says_how_far_it_is_at_which_rate_and_for_how_long(viewer):
    run = ImportRunFactory()
    ImportLeaseFactory()
    ImportItemFactory.create_batch(4, run_id=run.pk, tags=100)
    ImportItemFactory.create_batch(1, run_id=run.pk, finished_at=None, tags=0)
    line = viewer.get(page_of(run)).context["line"]
    assert line.percent == "68.0 %"  # 4 of 5 repositories, which are 85 of 100 of a whole import
    assert line.rate == "1 tags/s"
    assert line.time_left == "4\xa0minutes"
    page = text_of(viewer.get(f"{HERE}{run.pk}/live/"))
    assert "every 3s" in page
    assert "4 of 5 repositories" in page
    assert "4\xa0minutes left" in text_of(viewer.get(f"{HERE}live/"))


def test_one_that_goes_on_has_the_pace_of_this_attempt_alone(viewer):
    run = ImportRunFactory(started_at=timezone.now() - datetime.timedelta(days=2), attempts=2)
    ImportLeaseFactory(taken_at=timezone.now() - datetime.timedelta(seconds=1_000))
    yesterday = timezone.now() - datetime.timedelta(days=1)
    ImportItemFactory.create_batch(5, run_id=run.pk, tags=1_000, finished_at=yesterday)
    ImportItemFactory(run_id=run.pk, tags=10_000)
    answer = viewer.get(page_of(run))
    assert answer.context["line"].rate == "10 tags/s"
    assert answer.context["report"]["counts"]["tags"] == 15_000


def test_an_ended_one_shows_the_report_of_its_last_attempt(viewer):
    run = ImportRunFactory(ended=True, report=a_report(tag_link_missing=7))
    assert "1,234 tags" in text_of(viewer.get(HERE))
    answer = viewer.get(page_of(run))
    assert answer.context["counts"][1] == ("tags", "1,234", "1,230", "")
    assert "every 15s" in text_of(answer)


def test_a_failed_one_shows_its_error_and_the_next_step(viewer):
    run = ImportRunFactory(status=ImportStatus.FAILED, ended_at=timezone.now(), mode="step two", error="<b>no room</b>")
    page = text_of(viewer.get(page_of(run)))
    assert "&lt;b&gt;no room" in page
    assert "database import /srv/registry --step-two" in page


def test_skips_are_grouped_by_reason_the_most_frequent_first_with_a_few_examples(viewer):
    run = ImportRunFactory()
    ImportSkipFactory.create_batch(8, run_id=run.pk)
    ImportSkipFactory(run_id=run.pk, reason="storage_unreadable", path="<i>secret</i>")
    ImportSkipFactory(run_id=run.pk + 1, reason="symbolic_link")
    answer = viewer.get(page_of(run))
    groups = [(each["reason"], each["count"], each["may_be_sound"], each["more"]) for each in answer.context["groups"]]
    assert groups == [("tag link missing", "8", False, "3"), ("storage unreadable", "1", True, "")]
    assert "&lt;i&gt;secret" in text_of(answer)


def test_a_reason_of_another_release_breaks_nothing(viewer):
    run = ImportRunFactory()
    ImportSkipFactory(run_id=run.pk, reason="eaten_by_moths")
    assert "eaten by moths" in text_of(viewer.get(page_of(run)))


def test_without_an_import_the_list_says_how_one_begins(viewer):
    assert "database import PATH" in text_of(viewer.get(HERE))


@pytest.mark.parametrize(("runs", "pages"), [(50, [50]), (51, [50, 1])])
def test_the_list_has_pages_none_of_them_empty(viewer, runs, pages):
    ImportRunFactory.create_batch(runs, ended=True)
    found, older = [], None
    while True:
        context = viewer.get(HERE, {"before": older} if older else {}).context
        found.append(len(context["lines"]))
        older = context["older"]
        if older is None:
            break
    assert found == pages


@pytest.mark.parametrize("before", ["0", "-1", "x", "9" * 30, "9" * 5_000, "\x00", "٣"])
def test_no_page_number_is_an_error(viewer, before):
    for page in ("", "live/"):
        assert viewer.get(HERE + page, {"before": before}).status_code == 200


@pytest.mark.parametrize("page", ["change/", "live/", "report.json", "skips.json", "skips.csv"])
@pytest.mark.parametrize("number", ["1000000", str(10**30), "9" * 5_000, "-1", "abc"])
def test_a_run_that_does_not_exist_is_not_found(viewer, page, number):
    assert viewer.get(f"{HERE}{number}/{page}", follow=True).status_code == 404


@pytest.mark.parametrize(
    "page", ["", "live/", "{}/change/", "{}/live/", "{}/report.json", "{}/skips.json", "{}/skips.csv"]
)
def test_all_three_groups_may_look_and_download_and_nobody_else(page):
    address = HERE + page.format(ImportRunFactory().pk)
    for number, group in enumerate(("Viewer", "Operator", "Administrator")):
        assert client_of(group, username=f"user{number}").get(address).status_code == 200
    assert client_of(None).get(address).status_code == 403
    outsider = Client()
    outsider.force_login(UserFactory(is_staff=False))
    assert outsider.get(address).status_code == 302


def test_nobody_adds_changes_or_deletes(admin_client):
    run = ImportRunFactory()
    assert admin_client.get(f"{HERE}add/").status_code == 403
    assert admin_client.post(f"{HERE}{run.pk}/delete/", {"post": "yes"}).status_code == 403
    admin_client.post(page_of(run), {"status": "finished"})
    admin_client.post(HERE, {"action": "delete_selected", "_selected_action": [run.pk], "post": "yes"})
    run.refresh_from_db()
    assert run.status == ImportStatus.RUNNING


def test_tables_that_are_missing_are_told_with_the_next_step(viewer):
    with connections["registry"].cursor() as cursor:
        cursor.execute("ALTER TABLE registry_admin.import_runs RENAME TO elsewhere")
    answer = viewer.get(HERE)
    assert answer.status_code == 503
    assert "python manage.py migrate" in answer.content.decode()


PAGES = {
    HERE: 3,
    f"{HERE}live/": 3,
    f"{HERE}{{run}}/change/": 6,
    f"{HERE}{{run}}/live/": 6,
    "/admin/live/": 16,  # of which 5 are of imports
}


def test_no_page_takes_more_statements_for_more_rows(viewer):
    connections["registry"].ensure_connection()
    connection = connections["registry"].connection
    run = make_imports(connection)
    for page, most in PAGES.items():
        with counted_statements(connection) as statements, CaptureQueriesContext(connections["default"]) as own:
            text_of(viewer.get(page.format(run=run)))
        assert statements() <= most, page
        assert len(own) <= OWN, page
