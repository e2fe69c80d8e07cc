"""The jobs of a migration, page by page: what may be asked for, and the link to the rest."""

import re

import pytest

from background_migrations.status import Status
from tests.factories import BackgroundMigrationFactory, BackgroundMigrationJobFactory
from tests.registry_project.api.asking import MIGRATIONS, TO_READ, assert_error

pytestmark = pytest.mark.django_db(databases=["default", "registry", "rails"])


@pytest.fixture
def migration():
    return BackgroundMigrationFactory()


@pytest.fixture
def get(ask, signer, migration):
    """Ask for the migration's jobs."""

    def send(query="", path=f"{MIGRATIONS}{migration.pk}/jobs/"):
        return ask(path, signer.grant(TO_READ), QUERY_STRING=query)

    return send


def following(answer):
    """Where the next page is, if there is one."""
    if "Link" not in answer.headers:
        return None
    found = re.fullmatch(r'<(?P<url>[^>]+)>; rel="next"', answer.headers["Link"])
    return found["url"]


def test_a_migration_without_jobs_has_an_empty_page(get):
    answer = get()
    assert (answer.status_code, answer.json(), following(answer)) == (200, {"jobs": []}, None)


def test_only_its_own_jobs_are_shown(get, migration):
    job = BackgroundMigrationJobFactory(background_migration=migration)
    BackgroundMigrationJobFactory()
    assert [each["id"] for each in get().json()["jobs"]] == [job.pk]


def test_all_jobs_are_found_by_following_the_links(ask, signer, get, migration):
    jobs = BackgroundMigrationJobFactory.create_batch(7, background_migration=migration)
    answer, sizes, found = get("n=3"), [], []
    while True:
        sizes.append(len(answer.json()["jobs"]))
        found += [each["id"] for each in answer.json()["jobs"]]
        url = following(answer)
        if url is None:
            break
        assert "/gitlab/v1/background-migrations/" in url
        path, _, query = url.removeprefix("http://testserver").partition("?")
        answer = get(query, path)
    assert sorted(found) == sorted(job.pk for job in jobs)
    assert len(found) == len({*found}) == sum(sizes)
    assert sizes == [3, 3, 1]


def test_the_last_full_page_links_nowhere(get, migration):
    BackgroundMigrationJobFactory.create_batch(3, background_migration=migration)
    assert following(get("n=3")) is None


def test_a_link_keeps_the_status_asked_for(get, migration):
    BackgroundMigrationJobFactory.create_batch(3, background_migration=migration)
    BackgroundMigrationJobFactory.create_batch(3, background_migration=migration, failed=True)
    assert "status=failed" in following(get("n=2&status=failed"))


def test_a_page_has_a_hundred_jobs_unless_asked(get, migration):
    BackgroundMigrationJobFactory.create_batch(101, background_migration=migration)
    assert len(get().json()["jobs"]) == 100
    assert len(get("n=1000").json()["jobs"]) == 101


@pytest.mark.parametrize("status", ["finished", "failed"])
def test_jobs_of_one_status_are_found(get, migration, status):
    jobs = {
        "finished": BackgroundMigrationJobFactory(background_migration=migration),
        "failed": BackgroundMigrationJobFactory(background_migration=migration, failed=True, attempts=3),
    }
    assert jobs["failed"].status == Status.FAILED
    (found,) = get(f"status={status}").json()["jobs"]
    assert (found["id"], found["status"]) == (jobs[status].pk, status)


BAD_VALUE, BAD_TYPE = "INVALID_QUERY_PARAMETER_VALUE", "INVALID_QUERY_PARAMETER_TYPE"
BAD = {
    "n of nothing": ("n=0", BAD_VALUE),
    "negative n": ("n=-1", BAD_VALUE),
    "n beyond a thousand": ("n=1001", BAD_VALUE),
    "n beyond 64 bits": (f"n={2**63}", BAD_VALUE),
    "n of 5000 digits": (f"n={'9' * 5_000}", None),
    "n of letters": ("n=abc", BAD_TYPE),
    "empty n": ("n=", BAD_TYPE),
    "fractional n": ("n=1.5", BAD_TYPE),
    "n with an exponent": ("n=1e2", BAD_TYPE),
    "n in other digits": ("n=%D9%A1", BAD_TYPE),
    "n with an underscore": ("n=1_0", BAD_TYPE),
    "n with a NUL": ("n=1%00", BAD_TYPE),
    "n of no alphabet": ("n=%FF", BAD_TYPE),
    "an unknown status": ("status=nothing", BAD_VALUE),
    "an empty status": ("status=", BAD_VALUE),
    "a status in capitals": ("status=FAILED", BAD_VALUE),
    "a status as a number": ("status=2", None),
    "a status with NUL": ("status=failed%00", BAD_VALUE),
    "last of letters": ("last=abc", BAD_TYPE),
    "empty last": ("last=", BAD_TYPE),
    "last with SQL": ("last=1%3B--", BAD_TYPE),
    "last of 5000 digits": (f"last={'9' * 5_000}", None),
}


@pytest.mark.parametrize(("query", "code"), BAD.values(), ids=BAD)
def test_a_bad_parameter_is_named(get, query, code):
    answer = get(query)
    error = assert_error(answer, status=400, code=code or answer.json()["errors"][0]["code"])
    assert error["code"] in (BAD_VALUE, BAD_TYPE)
    assert query.partition("=")[0] in f"{error['message']} {error.get('detail')}"


def test_an_unknown_parameter_changes_nothing(get, migration):
    BackgroundMigrationJobFactory(background_migration=migration)
    assert get("offset=5&page=2&format=xml").content == get().content
