"""The Content-Security-Policy of every page: nothing is loaded from, sent to or framed by another host."""

from collections.abc import Callable

from django.http import HttpRequest, HttpResponse

# Alpine, as unfold ships it, and htmx's filters make functions out of attributes; both write style attributes.
POLICY = (
    "default-src 'self'; "
    "script-src 'self' 'unsafe-eval'; "
    "style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data:; "
    "object-src 'none'; "
    "base-uri 'none'; "
    "form-action 'self'; "
    "frame-ancestors 'none'"
)


class ContentPolicyMiddleware:
    """Adds the header to what a browser shows as a page."""

    def __init__(self, get_response: Callable[[HttpRequest], HttpResponse]) -> None:
        self._get_response = get_response

    def __call__(self, request: HttpRequest) -> HttpResponse:
        """Answer, with the policy where the answer is HTML."""
        response = self._get_response(request)
        if response.get("Content-Type", "").startswith("text/html"):
            response.headers.setdefault("Content-Security-Policy", POLICY)
        return response
