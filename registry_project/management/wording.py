"""What a database says, in the one line that a command ends with."""

from django.db import connections
from psycopg.errors import InsufficientPrivilege

ROLES = "docs/how-to/least-privilege-roles.md"


def in_one_line(error: BaseException, *, alias: str = "registry") -> str:
    """Return the words of a database or its driver; where a privilege is missing, also whose and who grants it."""
    words = " ".join(str(error).split())
    if isinstance(error, InsufficientPrivilege) or isinstance(error.__cause__, InsufficientPrivilege):
        role = connections[alias].settings_dict["USER"]
        return f"{words}. Role {role!r} may not do this; {ROLES} says which role may."
    return words
