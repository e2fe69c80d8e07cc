"""The admin's lists of applied migrations: to be looked at, never to be changed."""

import pytest
from django.db import connections
from django.test import Client
from django.urls import reverse

from tests.factories import UserFactory

pytestmark = pytest.mark.django_db(databases=["default", "registry"])
LISTS = ["schemamigration", "postdeploymentschemamigration"]


@pytest.mark.parametrize(("model", "id_"), [(LISTS[0], "20210503145024_create"), (LISTS[1], "20251015074500_post")])
def test_staff_see_what_is_applied(admin_client: Client, model, id_):
    answer = admin_client.get(reverse(f"admin:schema_migrations_{model}_changelist"), {"q": id_})
    assert answer.status_code == 200
    assert id_ in answer.content.decode()


def test_a_database_never_migrated_is_told_how(admin_client: Client):
    with connections["registry"].cursor() as cursor:
        cursor.execute("ALTER TABLE schema_migrations RENAME TO elsewhere")
    answer = admin_client.get(reverse("admin:schema_migrations_schemamigration_changelist"))
    assert answer.status_code == 200
    assert "database migrate up" in answer.content.decode()


@pytest.mark.parametrize("model", LISTS)
def test_nobody_adds_changes_or_deletes(admin_client: Client, model):
    assert admin_client.get(reverse(f"admin:schema_migrations_{model}_add")).status_code == 403
    changelist = admin_client.get(reverse(f"admin:schema_migrations_{model}_changelist")).content.decode()
    assert "delete_selected" not in changelist


@pytest.mark.parametrize(("is_staff", "status"), [(True, 403), (False, 302)])
def test_who_has_no_permission_sees_nothing(client: Client, is_staff, status):
    client.force_login(UserFactory(is_staff=is_staff))
    assert client.get(reverse("admin:schema_migrations_schemamigration_changelist")).status_code == status


def test_the_root_leads_to_the_log_in(client: Client):
    assert client.get("/", follow=True).redirect_chain == [("/admin/", 302), ("/admin/login/?next=/admin/", 302)]
