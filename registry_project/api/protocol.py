"""How every view of the API speaks HTTP: its methods and headers, as GitLab's registry has them."""

from typing import Any

from django.http import HttpResponse
from rest_framework.views import APIView

PLAIN_TEXT = "text/plain; charset=utf-8"


class Protocol(APIView):
    """What the project adds to an app's view when its URL is made."""

    # Not HEAD, which Django would answer as GET.
    http_method_names = ("get", "post", "put", "patch", "delete", "options", "trace")

    @property
    def allowed_methods(self) -> list[str]:
        """Return the methods that a request may have, but for OPTIONS."""
        return [name.upper() for name in self.http_method_names if name != "options" and hasattr(self, name)]

    @property
    def default_response_headers(self) -> dict[str, str]:
        """Return no header of Django REST framework's own."""
        return {}

    def http_method_not_allowed(self, request: Any, *_args: Any, **_kwargs: Any) -> Any:
        """Answer a method that the route does not have, to a token that it lets in."""
        return HttpResponse("Method not allowed", status=405, content_type=PLAIN_TEXT, headers=self._allow())

    def options(self, request: Any, *_args: Any, **_kwargs: Any) -> Any:
        """Say which methods there are."""
        return HttpResponse(headers=self._allow())

    def _allow(self) -> dict[str, str]:
        return {"Allow": ", ".join(self.allowed_methods)}
