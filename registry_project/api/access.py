"""What a view requires of a token: the declarations that every view of the API makes, and how they are read."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from django.core.exceptions import ImproperlyConfigured

from registry_project.api.tokens import AccessEntry, Claims


@dataclass(frozen=True)
class Requirement:
    """An action on one thing; `meta` must stand in the entry that grants it."""

    type: str
    name: str
    action: str
    meta: Mapping[str, Any] = field(default_factory=dict)

    def is_met(self, claims: Claims) -> bool:
        """Say whether the token's entries together grant it; `*` grants every action."""
        entries = [each for each in claims.access or () if self._is_about(each)]
        actions = {action for entry in entries for action in entry.actions or ()}
        return not actions.isdisjoint({self.action, "*"})

    def _is_about(self, entry: AccessEntry) -> bool:
        return (
            (entry.type, entry.name) == (self.type, self.name)
            and (not self.meta or entry.meta is not None)
            and all(getattr(entry.meta, name, None) == value for name, value in self.meta.items())
        )


def alternatives(view: object, method: str | None) -> list[Requirement]:
    """Return what a view requires for a method: one of these, or just a valid token where there is none.

    Raises ImproperlyConfigured where the view does not say.
    """
    declared = getattr(view, "required_access", None)
    if isinstance(declared, Mapping):
        declared = declared.get(method or "", declared.get("GET"))
    if not isinstance(declared, Sequence):
        name = getattr(view, "__name__", type(view).__name__)
        raise ImproperlyConfigured(f"{name} does not declare its required_access: [(type, name, action), …] or [].")
    return [Requirement(*each) for each in declared]
