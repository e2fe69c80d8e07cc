"""Create the schema that holds all partitions; their parents stay in public."""

from schema_migrations.migration import Migration

migration = Migration(
    up=[
        "CREATE SCHEMA IF NOT EXISTS partitions",
    ],
    down=[
        "DROP SCHEMA IF EXISTS partitions RESTRICT",
    ],
)
