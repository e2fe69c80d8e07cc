"""Our own tables of background migrations; the two shared ones are made by schema migrations."""

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
        # Dropping the schema would take the journal of schema migrations with it.
        migrations.RunSQL(CREATE_SCHEMA, migrations.RunSQL.noop),
        migrations.CreateModel(
            name="BackgroundMigration",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("name", models.TextField(unique=True)),
                ("created_at", models.DateTimeField()),
                ("updated_at", models.DateTimeField(null=True)),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("min_value", models.BigIntegerField(default=1)),
                ("max_value", models.BigIntegerField()),
                ("batch_size", models.IntegerField()),
                (
                    "status",
                    models.SmallIntegerField(
                        choices=[(0, "paused"), (1, "active"), (2, "finished"), (3, "failed"), (4, "running")],
                        default=0,
                    ),
                ),
                ("job_signature_name", models.TextField()),
                ("table_name", models.TextField()),
                ("column_name", models.TextField()),
                (
                    "failure_error_code",
                    models.SmallIntegerField(
                        choices=[
                            (0, "unknown"),
                            (1, "invalid_bbm_table"),
                            (2, "invalid_bbm_column"),
                            (3, "invalid_job_signature"),
                            (4, "max_job_retry"),
                            (5, "invalid_batching_strategy"),
                        ],
                        null=True,
                    ),
                ),
                ("batching_strategy", models.TextField(null=True)),
                ("total_tuple_count", models.BigIntegerField(null=True)),
            ],
            options={
                "db_table": "batched_background_migrations",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="BackgroundMigrationJob",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("created_at", models.DateTimeField()),
                ("updated_at", models.DateTimeField(null=True)),
                ("started_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("min_value", models.BigIntegerField()),
                ("max_value", models.BigIntegerField()),
                (
                    "status",
                    models.SmallIntegerField(
                        choices=[(0, "paused"), (1, "active"), (2, "finished"), (3, "failed"), (4, "running")],
                        default=1,
                    ),
                ),
                (
                    "failure_error_code",
                    models.SmallIntegerField(
                        choices=[
                            (0, "unknown"),
                            (1, "invalid_bbm_table"),
                            (2, "invalid_bbm_column"),
                            (3, "invalid_job_signature"),
                            (4, "max_job_retry"),
                            (5, "invalid_batching_strategy"),
                        ],
                        null=True,
                    ),
                ),
                ("attempts", models.SmallIntegerField(default=0)),
            ],
            options={
                "db_table": "batched_background_migration_jobs",
                "managed": False,
            },
        ),
        migrations.CreateModel(
            name="Control",
            fields=[
                ("background_migration_id", models.BigIntegerField(primary_key=True, serialize=False)),
                ("batch_size", models.PositiveIntegerField(blank=True, null=True)),
                ("sub_batch_size", models.PositiveIntegerField(blank=True, null=True)),
                ("interval_seconds", models.FloatField(blank=True, null=True)),
                ("max_parallel_jobs", models.PositiveSmallIntegerField(blank=True, null=True)),
                ("hold_until", models.DateTimeField(blank=True, null=True)),
                ("job_timeout_seconds", models.FloatField(blank=True, null=True)),
                ("adaptive", models.BooleanField(blank=True, null=True)),
                ("target_seconds", models.FloatField(blank=True, null=True)),
                ("min_batch_size", models.PositiveIntegerField(blank=True, null=True)),
                ("max_batch_size", models.PositiveIntegerField(blank=True, null=True)),
                ("shares_table", models.BooleanField(blank=True, null=True)),
                ("throttled_by", models.TextField(db_default="", default="", editable=False)),
                ("throttled_reason", models.TextField(db_default="", default="", editable=False)),
                ("throttled_at", models.DateTimeField(editable=False, null=True)),
            ],
            options={
                "db_table": '"registry_admin"."background_migration_controls"',
            },
        ),
        migrations.CreateModel(
            name="Event",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("created_at", models.DateTimeField(db_default=django.db.models.functions.datetime.Now())),
                ("background_migration_id", models.BigIntegerField()),
                ("name", models.TextField()),
                ("job_id", models.BigIntegerField(null=True)),
                ("kind", models.TextField()),
                ("actor", models.TextField()),
                (
                    "old_status",
                    models.SmallIntegerField(
                        choices=[(0, "paused"), (1, "active"), (2, "finished"), (3, "failed"), (4, "running")],
                        null=True,
                    ),
                ),
                (
                    "new_status",
                    models.SmallIntegerField(
                        choices=[(0, "paused"), (1, "active"), (2, "finished"), (3, "failed"), (4, "running")],
                        null=True,
                    ),
                ),
                ("reason", models.TextField(db_default="", default="")),
                ("error_class", models.TextField(db_default="", default="")),
                ("sqlstate", models.TextField(db_default="", default="")),
            ],
            options={
                "db_table": '"registry_admin"."background_migration_events"',
                "indexes": [
                    models.Index(fields=["background_migration_id", "id"], name="background_migration_events_of")
                ],
            },
        ),
        migrations.CreateModel(
            name="JobProgress",
            fields=[
                ("id", models.BigAutoField(auto_created=True, primary_key=True, serialize=False, verbose_name="ID")),
                ("job_id", models.BigIntegerField()),
                ("background_migration_id", models.BigIntegerField()),
                ("min_value", models.BigIntegerField()),
                ("max_value", models.BigIntegerField()),
                ("next_value", models.BigIntegerField()),
                ("size", models.PositiveIntegerField()),
                ("sub_batch_size", models.PositiveIntegerField()),
                ("attempts", models.PositiveSmallIntegerField(default=0)),
                ("claim", models.UUIDField(null=True)),
                ("worker", models.TextField(db_default="", default="")),
                ("claimed_at", models.DateTimeField(null=True)),
                ("claimed_value", models.BigIntegerField(null=True)),
                ("claimed_rows", models.BigIntegerField(db_default=0, default=0)),
                ("seen_at", models.DateTimeField(null=True)),
                ("retry_at", models.DateTimeField(null=True)),
                ("set_aside", models.BooleanField(db_default=False, default=False)),
                ("ended_at", models.DateTimeField(null=True)),
                ("finished_at", models.DateTimeField(null=True)),
                ("rows", models.BigIntegerField(db_default=0, default=0)),
                ("seconds", models.FloatField(db_default=0, default=0)),
            ],
            options={
                "db_table": '"registry_admin"."background_migration_job_progress"',
                "indexes": [
                    models.Index(fields=["job_id"], name="bbm_progress_of_job"),
                    models.Index(
                        condition=models.Q(("finished_at__isnull", True)),
                        fields=["background_migration_id"],
                        name="bbm_progress_unfinished",
                    ),
                    models.Index(fields=["background_migration_id", "ended_at"], name="bbm_progress_ended"),
                ],
            },
        ),
    ]
