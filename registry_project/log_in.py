"""Who tries to log in, for the throttle of failed attempts."""

from django.conf import settings
from django.http import HttpRequest


def client_address(request: HttpRequest) -> str:
    """Return the address that asks: the last one that our own proxy saw, where there is one."""
    direct = str(request.META.get("REMOTE_ADDR", ""))  # none through a Unix socket
    if not settings.BEHIND_PROXY:
        return direct
    return request.headers.get("X-Forwarded-For", direct).rpartition(",")[2].strip()
