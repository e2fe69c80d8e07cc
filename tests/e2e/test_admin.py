"""The admin site in a real browser, over a database at which a real worker works."""

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, expect

from background_migrations.status import Status
from bench.servers import migrated_server, url_of
from registry_project.embedded_postgres import EmbeddedPostgres
from tests.background_migrations.conftest import EMPTY, TABLE, Bench
from tests.background_migrations.worker_process import start as start_worker
from tests.conftest import Database
from tests.e2e.browsing import PASSWORD, Tab, browser, tab
from tests.e2e.site import Site, served
from tests.metadata_import.import_crowd import EMPTY_IMPORTS, make_imports
from tests.metadata_import.trees import Tree
from tests.waiting import until

pytestmark = pytest.mark.browser

MIGRATIONS, JOBS = (f"admin/background_migrations/backgroundmigration{kind}/" for kind in ("", "job"))
IMPORTS = "admin/metadata_import/importrun/"
SCHEMA = "admin/schema_migrations/schemamigration/"
ROWS = 4_000
MAKE_STAFF = f"""
from django.contrib.auth.models import Group, User
for group in ("Viewer", "Operator", "Administrator"):
    user = User.objects.create_user(group.lower(), password={PASSWORD!r}, is_staff=True)
    user.groups.add(Group.objects.get(name=group))
"""
BROKEN = "ALTER TABLE counters ADD CONSTRAINT row_seven_is_frozen CHECK (id <> 7 OR hits = 0)"
AT_REST = "SELECT bool_and(claim IS NULL) FROM registry_admin.background_migration_job_progress"
MENDED = "ALTER TABLE counters DROP CONSTRAINT row_seven_is_frozen"


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as launched:
        yield launched


@pytest.fixture(scope="module")
def server(chromium) -> Iterator[EmbeddedPostgres]:
    with migrated_server() as server:
        environment = {**os.environ, "DATABASE_URL": url_of(server)}
        subprocess.run([sys.executable, "manage.py", "shell", "-c", MAKE_STAFF], env=environment, check=True)
        yield server


@pytest.fixture(scope="module")
def site(server) -> Iterator[Site]:
    with served(url_of(server), {}, threads=4) as running:
        yield running


@pytest.fixture
def scene(server) -> Iterator[Bench]:
    """A table over which migrations can be queued."""
    database = Database(url_of(server))
    with database.connect() as connection:
        connection.execute(EMPTY)
        connection.execute(EMPTY_IMPORTS)
        connection.execute(TABLE)
        bench = Bench(database, connection)
        bench.fill(ROWS)
        yield bench


@contextmanager
def logged_in(chromium: Browser, site: Site, username: str, **look: object) -> Iterator[Tab]:
    with tab(chromium, site.url, **look) as opened:
        opened.log_in(username)
        yield opened


@pytest.fixture
def administrator(chromium, site, scene) -> Iterator[Tab]:
    with logged_in(chromium, site, "administrator") as opened:
        yield opened
        assert opened.faults == []


@contextmanager
def working(scene: Bench, **options: object) -> Iterator[None]:
    worker = start_worker(scene.database.url, idle_seconds=0.1, **options)
    try:
        yield
    finally:
        worker.terminate()
        worker.wait()


def press(opened: Tab, verb: str, *, label: str) -> None:
    """Press the button of a page, and confirm."""
    opened.page.click(f"#button-{verb}")
    opened.page.get_by_role("button", name=label, exact=True).click()
    opened.page.wait_for_selector("#rm-live")


def test_a_bar_moves_by_itself_pause_stops_the_worker_and_resume_lets_it_finish(scene, administrator):
    migration = scene.queue(function="increment_slowly", batch_size=100)
    page = administrator.page
    with working(scene, rest_seconds=0.2):
        administrator.open(f"{MIGRATIONS}{migration}/change/")
        page.fill("#id_batch_size", "77")
        before = administrator.bar()
        until(lambda: page.wait_for_timeout(100) or administrator.bar() > before)
        assert page.input_value("#id_batch_size") == "77"
        press(administrator, "pause", label="Pause")
        expect(page.locator("#rm-live .rm-badge").first).to_contain_text("paused")
        until(lambda: scene.rows(AT_REST) == [(True,)])
        rested = scene.hits()
        page.wait_for_timeout(1_000)
        assert scene.hits() == rested
        press(administrator, "resume", label="Resume")
        expect(page.locator("#rm-live .rm-badge").first).to_contain_text("finished")


def test_a_failed_one_shows_its_error_and_is_restarted(scene, administrator):
    scene.connection.execute(BROKEN)
    scene.queue(batch_size=ROWS)
    page = administrator.page
    with working(scene, max_attempts=1):
        until(lambda: scene.status() == Status.FAILED)
        administrator.open("admin/")
        page.click("text=See why, then restart it")
        expect(page.locator("#failed-title + ul")).to_contain_text("row_seven_is_frozen")
        scene.connection.execute(MENDED)
        press(administrator, "restart", label="Restart")
        expect(page.locator("#rm-live .rm-badge").first).to_contain_text("finished")
    assert scene.hits() == {1: ROWS}


def test_a_viewer_sees_no_button_and_a_form_made_by_hand_is_refused(chromium, site, scene):
    migration = scene.queue()
    with logged_in(chromium, site, "viewer") as viewer:
        viewer.open(f"{MIGRATIONS}{migration}/change/")
        assert viewer.page.locator("button[id^=button-]").count() == 0
        token = next(each["value"] for each in viewer.page.context.cookies() if each["name"] == "csrftoken")
        form = {"_selected_action": str(migration), "confirmed": "yes", "csrfmiddlewaretoken": token}
        answer = viewer.page.request.post(f"{site.url}{MIGRATIONS}act/pause/", form=form)
        assert answer.status == 403
    assert scene.status() == Status.ACTIVE


def test_a_page_says_when_the_server_cannot_be_reached_and_when_it_can_again(chromium, site, scene):
    scene.queue()
    with logged_in(chromium, site, "viewer") as viewer:
        viewer.page.context.set_offline(True)
        expect(viewer.page.locator("#rm-unreachable")).to_be_visible(timeout=20_000)
        viewer.page.context.set_offline(False)
        expect(viewer.page.locator("#rm-unreachable")).to_be_hidden(timeout=20_000)


def test_selected_lines_are_paused_together_by_the_keyboard(scene, administrator):
    for number in range(3):
        scene.queue(f"count {number}")
    page = administrator.page
    administrator.open(MIGRATIONS)
    page.locator("input.action-select").nth(0).check()
    page.locator("input.action-select").nth(1).check()
    page.select_option("select[name=action]", "pause")
    page.locator("button[name=index]").first.click()
    expect(page.locator("h2").first).to_contain_text("Pause: 2 background migrations")
    expect(page.get_by_role("button", name="Pause", exact=True)).to_be_focused()
    page.keyboard.press("Enter")
    expect(page.locator("#rm-live")).to_be_attached()
    paused = "SELECT count(*) FROM batched_background_migrations WHERE status = 0"
    assert scene.rows(paused) == [(2,)]


def test_an_import_appears_by_itself_and_its_report_is_the_one_that_was_printed(
    scene, site, administrator, registry_tree
):
    for number in range(3):
        Tree(registry_tree).tag_link("base", f"broken{number}").parent.mkdir(parents=True)
    page = administrator.page
    administrator.open(IMPORTS)
    command = [sys.executable, "manage.py", "database", "import", str(registry_tree), "--json"]
    environment = {**os.environ, "DATABASE_URL": scene.database.url}
    printed = subprocess.run(command, env=environment, check=True, capture_output=True).stdout
    expect(page.locator("#rm-live .rm-badge").first).to_contain_text("finished")
    page.click("#rm-live a.rm-name")
    expect(page.locator("#skips-title")).to_contain_text("Left out: 3")
    with page.expect_download() as download:
        page.click("#report")
    assert json.loads(download.value.path().read_bytes()) == json.loads(printed)


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (1280, "dark"), (390, "light"), (390, "dark")])
def test_every_page_fits_and_is_accessible(chromium, site, scene, width, scheme):
    migration = scene.queue()
    scene.queue("a second one", status=int(Status.PAUSED))
    with working(scene):
        until(lambda: scene.hits() == {1: ROWS})
    ((job,),) = scene.rows("SELECT min(id) FROM batched_background_migration_jobs")
    run = make_imports(scene.connection, runs=3, items=20, skips=40)
    first = f"{SCHEMA}20210503145024_create_top_level_namespaces_table/change/"
    pages = ["admin/", MIGRATIONS, f"{MIGRATIONS}{migration}/change/", JOBS, f"{JOBS}{job}/change/", SCHEMA, first]
    pages += [IMPORTS, *(f"{IMPORTS}{each}/change/" for each in (run, run - 1))]
    with logged_in(chromium, site, "administrator", width=width, scheme=scheme) as opened:
        for path in pages:
            opened.open(path)
            opened.page.wait_for_load_state("networkidle")
            serious = [
                (path, each["id"], each["nodes"][0]["html"])
                for each in Axe().run(opened.page).response["violations"]
                if each["impact"] in {"serious", "critical"}
            ]
            assert serious == []
            assert opened.page.evaluate("document.documentElement.scrollWidth <= innerWidth"), path
        assert opened.faults == []
