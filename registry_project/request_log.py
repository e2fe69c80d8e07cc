"""One line in the log for each request, and the correlation id that whatever happens for it is logged with."""

import re
import time
from typing import Any

import structlog
from django.dispatch import receiver
from django.http import HttpRequest
from django_structlog.middlewares import RequestMiddleware
from django_structlog.signals import bind_extra_request_failed_metadata, bind_extra_request_finished_metadata

from registry_project.log_in import client_address
from registry_project.logs import new_correlation_id

# The header that GitLab Rails sends. Anything else would be a way to write what one likes into logs and events.
SOUND = re.compile(r"[\w.:/+=-]{1,128}", re.ASCII)
BEGAN = "registry.request_began"


class RequestLogMiddleware(RequestMiddleware):
    """Logs method, path, status, seconds and address. Never a query string: people put secrets there."""

    def prepare(self, request: HttpRequest) -> None:
        """Take the correlation id that the request brings, or make one."""
        given = request.headers.get("X-Request-ID", "")
        structlog.contextvars.clear_contextvars()
        structlog.contextvars.bind_contextvars(
            correlation_id=given if SOUND.fullmatch(given) else new_correlation_id(), remote_ip=client_address(request)
        )
        request.META[BEGAN] = time.monotonic()

    @staticmethod
    def format_request(request: HttpRequest) -> str:
        """Return the method and the path."""
        return f"{request.method} {request.path}"


@receiver((bind_extra_request_finished_metadata, bind_extra_request_failed_metadata))
def _add_facts(request: HttpRequest, log_kwargs: dict[str, Any], **_: Any) -> None:
    log_kwargs["duration_s"] = round(time.monotonic() - request.META[BEGAN], 6)


def note(**facts: object) -> None:
    """Add facts to the one line of the request that this thread answers."""
    structlog.contextvars.bind_contextvars(**facts)
