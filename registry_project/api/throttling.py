"""Answers fewer of the tokens that fail; one that is valid is never refused, whoever else sends from its address."""

from typing import TYPE_CHECKING

from django.conf import settings
from rest_framework.request import Request
from rest_framework.throttling import SimpleRateThrottle

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which imports this module, by the settings

SECONDS = 60


class FailedTokenThrottle(SimpleRateThrottle):
    """Counts the failures of one address within a minute, in each process for itself."""

    scope = "failed_tokens"

    def get_rate(self) -> str | None:
        """Return how many there may be; None where they are not counted."""
        limit = settings.API_FAILED_TOKENS_PER_MINUTE
        return f"{limit}/minute" if limit else None

    def get_cache_key(self, request: Request, view: "APIView | None") -> str:
        """Return what the count is kept under."""
        return self.cache_format % {"scope": self.scope, "ident": self.get_ident(request)}


def headers() -> dict[str, str]:
    """Return the headers of an answer to one failure too many: a minute later the count is another."""
    limit, wait = str(settings.API_FAILED_TOKENS_PER_MINUTE), str(SECONDS)
    return {
        "Retry-After": wait,
        "RateLimit": f"limit={limit}, remaining=0, reset={wait}",
        "RateLimit-Policy": f"{limit};w={SECONDS}",
        "X-RateLimit-Limit": limit,
        "X-RateLimit-Remaining": "0",
        "X-RateLimit-Reset": wait,
    }
