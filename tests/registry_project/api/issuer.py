"""An issuer of tokens, made with cryptography, base64 and json alone: it shares nothing with the code that it tests.

What it signs may be nonsense; that is what it is for.
"""

import base64
import hashlib
import hmac
import json
import time
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, PublicFormat

REALM = "https://gitlab.example.com/jwt/auth"
SERVICE = "container_registry"
ISSUER = "omnibus-gitlab-issuer"
ABSENT = object()
HASHES = {"256": hashes.SHA256(), "384": hashes.SHA384(), "512": hashes.SHA512()}
CURVES = {"p256": ec.SECP256R1(), "p384": ec.SECP384R1(), "p521": ec.SECP521R1()}
OF_CURVE = {
    "secp256r1": ("P-256", "ES256", 32),
    "secp384r1": ("P-384", "ES384", 48),
    "secp521r1": ("P-521", "ES512", 66),
}
Key = rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey


@cache
def key(name: str) -> Key:
    """Return the key of this name, the same one every time: making one takes long."""
    curve = CURVES.get(name.rpartition("-")[2])
    if curve is not None:
        return ec.generate_private_key(curve)
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def encode(content: bytes) -> str:
    """Write bytes as a token's segment."""
    return base64.urlsafe_b64encode(content).rstrip(b"=").decode()


def number(value: int, *, size: int | None = None) -> str:
    """Write a number as a JWK's member."""
    return encode(value.to_bytes(size or (value.bit_length() + 7) // 8, "big"))


def public_bytes(private: Key, *, encoding: Encoding = Encoding.DER, form=PublicFormat.SubjectPublicKeyInfo) -> bytes:
    """Return the public half of a key."""
    return private.public_key().public_bytes(encoding, form)


def private_pem(private: Key) -> bytes:
    """Return a key as a file that nobody should put into a bundle."""
    return private.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def fingerprint(der: bytes) -> str:
    """Return the `kid` of a public key: twelve groups of four letters."""
    letters = base64.b32encode(hashlib.sha256(der).digest()[:30]).decode()
    return ":".join(letters[start : start + 4] for start in range(0, 48, 4))


def key_id(private: Key) -> str:
    """Return the `kid` of a key."""
    return fingerprint(public_bytes(private))


def jwk(private: Key, **changes: Any) -> dict[str, Any]:
    """Return the public half of a key as a JWK."""
    numbers = private.public_key().public_numbers()
    if isinstance(numbers, rsa.RSAPublicNumbers):
        members = {"kty": "RSA", "n": number(numbers.n), "e": number(numbers.e)}
    else:
        name, _, size = OF_CURVE[numbers.curve.name]
        members = {"kty": "EC", "crv": name, "x": number(numbers.x, size=size), "y": number(numbers.y, size=size)}
    return changed(members, changes)


def private_member(name: str) -> str:
    """Return the part of an RSA key that no JWK of a token may hold."""
    private = key(name)
    assert isinstance(private, rsa.RSAPrivateKey)
    return number(private.private_numbers().d)


def changed(values: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Return the values with these changes; a function is given the time, ABSENT takes a value away."""
    now = int(time.time())
    result = values | {name: value(now) if callable(value) else value for name, value in changes.items()}
    return {name: value for name, value in result.items() if value is not ABSENT}


def own_algorithm(private: Key) -> str:
    """Return the usual algorithm of a key."""
    return "RS256" if isinstance(private, rsa.RSAPrivateKey) else OF_CURVE[private.curve.name][1]


def sign(content: bytes, *, private: Key | bytes, algorithm: str) -> bytes:
    """Sign with an algorithm, whether it fits or not; a key of bytes is a shared secret."""
    digest = HASHES[algorithm[-3:]]
    if isinstance(private, bytes):
        return hmac.new(private, content, digest.name).digest()
    if isinstance(private, rsa.RSAPrivateKey):
        scheme = (
            padding.PKCS1v15() if algorithm.startswith("RS") else padding.PSS(padding.MGF1(digest), digest.digest_size)
        )
        return private.sign(content, scheme, digest)
    size = OF_CURVE[private.curve.name][2]
    halves = decode_dss_signature(private.sign(content, ec.ECDSA(digest)))
    return b"".join(half.to_bytes(size, "big") for half in halves)


def segment(part: dict[str, Any] | bytes) -> str:
    """Write a header or claims; bytes are taken as they are."""
    return encode(part if isinstance(part, bytes) else json.dumps(part).encode())


def mint(
    header: dict[str, Any] | bytes, claims: dict[str, Any] | bytes, private: Key | bytes, algorithm: str = "RS256"
) -> str:
    """Return a signed token of exactly these parts; its `alg` is what the header says."""
    content = f"{segment(header)}.{segment(claims)}"
    return f"{content}.{encode(sign(content.encode(), private=private, algorithm=algorithm))}"


def usual_claims(**changes: Any) -> dict[str, Any]:
    """Return what GitLab Rails puts into a service token, with changes."""
    now = int(time.time())
    claims = {"iss": ISSUER, "aud": SERVICE, "iat": now, "nbf": now - 5, "exp": now + 900, "jti": "5d1d", "access": []}
    return changed(claims, changes)


def usual_header(private: Key, **changes: Any) -> dict[str, Any]:
    """Return the header that GitLab Rails writes for a key, with changes."""
    return changed({"alg": own_algorithm(private), "typ": "JWT", "kid": key_id(private)}, changes)


@dataclass(frozen=True)
class Signer:
    """Writes `Authorization` headers with one key."""

    name: str = "trusted"

    def bearer(
        self,
        claims: dict[str, Any] | bytes | None = None,
        header: dict[str, Any] | bytes | None = None,
        *,
        algorithm: str | None = None,
        secret: bytes | None = None,
    ) -> str:
        """Return a header as Rails sends it, its token changed by these claims and header fields."""
        private = key(self.name)
        if not isinstance(claims, bytes):
            claims = usual_claims(**claims or {})
        if not isinstance(header, bytes):
            header = usual_header(private, **header or {})
        return f"bearer {mint(header, claims, secret or private, algorithm or own_algorithm(private))}"

    def grant(self, *entries: tuple[str, str, str] | dict[str, Any], **claims: Any) -> str:
        """Return a header whose token grants these (type, name, action); a dict is an entry as it is."""
        access = [
            entry if isinstance(entry, dict) else {"type": entry[0], "name": entry[1], "actions": [entry[2]]}
            for entry in entries
        ]
        return self.bearer({"access": access, **claims})
