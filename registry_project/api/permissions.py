"""HasRegistryAccess: what the view requires against what the token's `access` claim grants."""

from typing import TYPE_CHECKING, Any

from rest_framework.permissions import BasePermission
from rest_framework.request import Request

from registry_project.api.access import alternatives
from registry_project.api.exceptions import TokenRefusedError

if TYPE_CHECKING:
    from rest_framework.views import APIView  # which imports this module, by the settings


class HasRegistryAccess(BasePermission):
    """Lets in who has a valid token that grants one of the view's alternatives."""

    def has_permission(self, request: Request, view: "APIView") -> bool:
        """Return True, or raise TokenRefusedError: every refusal is a challenge."""
        claims: Any = request.auth
        if claims is None:
            raise TokenRefusedError(None)
        required = alternatives(view, request.method)
        if required and not any(each.is_met(claims) for each in required):
            raise TokenRefusedError("insufficient_scope")
        return True
