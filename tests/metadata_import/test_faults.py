"""An import whose connections end: it goes on by itself, or is run again, and ends as if nothing had happened."""

import io
from collections.abc import Callable

import pytest
from django.core.management import CommandError, call_command
from django.db import connections

from metadata_import import retrying, worker
from metadata_import.importer import ITEMS_PER_PROCESS
from metadata_import.models import ImportRun, ImportStatus
from metadata_import.options import Resume
from metadata_import.statistics import ImportReport
from tests.conftest import EMPTY_TABLES
from tests.metadata_import.registry_rows import Row, registry_rows
from tests.metadata_import.runs import import_tree
from tests.metadata_import.trees import Tree
from tests.proxy import Fault, Proxy

STATEMENTS = (b"INSERT INTO blobs", b"FROM STDIN (FORMAT BINARY)", b"INSERT INTO manifests", b"INSERT INTO tags")

pytestmark = pytest.mark.usefixtures("committed_db")


@pytest.fixture
def tree(tmp_path) -> Tree:
    """A few repositories, each of which becomes a batch of its own."""
    tree = Tree(tmp_path / "root")
    for number in range(6):
        name = f"group{number % 2}/project{number}"
        one = tree.image(name, tag="one", layers=[b"shared", f"own {number}".encode()])
        two = tree.image(name, tag="two", subject={"digest": one})
        tree.index(name, [one, two], tag="both")
    return tree


@pytest.fixture
def expected(tree, monkeypatch) -> dict[str, set[Row]]:
    """What an import leaves that nobody disturbs."""
    monkeypatch.setattr(worker, "BATCH_WEIGHT_BYTES", 1)
    monkeypatch.setattr(retrying, "FIRST_PAUSE_SECONDS", 0.01)
    import_tree(tree.root)
    rows = registry_rows()
    with connections["registry"].cursor() as cursor:
        cursor.execute(EMPTY_TABLES)
    (tree.root / "docker/registry/lockfiles/database-in-use").unlink()
    return rows


@pytest.fixture
def faulty(expected, aliases_through) -> Proxy:
    return aliases_through


def run(tree: Tree, **options: object) -> ImportReport:
    return import_tree(tree.root, **{"resume": Resume.IF_OPEN, **options})


@pytest.mark.parametrize(("loses_answer", "fault"), [(False, Fault.CUT), (True, Fault.RESET)])
def test_connections_that_end_at_the_worst_moments_are_opened_again(tree, expected, faulty, loses_answer, fault):
    for words in STATEMENTS:
        faulty.fail_at(words, fault, loses_answer=loses_answer, skip=1)
    for skip in (6, 9, 14):
        faulty.fail_at(b"COMMIT", fault, loses_answer=loses_answer, skip=skip)
    report = run(tree)
    assert faulty.struck == len(STATEMENTS) + 3
    assert (report.attempts, report.is_marked, report.skips) == (1, True, ())
    assert report.inserted_rows["tags"] == report.counts.tags == 18
    assert registry_rows() == expected


def disturb(faulty: Proxy, *, times: int) -> Callable[[object], None]:
    """End all connections when progress is told, so many times."""
    left = iter(range(times))

    def end(_progress: object) -> None:
        if next(left, None) is not None:
            faulty.end_all(Fault.RESET)

    return end


def test_after_every_batch_all_connections_may_end(tree, expected, faulty):
    """The lease's too: it is held by a row, not by a session."""
    report = import_tree(tree.root, on_progress=disturb(faulty, times=100))
    assert (report.attempts, report.is_marked) == (1, True)
    assert registry_rows() == expected


def test_the_processes_of_an_import_go_on_too(tmp_path, aliases_through):
    tree = Tree(tmp_path / "root")
    digests = {tree.image(f"group/project{number}", tag="one") for number in range(2 * ITEMS_PER_PROCESS)}
    report = import_tree(tree.root, concurrency=2, on_progress=disturb(aliases_through, times=6))
    assert (report.attempts, report.is_marked, report.counts.tags) == (1, True, 2 * ITEMS_PER_PROCESS)
    assert {digest for _, _, digest in registry_rows()["tags"]} == digests
    assert "equal" in verified(tree)


def verified(tree: Tree) -> str:
    out = io.StringIO()
    call_command("database", "import", str(tree.root), "--verify", stdout=out)
    return out.getvalue()


def test_a_server_that_stays_away_ends_it_and_the_same_command_goes_on(tree, expected, faulty, monkeypatch):
    monkeypatch.setattr(retrying, "RETRY_SECONDS", 0.3)

    faulty.fail_at(b"INSERT INTO manifests", Fault.CUT, goes_away=True, skip=3)
    with pytest.raises(CommandError, match="What was done is kept: run the same command again"):
        call_command("database", "import", str(tree.root))
    assert not (tree.root / "docker/registry/lockfiles/database-in-use").exists()
    faulty.is_away = False
    report = run(tree)
    assert (report.attempts, report.is_marked) == (2, True)
    assert ImportRun.objects.get().status == ImportStatus.FINISHED
    assert registry_rows() == expected


def test_a_slow_network_is_only_slow(tree, expected, faulty, monkeypatch):
    monkeypatch.undo()  # one batch
    faulty.delay_seconds = 0.005
    assert run(tree).attempts == 1
    assert registry_rows() == expected
