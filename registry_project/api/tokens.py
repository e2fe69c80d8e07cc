"""A raw token → its verified claims: its form, the key that it names, its signature, issuer, audience and times.

The rules are those of GitLab's registry (its token authentication is docker/libtrust's), read strictly: what the
registry would take by accident is refused.
"""

import base64
import binascii
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, NoReturn, TypeVar

import jwt
import msgspec
from cryptography.exceptions import UnsupportedAlgorithm
from jwt.algorithms import ECAlgorithm, RSAAlgorithm, get_default_algorithms
from msgspec import UNSET, Meta, Raw, Struct, UnsetType

from background_migrations.registry_client import key_id
from registry_project.api.keys import KeyBundle, PublicKey, TrustedKeys, UntrustedKeyError, algorithms_of

LEEWAY_SECONDS = 60
LONGEST_TOKEN = 64 * 1024  # characters
SEGMENTS = 3
SEGMENT = re.compile(r"[A-Za-z0-9_-]+={0,2}", re.ASCII)
ALGORITHMS = get_default_algorithms()
KEY_TYPES: dict[str | None, type[RSAAlgorithm | ECAlgorithm]] = {"RSA": RSAAlgorithm, "EC": ECAlgorithm}

Integer = Annotated[int, Meta(ge=-(2**63), le=2**63 - 1)]
Audiences = Annotated[list[str], Meta(max_length=10)]
Part = TypeVar("Part", bound=Struct)


class InvalidTokenError(Exception):
    """The token is malformed, untrusted, for somebody else, or not valid now. The message never holds the token."""

    code = "invalid_token"


class JSONWebKey(Struct):
    """A public key that a token brings along."""

    kty: str | None = None
    kid: str | None = None
    x5c: list[str] | None = None
    n: str | None = None
    e: str | None = None
    crv: str | None = None
    x: str | None = None
    y: str | None = None
    d: Raw | UnsetType = UNSET

    def numbers(self) -> dict[str, str]:
        """Return what the key is made of."""
        names = ("kty", "n", "e", "crv", "x", "y")
        return {name: value for name in names if (value := getattr(self, name)) is not None}


class Header(Struct):
    """The first segment; what is not named here is ignored."""

    alg: str | None = None
    typ: str | None = None
    kid: str | None = None
    x5c: list[str] | None = None
    jwk: JSONWebKey | None = None
    crit: Any = None


class Details(Struct):
    """What a token says beside an access entry; GitLab's own fields are checked for their types alone."""

    project_path: str | None = None
    project_id: Integer | None = None
    root_namespace_id: Integer | None = None
    tag_deny_access_patterns: dict[str, Any] | None = None
    role: Any = None


class AccessEntry(Struct, rename={"class_": "class"}):
    """What a token allows to do to one thing; its class plays no part."""

    type: str | None = None
    class_: str | None = None
    name: str | None = None
    actions: list[str] | None = None
    meta: Details | None = None


class Claims(Struct, kw_only=True):
    """The second segment."""

    iss: str | None = None
    sub: str | None = None
    aud: str | Audiences | None = None
    exp: Integer | None = None
    nbf: Integer | None = None
    iat: Integer | None = None
    jti: str | None = None
    access: list[AccessEntry] | None = None

    @property
    def audiences(self) -> list[str]:
        """For whom it is."""
        return [self.aud] if isinstance(self.aud, str) else self.aud or []


@dataclass(frozen=True)
class TokenVerifier:
    """Verifies tokens of one issuer for one service."""

    bundle: KeyBundle
    issuer: str
    service: str
    clock: Callable[[], float] = time.time

    def verify(self, raw: str) -> Claims:
        """Return what a token claims. Raises InvalidTokenError; nothing of it is true then."""
        if len(raw) > LONGEST_TOKEN:
            raise InvalidTokenError(f"it is longer than {LONGEST_TOKEN} characters")
        segments = raw.split(".")
        if len(segments) != SEGMENTS:
            raise InvalidTokenError(f"it has {len(segments)} segments")
        head, body, signature = map(_decoded, segments)
        header, claims = _parsed(head, Header), _parsed(body, Claims)
        if header.crit is not None:
            raise InvalidTokenError("it names an extension that must be understood")
        self._check_signature(header, raw.rpartition(".")[0].encode(), signature)
        self._check_claims(claims)
        return claims

    def _check_signature(self, header: Header, signed: bytes, signature: bytes) -> None:
        try:
            key = _signing_key(header, self.bundle.keys())
        except UntrustedKeyError as error:
            raise InvalidTokenError(str(error)) from error
        if header.alg not in algorithms_of(key):
            raise InvalidTokenError("its algorithm does not fit its key")
        if not ALGORITHMS[header.alg].verify(signed, key, signature):
            raise InvalidTokenError("its signature is wrong")

    def _check_claims(self, claims: Claims) -> None:
        now = self.clock()
        if claims.iss != self.issuer:
            raise InvalidTokenError("it is from another issuer")
        if self.service not in claims.audiences:
            raise InvalidTokenError("it is for another audience")
        if now > (claims.exp or 0) + LEEWAY_SECONDS:
            raise InvalidTokenError("it has expired")
        if claims.nbf is not None and now < claims.nbf - LEEWAY_SECONDS:
            raise InvalidTokenError("it is not valid yet")


def _decoded(segment: str) -> bytes:
    if not SEGMENT.fullmatch(segment):
        raise InvalidTokenError("a segment is empty or not base64url")
    try:
        return base64.urlsafe_b64decode(segment + "=" * (-len(segment) % 4))
    except binascii.Error as error:
        raise InvalidTokenError("a segment is not base64url") from error


def _parsed(data: bytes, kind: type[Part]) -> Part:
    try:
        # As text: bytes that are no UTF-8 are refused in ignored fields, too.
        return msgspec.json.decode(data.decode(), type=kind)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise InvalidTokenError(f"its {kind.__name__.lower()} is malformed") from error


def _signing_key(header: Header, trusted: TrustedKeys) -> PublicKey:
    """Return the key that the header leads to; the first of its three ways decides. Raises UntrustedKeyError."""
    if header.x5c:
        return trusted.key_of_chain(header.x5c)
    if header.jwk is not None:
        return _trusted_jwk(header.jwk, trusted)
    key = trusted.by_id.get(header.kid or "")
    return key if key is not None else _distrust("it names no key, or one that is not in the bundle")


def _trusted_jwk(jwk: JSONWebKey, trusted: TrustedKeys) -> PublicKey:
    if jwk.d is not UNSET or jwk.kty not in KEY_TYPES:
        _distrust("it brings along a key that is not a public RSA or EC key")
    try:
        key: Any = KEY_TYPES[jwk.kty].from_jwk(jwk.numbers())
        fingerprint = key_id(key)
    except (jwt.InvalidKeyError, KeyError, ValueError, TypeError, OverflowError, UnsupportedAlgorithm):
        _distrust("it brings along a key that makes no sense")
    if jwk.kid and jwk.kid != fingerprint:
        _distrust("it brings along a key by another key's name")
    if jwk.x5c:
        found = trusted.key_of_chain(jwk.x5c)
        return found if key_id(found) == fingerprint else _distrust("it brings along another key's certificate")
    known = trusted.by_id.get(fingerprint)
    return known if known is not None else _distrust("it brings along a key that is not in the bundle")


def _distrust(reason: str) -> NoReturn:
    raise UntrustedKeyError(reason)
