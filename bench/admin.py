"""Measures each page of the admin site beside what it may take.

There are 200 background migrations with 100,000 jobs, and 200 imports, of which one runs and left 100,000 items out.

The site is served by granian on loopback, on a throw-away server, and asked by one user.
"""

import os
import re
import statistics
import subprocess
import sys
import time
from urllib.parse import urlencode
from urllib.request import HTTPCookieProcessor, OpenerDirector, build_opener

import psycopg

from bench.measures import Measure, report, wants_json
from bench.servers import migrated_server, url_of
from tests.crowds import make_crowd
from tests.e2e.site import served
from tests.metadata_import.import_crowd import make_imports

ROUNDS = 5
MOST_MILLISECONDS = 300.0
MOST_MILLISECONDS_OF_DOWNLOAD = 5_000.0
USER = {"DJANGO_SUPERUSER_USERNAME": "bench", "DJANGO_SUPERUSER_PASSWORD": "only for measurements"}
ROOT = "admin/background_migrations/backgroundmigration"
IMPORTS = "admin/metadata_import/importrun"
PAGES = {
    "home": "admin/",
    "home, renewed": "admin/live/",
    "background migrations": f"{ROOT}/",
    "background migrations, failed": f"{ROOT}/?status__exact=3",
    "one background migration": f"{ROOT}/{{migration}}/change/",
    "one background migration, renewed": f"{ROOT}/{{migration}}/live/",
    "jobs": f"{ROOT}job/",
    "jobs, page 1,500": f"{ROOT}job/?p=1500",
    "jobs of one background migration": f"{ROOT}job/?background_migration__id__exact={{migration}}",
    "jobs, failed": f"{ROOT}job/?status__exact=3",
    "one job": f"{ROOT}job/{{job}}/change/",
    "schema migrations": "admin/schema_migrations/schemamigration/",
    "imports": f"{IMPORTS}/",
    "imports, the older half": f"{IMPORTS}/?before=100",
    "one import": f"{IMPORTS}/{{run}}/change/",
    "one import, renewed": f"{IMPORTS}/{{run}}/live/",
}
# Their length is that of what was left out, so they have a limit of their own.
DOWNLOADS = {
    "report": f"{IMPORTS}/{{run}}/report.json",
    "100,000 skips as CSV": f"{IMPORTS}/{{run}}/skips.csv",
    "100,000 skips as JSON": f"{IMPORTS}/{{run}}/skips.json",
}
SOME_JOB = "SELECT batched_background_migration_id, id FROM batched_background_migration_jobs ORDER BY id DESC LIMIT 1"
TOKEN = re.compile(r'name="csrfmiddlewaretoken" value="(\w+)"')


def main() -> int:
    """Measure, print, and fail when a page is too slow."""
    as_json = wants_json(__doc__ or "")
    with migrated_server() as server:
        url = url_of(server)
        with psycopg.connect(url, autocommit=True) as connection:
            make_crowd(connection)
            run = make_imports(connection)
            ((migration, job),) = connection.execute(SOME_JOB)
        _make_user(url)
        with served(url, {}) as site:
            browser = _logged_in(site.url)
            measures = [
                _measure(browser, name, site.url + path.format(migration=migration, job=job, run=run), most=most)
                for pages, most in ((PAGES, MOST_MILLISECONDS), (DOWNLOADS, MOST_MILLISECONDS_OF_DOWNLOAD))
                for name, path in pages.items()
            ]
    return report(measures, as_json=as_json)


def _make_user(url: str) -> None:
    environment = {**os.environ, **USER, "DATABASE_URL": url, "SECRET_KEY": "only-for-measurements"}
    command = [sys.executable, "manage.py", "createsuperuser", "--noinput", "--email", ""]
    subprocess.run(command, env=environment, check=True, capture_output=True)


def _logged_in(site: str) -> OpenerDirector:
    """Return what asks with the cookies of a user who logged in."""
    opener = build_opener(HTTPCookieProcessor())
    address = f"{site}admin/login/"
    found = TOKEN.search(opener.open(address).read().decode())
    form = {
        "csrfmiddlewaretoken": found[1] if found else "",
        "username": USER["DJANGO_SUPERUSER_USERNAME"],
        "password": USER["DJANGO_SUPERUSER_PASSWORD"],
    }
    opener.open(f"{address}?next=/admin/", urlencode(form).encode()).read()
    return opener


def _measure(browser: OpenerDirector, name: str, address: str, *, most: float) -> Measure:
    """Ask a page once to warm up, then some times; the median counts."""
    taken = []
    for _ in range(ROUNDS + 1):
        began = time.perf_counter()
        answer = browser.open(address)
        answer.read()
        taken.append((time.perf_counter() - began) * 1_000)
        if "/login/" in answer.url:
            raise SystemExit(f"{address} wants a log in.")
    milliseconds = statistics.median(taken[1:])
    return Measure(name, milliseconds, "ms", limit=1.0, ratio=milliseconds / most)


if __name__ == "__main__":
    sys.exit(main())
