"""The lists of background migrations and of jobs: what they show, and how many statements they take at full size."""

import pytest
from django.db import connections
from django.test.utils import CaptureQueriesContext

from background_migrations.models import BackgroundMigration, BackgroundMigrationJob
from background_migrations.status import Status
from tests.api_client import counted_statements
from tests.crowds import make_crowd
from tests.factories import BackgroundMigrationFactory, BackgroundMigrationJobFactory, ControlFactory
from tests.staff import client_of

pytestmark = pytest.mark.django_db(databases=["default", "registry"])

MIGRATIONS = "/admin/background_migrations/backgroundmigration/"
JOBS = "/admin/background_migrations/backgroundmigrationjob/"


@pytest.fixture
def connection(db):
    connections["registry"].ensure_connection()
    return connections["registry"].connection


@pytest.fixture
def viewer(db):
    return client_of("Viewer")


def text_of(answer) -> str:
    assert answer.status_code == 200, answer
    return answer.content.decode()


def test_each_status_has_a_tab_with_its_number(viewer):
    BackgroundMigration.objects.all().delete()
    BackgroundMigrationFactory.create_batch(2, running=True)
    BackgroundMigrationFactory(failed=True, name="broken")
    answer = viewer.get(MIGRATIONS)
    counts = {tab["label"]: tab["count"] for tab in answer.context["tabs"]}
    assert counts == {"all": 3, "running": 2, "active": 0, "paused": 0, "failed": 1, "finished": 0}
    failed = text_of(viewer.get(MIGRATIONS, {"status__exact": int(Status.FAILED)}))
    assert "broken" in failed
    assert "migration_" not in failed


@pytest.mark.parametrize(
    "query",
    [
        {"q": "public.rare"},
        {"table_name": "public.rare"},
        {"job_signature_name": "rareFunction"},
        {"batching_strategy": "NullKeySetBatchingStrategy"},
    ],
)
def test_it_is_searched_and_filtered(viewer, query):
    BackgroundMigration.objects.all().delete()
    BackgroundMigrationFactory(
        name="wanted",
        table_name="public.rare",
        job_signature_name="rareFunction",
        batching_strategy="NullKeySetBatchingStrategy",
    )
    BackgroundMigrationFactory(name="other")
    lines = viewer.get(MIGRATIONS, query).context["cl"].result_list
    assert [line.name for line in lines] == ["wanted"]


def test_a_line_shows_how_far_it_is_and_what_holds_it_up(viewer):
    migration = BackgroundMigrationFactory(running=True, name="held")
    ControlFactory(background_migration_id=migration.id, throttled_by="vacuum", throttled_reason="vacuum is at work")
    page = text_of(viewer.get(MIGRATIONS, {"q": "held"}))
    assert 'role="progressbar"' in page
    assert "vacuum" in page


def test_the_moving_cells_are_answered_alone_and_ask_again_sooner_while_something_moves(viewer):
    BackgroundMigration.objects.all().delete()
    running, paused = BackgroundMigrationFactory(running=True), BackgroundMigrationFactory(status=int(Status.PAUSED))
    both = text_of(viewer.get(f"{MIGRATIONS}rows/", {"ids": f"{running.id},{paused.id}"}))
    assert f'id="bar-{running.id}"' in both
    assert "every 3s" in both
    assert "every 15s" in text_of(viewer.get(f"{MIGRATIONS}rows/", {"ids": f"{paused.id},x,{10**20}"}))


def test_a_list_without_a_migration_says_how_one_comes_there(viewer):
    assert "background_migrate queue" in text_of(viewer.get(MIGRATIONS, {"q": "there is none"}))


def test_jobs_are_found_by_migration_status_and_number(viewer):
    job = BackgroundMigrationJobFactory(failed=True)
    BackgroundMigrationJobFactory()
    for query in (
        {"background_migration__id__exact": job.background_migration_id},
        {"status__exact": int(Status.FAILED)},
        {"q": str(job.id)},
        {"q": job.background_migration.name},
    ):
        assert [each.pk for each in viewer.get(JOBS, query).context["cl"].result_list] == [job.id]


OWN = 4  # session, user, and permissions of the user and of its groups
PAGES = {
    "/admin/": 14,
    "/admin/live/": 14,
    MIGRATIONS: 7,
    f"{MIGRATIONS}?status__exact=3&q=crowd": 7,
    f"{MIGRATIONS}rows/?ids={{migration}}": 2,
    f"{MIGRATIONS}{{migration}}/change/": 9,
    f"{MIGRATIONS}{{migration}}/live/": 7,
    JOBS: 1,
    f"{JOBS}?p=1500": 1,
    f"{JOBS}?background_migration__id__exact={{migration}}": 1,
    f"{JOBS}?status__exact=3": 1,
    f"{JOBS}{{job}}/change/": 6,
    "/admin/schema_migrations/schemamigration/": 5,
}


def test_no_page_takes_more_statements_for_more_rows(viewer, connection):
    make_crowd(connection)
    migration = BackgroundMigration.objects.get(name="crowd_1")
    job = BackgroundMigrationJob.objects.filter(background_migration=migration).first()
    for page, most in PAGES.items():
        path = page.format(migration=migration.id, job=job.id)
        with (
            counted_statements(connection) as statements,
            CaptureQueriesContext(connections["registry"]) as queries,
            CaptureQueriesContext(connections["default"]) as own,
        ):
            text_of(viewer.get(path))
        assert statements() <= most, path
        assert len(own) <= OWN, path
        if path.startswith(JOBS) and "change" not in path:
            assert not any("COUNT(" in query["sql"] for query in queries)


HOSTILE = ["9" * 30, "9" * 5_000, "-1", "x", "\x00", "٣"]
SPOTS = [
    (f"{MIGRATIONS}rows/", "ids"),
    (MIGRATIONS, "p"),
    (MIGRATIONS, "q"),
    (MIGRATIONS, "status__exact"),
    (MIGRATIONS, "table_name"),
    (MIGRATIONS, "id__in"),
    (JOBS, "p"),
    (JOBS, "q"),
    (JOBS, "status__exact"),
    (JOBS, "failure_error_code__exact"),
    (JOBS, "background_migration__id__exact"),
    ("/admin/schema_migrations/schemamigration/", "q"),
    ("/admin/schema_migrations/schemamigration/", "kind"),
]


@pytest.mark.parametrize(("page", "name"), SPOTS)
def test_no_value_in_an_address_is_an_error_of_the_server(viewer, page, name):
    for value in HOSTILE:
        assert viewer.get(page, {name: value}, follow=True).status_code < 500, value


@pytest.mark.parametrize(("jobs", "more"), [(49, False), (50, False), (51, True)])
def test_there_is_a_next_page_of_jobs_where_there_are_more(viewer, jobs, more):
    migration = BackgroundMigrationFactory()
    BackgroundMigrationJobFactory.create_batch(jobs, background_migration=migration)
    page = text_of(viewer.get(JOBS, {"background_migration__id__exact": migration.id}))
    assert ("p=2" in page) is more
