"""Makes pytest-django create the databases for tests that ask for them by `committed_db` alone."""

import pytest


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Mark those tests: pytest-django creates only the databases that some test's mark names."""
    for item in items:
        if "committed_db" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.django_db(transaction=True, databases=["default", "registry"]))
