"""What the pages need: permissions to operate and to configure, and an index for what ended lately."""

from django.db import migrations, models


class Migration(migrations.Migration):
    dependencies = [("background_migrations", "0001_initial")]

    operations = [
        migrations.AlterModelOptions(
            name="backgroundmigration",
            options={
                "default_permissions": ("view",),
                "managed": False,
                "permissions": (
                    ("operate_backgroundmigration", "Can pause, resume, retry, restart"),
                    ("configure_backgroundmigration", "Can change controls"),
                ),
            },
        ),
        migrations.AlterModelOptions(
            name="backgroundmigrationjob",
            options={"default_permissions": ("view",), "managed": False, "verbose_name": "job"},
        ),
        migrations.AddIndex(
            model_name="jobprogress", index=models.Index(fields=["ended_at"], name="bbm_progress_recent")
        ),
    ]
