"""Whatever stands in the `Authorization` header, the API answers: 200 to a good token, else a whole refusal."""

import json
from itertools import pairwise

import pytest
from django.test import Client
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from tests.registry_project.api.asking import STATISTICS, TO_STATISTICS, Asker, assert_refused, challenge
from tests.registry_project.api.issuer import Signer, jwk, key, mint, usual_claims, usual_header

pytestmark = pytest.mark.django_db(databases=["default", "registry", "rails"])
# The configuration is the same for all examples, and none of them changes anything.
many = settings(max_examples=100, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
ask = Asker(Client(raise_request_exception=False))

# What a server hands over: bytes, each as one letter.
letters = st.characters(max_codepoint=255)
words = st.text(letters, max_size=200)
schemes = st.sampled_from(["bearer", "Bearer", "BEARER", "Basic", "", "bearer\t", "bearer "])
alphabet = "ABab01-_=.+/ \t\n\x00\xff,"
nonsense = st.text(st.sampled_from(alphabet), max_size=60)
leaves = (
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(max_size=20)
    | st.sampled_from(["RS256", "none", "HS256", "ES256", "registry", "statistics", "*", "container_registry"])
)
values = st.recursive(
    leaves, lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=8), inner, max_size=4)
)
header_names = st.sampled_from(["alg", "kid", "typ", "x5c", "jwk", "jku", "crit", "b64", "zip", "cty", "enc"])
claim_names = st.sampled_from(["iss", "aud", "exp", "nbf", "iat", "sub", "jti", "access", "user", "auth_type"])
jwk_names = st.sampled_from(["kty", "n", "e", "d", "crv", "x", "y", "kid", "x5c", "alg", "use", "key_ops", "oth"])
entry_names = st.sampled_from(["type", "name", "class", "actions", "meta"])


def check(authorization, *, errors=("invalid_token",)):
    """Ask; assert a 200 or a whole refusal with one of these errors; return the status."""
    answer = ask(STATISTICS, authorization)
    if answer.status_code != 200:
        found = answer.headers.get("WWW-Authenticate")
        error = next((each for each in errors if found == challenge(TO_STATISTICS, each)), errors[0])
        assert_refused(answer, error=error, required=TO_STATISTICS)
    return answer.status_code


def good_token():
    access = [{"type": "registry", "name": "statistics", "actions": ["*"]}]
    return mint(usual_header(key("trusted")), usual_claims(access=access), key("trusted"))


@many
@given(words)
def test_any_header_is_refused(header):
    assert check(header, errors=(None, "invalid_token")) == 401


@many
@given(schemes, words | nonsense)
def test_any_token_is_refused(scheme, word):
    assert check(f"{scheme} {word}", errors=(None, "invalid_token")) == 401


@many
@given(st.lists(words | nonsense, min_size=3, max_size=3))
def test_any_three_segments_are_refused(segments):
    assert check(f"bearer {'.'.join(segments)}", errors=(None, "invalid_token")) == 401


@many
@given(st.data())
def test_a_good_token_with_other_letters_is_refused(data):
    token = good_token()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(token)), min_size=2, max_size=6)))
    pieces = [token[start:end] for start, end in pairwise([0, *cuts, len(token)])]
    fillings = data.draw(st.lists(words | nonsense, min_size=len(pieces), max_size=len(pieces)))
    for changed in ("".join(pieces[::2]), "".join(map("".join, zip(pieces, fillings, strict=True)))):
        # Bits of the last letter that no byte uses, and padding, leave a token good.
        is_good = changed.rstrip("=")[:-1] == token[:-1]
        assert check(f"bearer {changed}", errors=(None, "invalid_token")) in ((200, 401) if is_good else (401,))


@many
@given(st.integers(0, 10_000), st.integers(0, 7))
def test_a_good_token_with_one_bit_turned_is_refused(position, bit):
    token = good_token()
    position %= len(token) - 1
    turned = token[:position] + chr(ord(token[position]) ^ 1 << bit) + token[position + 1 :]
    assert check(f"bearer {turned}", errors=(None, "invalid_token")) == 401


@many
@given(st.dictionaries(header_names, values, min_size=1, max_size=4))
def test_any_values_in_a_header_are_answered(changes):
    check(Signer().bearer(header=changes), errors=("invalid_token", "insufficient_scope"))


@many
@given(st.dictionaries(jwk_names, values, max_size=4), st.sampled_from(["trusted", "trusted-p256"]))
def test_any_values_in_a_jwk_are_answered(changes, name):
    header = {"jwk": jwk(key(name), **changes)}
    check(Signer(name).bearer(header=header), errors=("invalid_token", "insufficient_scope"))


@many
@given(st.dictionaries(claim_names, values, min_size=1, max_size=4))
def test_any_values_in_signed_claims_are_answered(changes):
    check(Signer().bearer(changes), errors=("invalid_token", "insufficient_scope"))


@many
@given(st.lists(st.dictionaries(entry_names, values, max_size=5) | values, max_size=4))
def test_any_signed_access_is_answered(access):
    check(Signer().bearer({"access": access}), errors=("invalid_token", "insufficient_scope"))


@many
@given(st.binary(max_size=300), st.binary(max_size=300))
def test_any_signed_bytes_are_refused(header, claims):
    assert check(f"bearer {mint(header, claims, key('trusted'))}") == 401


@many
@given(st.binary(max_size=60), st.integers(0, 1_000))
def test_any_bytes_within_signed_claims_are_answered(content, position):
    claims = json.dumps(usual_claims()).encode()
    position %= len(claims)
    claims = claims[:position] + content + claims[position:]
    check(Signer().bearer(claims), errors=("invalid_token", "insufficient_scope"))
