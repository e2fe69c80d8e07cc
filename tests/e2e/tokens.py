"""Who may do what at a registry that asks for tokens: a key, its certificate for the registry, tokens that it signs."""

import time
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from typing import Any, ClassVar

import jwt
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

from background_migrations.registry_client import key_id


def new_key() -> rsa.RSAPrivateKey:
    """Make an RSA key."""
    return rsa.generate_private_key(public_exponent=65_537, key_size=2_048)


def pem(key: rsa.RSAPrivateKey) -> str:
    """Return a key as the text that an operator configures."""
    return key.private_bytes(Encoding.PEM, PrivateFormat.TraditionalOpenSSL, NoEncryption()).decode()


@dataclass(frozen=True)
class TokenAuth:
    """An issuer of tokens in place of GitLab Rails, with a key of its own."""

    issuer: ClassVar[str] = "gitlab-issuer"
    service: ClassVar[str] = "container_registry"
    realm: ClassVar[str] = "http://127.0.0.1:1/jwt/auth"  # named in challenges, never called
    key: rsa.RSAPrivateKey = field(default_factory=new_key)

    @property
    def signing_key(self) -> str:
        """The key as PEM text."""
        return pem(self.key)

    def certificate(self) -> bytes:
        """Return a certificate that the key has signed itself: for a registry's bundle, or a server on 127.0.0.1."""
        name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "tests")]), datetime.now(UTC)
        builder = x509.CertificateBuilder(name, name, self.key.public_key(), x509.random_serial_number())
        builder = builder.not_valid_before(now - timedelta(hours=1)).not_valid_after(now + timedelta(days=1))
        for extension in (
            x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]),
            x509.SubjectKeyIdentifier.from_public_key(self.key.public_key()),
        ):
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, SHA256()).public_bytes(Encoding.PEM)

    def token(self, repository: str) -> str:
        """Return a token that allows everything in one repository."""
        return self.granting({"type": "repository", "name": repository, "actions": ["pull", "push", "delete"]})

    def granting(self, *access: dict[str, Any], **more: Any) -> str:
        """Return a token with these entries of access, and more claims."""
        claims = {"iss": self.issuer, "aud": self.service, "exp": int(time.time()) + 300, "access": access, **more}
        return jwt.encode(claims, self.key, algorithm="RS256", headers={"kid": key_id(self.key.public_key())})
