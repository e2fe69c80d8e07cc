"""The admin's pages of schema migrations: to be looked at, never to be changed."""

import pytest
from django.db import connections
from django.test import Client
from django.urls import reverse

from tests.factories import UserFactory
from tests.staff import client_of

pytestmark = pytest.mark.django_db(databases=["default", "registry"])

LIST = "/admin/schema_migrations/schemamigration/"
FIRST = "20210503145024_create_top_level_namespaces_table"


def execute(query: str) -> None:
    with connections["registry"].cursor() as cursor:
        cursor.execute(query)


def shown(client: Client, **query: str) -> set[str]:
    return {status.id for status, _ in client.get(LIST, query).context["migrations"]}


@pytest.fixture
def viewer(db):
    return client_of("Viewer")


@pytest.mark.parametrize("id_", [FIRST[:14], "post"])
def test_staff_see_what_is_applied_in_both_phases(viewer, id_):
    assert any(id_ in each for each in shown(viewer, kind="applied", q=id_))


def test_each_kind_is_told_apart(viewer):
    execute(f"DELETE FROM schema_migrations WHERE id = '{FIRST}'")
    execute("INSERT INTO post_deploy_schema_migrations VALUES ('20990101000000_of_another_release')")
    changed = max(shown(viewer, kind="applied"))
    execute(
        f"""INSERT INTO registry_admin.schema_journal
            (migration_id, phase, direction, checksum, release, actor, duration_seconds)
            VALUES ('{changed}', 'post-deployment', 'up', 'another', '0', 'somebody', 0)"""
    )
    assert shown(viewer, kind="pending") == {FIRST}
    assert shown(viewer, kind="unknown") == {"20990101000000_of_another_release"}
    assert shown(viewer, kind="changed") == {changed}
    assert shown(viewer) > shown(viewer, kind="applied") | {FIRST}


def test_each_shows_its_sql(viewer):
    page = viewer.get(reverse("admin:schema_migrations_schemamigration_change", args=[FIRST])).content.decode()
    assert "CREATE TABLE" in page
    assert "DROP TABLE" in page


def test_one_of_another_release_is_shown_without_sql(viewer):
    execute("INSERT INTO schema_migrations VALUES ('20990101000000_of_another_release')")
    answer = viewer.get(f"{LIST}20990101000000_of_another_release/change/")
    assert "does not know what it does" in answer.content.decode()


def test_one_that_does_not_exist_is_not_found(viewer):
    assert viewer.get(f"{LIST}1_none/change/").status_code == 404


def test_a_database_never_migrated_is_told_how(viewer):
    execute("ALTER TABLE schema_migrations RENAME TO elsewhere")
    execute("ALTER TABLE post_deploy_schema_migrations RENAME TO elsewhere_post")
    answer = viewer.get(LIST)
    assert answer.status_code == 200
    assert "database migrate up" in answer.content.decode()


def test_nobody_adds_changes_or_deletes(admin_client: Client):
    assert admin_client.get(f"{LIST}add/").status_code == 403
    assert admin_client.post(f"{LIST}{FIRST}/delete/", {"post": "yes"}).status_code == 403
    assert "delete_selected" not in admin_client.get(LIST).content.decode()


@pytest.mark.parametrize(("is_staff", "status"), [(True, 403), (False, 302)])
def test_who_has_no_permission_sees_nothing(client: Client, is_staff, status):
    client.force_login(UserFactory(is_staff=is_staff))
    for path in (LIST, f"{LIST}{FIRST}/change/"):
        assert client.get(path).status_code == status


def test_the_root_leads_to_the_log_in(client: Client):
    assert client.get("/", follow=True).redirect_chain == [("/admin/", 302), ("/admin/login/?next=/admin/", 302)]
