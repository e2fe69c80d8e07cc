"""`manage.py registry_token`: a token that the API believes, and no key out of nowhere."""

import json
from io import StringIO

import jwt
import pytest
from django.core.management import CommandError, call_command

from registry_project import demo, demo_tokens
from tests.e2e.tokens import new_key, pem

STATUS = "/gitlab/v1/admin/db/migrations/status/"


@pytest.fixture
def key_file(tmp_path, api):
    file = tmp_path / "registry.key"
    file.write_text(api.auth.signing_key)
    return file


def mint(*arguments) -> str:
    out = StringIO()
    call_command("registry_token", *arguments, stdout=out)
    return out.getvalue().removesuffix("\n")


@pytest.mark.django_db(databases=["registry"])
def test_the_api_believes_the_token(api, key_file):
    token = mint("--access", "registry:migrations:*", "--key", str(key_file))
    assert api.client.get(STATUS, headers={"Authorization": f"Bearer {token}"}).status_code == 200


def test_it_grants_what_was_asked_for_as_long_as_was_asked_for(key_file):
    answer = mint(
        *("--access", "registry:migrations:*", "--access", "registry:background-migrations:read,write"),
        *("--key", str(key_file), "--minutes", "60", "--json"),
    )
    found = json.loads(answer)
    claims = jwt.decode(found["token"], options={"verify_signature": False})
    assert claims["access"] == [
        {"type": "registry", "name": "migrations", "actions": ["*"]},
        {"type": "registry", "name": "background-migrations", "actions": ["read", "write"]},
    ]
    assert (claims["exp"] - claims["iat"], found["seconds"]) == (3_600, 3_600)


@pytest.mark.usefixtures("api")
def test_another_database_s_token_needs_a_key_that_is_named():
    with pytest.raises(CommandError, match="Name the key to sign with: --key FILE"):
        mint("--access", "registry:migrations:*")


@pytest.mark.usefixtures("api")
@pytest.mark.parametrize("content", ["no key", b"\xff\xfe"])
def test_a_file_that_holds_no_key_is_refused_without_its_text(tmp_path, content):
    file = tmp_path / "key"
    file.write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(CommandError) as caught:
        mint("--key", str(file))
    assert "no key" not in str(caught.value)


def test_without_the_api_s_settings_no_token_could_be_valid():
    with pytest.raises(CommandError, match="REGISTRY_AUTH_TOKEN_"):
        mint()


@pytest.mark.parametrize("access", ["registry", "registry:migrations", "a:b:c:d", "::", "registry::*"])
def test_access_that_is_not_of_three_parts_is_refused(access):
    with pytest.raises(CommandError, match="TYPE:NAME:ACTION"):
        mint("--access", access)


@pytest.mark.parametrize("minutes", ["0", "-5", "1441", "long"])
def test_a_lifetime_beyond_reason_is_refused(minutes):
    with pytest.raises(CommandError, match="between 1 and 1440"):
        mint("--minutes", minutes)


@pytest.mark.django_db(databases=["registry"])
def test_a_demonstration_signs_with_its_own_key(tmp_path, monkeypatch, settings, client):
    environment = demo_tokens.environment(tmp_path)
    assert demo_tokens.environment(tmp_path) == environment
    for name, value in environment.items():
        setattr(settings, name.removeprefix("REGISTRY_"), value)
    monkeypatch.setattr(demo, "HOME", tmp_path)
    monkeypatch.setattr(demo, "stands_in", lambda: True)
    token = mint("--access", "registry:migrations:*")
    assert client.get(STATUS, headers={"Authorization": f"bearer {token}"}).status_code == 200
    assert (tmp_path / demo_tokens.KEY).stat().st_mode & 0o077 == 0


@pytest.mark.django_db(databases=["registry"])
def test_a_token_of_another_key_is_not_believed(tmp_path, api):
    file = tmp_path / "another.key"
    file.write_text(pem(new_key()))
    token = mint("--access", "registry:migrations:*", "--key", str(file))
    assert api.client.get(STATUS, headers={"Authorization": f"Bearer {token}"}).status_code == 401
