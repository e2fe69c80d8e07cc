"""The journal of imports: our own tables."""

import uuid

import django.db.models.functions.datetime
from django.db import migrations, models

# Asked first: CREATE SCHEMA IF NOT EXISTS wants the privilege even where the schema is there.
CREATE_SCHEMA = """
    DO $do$ BEGIN
        IF to_regnamespace('registry_admin') IS NULL THEN CREATE SCHEMA registry_admin; END IF;
    END $do$
"""


class Migration(migrations.Migration):
    initial = True

    dependencies = []

    operations = [
        # Dropping the schema would take the other control tables with it.
        migrations.RunSQL(CREATE_SCHEMA, migrations.RunSQL.noop),
        migrations.CreateModel(
            name="ImportLease",
            fields=[
                ("name", models.TextField(primary_key=True, serialize=False)),
                ("token", models.UUIDField(unique=True)),
                ("holder", models.TextField()),
                ("backend_pid", models.IntegerField(null=True)),
                ("taken_at", models.DateTimeField()),
                ("seen_at", models.DateTimeField()),
            ],
            options={
                "db_table": '"registry_admin"."import_leases"',
            },
        ),
        migrations.CreateModel(
            name="ImportBatch",
            fields=[
                ("id", models.UUIDField(default=uuid.uuid4, primary_key=True, serialize=False)),
                ("run_id", models.BigIntegerField()),
                ("kind", models.TextField(choices=[("repository", "repository"), ("blob_prefix", "blob prefix")])),
                ("committed_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("inserted_rows", models.JSONField(default=dict)),
            ],
            options={
                "db_table": '"registry_admin"."import_batches"',
                "indexes": [models.Index(fields=["run_id"], name="import_batches_of_run")],
            },
        ),
        migrations.CreateModel(
            name="ImportItem",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("run_id", models.BigIntegerField()),
                ("kind", models.TextField(choices=[("repository", "repository"), ("blob_prefix", "blob prefix")])),
                ("name", models.TextField()),
                ("finished_at", models.DateTimeField(null=True)),
                ("tags", models.IntegerField(db_default=0, default=0)),
                ("manifests", models.IntegerField(db_default=0, default=0)),
                ("blobs", models.IntegerField(db_default=0, default=0)),
                ("blobs_size_bytes", models.BigIntegerField(db_default=0, default=0)),
            ],
            options={
                "db_table": '"registry_admin"."import_items"',
                "constraints": [models.UniqueConstraint(fields=("run_id", "kind", "name"), name="import_items_of_run")],
            },
        ),
        migrations.CreateModel(
            name="ImportRun",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("storage_driver", models.TextField()),
                ("root", models.TextField()),
                ("mode", models.TextField()),
                (
                    "status",
                    models.TextField(
                        choices=[
                            ("running", "Running"),
                            ("interrupted", "Interrupted"),
                            ("failed", "Failed"),
                            ("finished", "Finished"),
                            ("abandoned", "Abandoned"),
                        ],
                        default="running",
                    ),
                ),
                ("actor", models.TextField(db_default="", default="")),
                ("attempts", models.PositiveIntegerField(db_default=1, default=1)),
                ("started_at", models.DateTimeField()),
                ("ended_at", models.DateTimeField(null=True)),
                ("error", models.TextField(db_default="", default="")),
                ("repositories_started_at", models.DateTimeField(null=True)),
                ("repositories_finished_at", models.DateTimeField(null=True)),
                ("blobs_started_at", models.DateTimeField(null=True)),
                ("blobs_finished_at", models.DateTimeField(null=True)),
                ("is_marked", models.BooleanField(db_default=False, default=False)),
            ],
            options={
                "db_table": '"registry_admin"."import_runs"',
                "indexes": [models.Index(fields=["storage_driver", "root", "id"], name="import_runs_of_tree")],
            },
        ),
        migrations.CreateModel(
            name="ImportSkip",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("run_id", models.BigIntegerField()),
                ("kind", models.TextField(choices=[("repository", "repository"), ("blob_prefix", "blob prefix")])),
                ("item", models.TextField(db_default="", default="")),
                ("reason", models.TextField()),
                ("path", models.TextField()),
                ("detail", models.TextField(db_default="", default="")),
            ],
            options={
                "db_table": '"registry_admin"."import_skips"',
                "indexes": [models.Index(fields=["run_id", "kind", "item"], name="import_skips_of_item")],
            },
        ),
    ]
