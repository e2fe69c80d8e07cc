"""Staff of the three groups, logged in."""

from django.contrib.auth.models import Group
from django.test import Client

from tests.factories import UserFactory


def client_of(group: str | None, *, username: str = "alice") -> Client:
    """Return a client of a user in this group, or in none."""
    user = UserFactory(username=username)
    if group:
        user.groups.add(Group.objects.get(name=group))
    client = Client()
    client.force_login(user)
    return client
