"""Which well-formed tokens are believed, asked of a route that needs no access: 200, or 401 with its reason."""

import json

import pytest

from tests.registry_project.api.asking import PRESENCE, STATISTICS, TO_STATISTICS, assert_refused
from tests.registry_project.api.building import claims, entry, header, padded, raw_claims, resigned, segments, token
from tests.registry_project.api.issuer import (
    ABSENT,
    ISSUER,
    SERVICE,
    Signer,
    encode,
    key,
    mint,
    usual_claims,
    usual_header,
)

ANYTHING = (200, 401)
NOT_BELIEVED = {
    "no issuer": claims(iss=ABSENT),
    "a null issuer": claims(iss=None),
    "an empty issuer": claims(iss=""),
    "another issuer": claims(iss="gitlab-issuer"),
    "an issuer in other letters": claims(iss=ISSUER.upper()),
    "an issuer with a space": claims(iss=f"{ISSUER} "),
    "a beginning of the issuer": claims(iss=ISSUER[:-1]),
    "no audience": claims(aud=ABSENT),
    "a null audience": claims(aud=None),
    "an empty audience": claims(aud=""),
    "no audience in the list": claims(aud=[]),
    "another audience": claims(aud="dependency_proxy"),
    "another audience in the list": claims(aud=["dependency_proxy"]),
    "an audience in other letters": claims(aud=SERVICE.upper()),
    "an audience that is a beginning": claims(aud="container"),
    "an audience that goes on": claims(aud=f"{SERVICE}2"),
    "eleven audiences": claims(aud=["x"] * 10 + [SERVICE]),
    "an audience that is a number": claims(aud=1),
    "an audience that is an object": claims(aud={SERVICE: True}),
    "a number among the audiences": claims(aud=[SERVICE, 1]),
    "null among the audiences": claims(aud=[SERVICE, None]),
    "a list among the audiences": claims(aud=[[SERVICE]]),
    "no expiry": claims(exp=ABSENT),
    "a null expiry": claims(exp=None),
    "an expiry of 0": claims(exp=0),
    "a negative expiry": claims(exp=-1),
    "expired beyond the leeway": claims(exp=lambda now: now - 62),
    "expired a day ago": claims(exp=lambda now: now - 86_400),
    "not valid within the leeway": claims(nbf=lambda now: now + 300),
    "not valid for years": claims(nbf=2**62),
    "ISS for iss": claims(iss=ABSENT, ISS=ISSUER),
    "Aud for aud": claims(aud=ABSENT, Aud=SERVICE),
    "EXP for exp": claims(exp=ABSENT, EXP=9_999_999_999),
    "the long s in iss": lambda: Signer().bearer({"iss": ABSENT, "i\u017fs": ISSUER}),
    "a critical extension": header(crit=["b64"], b64=True),
    "a critical extension that nobody knows": header(crit=["urn:example"], **{"urn:example": 1}),
    "a critical extension that is not there": header(crit=["other"]),
    "critical text": header(crit="b64"),
    "no kid": header(kid=ABSENT),
    "claims of another token": lambda: f"bearer {token().split('.')[0]}.{'.'.join(changed_token().split('.')[1:])}x",
    "changed claims": segments(lambda first, second, third: [first, changed_token().split(".")[1], third]),
    "a changed header": segments(lambda first, second, third: [changed_header(), second, third]),
    "a signature of something else": segments(lambda first, second, third: [first, second, other_signature()]),
    "half a signature": segments(lambda first, second, third: [first, second, third[:172]]),
    "a longer signature": segments(lambda first, second, third: [first, second, third[:-2] + "AAAA"]),
    "a signature of one byte": segments(lambda first, second, third: [first, second, "AA"]),
    "a signature of zeros": segments(lambda first, second, third: [first, second, encode(bytes(256))]),
}


def changed_token():
    return mint(usual_header(key("trusted")), usual_claims(sub="somebody"), key("stranger"))


def changed_header():
    return encode(json.dumps(usual_header(key("trusted"), typ="other")).encode())


def other_signature():
    return Signer().bearer({"sub": "somebody else"}).rpartition(".")[2]


BELIEVED = {
    "as Rails writes it": lambda: f"bearer {token()}",
    "a capital letter": lambda: f"Bearer {token()}",
    "all capitals": lambda: f"BEARER {token()}",
    "mixed letters": lambda: f"bEaReR {token()}",
    "padded segments": resigned(lambda first, second: (padded(first), padded(second))),
    "a padded signature": segments(lambda first, second, third: [first, second, padded(third)]),
    "a subject": claims(sub="somebody"),
    "a null subject": claims(sub=None),
    "a subject in other alphabets": claims(sub="Łukasz 李 🦊"),
    "a user token": claims(sub="somebody", auth_type="gitlab_or_ldap", user=lambda now: token()),
    "a null auth_type": claims(auth_type=None),
    "no access claim": claims(access=ABSENT),
    "null access": claims(access=None),
    "access to something": entry(),
    "an entry of nulls": claims(access=[{"type": None, "name": None, "actions": None, "meta": None}]),
    "an empty entry": claims(access=[{}]),
    "an entry with other fields": entry(other=[1, {"a": None}]),
    "meta of a project": entry(meta={"project_path": "a/b", "project_id": 5, "root_namespace_id": 1, "other": []}),
    "the audience in a list": claims(aud=[SERVICE]),
    "the audience among others": claims(aud=["a", SERVICE]),
    "the audience as the last of ten": claims(aud=["x"] * 9 + [SERVICE]),
    "expired within the leeway": claims(exp=lambda now: now - 30),
    "an expiry far off": claims(exp=2**63 - 1),
    "valid soon, within the leeway": claims(nbf=lambda now: now + 45),
    "no nbf": claims(nbf=ABSENT),
    "a null nbf": claims(nbf=None),
    "an nbf of long ago": claims(nbf=0),
    "a negative nbf": claims(nbf=-5),
    "no iat": claims(iat=ABSENT),
    "a null iat": claims(iat=None),
    "issued in the future": claims(iat=lambda now: now + 86_400),
    "no jti": claims(jti=ABSENT),
    "a null jti": claims(jti=None),
    "unknown claims": claims(other={"a": [1.5, None, "x"]}),
    "claims with spaces and newlines": lambda: Signer().bearer(json.dumps(usual_claims(), indent=2).encode()),
    "claims with escaped letters": lambda: Signer().bearer(
        json.dumps(usual_claims()).replace("iss", "\\u0069ss").encode()
    ),
    "no typ": header(typ=ABSENT),
    "another typ": header(typ="at+jwt"),
    "a null typ": header(typ=None),
    "unknown header fields": header(other=[1], cty="x", x5t="y"),
    "a null crit": header(crit=None),
}
# What a verifier may read one way or the other, so long as it answers.
EITHER = {
    "a number of 5000 digits": raw_claims(b',"other":%s}' % (b"9" * 5_000)),
    "an enormous exponent": raw_claims(b',"other":1e999999}'),
    "half a surrogate pair": raw_claims(b',"sub":"\\ud800"}'),
    "an escaped NUL": raw_claims(b',"sub":"a\\u0000b"}'),
    "a claim twice": raw_claims(b',"iss":"other"}'),
    "unused bits of the signature": segments(lambda first, second, third: [first, second, third[:-1] + "B"]),
    "an empty list of critical extensions": header(crit=[]),
    "an action that is null": entry(actions=["*", None]),
    "a long subject": claims(sub="x" * 100_000),
    "ten thousand entries": claims(access=[{"type": "repository", "name": "a", "actions": ["pull"]}] * 10_000),
}


@pytest.mark.parametrize("build", NOT_BELIEVED.values(), ids=NOT_BELIEVED)
def test_a_token_that_does_not_hold_is_invalid(ask, build):
    assert_refused(ask(PRESENCE, build()), error="invalid_token")
    assert_refused(ask(STATISTICS, build()), error="invalid_token", required=TO_STATISTICS)


@pytest.mark.parametrize("build", BELIEVED.values(), ids=BELIEVED)
def test_a_good_token_is_believed(ask, build):
    answer = ask(PRESENCE, build())
    assert (answer.status_code, answer.content) == (200, b"{}"), answer.headers
    assert answer.headers["Content-Type"] == "application/json"
    assert "WWW-Authenticate" not in answer.headers


@pytest.mark.parametrize("build", EITHER.values(), ids=EITHER)
def test_what_may_be_read_in_two_ways_is_answered(ask, build):
    answer = ask(PRESENCE, build())
    assert answer.status_code in ANYTHING
    if answer.status_code == 401:
        assert_refused(answer, error="invalid_token")
