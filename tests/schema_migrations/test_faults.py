"""Schema migrations whose connection ends: what is recorded is what was made, and the next run goes on."""

from contextlib import suppress

import pytest
from django.core.management import CommandError
from django.db import connections

from tests.proxy import Fault
from tests.schema_migrations import test_cli
from tests.schema_migrations.test_cli import recorded, run, tables

database, three = test_cli.database, test_cli.three
IDS = [test_cli.FIRST, test_cli.SECOND, test_cli.THIRD]
MADE = ["first", "second", "third"]


@pytest.mark.parametrize(
    ("words", "plan"),
    [
        (b"CREATE TABLE second", {"fault": Fault.RESET}),
        (b"INSERT INTO", {"fault": Fault.CUT}),
        (b"COMMIT", {"fault": Fault.RESET, "loses_answer": True}),
    ],
)
def test_a_connection_that_ends_leaves_whole_migrations_and_the_next_run_goes_on(
    database, three, aliases_through, words, plan
):
    for skip in range(20):
        aliases_through.fail_at(words, skip=skip, **plan)
        before = aliases_through.struck
        with suppress(CommandError):
            run("up")
        if aliases_through.struck == before:
            break
        assert [name for name in MADE if name in tables(database)] == MADE[: len(recorded(database))]
        run("up")
        assert recorded(database) == IDS
        run("down", "--force")
        connections["registry"].close()
    assert skip > 0
