"""Builders of rows for tests."""

import factory
from django.contrib.auth import get_user_model


class UserFactory(factory.django.DjangoModelFactory):
    """A user who may log in to the admin and, without permissions, see nothing there."""

    class Meta:
        model = get_user_model()

    username = factory.Sequence(lambda number: f"user{number}")
    is_staff = True
