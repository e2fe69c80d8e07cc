"""Certificates for the tests' keys: the bundle that the API trusts, chains that lead to it, and chains that do not."""

import base64
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from functools import cache

from cryptography import x509
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID, ObjectIdentifier

from tests.registry_project.api.issuer import key

CODE_SIGNING = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.CODE_SIGNING])
UNKNOWN = x509.UnrecognizedExtension(ObjectIdentifier("1.2.3.4.5"), b"\x05\x00")
NO_AUTHORITY = x509.BasicConstraints(ca=False, path_length=None)
DAY = timedelta(days=1)


def certificate(
    name: str,
    *,
    subject: str | None = None,
    issuer: str | None = None,
    signed_by: str | None = None,
    authority: bool = False,
    path_length: int | None = None,
    days: tuple[int, int] = (-1, 30),
    extensions: Sequence[tuple[x509.ExtensionType, bool]] = (),
) -> x509.Certificate:
    """Make the certificate of the key of this name, valid between two days counted from now."""
    now = datetime.now(UTC)
    builder = x509.CertificateBuilder(
        issuer_name=_subject(issuer or subject or name),
        subject_name=_subject(subject or name),
        public_key=key(name).public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now + days[0] * DAY,
        not_valid_after=now + days[1] * DAY,
    )
    if authority:
        builder = builder.add_extension(x509.BasicConstraints(ca=True, path_length=path_length), critical=True)
    for extension, critical in extensions:
        builder = builder.add_extension(extension, critical=critical)
    return builder.sign(key(signed_by or issuer or name), SHA256())


def _subject(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def pem(*certificates: x509.Certificate) -> bytes:
    """Write certificates as a bundle."""
    return b"".join(each.public_bytes(Encoding.PEM) for each in certificates)


def x5c(*certificates: x509.Certificate) -> list[str]:
    """Write certificates as a token's header does."""
    return [base64.b64encode(each.public_bytes(Encoding.DER)).decode() for each in certificates]


@cache
def trusted(name: str) -> x509.Certificate:
    """Return a root of the bundle: `trusted` may sign others, and so may `expired`, whose time is over."""
    if name == "expired":
        return certificate(name, authority=True, days=(-30, -1))
    return certificate(name, authority=name != "flagless")


TRUSTED = ("trusted", "second", "trusted-p256", "trusted-p384", "trusted-p521", "expired", "flagless")


@cache
def bundle() -> bytes:
    """Return the bundle that the API trusts in most tests."""
    return pem(*(trusted(name) for name in TRUSTED))


@cache
def intermediate() -> x509.Certificate:
    """Return an authority that the trusted root has signed."""
    return certificate("intermediate", issuer="trusted", authority=True)


@cache
def leaf() -> x509.Certificate:
    """Return what the intermediate has signed."""
    return certificate("leaf", issuer="intermediate")


def chain() -> list[str]:
    """Return the good chain, from the leaf to what the root has signed."""
    return x5c(leaf(), intermediate())
