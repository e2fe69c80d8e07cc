"""The database that GitLab's registry v4.32 leaves behind: tables, partitions, garbage collection, recorded ids."""

from pathlib import Path
from typing import TYPE_CHECKING

from schema_migrations.loader import load_migrations

if TYPE_CHECKING:
    from tests.conftest import Database  # which makes its databases with what is here

FILES = sorted((Path(__file__).parent / "data" / "gitlab_registry").glob("*.sql"))
MEDIA_TYPES = "20210503150438_seed_media_types_table"
# The registry seeds them in many steps and in no certain order: nobody may rely on the numbers that we give.
OTHER_NUMBERS = "ALTER TABLE media_types ALTER COLUMN id RESTART WITH 41"


def make_reference(database: "Database") -> None:
    """Fill an empty database; only the strings of media types come from our own migration."""
    (seed,) = (each.migration.up for each in load_migrations() if each.id == MEDIA_TYPES)
    with database.connect() as connection:
        for statements in (*(file.read_text() for file in FILES), OTHER_NUMBERS, *seed):
            connection.execute(statements)
