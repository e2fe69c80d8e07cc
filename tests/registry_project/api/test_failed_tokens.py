"""Too many failing tokens from one address are held off; a valid one never is, whoever shares its address."""

import itertools

import pytest

from tests.registry_project.api.asking import (
    PRESENCE,
    STATISTICS,
    TO_STATISTICS,
    assert_error,
    assert_not_found,
    assert_refused,
)

pytestmark = pytest.mark.django_db(databases=["default", "registry", "rails"])
LIMIT = 3
# Enough that some minute sees more than the limit, even when one ends meanwhile.
MANY = 4 * LIMIT
_addresses = (f"198.51.100.{number}" for number in itertools.count(1))


@pytest.fixture
def attacker(settings):
    """An address from which nobody has asked before."""
    settings.API_FAILED_TOKENS_PER_MINUTE = LIMIT
    return {"REMOTE_ADDR": next(_addresses)}


def statuses(ask, authorization, **extra):
    return [ask(PRESENCE, authorization, **extra).status_code for _ in range(MANY)]


def test_the_first_failures_are_refused_and_the_rest_held_off(ask, attacker):
    found = statuses(ask, "Bearer a.b.c", **attacker)
    assert found[:LIMIT] == [401] * LIMIT
    assert 429 in found
    assert set(found) == {401, 429}


def test_being_held_off_says_until_when(ask, attacker):
    answers = [ask(PRESENCE, "Bearer a.b.c", **attacker) for _ in range(MANY)]
    answer = next(each for each in answers if each.status_code == 429)
    assert_error(answer, status=429, code="TOOMANYREQUESTS")
    assert 1 <= int(answer.headers["Retry-After"]) <= 60
    assert answer.headers["X-RateLimit-Limit"] == str(LIMIT)
    assert answer.headers["X-RateLimit-Remaining"] == "0"
    assert {"X-RateLimit-Reset", "RateLimit", "RateLimit-Policy"} <= set(answer.headers)


def test_a_valid_token_from_the_same_address_is_never_held_off(ask, signer, attacker):
    statuses(ask, "Bearer a.b.c", **attacker)
    assert set(statuses(ask, signer.bearer(), **attacker)) == {200}
    answer = ask(STATISTICS, signer.grant(TO_STATISTICS), **attacker)
    assert answer.status_code == 200


def test_valid_tokens_are_not_counted(ask, signer, attacker):
    assert set(statuses(ask, signer.bearer(), **attacker)) == {200}
    assert_refused(ask(PRESENCE, "Bearer a.b.c", **attacker), error="invalid_token")


def test_a_good_token_without_access_has_not_failed(ask, signer, attacker):
    for _ in range(MANY):
        answer = ask(STATISTICS, signer.bearer(), **attacker)
        assert_refused(answer, error="insufficient_scope", required=TO_STATISTICS)


def test_a_request_without_a_token_has_not_failed(ask, attacker):
    for _ in range(MANY):
        assert_refused(ask(PRESENCE, **attacker), error=None)


def test_another_address_is_not_held_off(ask, attacker):
    statuses(ask, "Bearer a.b.c", **attacker)
    assert_refused(ask(PRESENCE, "Bearer a.b.c", REMOTE_ADDR=next(_addresses)), error="invalid_token")


def test_an_address_that_a_client_claims_is_not_believed(ask, attacker):
    found = [
        ask(PRESENCE, "Bearer a.b.c", HTTP_X_FORWARDED_FOR=f"203.0.113.{number}", **attacker).status_code
        for number in range(MANY)
    ]
    assert 429 in found


def test_an_unknown_path_is_not_found_even_then(ask, attacker):
    statuses(ask, "Bearer a.b.c", **attacker)
    assert_not_found(ask("/gitlab/v1/nothing/", "Bearer a.b.c", **attacker))


def test_without_a_limit_nobody_is_held_off(ask, settings, attacker):
    settings.API_FAILED_TOKENS_PER_MINUTE = 0
    assert set(statuses(ask, "Bearer a.b.c", **attacker)) == {401}
