"""The demonstration's own key for tokens, with its certificate: made once, kept beside the bundled server's data."""

from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat, load_pem_private_key

from registry_project.embedded_postgres import kept_files

KEY_BITS = 2_048
CERTIFICATE_DAYS = 3_650
# Nobody answers there: a client that wants a token of the demonstration mints it by `manage.py registry_token`.
REALM = "http://127.0.0.1:1/jwt/auth"
SERVICE = "container_registry"
ISSUER = "demo"
KEY, CERTIFICATE = "token_key.pem", "token_certificate.pem"


def environment(home: Path) -> dict[str, str]:
    """Return the settings of the API's tokens for a demonstration that is kept in this directory."""
    key = kept_files.read_or_create(home / KEY, _new_key)
    kept_files.read_or_create(home / CERTIFICATE, lambda: _certificate(key))
    return {
        "REGISTRY_AUTH_TOKEN_REALM": REALM,
        "REGISTRY_AUTH_TOKEN_SERVICE": SERVICE,
        "REGISTRY_AUTH_TOKEN_ISSUER": ISSUER,
        "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE": str(home / CERTIFICATE),
    }


def _new_key() -> str:
    key = rsa.generate_private_key(public_exponent=65_537, key_size=KEY_BITS)
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()


def _certificate(pem: str) -> str:
    key = load_pem_private_key(pem.encode(), password=None)
    if not isinstance(key, rsa.RSAPrivateKey):
        raise OSError("the demonstration's key for tokens is not the one that was made for it")
    name, now = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "demonstration")]), datetime.now(UTC)
    builder = x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
    builder = builder.not_valid_before(now - timedelta(days=1)).not_valid_after(now + timedelta(days=CERTIFICATE_DAYS))
    return builder.sign(key, SHA256()).public_bytes(Encoding.PEM).decode()
