"""What is counted and timed of each request, by the names that GitLab's registry has for it."""

import time
from collections.abc import Callable

import prometheus_client
from django.http import HttpRequest, HttpResponse
from prometheus_client import Counter, Gauge, Histogram

from registry_project.api.routes import template_of

prometheus_client.disable_created_metrics()

LABELS = ("code", "method", "route")
METHODS = frozenset({"get", "head", "post", "put", "patch", "delete", "options", "trace"})
SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 25, 60)
SIZES = tuple(1_024 * 2**power for power in range(22))

REQUESTS = Counter("registry_http_requests", "Requests answered.", LABELS)
DURATION = Histogram("registry_http_request_duration_seconds", "Seconds of a request.", LABELS, buckets=SECONDS)
RECEIVED = Histogram("registry_http_request_size_bytes", "Bytes of the bodies of requests.", LABELS, buckets=SIZES)
SENT = Histogram("registry_http_response_size_bytes", "Bytes of the bodies of answers.", LABELS, buckets=SIZES)
IN_FLIGHT = Gauge("registry_http_in_flight_requests", "Requests being answered now.", multiprocess_mode="livesum")


class Measure:
    """Measures what has a route: paths that nobody declared are no labels."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer, and count that."""
        began = time.perf_counter()
        with IN_FLIGHT.track_inprogress():
            response = self._get_response(request)
        if request.resolver_match is not None:
            method = (request.method or "").lower()
            labels = (
                str(response.status_code),
                method if method in METHODS else "other",
                template_of(request.resolver_match),
            )
            REQUESTS.labels(*labels).inc()
            DURATION.labels(*labels).observe(time.perf_counter() - began)
            RECEIVED.labels(*labels).observe(_length(request.META.get("CONTENT_LENGTH")))
            SENT.labels(*labels).observe(len(response.content) if not response.streaming else 0)
        return response


def _length(header: str | None) -> int:
    return int(header) if header and header.isdecimal() and len(header) < len("1" * 19) else 0
