"""The bearer header → `request.auth` (the verified claims); and how a refusal is worded. Not who may do what."""

from functools import lru_cache
from typing import Any

from django.conf import settings
from rest_framework.exceptions import Throttled
from rest_framework.request import Request
from rest_framework_simplejwt.authentication import JWTStatelessUserAuthentication

from registry_project.api.exceptions import TokenRefusedError
from registry_project.api.keys import KeyBundle
from registry_project.api.throttling import FailedTokenThrottle
from registry_project.api.tokens import Claims, InvalidTokenError, TokenVerifier
from registry_project.request_log import note

PARTS = 2  # the scheme and the token
LONGEST_SUBJECT = 200  # characters


class Bearer:
    """Who sends a token, for events: the subject that its issuer names, or none for GitLab itself."""

    is_authenticated = True

    def __init__(self, claims: Claims) -> None:
        self.subject = "".join(filter(str.isprintable, claims.sub or ""))[:LONGEST_SUBJECT]

    def __str__(self) -> str:
        return f"token of {self.subject}" if self.subject else "token without a subject"


def verifier() -> TokenVerifier | None:
    """Return what verifies tokens, or None where nothing is configured. Raises UnusableBundleError."""
    bundle, issuer, service = (
        settings.AUTH_TOKEN_ROOTCERTBUNDLE,
        settings.AUTH_TOKEN_ISSUER,
        settings.AUTH_TOKEN_SERVICE,
    )
    return _verifier(bundle, issuer, service) if all((bundle, issuer, service, settings.AUTH_TOKEN_REALM)) else None


@lru_cache(maxsize=1)
def _verifier(bundle: str, issuer: str, service: str) -> TokenVerifier:
    return TokenVerifier(KeyBundle(bundle), issuer=issuer, service=service)


class RegistryTokenAuthentication(JWTStatelessUserAuthentication):
    """Takes the token of the Authorization header, whose scheme GitLab Rails writes in lower case."""

    def authenticate(self, request: Request) -> tuple[Any, Any] | None:
        """Return who asks, and the claims; None without a token. Raises TokenRefusedError or Throttled."""
        try:
            return super().authenticate(request)
        except InvalidTokenError as error:
            throttle = FailedTokenThrottle()
            if not throttle.allow_request(request, request.parser_context["view"]):
                raise Throttled from error
            note(token_refused=str(error))
            raise TokenRefusedError("invalid_token") from error

    def get_raw_token(self, header: bytes) -> bytes | None:
        """Return the second of exactly two words."""
        words = header.strip().split(b" ")
        return words[1] if len(words) == PARTS and words[0].lower() == b"bearer" else None

    def get_validated_token(self, raw_token: bytes) -> Any:
        """Return the claims. Raises InvalidTokenError."""
        current = verifier()
        if current is None:
            raise InvalidTokenError("REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE is not set")
        return current.verify(raw_token.decode("latin-1"))

    def get_user(self, validated_token: Any) -> Any:
        """Return who asks."""
        return Bearer(validated_token)
