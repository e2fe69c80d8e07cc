"""An API that trusts the tests' own issuer, and somebody who asks it."""

import pytest
from django.db import connections
from django.test import Client

from tests.registry_project.api.asking import Asker
from tests.registry_project.api.certificates import bundle
from tests.registry_project.api.issuer import ISSUER, REALM, SERVICE, Signer


@pytest.fixture(scope="session")
def bundle_file(tmp_path_factory):
    """The certificates that most tests trust."""
    path = tmp_path_factory.mktemp("bundle") / "bundle.pem"
    path.write_bytes(bundle())
    return path


@pytest.fixture(autouse=True)
def configured(settings, bundle_file):
    """Tokens are configured, and as many may fail as like."""
    settings.AUTH_TOKEN_REALM = REALM
    settings.AUTH_TOKEN_SERVICE = SERVICE
    settings.AUTH_TOKEN_ISSUER = ISSUER
    settings.AUTH_TOKEN_ROOTCERTBUNDLE = str(bundle_file)
    settings.API_FAILED_TOKENS_PER_MINUTE = 0
    settings.REGISTRY_VERSION = "v4.32.0-gitlab"
    return settings


@pytest.fixture(autouse=True)
def begun(request):
    """The test's transaction has begun in the server: else the first of the driver's own would commit."""
    if request.node.get_closest_marker("django_db"):
        request.getfixturevalue("db")
        connections["registry"].cursor().execute("SELECT 1")


@pytest.fixture
def ask():
    """Somebody who asks."""
    return Asker(Client(raise_request_exception=False))


@pytest.fixture
def signer():
    """The issuer whose key is trusted."""
    return Signer()
