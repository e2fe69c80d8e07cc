"""The runbook's SQL moves what it says and nothing else: it is what is left when nothing of ours can be reached."""

from background_migrations.status import Status
from tests.documentation.fences import ROOT, fences

VIEW, PAUSE, RESUME = (
    fence.text for fence in fences(ROOT / "docs" / "how-to" / "runbook.md") if fence.language == "sql"
)
PAUSE_ALL, RESUME_ALL = (text.replace(" AND name = 'NAME'", "") for text in (PAUSE, RESUME))
INSERT = """
    INSERT INTO batched_background_migrations
        (name, min_value, max_value, batch_size, status, job_signature_name, table_name, column_name)
    VALUES (%s, 1, 10, 10, %s, 'any', 'public.tags', 'id')
"""
MOVED = {
    PAUSE_ALL: {Status.ACTIVE: Status.PAUSED, Status.RUNNING: Status.PAUSED},
    RESUME_ALL: {Status.PAUSED: Status.ACTIVE},
}


def statuses(connection) -> dict[str, int]:
    return dict(connection.execute("SELECT name, status FROM batched_background_migrations").fetchall())


def test_the_runbook_s_sql_moves_what_it_says_and_nothing_else(scratch_copy):
    with scratch_copy.connect() as connection:
        for query, moves in MOVED.items():
            connection.execute("DELETE FROM batched_background_migrations")
            for status in Status:
                connection.execute(INSERT, (status.label, status))
            for status in Status:  # of one alone
                one = {PAUSE_ALL: PAUSE, RESUME_ALL: RESUME}[query].replace("NAME", status.label)
                with connection.transaction(force_rollback=True):
                    told = [name for _, name in connection.execute(one).fetchall()]
                    assert told == ([status.label] if status in moves else [])
                    assert statuses(connection) == {
                        each.label: moves.get(each, each) if each is status else each for each in Status
                    }
            connection.execute(query)
            assert statuses(connection) == {each.label: moves.get(each, each) for each in Status}


def test_the_runbook_s_view_names_each_status_as_we_do(scratch_copy):
    with scratch_copy.connect() as connection:
        connection.execute("DELETE FROM batched_background_migrations")
        for status in Status:
            connection.execute(INSERT, (status.label, status))
        seen = [(name, status) for _, name, _, status, *_ in connection.execute(VIEW).fetchall()]
    assert seen == [(status.label, status.label) for status in Status if status is not Status.FINISHED]
