"""The home page: what is going on, for those who may know; and the menu."""

import pytest
from django.db import connections

from background_migrations import wiring
from background_migrations.models import BackgroundMigration, JobProgress
from background_migrations.sessions import PURPOSE
from background_migrations.status import Status
from tests.factories import (
    BackgroundMigrationFactory,
    ControlFactory,
    EventFactory,
    ImportItemFactory,
    ImportLeaseFactory,
    ImportRunFactory,
    JobProgressFactory,
)
from tests.staff import client_of
from tests.waiting import until

pytestmark = pytest.mark.django_db(databases=["default", "registry"])

HOME, LIVE = "/admin/", "/admin/live/"


@pytest.fixture(autouse=True)
def _only_own_migrations(db):
    BackgroundMigration.objects.all().delete()


@pytest.fixture
def viewer(db):
    return client_of("Viewer")


def test_tiles_count_and_lines_put_first_what_needs_somebody(viewer):
    paused = BackgroundMigrationFactory(status=int(Status.PAUSED))
    running, failed = BackgroundMigrationFactory(running=True), BackgroundMigrationFactory(failed=True)
    BackgroundMigrationFactory(status=int(Status.FINISHED))
    context = viewer.get(HOME).context
    counts = {label: count for label, _, count in context["counts"]}
    assert counts == {"failed": 1, "running": 1, "active": 0, "paused": 1, "finished": 1}
    assert [row.report.id for row in context["rows"]] == [failed.id, running.id, paused.id]


def test_a_failed_migration_raises_a_banner_that_leads_to_it(viewer):
    failed = BackgroundMigrationFactory(failed=True, name="broken")
    page = viewer.get(HOME).content.decode()
    assert "broken failed (max_job_retry)" in page
    assert f"/admin/background_migrations/backgroundmigration/{failed.id}/change/" in page


def test_many_failures_are_told_in_few_banners(viewer):
    BackgroundMigrationFactory.create_batch(20, failed=True)
    page = viewer.get(LIVE).content.decode()
    assert "20 background migrations failed in all" in page
    assert page.count("See why") == 3


def test_pending_schema_migrations_raise_a_banner(viewer):
    with connections["registry"].cursor() as cursor:
        cursor.execute("DELETE FROM schema_migrations WHERE id LIKE '2021050314%'")
        cursor.execute("INSERT INTO schema_migrations VALUES ('20990101000000_of_another_release')")
    answer = viewer.get(HOME)
    counts = answer.context["schema"]
    assert (counts.pending_pre_deployment > 0, counts.pending_post_deployment, counts.unknown) == (True, 0, 1)
    assert "kind=pending" in answer.content.decode()


def test_who_works_and_what_is_held_up_is_shown(viewer):
    migration = BackgroundMigrationFactory(running=True)
    ControlFactory(background_migration_id=migration.id, throttled_by="vacuum", throttled_reason="vacuum is at work")
    JobProgressFactory(job__background_migration=migration, claimed=True, worker="host:7")
    answer = viewer.get(HOME)
    assert answer.context["workers"] == ["host:7"]
    assert "vacuum is at work" in answer.content.decode()


def test_a_worker_that_waits_for_work_is_seen_until_it_goes(viewer):
    def seen() -> list[str]:
        with connections["registry"].cursor() as cursor:
            cursor.execute("SELECT pg_stat_clear_snapshot()")  # one transaction sees one state of the sessions
        return viewer.get(HOME).context["workers"]

    name = wiring.process_name()
    with wiring.connectors(f"{PURPOSE} {name}")["registry"]():
        assert seen() == [name]
        JobProgressFactory(worker=name)
        assert seen() == [name]
    JobProgress.objects.all().delete()
    until(lambda: seen() == [])


def test_charts_cover_the_last_hour_and_the_last_day(viewer):
    JobProgressFactory.create_batch(3, rows=600, worker="host:7")
    context = viewer.get(HOME).context
    hour, day = context["hour"], context["day"]
    assert (len(hour["times"]), len(day["times"])) == (60, 48)
    assert sum(hour["series"]["rows/s"]) > 0
    assert day["series"]["jobs/min"][-1] > 0 or day["series"]["jobs/min"][-2] > 0


def test_events_name_the_migration_and_who_did_it(viewer):
    EventFactory(migration__name="moved", actor="bob")
    page = viewer.get(HOME).content.decode()
    assert "moved" in page
    assert "by bob" in page


def test_the_page_renews_itself_sooner_while_something_may_move(viewer):
    assert "every 15s" in viewer.get(LIVE).content.decode()
    BackgroundMigrationFactory()
    assert "every 3s" in viewer.get(LIVE).content.decode()


def test_without_anything_the_page_says_what_comes_next(viewer):
    page = viewer.get(HOME).content.decode()
    assert "All background migrations are finished" in page
    assert "Nothing has happened yet" in page
    assert "database import PATH" in page


def test_an_import_of_gitlabs_registry_is_shown_where_it_is_the_last(viewer):
    ImportRunFactory(ended=True)
    with connections["registry"].cursor() as cursor:
        cursor.execute(
            "INSERT INTO import_statistics (started_at, repositories_count, tags_count) VALUES (now(), 5, 4321)"
        )
    assert "4321 tags" in viewer.get(HOME).content.decode()


def test_a_running_import_says_how_far_it_is_and_leads_to_its_page(viewer):
    run = ImportRunFactory()
    ImportLeaseFactory()
    ImportItemFactory.create_batch(4, run_id=run.pk, tags=1_000)
    ImportItemFactory(run_id=run.pk, finished_at=None)
    page = viewer.get(LIVE).content.decode()
    assert f"/admin/metadata_import/importrun/{run.pk}/change/" in page
    assert "68.0 %" in page
    assert "tags/s" in page
    assert "every 3s" in page


@pytest.mark.parametrize("table", ["batched_background_migrations", "import_statistics", "registry_admin.import_runs"])
def test_a_database_that_lacks_tables_is_told_how_to_get_them(viewer, table):
    with connections["registry"].cursor() as cursor:
        cursor.execute(f"ALTER TABLE {table} RENAME TO elsewhere")
    answer = viewer.get(HOME)
    assert answer.status_code == 200
    assert ("migrate up" in answer.content.decode()) is (table == "batched_background_migrations")


@pytest.mark.parametrize("page", ["backgroundmigration/", "backgroundmigrationjob/"])
def test_other_pages_tell_it_too(viewer, page):
    with connections["registry"].cursor() as cursor:
        cursor.execute("ALTER TABLE batched_background_migrations RENAME TO elsewhere")
    answer = viewer.get(f"/admin/background_migrations/{page}")
    assert answer.status_code == 503
    assert "python manage.py migrate" in answer.content.decode()


def test_who_may_not_look_is_told_whom_to_ask(db):
    nobody = client_of(None)
    page = nobody.get(HOME).content.decode()
    assert "group Viewer" in page
    assert "background_migrations" not in page
    assert nobody.get(LIVE).status_code == 403


def test_what_renews_the_home_page_needs_a_log_in(client):
    assert client.get(LIVE).status_code == 302


def test_the_menu_leads_where_the_user_may_go(viewer, admin_client):
    assert "/admin/auth/user/" not in viewer.get(HOME).content.decode()
    assert "/admin/auth/user/" in admin_client.get(HOME).content.decode()


@pytest.mark.parametrize(
    "page", ["user/", "user/add/", "user/{id}/change/", "user/{id}/password/", "group/", "group/add/"]
)
def test_a_superuser_manages_users_and_groups(admin_client, admin_user, page):
    assert admin_client.get(f"/admin/auth/{page.format(id=admin_user.pk)}").status_code == 200
