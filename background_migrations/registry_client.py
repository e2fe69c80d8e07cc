"""Asks a container registry over HTTP whether a repository holds a tag.

No answer is trusted: its size and the time it may take are bounded, and no redirect is followed.
"""

import base64
import hashlib
import http.client
import io
import socket
import ssl
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, cast
from urllib.parse import SplitResult, quote, urlsplit

import jwt
import msgspec
import structlog
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.rsa import RSAPrivateKey
from cryptography.hazmat.primitives.asymmetric.types import PublicKeyTypes
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from tenacity import Retrying, retry_if_exception_type, retry_if_not_exception_type, stop_after_attempt, wait_fixed

from background_migrations import correlation
from background_migrations.errors import BackgroundMigrationError

log = structlog.get_logger(__name__)

SERVICE = "container_registry"  # GitLab Rails signs for this audience alone
TOKEN_SECONDS = 60  # each token serves one request; the rest is for clocks that differ
ATTEMPTS = 2
RETRY_SECONDS = 5.0
BODY_BYTES = 1 << 20  # a registry that ignores `n=1` lists some 50,000 tags in that; a longer list is not empty either
REASON_CHARACTERS = 200  # part of it may be the registry's own words
ACCEPT = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
OK = range(200, 300)


class InvalidRegistryError(BackgroundMigrationError):
    """What was configured about the registry cannot be used."""

    code = "invalid_registry"

    def __init__(self, what: str, *, reason: str) -> None:
        super().__init__(f"The registry's {what} cannot be used: {reason}.")
        self.what, self.reason = what, reason


class UnusableAnswerError(BackgroundMigrationError):
    """The registry answered, but not the question."""

    code = "unusable_answer"


class TagList(msgspec.Struct):
    """The body of an answer: null, as an empty list, says that there is no tag."""

    tags: list[Any] | None


class TokenSigner:
    """Mints tokens as GitLab Rails does. The key is parsed once. Raises InvalidRegistryError for one it cannot use."""

    def __init__(self, key: str, *, issuer: str) -> None:
        if not issuer:
            raise InvalidRegistryError("token issuer", reason="it is empty")
        self._issuer = issuer
        self._key = _private_key(key)
        self._headers = {"kid": key_id(self._key.public_key())}

    def token(
        self, access: Sequence[Mapping[str, Any]], *, audience: str = SERVICE, lifetime_seconds: int = TOKEN_SECONDS
    ) -> str:
        """Return a new token that grants these entries."""
        now = int(time.time())
        claims = {
            "iss": self._issuer,
            "aud": audience,
            "iat": now,
            "nbf": now - 5,
            "exp": now + lifetime_seconds,
            "jti": str(uuid.uuid4()),
            "access": list(access),
        }
        return jwt.encode(claims, self._key, algorithm="RS256", headers=self._headers)


class RegistryClient:
    """Speaks to one registry; may be used by many threads. Without a signing key it sends no token.

    Raises InvalidRegistryError when it is made with an address, key, issuer or time-out that makes no sense.
    """

    def __init__(
        self, url: str, *, user_agent: str, signing_key: str = "", issuer: str = "", timeout_seconds: float = 10.0
    ) -> None:
        if timeout_seconds <= 0:
            raise InvalidRegistryError("time-out", reason=f"{timeout_seconds:g} seconds are too few")
        self._url = _checked_url(url)
        self._tls = ssl.create_default_context() if self._url.scheme == "https" else None
        self._signer = TokenSigner(signing_key, issuer=issuer) if signing_key else None
        self._headers = {"Accept": ACCEPT, "User-Agent": user_agent, "Connection": "close"}
        self._timeout_seconds = timeout_seconds

    def has_tags(self, repository: str, *, sleep: Callable[[float], Any] = time.sleep) -> bool:
        """Say whether a repository holds a tag. Where the registry does not tell, it is taken to hold one.

        A connection that cannot be made or breaks is tried once more, unless `sleep` raises to end the wait.
        """
        attempts = Retrying(
            retry=retry_if_exception_type(OSError) & retry_if_not_exception_type(TimeoutError),
            stop=stop_after_attempt(ATTEMPTS),
            wait=wait_fixed(RETRY_SECONDS),
            sleep=sleep,
            reraise=True,
        )
        try:
            return _lists_tags(*attempts(self._exchange, repository))
        except (OSError, http.client.HTTPException, UnusableAnswerError) as error:
            reason = f"{type(error).__name__}: {error}"[:REASON_CHARACTERS]
            log.warning("registry does not tell whether it has tags", repository=repository, reason=reason)
            return True

    def _exchange(self, repository: str) -> tuple[int, bytes]:
        """Send one request; return the answer's status and body, as far as that is to be read at all."""
        deadline = time.monotonic() + self._timeout_seconds
        connection = self._connection()
        with self._open(connection.host, connection.port, deadline=deadline) as opened:
            connection.sock = cast("socket.socket", _BoundedStream(opened, deadline=deadline))
            path = f"{self._url.path.rstrip('/')}/v2/{quote(repository)}/tags/list?n=1"
            connection.request("GET", path, headers=self._headers_for(repository))
            response = connection.getresponse()
            return response.status, _body(response) if response.status in OK else b""

    def _headers_for(self, repository: str) -> dict[str, str]:
        correlation_id = correlation.current()
        traced = {"X-Request-ID": correlation_id} if correlation_id else {}
        return {**self._headers, **traced, **self._authorization(repository)}

    def _authorization(self, repository: str) -> dict[str, str]:
        if self._signer is None:
            return {}
        access = {"type": "repository", "name": repository, "actions": ["pull"]}
        return {"Authorization": f"Bearer {self._signer.token([access])}"}

    def _connection(self) -> http.client.HTTPConnection:
        """Return what speaks HTTP over a socket that it is given."""
        host, port = self._url.hostname or "", self._url.port
        if self._tls:
            return http.client.HTTPSConnection(host, port or http.client.HTTPS_PORT, context=self._tls)
        return http.client.HTTPConnection(host, port or http.client.HTTP_PORT)

    def _open(self, host: str, port: int, *, deadline: float) -> socket.socket:
        """Connect. All that can go wrong so far is the connection's fault, a time-out too."""
        try:
            opened = socket.create_connection((host, port), timeout=_remaining_seconds(deadline))
            if not self._tls:
                return opened
            opened.settimeout(_remaining_seconds(deadline))
            return self._tls.wrap_socket(opened, server_hostname=host)
        except OSError as error:
            raise ConnectionError(f"no connection to {host}:{port}: {error}") from error


class _BoundedStream(io.RawIOBase):
    """What http.client uses of a socket. All reads and writes end by one deadline, however slowly the bytes drip."""

    def __init__(self, opened: socket.socket, *, deadline: float) -> None:
        self._socket, self._deadline = opened, deadline

    def sendall(self, data: bytes) -> None:
        self._socket.settimeout(_remaining_seconds(self._deadline))
        self._socket.sendall(data)

    def makefile(self, _mode: str) -> io.BufferedReader:
        return io.BufferedReader(self)

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        self._socket.settimeout(_remaining_seconds(self._deadline))
        return self._socket.recv_into(buffer)

    def close(self) -> None:
        """Do nothing: http.client closes before the body is read, and whoever opened the socket closes it."""


def key_id(key: PublicKeyTypes) -> str:
    """Return the libtrust fingerprint of a public key, by which a registry finds it among its certificates."""
    digest = hashlib.sha256(key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)).digest()
    letters = base64.b32encode(digest[:30]).decode()
    return ":".join(letters[start : start + 4] for start in range(0, len(letters), 4))


def _lists_tags(status: int, body: bytes) -> bool:
    if status not in OK:
        raise UnusableAnswerError(f"status {status}")
    if len(body) > BODY_BYTES:
        raise UnusableAnswerError(f"more than {BODY_BYTES} bytes")
    try:
        return bool(msgspec.json.decode(body.decode(), type=TagList).tags)
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        raise UnusableAnswerError(f"no list of tags: {error}") from error


def _body(response: http.client.HTTPResponse) -> bytes:
    """Return the body, or enough of it to see that it is too long."""
    try:
        body = response.read(BODY_BYTES + 1)
    except http.client.IncompleteRead as error:
        raise ConnectionResetError("the answer broke off") from error
    if response.length and len(body) <= BODY_BYTES:
        raise ConnectionResetError("the answer broke off")
    return body


def _remaining_seconds(deadline: float) -> float:
    seconds = deadline - time.monotonic()
    if seconds <= 0:
        raise TimeoutError("the answer took too long")
    return seconds


def _checked_url(url: str) -> SplitResult:
    """Return the parts of an address that can be spoken to; it may hold a path, below which the registry answers."""
    try:
        parts = urlsplit(url)
        host = (parts.hostname or "").encode("idna")
        usable = parts.scheme in {"http", "https"} and bool(host) and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "@" in url or "?" in url or "#" in url or " " in url or not (url.isascii() and url.isprintable()):
        raise InvalidRegistryError("address", reason="it must read http://host:port or https://host:port, no more")
    return parts


def _private_key(pem: str) -> RSAPrivateKey:
    """Return an RSA key; the text stays out of every message."""
    try:
        key = load_pem_private_key(pem.encode(), password=None)
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        reason = "it is not a private key in PEM format without a passphrase"
        raise InvalidRegistryError("signing key", reason=reason) from error
    if not isinstance(key, RSAPrivateKey):
        raise InvalidRegistryError("signing key", reason="it is not an RSA key")
    return key
