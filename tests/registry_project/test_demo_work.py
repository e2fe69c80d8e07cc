"""The background migrations of the demonstration: one that can be worked on, one paused, one that fails readably."""

import pytest

from background_migrations import wiring
from background_migrations.models import BackgroundMigration, Event, JobProgress
from background_migrations.running import new_worker
from background_migrations.status import Status
from background_migrations.sync_runner import run_to_completion
from background_migrations.work_functions import WORK_FUNCTIONS
from registry_project import demo_work


@pytest.fixture
def made(committed_db):
    with wiring.connectors("tests")["registry"]() as connection:
        demo_work.make_migrations(connection)
        yield connection
        connection.execute("DROP SCHEMA demo CASCADE")


def statuses() -> dict[str, Status]:
    found = BackgroundMigration.objects.filter(name__in=demo_work.FUNCTIONS).values_list("name", "status")
    return {name: Status(status) for name, status in found}


def test_one_fails_with_a_readable_error_while_the_others_are_left_for_the_worker(made):
    demo_work.fail()
    assert statuses() == {
        demo_work.RUNNING: Status.ACTIVE,
        demo_work.PAUSED: Status.PAUSED,
        demo_work.FAILING: Status.FAILED,
    }
    error = Event.objects.exclude(error_class="").get()
    assert "bytes_not_negative" in error.reason


def test_the_worker_can_finish_the_running_one(made):
    rules = wiring.rules("tests", paced=False)
    worker = new_worker(rules, functions=demo_work.FUNCTIONS)
    assert run_to_completion(worker, [demo_work.RUNNING]).finished == (demo_work.RUNNING,)
    ((left,),) = made.execute("SELECT count(*) FROM demo.tags WHERE counted IS NULL")
    assert left == 0


def test_a_second_demonstration_begins_anew(made):
    demo_work.fail()
    demo_work.make_migrations(made)
    assert statuses()[demo_work.FAILING] is Status.ACTIVE
    assert not JobProgress.objects.exists()


def test_no_worker_of_a_registry_knows_its_functions():
    assert not set(demo_work.FUNCTIONS) & set(WORK_FUNCTIONS)
