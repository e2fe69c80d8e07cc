"""Which paths are routes: ids that are none or nobody's, paths that nobody knows, letters written another way."""

import pytest

from tests.factories import BackgroundMigrationFactory
from tests.registry_project.api.asking import (
    ALL,
    MIGRATIONS,
    TO_READ,
    TO_STATISTICS,
    assert_error,
    assert_not_found,
    assert_refused,
)
from tests.registry_project.api.paths import OF_ONE

pytestmark = pytest.mark.django_db(databases=["default", "registry", "rails"])

NOT_AN_ID = {
    "0": "0",
    "a leading zero": "01",
    "negative": "-1",
    "a plus": "+1",
    "letters": "abc",
    "a number and letters": "1a",
    "a fraction": "1.0",
    "an exponent": "1e3",
    "an underscore": "1_0",
    "hexadecimal": "0x1",
    "digits of another alphabet": "%D9%A1",
    "wide digits": "%EF%BC%91",
    "a space before": "%201",
    "a space behind": "1%20",
    "a newline behind": "1%0A",
    "a NUL": "1%00",
    "a star": "*",
    "a quote": "1'",
    "broken UTF-8": "%FF",
    "null": "null",
}


@pytest.mark.parametrize("text", NOT_AN_ID.values(), ids=NOT_AN_ID)
def test_what_is_not_an_id_is_not_found_whatever_the_token(ask, signer, text):
    for route, path in OF_ONE:
        for method in route.methods:
            assert_not_found(ask(path.replace("{id}", text), method=method))
            assert_not_found(ask(path.replace("{id}", text), signer.grant(*ALL), method=method))


TOO_LARGE = {"2^63": str(2**63), "2^64": str(2**64), "20 digits": "9" * 20, "5000 digits": "1" * 5_000}


@pytest.mark.parametrize("text", TOO_LARGE.values(), ids=TOO_LARGE)
def test_an_id_beyond_64_bits_is_invalid(ask, signer, text):
    for route, path in OF_ONE:
        for method, required in route.methods.items():
            path_of_one = path.replace("{id}", text)
            assert_error(ask(path_of_one, signer.grant(*ALL), method=method), status=400, code="BBM_ID_INVALID")
            assert_refused(ask(path_of_one, method=method), error=None, required=required)


@pytest.mark.parametrize("text", [str(2**63 - 1), "999999"])
def test_an_id_of_nobody_is_not_found_and_named(ask, signer, text):
    for route, path in OF_ONE:
        for method, required in route.methods.items():
            path_of_one = path.replace("{id}", text)
            answer = ask(path_of_one, signer.grant(*ALL), method=method, body=b"{}" if method == "PATCH" else b"")
            error = assert_error(answer, status=404, code="BBM_ID_NOT_FOUND")
            assert isinstance(error["detail"], str)
            assert text in error["detail"]
            assert_refused(ask(path_of_one, method=method), error=None, required=required)


def test_an_id_may_be_percent_encoded(ask, signer):
    migration = BackgroundMigrationFactory()
    encoded = "".join(f"%{ord(digit):x}" for digit in str(migration.pk))
    assert ask(f"{MIGRATIONS}{encoded}/", signer.grant(TO_READ)).status_code == 200


UNKNOWN = [
    "/gitlab",
    "/gitlab/",
    "/gitlab/v2/",
    "/gitlab/v1/nothing/",
    "/gitlab/v1/Statistics/",
    "/GITLAB/v1/statistics/",
    "/gitlab/v1//statistics/",
    "/gitlab//v1/statistics/",
    "/gitlab/v1/statistics//",
    "/gitlab/v1//",
    "/gitlab/v1/./statistics/",
    "/gitlab/v1/x/../statistics/",
    "/gitlab/v1/%2e%2e/v1/statistics/",
    "/gitlab/v1/statistics/%2e/",
    "/gitlab/v1/statistics/more/",
    "/gitlab/v1/statistics.json",
    "/gitlab/v1/statistics;a=1/",
    "/gitlab/v1/statistics%20/",
    "/gitlab/v1/statistics%0A",
    "/gitlab/v1/statistics/%0A",
    "/gitlab/v1/statistics%00/",
    "/gitlab/v1/%FF/",
    "/gitlab/v1/admin/db/migrations/",
    "/gitlab/v1/admin/db/migrations/status/more",
    "/gitlab/v1/admin/db/",
    "/gitlab/v1/background-migrations//",
    "/gitlab/v1/background-migrations/1//",
    "/gitlab/v1/background-migrations/1/jobs/1/",
    "/gitlab/v1/background-migrations/1/retry/",
    "/gitlab/v1/background-migrations/restart/",
    "/gitlab/v1/background-migrations/pause/1/",
    "/gitlab/v1/background_migrations/",
    "/gitlab/v1/bbm/status/",
    "/gitlab/v1/bbm/pause/",
    "/gitlab/v1/restart/",
    "/v1/",
    "/v1/gitlab/",
    "/v1/gitlab/statistics/",
    "/v1/gitlab/bbm/",
    "/v1/gitlab/bbm/1/",
]


@pytest.mark.parametrize("path", UNKNOWN)
def test_an_unknown_path_is_not_found_whatever_the_token(ask, signer, path):
    for method in ("GET", "POST"):
        assert_not_found(ask(path, method=method))
        assert_not_found(ask(path, signer.grant(*ALL), method=method))
        assert_not_found(ask(path, "Bearer x", method=method))


def test_percent_encoded_letters_are_letters(ask, signer):
    assert ask("/gitlab/v1/%73tatistics/", signer.grant(TO_STATISTICS)).status_code == 200
    assert_refused(ask("/g%69tlab/v1/%73tatistics"), error=None, required=TO_STATISTICS)
