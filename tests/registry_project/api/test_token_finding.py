"""Where a token is looked for, and that nobody gets in where nothing is configured."""

import pytest

from tests.registry_project.api.asking import PRESENCE, STATISTICS, TO_STATISTICS, assert_refused
from tests.registry_project.api.building import token
from tests.registry_project.api.issuer import ABSENT

NO_TOKEN = {
    "nothing": lambda: None,
    "an empty header": lambda: "",
    "the scheme alone": lambda: "Bearer",
    "the token alone": token,
    "two spaces": lambda: f"Bearer  {token()}",
    "a tab": lambda: f"Bearer\t{token()}",
    "a space and a tab": lambda: f"Bearer \t{token()} x",
    "a third word": lambda: f"Bearer {token()} x",
    "a list": lambda: f"Bearer {token()}, Bearer {token()}",
    "a parameter": lambda: f"Bearer {token()} , realm=x",
    "basic": lambda: "Basic dXNlcjpwYXNzd29yZA==",
    "another scheme": lambda: f"Token {token()}",
    "a longer scheme": lambda: f"BearerX {token()}",
    "no space": lambda: f"Bearer{token()}",
    "a colon": lambda: f"Bearer: {token()}",
    "a hard space": lambda: f"Bearer\xa0{token()}",
}


@pytest.mark.parametrize("build", NO_TOKEN.values(), ids=NO_TOKEN)
def test_without_a_token_no_error_is_named(ask, build):
    assert_refused(ask(PRESENCE, build()), error=None)
    assert_refused(ask(STATISTICS, build()), error=None, required=TO_STATISTICS)


ELSEWHERE = {
    "the query": lambda: {"QUERY_STRING": f"token={token()}&access_token={token()}&jwt={token()}"},
    "a cookie": lambda: {"HTTP_COOKIE": f"token={token()}; Authorization=bearer {token()}"},
    "another header": lambda: {"HTTP_X_AUTHORIZATION": f"bearer {token()}", "HTTP_PROXY_AUTHORIZATION": token()},
    "a form": lambda: {
        "method": "POST",
        "body": f"access_token={token()}",
        "content_type": "application/x-www-form-urlencoded",
    },
    "a user name": lambda: {"REMOTE_USER": "root"},
}


@pytest.mark.parametrize("build", ELSEWHERE.values(), ids=ELSEWHERE)
def test_a_token_anywhere_else_is_not_looked_for(ask, build):
    assert_refused(ask(PRESENCE, **build()), error=None)


def test_a_token_is_good_any_number_of_times(ask, signer):
    authorization = signer.bearer()
    assert {ask(PRESENCE, authorization).status_code for _ in range(3)} == {200}


NAMES = ("SERVICE", "ISSUER", "ROOTCERTBUNDLE")


@pytest.mark.parametrize("missing", [*((name,) for name in NAMES), ("REALM", *NAMES)], ids=[*NAMES, "all"])
@pytest.mark.parametrize("path", [PRESENCE, STATISTICS])
def test_without_its_settings_the_api_is_closed(ask, signer, settings, missing, path):
    for name in missing:
        setattr(settings, f"AUTH_TOKEN_{name}", "")
    for authorization in (
        None,
        signer.bearer(),
        signer.bearer({"iss": ABSENT, "aud": ABSENT}),
        signer.bearer({"iss": "", "aud": ""}),
    ):
        answer = ask(path, authorization)
        assert answer.status_code == 401
        assert answer.headers["WWW-Authenticate"].startswith("Bearer realm=")
        assert answer.json()["errors"][0]["code"] == "UNAUTHORIZED"


@pytest.mark.parametrize("claims", [{}, {"exp": 5}, {"iss": "another"}], ids=["good", "expired", "of another issuer"])
def test_no_part_of_a_token_is_logged(ask, signer, caplog, capsys, claims):
    caplog.set_level("DEBUG")
    authorization = signer.bearer(claims)
    ask(PRESENCE, authorization)
    ask(STATISTICS, authorization)
    logged = caplog.text + "".join(capsys.readouterr())
    assert not [part for part in authorization.removeprefix("bearer ").split(".") if part in logged]
