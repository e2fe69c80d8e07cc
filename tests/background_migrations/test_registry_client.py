"""The registry says whether a repository has tags; whatever it says wrongly counts as a yes, which deletes nothing."""

import base64
import json

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
    load_der_public_key,
)

from background_migrations.registry_client import BODY_BYTES, InvalidRegistryError, RegistryClient, key_id
from background_migrations.work import WorkStoppedError
from tests.background_migrations.http_registry import dripping, endlessly, hang_up, listing, raw, reply, serving
from tests.e2e.registry import free_port
from tests.e2e.tokens import TokenAuth

AUTH = TokenAuth()
NO_TAGS = b'{"name":"any","tags":[]}'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Length: 24\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
MANIFESTS = "application/vnd.docker.distribution.manifest.v2+json, application/vnd.oci.image.manifest.v1+json"
RSA_KEY = (
    "MIIBIjANBgkqhkiG9w0BAQEFAAOCAQ8AMIIBCgKCAQEAvb7RnNLuEs5/fuVFtNAkUZhPDVeej2XukJo/k/14Ijd+Z8xPD52GZLK904X45TSwhRy84PBv"
    "gzMdUE0sHTCBUKk13jylXgiAAWLztZvIhp0p0V8W7pBZ3C7R8NVY+Tth6aisNZd5gASwo55md6RuQu2Vd8fZUieNS+5LYR0lmDbzWdq1gA9Xu9UKMlr/"
    "j0JpgB0q9ydsyZMABC9U9izUaeR3ymqBxyAKm/WDU7ZlmMKf+XTtCourFB1nquVZDOa65TS5U77Ioulvj53nuAvywARGWemZ6UlS1xPeKbsvqJg5MJL0"
    "LThUtji2anXuJfDhDvwiJqHJ/Xkv+EDxD+YYdwIDAQAB"
)


@pytest.fixture
def registry():
    with serving() as registry:
        yield registry


def client(url, **options):
    return RegistryClient(url, **{"user_agent": "tests/1.0", "timeout_seconds": 10.0, **options})


class Naps(list):
    """Stands in for time.sleep and remembers for how long it was called."""

    def __call__(self, seconds):
        self.append(seconds)


@pytest.mark.parametrize(
    ("answer", "has_tags"),
    [
        (listing("latest"), True),
        (listing("1.0", "2.0"), True),
        (listing(), False),
        (reply(200, b'{"name":"any","tags":null}'), False),
        (reply(203, NO_TAGS), False),
        (raw(b"HTTP/1.0 200 OK\r\n\r\n" + NO_TAGS), False),
        (raw(CHUNKED + b"18\r\n" + NO_TAGS + b"\r\n0\r\n\r\n"), False),
    ],
)
def test_a_list_of_tags_is_believed(registry, answer, has_tags):
    registry.answers = [answer]
    assert client(registry.url).has_tags("group/project") is has_tags


@pytest.mark.parametrize(
    "answer",
    [
        reply(401, NO_TAGS, 'WWW-Authenticate: Bearer realm="http://127.0.0.1:1/"'),
        reply(404, NO_TAGS),
        reply(500, NO_TAGS),
        reply(302, NO_TAGS, "Location: /v2/elsewhere/tags/list"),
        reply(204),
        reply(200),
        reply(200, b"<html>Log in</html>"),
        reply(200, b'{"name":"any"}'),
        reply(200, b'{"tags":""}'),
        reply(200, b'{"tags":{}}'),
        reply(200, b"[]"),
        reply(200, b"null"),
        reply(200, b'{"tags":[]} trailing'),
        reply(200, b'{"name":"\xff","tags":[]}'),
        reply(200, b'{"other":' + b"[" * 100_000 + b"]" * 100_000 + b',"tags":[]}'),
        reply(200, b" " * BODY_BYTES + NO_TAGS),
        raw(b"SSH-2.0-OpenSSH_9.2\r\n"),
        raw(b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n" + NO_TAGS),
        raw(b"HTTP/1.1 200 OK\r\nX: " + b"y" * 70_000 + b"\r\n\r\n" + NO_TAGS),
        raw(b"HTTP/1.1 200 OK\r\nContent-Length: 2000000\r\n\r\n" + b" " * 2_000_000),
    ],
)
def test_any_other_answer_counts_as_tags_and_is_final(registry, answer):
    registry.answers = [answer]
    registry.otherwise = listing()
    naps = Naps()
    assert client(registry.url).has_tags("group/project", sleep=naps) is True
    assert (registry.paths, naps) == (["group/project"], [])


@pytest.mark.parametrize(
    "answer",
    [
        dripping(HEAD * 100),
        dripping(HEAD + NO_TAGS, quick=1),
        dripping(HEAD + NO_TAGS, quick=len(HEAD)),
        endlessly(b"HTTP/1.1 100 Continue\r\n\r\n"),
        endlessly(b""),
    ],
)
def test_an_answer_that_drips_or_does_not_come_counts_as_tags_and_is_final(registry, answer):
    registry.answers = [answer]
    registry.otherwise = listing()
    assert client(registry.url, timeout_seconds=0.3).has_tags("group/project") is True
    assert registry.paths == ["group/project"]


@pytest.mark.parametrize(
    "fault",
    [
        hang_up,
        raw(HEAD),
        raw(HEAD + NO_TAGS[:10]),
        raw(CHUNKED + b"18\r\n" + NO_TAGS[:10]),
        raw(CHUNKED + b"zz\r\n" + NO_TAGS),
    ],
)
def test_a_connection_that_breaks_is_tried_once_more_after_five_seconds(registry, fault):
    registry.answers = [fault, listing()]
    naps = Naps()
    assert client(registry.url).has_tags("group/project", sleep=naps) is False
    assert (len(registry.requests), naps) == (2, [5.0])


def test_a_connection_that_breaks_again_counts_as_tags(registry):
    registry.answers = [hang_up, hang_up, listing()]
    naps = Naps()
    assert client(registry.url).has_tags("group/project", sleep=naps) is True
    assert (len(registry.requests), naps) == (2, [5.0])


def test_a_connection_that_cannot_be_made_is_tried_once_more_and_counts_as_tags():
    naps = Naps()
    assert client(f"http://127.0.0.1:{free_port()}").has_tags("group/project", sleep=naps) is True
    assert naps == [5.0]


def test_the_pause_can_be_ended_by_an_error_which_passes_through(registry):
    def told_to_stop(_seconds):
        raise WorkStoppedError

    registry.otherwise = hang_up
    with pytest.raises(WorkStoppedError):
        client(registry.url).has_tags("group/project", sleep=told_to_stop)
    assert len(registry.requests) == 1


def test_a_request_asks_for_one_tag_of_the_repository(registry):
    client(f"{registry.url}/below/").has_tags("group/my project/ü")
    (request,) = registry.requests
    assert request.path == "/below/v2/group/my%20project/%C3%BC/tags/list?n=1"
    assert request.headers == {
        "Host": registry.url.removeprefix("http://"),
        "Accept-Encoding": "identity",
        "Accept": MANIFESTS,
        "User-Agent": "tests/1.0",
        "Connection": "close",
    }


def test_each_request_carries_a_short_token_of_its_own_for_that_repository(registry):
    asking = client(registry.url, signing_key=AUTH.signing_key, issuer="gitlab-issuer")
    asking.has_tags("group/one")
    asking.has_tags("group/two")
    found = []
    for request in registry.requests:
        scheme, token = request.headers["Authorization"].split(" ")
        assert scheme == "Bearer"
        kid = key_id(AUTH.key.public_key())
        assert jwt.get_unverified_header(token) == {"alg": "RS256", "typ": "JWT", "kid": kid}
        claims = jwt.decode(token, AUTH.key.public_key(), algorithms=["RS256"], audience="container_registry")
        assert (claims["exp"] - claims["iat"], claims["iat"] - claims["nbf"]) == (60, 5)
        assert set(claims) == {"iss", "aud", "iat", "nbf", "exp", "jti", "access"}
        assert claims["iss"] == "gitlab-issuer"
        found.append(claims)
    paths = ["group/one", "group/two"]
    assert [each["access"] for each in found] == [
        [{"type": "repository", "name": path, "actions": ["pull"]}] for path in paths
    ]
    assert found[0]["jti"] != found[1]["jti"]


def test_a_redirect_takes_the_token_nowhere(registry):
    with serving() as elsewhere:
        registry.answers = [reply(307, b"", f"Location: {elsewhere.url}/v2/group/project/tags/list")]
        asking = client(registry.url, signing_key=AUTH.signing_key, issuer="gitlab-issuer")
        assert asking.has_tags("group/project") is True
        assert elsewhere.requests == []


def test_proxies_of_the_environment_are_not_used(registry, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{free_port()}")
    registry.answers = [listing()]
    assert client(registry.url).has_tags("group/project") is False


@pytest.fixture
def certificate(tmp_path):
    """A file that holds a key and its certificate for 127.0.0.1."""
    file = tmp_path / "server.pem"
    file.write_bytes(AUTH.signing_key.encode() + AUTH.certificate())
    return file


def test_tls_is_spoken_with_a_server_whose_certificate_is_trusted(certificate, monkeypatch):
    monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
    with serving(certificate) as registry:
        registry.answers = [listing()]
        assert client(registry.url).has_tags("group/project") is False
        assert registry.requests[0].headers["Host"] == registry.url.removeprefix("https://")


def test_a_server_whose_certificate_is_not_trusted_is_told_nothing(certificate):
    with serving(certificate) as registry:
        assert client(registry.url).has_tags("group/project", sleep=Naps()) is True
        assert registry.requests == []


def test_plain_http_where_tls_is_expected_counts_as_tags(registry):
    registry.otherwise = listing()
    url = registry.url.replace("http:", "https:")
    assert client(url, timeout_seconds=1.0).has_tags("group/project", sleep=Naps()) is True


@pytest.mark.parametrize(
    "url",
    [
        "",
        "registry.example.com",
        "ftp://registry.example.com",
        "file:///etc/passwd",
        "http://",
        "http://registry:port",
        "http://registry:0",
        "http://registry:65536",
        "http://[::1",
        "http://a..b",
        "http://user:s3cret@registry",
        "http://registry/?query=s3cret",
        "http://registry/#part",
        "http://registry/with space",
        "http://registry/\r\nX: y",
    ],
)
def test_an_address_that_cannot_be_spoken_to_is_refused_and_not_repeated(url):
    with pytest.raises(InvalidRegistryError, match=r"^The registry's address cannot be used: it must read") as caught:
        client(url)
    assert "s3cret" not in str(caught.value)


def private_pem(key, encryption=None):
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, encryption or NoEncryption()).decode()


@pytest.mark.parametrize(
    ("key", "reason"),
    [
        ("s3cret", "it is not a private key in PEM format"),
        (AUTH.certificate().decode(), "it is not a private key in PEM format"),
        (
            private_pem(AUTH.key, BestAvailableEncryption(b"passphrase")),
            "it is not a private key in PEM format without",
        ),
        (private_pem(ec.generate_private_key(ec.SECP256R1())), "it is not an RSA key"),
    ],
)
def test_a_key_that_cannot_sign_is_refused_and_not_repeated(key, reason):
    with pytest.raises(InvalidRegistryError, match=rf"^The registry's signing key cannot be used: {reason}") as caught:
        client("http://registry", signing_key=key, issuer="gitlab-issuer")
    assert key.splitlines()[-1] not in str(caught.value)


def test_a_key_without_an_issuer_is_refused():
    with pytest.raises(InvalidRegistryError, match="token issuer"):
        client("http://registry", signing_key=AUTH.signing_key)


@pytest.mark.parametrize("seconds", [0.0, -1.0])
def test_a_time_out_of_nothing_is_refused(seconds):
    with pytest.raises(InvalidRegistryError, match="time-out"):
        client("http://registry", timeout_seconds=seconds)


def test_key_ids_are_libtrust_s_fingerprints():
    rsa_key = load_der_public_key(base64.b64decode(RSA_KEY))
    assert key_id(rsa_key) == "IHK5:OVTO:BZU6:IQK7:UFXR:B2VZ:HK6Z:EIDK:3FUB:55GB:2LAI:QV2T"
    point = {"x": "m7zUpx3b-zmVE5cymSs64POG9QcyEpJaYCD82-549_Q", "y": "dU3biz8sZ_8GPB-odm8Wxz3lNDr1xcAQQPQaOcr1fmc"}
    ec_key = jwt.PyJWK.from_json(json.dumps({"kty": "EC", "crv": "P-256", **point})).key
    assert key_id(ec_key) == "PYYO:TEWU:V7JH:26JV:AQTZ:LJC3:SXVJ:XGHA:34F2:2LAQ:ZRMK:Z7Q6"
