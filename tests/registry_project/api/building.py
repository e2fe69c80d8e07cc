"""Builders of `Authorization` headers: each takes what is to be different and returns a function that writes it.

The tables of cases are read before any key exists; only the functions sign.
"""

import json

from tests.registry_project.api.certificates import certificate, trusted, x5c
from tests.registry_project.api.issuer import (
    ABSENT,
    Signer,
    encode,
    jwk,
    key,
    key_id,
    sign,
    usual_claims,
    usual_header,
)

GOOD_KID = "the kid of the trusted key"


def token():
    return Signer().bearer().removeprefix("bearer ")


def claims(**changes):
    return lambda: Signer().bearer(changes)


def header(**changes):
    return lambda: Signer().bearer(header=changes)


def raw_claims(text):
    """Claims as text, beginning with the usual ones."""
    return lambda: Signer().bearer(json.dumps(usual_claims()).encode()[:-1] + text)


def raw_header(text):
    """A header as text, beginning with the usual one."""
    return lambda: Signer().bearer(header=json.dumps(usual_header(key("trusted"))).encode()[:-1] + text)


def whole_claims(content):
    return lambda: Signer().bearer(content)


def whole_header(content):
    return lambda: Signer().bearer(header=content)


def entry(**fields):
    return claims(access=[{"type": "registry", "name": "statistics", "actions": ["*"], **fields}])


def segments(rewrite):
    """The three segments of a good token, rewritten."""
    return lambda: "bearer " + ".".join(rewrite(*token().split(".")))


def resigned(rewrite):
    """The first two segments rewritten and signed as they are then, so that nothing but their form is wrong."""

    def build():
        first, second = rewrite(*token().split(".")[:2])
        signed = sign(f"{first}.{second}".encode(), private=key("trusted"), algorithm="RS256")
        return f"bearer {first}.{second}.{encode(signed)}"

    return build


def padded(text):
    return text + "=" * (-len(text) % 4)


def other_alphabet(place):
    """A good token, one segment of which is in the alphabet of ordinary base64."""

    def build():
        parts = [
            encode(b'{"alg":"RS256","kid":"?~?~?~?~?~"}'),
            encode(b'{"jti":"?~?~?~?~?~?~"}'),
            token().split(".")[2],
        ]
        parts[place] = parts[place].translate(str.maketrans("-_", "+/"))
        assert set("+/") & set(parts[place])
        return "bearer " + ".".join(parts)

    return build


def signed_by(name, algorithm=None, **header):
    """A token signed with this key; its header names the key, unless changed."""

    def build():
        fields = {field: value() if callable(value) else value for field, value in header.items()}
        if fields.get("kid") == GOOD_KID:
            fields["kid"] = key_id(key("trusted"))
        return Signer(name).bearer(header=fields, algorithm=algorithm)

    return build


def by_chain(name, *certificates, **header):
    """A token signed with this key, led to by certificates: its own key is in no bundle."""
    return signed_by(name, x5c=lambda: x5c(*(make() for make in certificates)), **header)


def by_jwk(name, **changes):
    """A token signed with this key, which is in its header and only there."""

    def member():
        return jwk(key(name), **{field: value() if callable(value) else value for field, value in changes.items()})

    return signed_by(name, jwk=member, kid=ABSENT)


def child(name, issuer="intermediate", **facts):
    return lambda: certificate(name, issuer=issuer, **facts)


def root(name):
    return lambda: trusted(name)
