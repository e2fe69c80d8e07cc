"""The shipped migrations go down and up again without a trace, and structure.sql shows what they make."""

from schema_migrations.journal import Author
from schema_migrations.loader import load_migrations
from schema_migrations.migrator import Migrator
from schema_migrations.planner import Selection
from tests.fakes import RecordingReporter
from tests.structure import STRUCTURE, dump

SEEDS = (
    "SELECT media_type FROM media_types ORDER BY 1",
    "SELECT name, status, batch_size FROM batched_background_migrations ORDER BY 1",
)


def test_structure_sql_is_the_schema(scratch_copy):
    assert dump(scratch_copy) == STRUCTURE.read_text(), "run `make structure` and look at what it changes"


def test_everything_goes_down_and_up_to_the_same_schema(scratch_copy):
    assert_down_and_up_changes_nothing(scratch_copy)


def assert_down_and_up_changes_nothing(database):
    """Undo and apply all shipped migrations; what was there before must be there again, seeds included."""
    with database.connect() as connection:
        before = dump(database, every_partition=True), [connection.execute(query).fetchall() for query in SEEDS]
        migrator = Migrator(
            connection=connection,
            connect=database.connect,
            known=load_migrations(),
            author=Author(actor="tests", release="tests"),
            reporter=RecordingReporter(),
        )
        migrator.down(Selection(), confirmed=migrator.plan_down(Selection()))
        left = connection.execute(
            "SELECT relname FROM pg_class WHERE relnamespace = 'public'::regnamespace AND relkind IN ('r', 'p', 'S')"
        )
        assert {name for (name,) in left} == {"schema_migrations", "post_deploy_schema_migrations"}
        migrator.up(Selection())
        after = dump(database, every_partition=True), [connection.execute(query).fetchall() for query in SEEDS]
    assert before == after
