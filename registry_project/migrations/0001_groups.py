"""Three groups of staff: who looks, who also operates, who also configures. A superuser chooses their members."""

from django.apps.registry import Apps
from django.db import migrations
from django.db.backends.base.schema import BaseDatabaseSchemaEditor

VIEW = (
    ("background_migrations", "backgroundmigration", "view_backgroundmigration", "Can view background migration"),
    ("background_migrations", "backgroundmigrationjob", "view_backgroundmigrationjob", "Can view job"),
    ("schema_migrations", "schemamigration", "view_schemamigration", "Can view schema migration"),
)
OPERATE = (
    (
        "background_migrations",
        "backgroundmigration",
        "operate_backgroundmigration",
        "Can pause, resume, retry, restart",
    ),
)
CONFIGURE = (("background_migrations", "backgroundmigration", "configure_backgroundmigration", "Can change controls"),)
GROUPS = {"Viewer": VIEW, "Operator": VIEW + OPERATE, "Administrator": VIEW + OPERATE + CONFIGURE}


def make_groups(apps: Apps, editor: BaseDatabaseSchemaEditor) -> None:
    """Make what is missing. Django makes permissions after its migrations, so they are made here first."""
    alias = editor.connection.alias
    types = apps.get_model("contenttypes", "ContentType").objects.using(alias)
    permissions = apps.get_model("auth", "Permission").objects.using(alias)
    groups = apps.get_model("auth", "Group").objects.using(alias)
    for name, granted in GROUPS.items():
        group, _ = groups.get_or_create(name=name)
        for app, model, codename, label in granted:
            kind, _ = types.get_or_create(app_label=app, model=model)
            found, _ = permissions.get_or_create(content_type=kind, codename=codename, defaults={"name": label})
            group.permissions.add(found)


class Migration(migrations.Migration):
    dependencies = [
        ("auth", "0012_alter_user_first_name_max_length"),
        ("contenttypes", "0002_remove_content_type_name"),
    ]

    # Somebody may be a member: undoing this leaves the groups.
    operations = [migrations.RunPython(make_groups, migrations.RunPython.noop)]
