"""All three groups may look at imports."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

GROUPS = ("Viewer", "Operator", "Administrator")
CODENAME, LABEL = "view_importrun", "Can view import run"


def let_look(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    """Grant it to those that are left. Django makes permissions after its migrations, so it is made here first."""
    alias = editor.connection.alias
    kind, _ = (
        apps.get_model("contenttypes", "ContentType")
        .objects.using(alias)
        .get_or_create(app_label="metadata_import", model="importrun")
    )
    permissions = apps.get_model("auth", "Permission").objects.using(alias)
    found, _ = permissions.get_or_create(content_type=kind, codename=CODENAME, defaults={"name": LABEL})
    for group in apps.get_model("auth", "Group").objects.using(alias).filter(name__in=GROUPS):
        group.permissions.add(found)


class Migration(migrations.Migration):
    dependencies = [("registry_project", "0001_groups")]

    operations = [migrations.RunPython(let_look, migrations.RunPython.noop)]
