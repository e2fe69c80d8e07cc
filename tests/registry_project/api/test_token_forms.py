"""What is no token at all, however well it is signed: its segments, its JSON, the types of its fields."""

import json

import pytest

from tests.registry_project.api.asking import PRESENCE, assert_refused
from tests.registry_project.api.building import (
    claims,
    entry,
    header,
    other_alphabet,
    padded,
    raw_claims,
    raw_header,
    resigned,
    segments,
    token,
    whole_claims,
    whole_header,
)
from tests.registry_project.api.issuer import ISSUER, Signer, key, usual_claims, usual_header

DEEP = 50_000
MALFORMED = {
    "one letter": lambda: "Bearer x",
    "one segment": segments(lambda first, second, third: [first]),
    "two segments": segments(lambda first, second, third: [first, second]),
    "four segments": segments(lambda first, second, third: [first, second, third, third]),
    "five segments": segments(lambda first, second, third: [first, second, third, first, second]),
    "an empty fourth segment": segments(lambda first, second, third: [first, second, third, ""]),
    "only dots": lambda: "Bearer ..",
    "a comma behind": lambda: f"Bearer {token()},",
    "quotes": lambda: f'Bearer "{token()}"',
    "an empty header": segments(lambda first, second, third: ["", second, third]),
    "empty claims": segments(lambda first, second, third: [first, "", third]),
    "an empty signature": segments(lambda first, second, third: [first, second, ""]),
    "a header of length 1 mod 4": resigned(lambda first, second: (padded(first).replace("=", "A") + "A", second)),
    "a signature of length 1 mod 4": segments(lambda first, second, third: [first, second, padded(third)[:-3]]),
    "plus and slash in the header": other_alphabet(0),
    "plus and slash in the claims": other_alphabet(1),
    "plus and slash in the signature": other_alphabet(2),
    "too much padding": resigned(lambda first, second: (first, padded(second) + "====")),
    "padding within": resigned(lambda first, second: (first[:4] + "=" + first[4:], second)),
    "a letter of no alphabet": segments(lambda first, second, third: [first, "!" + second, third]),
    "letters beyond ASCII": segments(lambda first, second, third: ["\xe9" + first, second, third]),
    "a header that is no JSON": whole_header(b"alg"),
    "a header that is a list": whole_header(b'["RS256"]'),
    "a header that is null": whole_header(b"null"),
    "an empty object as the header": whole_header(b"{}"),
    "a byte order mark before the header": whole_header(b"\xef\xbb\xbf" + json.dumps({"alg": "RS256"}).encode()),
    "text behind the header": lambda: Signer().bearer(header=json.dumps(usual_header(key("trusted"))).encode() + b"x"),
    "text behind the claims": lambda: Signer().bearer(json.dumps(usual_claims()).encode() + b"{}"),
    "claims that are no JSON": whole_claims(b"{"),
    "claims that are a list": whole_claims(b"[]"),
    "claims that are text": whole_claims(b'"claims"'),
    "claims that are null": whole_claims(b"null"),
    "an empty object as the claims": whole_claims(b"{}"),
    "claims in UTF-16": lambda: Signer().bearer(json.dumps(usual_claims()).encode("utf-16")),
    "claims with invalid UTF-8": raw_claims(b',"sub":"\xff\xfe"}'),
    "invalid UTF-8 in a claim that nobody reads": raw_claims(b',"other":"\xff"}'),
    "claims with an overlong letter": raw_claims(b',"sub":"\xc0\xaf"}'),
    "claims with a surrogate in UTF-8": raw_claims(b',"sub":"\xed\xa0\x80"}'),
    "claims with a bare control character": raw_claims(b',"sub":"a\x00b"}'),
    "claims with NaN": raw_claims(b',"other":NaN}'),
    "claims with Infinity": raw_claims(b',"other":-Infinity}'),
    "claims with single quotes": raw_claims(b",'other':1}"),
    "claims with a comma behind": raw_claims(b',"other":1,}'),
    "claims nested very deep": raw_claims(b',"other":' + b"[" * DEEP + b"]" * DEEP + b"}"),
    "a header nested very deep": raw_header(b',"other":' + b'{"a":' * DEEP + b"1" + b"}" * DEEP + b"}"),
    "alg a number": header(alg=256),
    "alg a list": header(alg=["RS256"]),
    "kid a number": header(kid=1),
    "kid a list": header(kid=["x"]),
    "typ a number": header(typ=5),
}
BAD_TIMES = {
    "text": "9999999999",
    "a fraction": 9999999999.5,
    "true": True,
    "a list": [9999999999],
    "an object": {},
    "beyond 64 bits": 2**63,
    "far beyond 64 bits": 2**200,
    "below 64 bits": -(2**63) - 1,
}
MALFORMED |= {
    f"{name} {case}": claims(**{name: value}) for name in ("exp", "nbf", "iat") for case, value in BAD_TIMES.items()
}
MALFORMED |= {
    f"{name} {case}": raw_claims(b',"%s":%s}' % (name.encode(), text))
    for name in ("exp", "nbf", "iat")
    for case, text in {
        "with an exponent": b"1e10",
        "with a point": b"9999999999.0",
        "of 5000 digits": b"9" * 5_000,
    }.items()
}
MALFORMED |= {
    f"{name} {case}": claims(**{name: value})
    for name in ("iss", "sub", "jti")
    for case, value in {"a number": 5, "a list": [ISSUER], "an object": {"a": 1}, "false": False}.items()
}
MALFORMED |= {
    "access an object": claims(access={}),
    "access text": claims(access="registry:statistics:*"),
    "access a number": claims(access=1),
    "access of numbers": claims(access=[1]),
    "access of texts": claims(access=["registry:statistics:*"]),
    "access of null": claims(access=[None]),
    "access with a null behind a good one": claims(
        access=[{"type": "registry", "name": "statistics", "actions": ["*"]}, None]
    ),
    "access of lists": claims(access=[[]]),
    "type a number": entry(type=1),
    "name a list": entry(name=["statistics"]),
    "class a number": entry(**{"class": 1}),
    "actions text": entry(actions="*"),
    "actions an object": entry(actions={"*": True}),
    "actions of numbers": entry(actions=["*", 1]),
    "actions of lists": entry(actions=[["*"]]),
    "meta text": entry(meta="administrator"),
    "meta a list": entry(meta=[]),
    "meta with a path that is a number": entry(meta={"project_path": 5}),
}


@pytest.mark.parametrize("build", MALFORMED.values(), ids=MALFORMED)
def test_a_malformed_token_is_invalid(ask, build):
    assert_refused(ask(PRESENCE, build()), error="invalid_token")
