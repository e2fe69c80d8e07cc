"""The public keys that tokens may be signed with, out of a bundle of certificates that may change while we serve."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import Lock
from typing import TypeAlias

import structlog
from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import EllipticCurvePublicKey
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPublicKey
from cryptography.x509.verification import Criticality, ExtensionPolicy, PolicyBuilder, Store, VerificationError

from background_migrations.registry_client import key_id

log = structlog.get_logger(__name__)

PublicKey: TypeAlias = RSAPublicKey | EllipticCurvePublicKey
RSA_ALGORITHMS = ("RS256", "RS384", "RS512")
CURVE_ALGORITHMS = {"secp256r1": ("ES256",), "secp384r1": ("ES384",), "secp521r1": ("ES512",)}
LONGEST_CHAIN = 10  # certificates in one token
# What cryptography raises over bytes that are no certificate, or one that it cannot or must not use.
NO_CERTIFICATE = (
    ValueError,
    UnsupportedAlgorithm,
    VerificationError,
    x509.InvalidVersion,
    x509.UnsupportedGeneralNameType,
)


class UnusableBundleError(Exception):
    """The file of certificates cannot be used."""

    code = "unusable_bundle"

    def __init__(self, path: str, *, reason: str) -> None:
        super().__init__(f"REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE is {path!r}, which cannot be used: {reason}.")
        self.path, self.reason = path, reason


class UntrustedKeyError(Exception):
    """The key that a token names, or brings along, is not one to trust."""

    code = "untrusted_key"


def algorithms_of(key: object) -> tuple[str, ...]:
    """Return the algorithms that may be used with a key; none for a kind that no token may be signed with."""
    if isinstance(key, RSAPublicKey):
        return RSA_ALGORITHMS
    return CURVE_ALGORITHMS.get(key.curve.name, ()) if isinstance(key, EllipticCurvePublicKey) else ()


# A signing key's certificate may be made for anything; only an authority may vouch for another one.
LEAF_POLICY = ExtensionPolicy.permit_all()
AUTHORITY_POLICY = ExtensionPolicy.permit_all().require_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)


@dataclass(frozen=True)
class TrustedKeys:
    """What one reading of the bundle gave: keys by fingerprint, and the authorities that chains must lead to."""

    by_id: Mapping[str, PublicKey]
    authorities: Store

    @classmethod
    def of(cls, pem: bytes, *, path: str) -> "TrustedKeys":
        """Parse certificates. Raises UnusableBundleError; blocks of another kind are passed over."""
        try:
            certificates = x509.load_pem_x509_certificates(pem)
            keys = [certificate.public_key() for certificate in certificates]
        except NO_CERTIFICATE as error:
            raise UnusableBundleError(path, reason=str(error)) from error
        by_id = {}
        for key in keys:
            if not (isinstance(key, PublicKey) and algorithms_of(key)):
                raise UnusableBundleError(
                    path, reason="a certificate is for a key that is neither RSA nor P-256/384/521"
                )
            by_id[key_id(key)] = key
        return cls(by_id, Store(certificates))

    def key_of_chain(self, chain: Sequence[str]) -> PublicKey:
        """Return the key of the first certificate, which the others lead from to a trusted one. Base64 of DER.

        Raises UntrustedKeyError.
        """
        if len(chain) > LONGEST_CHAIN:
            raise UntrustedKeyError(f"a chain of {len(chain)} certificates")
        try:
            leaf, *others = [x509.load_der_x509_certificate(base64.b64decode(each, validate=True)) for each in chain]
            policy = PolicyBuilder().store(self.authorities).max_chain_depth(LONGEST_CHAIN)
            policy = policy.extension_policies(ca_policy=AUTHORITY_POLICY, ee_policy=LEAF_POLICY)
            policy.build_client_verifier().verify(leaf, others)
            key = leaf.public_key()
        except NO_CERTIFICATE as error:
            raise UntrustedKeyError(f"a chain of certificates that is not trusted: {error}") from error
        if not isinstance(key, PublicKey):
            raise UntrustedKeyError("a certificate for another kind of key")
        return key


@dataclass
class KeyBundle:
    """The keys of one file, read anew when it changes. May be used by many threads.

    Raises UnusableBundleError when it is made; later an unusable file leaves the keys as they were.
    """

    path: str
    _keys: TrustedKeys = field(init=False)
    _version: tuple[int, ...] = field(init=False)
    _lock: Lock = field(default_factory=Lock)

    def __post_init__(self) -> None:
        self._version = self._file_version()
        self._keys = self._read()

    def keys(self) -> TrustedKeys:
        """Return the keys of the file as it is now."""
        with self._lock:
            version = self._file_version()
            if version != self._version:
                self._version = version
                self._read_anew()
            return self._keys

    def _read_anew(self) -> None:
        try:
            self._keys = self._read()
            log.warning("token keys read anew", keys=sorted(self._keys.by_id))
        except UnusableBundleError as error:
            log.warning("token keys not read anew", reason=error.reason)

    def _file_version(self) -> tuple[int, ...]:
        """Return what changes when the file does; nothing where there is none."""
        try:
            found = Path(self.path).stat()
        except OSError:
            return ()
        return found.st_mtime_ns, found.st_size, found.st_ino

    def _read(self) -> TrustedKeys:
        try:
            return TrustedKeys.of(Path(self.path).read_bytes(), path=self.path)
        except OSError as error:
            raise UnusableBundleError(self.path, reason=error.strerror or "it cannot be read") from error
