"""What only a real server shows: bytes as they come over a socket, each request answered whole and none dropped."""

import os
import socket
from dataclasses import dataclass

import pytest

from tests.e2e.site import served
from tests.registry_project.api.asking import STATISTICS, TO_STATISTICS, challenge, refusal
from tests.registry_project.api.issuer import ISSUER, REALM, SERVICE

ANSWER_SECONDS = 60


@dataclass(frozen=True)
class Answer:
    """One answer, read to its end."""

    status: int
    headers: dict[str, str]
    content: bytes


@dataclass(frozen=True)
class Server:
    """The site on a port of this machine, spoken to in bytes."""

    port: int

    def send(self, request: bytes) -> Answer:
        """Send these bytes and nothing more; return what comes until the server closes."""
        with socket.create_connection(("127.0.0.1", self.port), timeout=ANSWER_SECONDS) as connection:
            connection.sendall(request)
            received = b"".join(iter(lambda: connection.recv(65_536), b""))
        head, separator, content = received.partition(b"\r\n\r\n")
        assert separator, f"no answer: {received!r}"
        first, *lines = head.decode("latin-1").split("\r\n")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        return Answer(int(first.split(" ")[1]), headers, content)

    def ask(self, path: str, *lines: bytes, method: str = "GET", body: bytes = b"") -> Answer:
        """Send one request with these header lines."""
        head = [f"{method} {path} HTTP/1.1".encode(), b"Host: registry.example.com", b"Connection: close", *lines]
        return self.send(b"\r\n".join(head) + b"\r\n\r\n" + body)


@pytest.fixture(scope="module")
def server(bundle_file):
    """The site as it is served, configured by its environment alone."""
    environment = {
        "ALLOWED_HOSTS": "registry.example.com,127.0.0.1",
        "REGISTRY_AUTH_TOKEN_REALM": REALM,
        "REGISTRY_AUTH_TOKEN_SERVICE": SERVICE,
        "REGISTRY_AUTH_TOKEN_ISSUER": ISSUER,
        "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE": str(bundle_file),
        "REGISTRY_API_FAILED_TOKENS_PER_MINUTE": "0",
        "REGISTRY_VERSION": "v4.32.0-gitlab",
    }
    with served(os.environ["DATABASE_URL"], environment) as site:
        yield Server(site.port)


@pytest.fixture
def good(signer):
    """A good token's header line."""
    return b"Authorization: " + signer.bearer().encode()


def assert_refused(answer, *, error=None, required=None):
    assert (answer.status, answer.headers["www-authenticate"]) == (401, challenge(required, error))
    assert (answer.headers["content-type"], answer.content) == ("application/json", refusal(required))


def test_a_good_token_is_believed(server, good):
    answer = server.ask("/gitlab/v1/", good)
    assert (answer.status, answer.content) == (200, b"{}")
    assert answer.headers["content-type"] == "application/json"
    assert answer.headers["gitlab-container-registry-version"] == "4.32.0-gitlab"


def test_no_token_is_refused(server):
    assert_refused(server.ask("/gitlab/v1/"))
    assert_refused(server.ask(STATISTICS), required=TO_STATISTICS)


@pytest.mark.parametrize("value", [b"", b" ", b"Bearer", b"Bearer ", b" bearer \t"])
def test_a_scheme_alone_is_no_token(server, value):
    assert_refused(server.ask("/gitlab/v1/", b"Authorization:" + value))


def test_white_space_around_the_value_does_no_harm(server, signer):
    value = signer.bearer()
    for line in (f"Authorization:{value}", f"Authorization: \t {value} \t", f"authorization: {value}"):
        assert server.ask("/gitlab/v1/", line.encode()).status == 200


def test_two_headers_come_as_one_list_and_so_as_no_token(server, good):
    for lines in ((good, b"Authorization: bearer a.b.c"), (b"Authorization: bearer a.b.c", good), (good, good)):
        assert_refused(server.ask("/gitlab/v1/", *lines))


@pytest.mark.parametrize(
    "line",
    [
        b"Authorization_: x",
        b"X-Authorization: bearer a.b.c",
        b"Authorization: bearer " + bytes(range(128, 256)),
        b"Authorization: bearer a.b.c\xff",
        b"Authorization: bearer " + b"x" * 60_000,
        b"Authorization: " + b"bearer " * 5_000,
        b"Authorization: bearer a.\x01.c",
        b"Authorization: bearer a.b.c\r\n folded",
        b"Authorization : bearer a.b.c",
    ],
    ids=["another name", "a prefix", "high bytes", "a high byte", "long", "many words", "control", "folded", "a space"],
)
def test_any_bytes_are_answered(server, line):
    answer = server.ask("/gitlab/v1/", line)
    assert 400 <= answer.status < 500


def test_a_name_with_an_underscore_is_not_the_header(server, good):
    """Servers that write both names alike let a client slip one past a proxy."""
    assert_refused(server.ask(STATISTICS, b"HTTP_" + good), required=TO_STATISTICS)


@pytest.mark.parametrize(
    "path",
    ["//gitlab/v1/", "/gitlab//v1/", "/gitlab/v1/../v1/", "/gitlab/v1/%2e%2e/v1/", "/gitlab/v1/./", "/gitlab/v1//"],
)
def test_a_path_is_taken_as_it_is(server, good, path):
    answer = server.ask(path, good)
    assert (answer.status, answer.content) == (404, b"404 page not found")
    assert answer.headers["content-type"] == "text/plain; charset=utf-8"


def test_a_head_request_has_no_body(server, good):
    answer = server.ask(STATISTICS, method="HEAD")
    assert (answer.status, answer.content) == (401, b"")
    assert answer.headers["www-authenticate"] == challenge(TO_STATISTICS, None)
    answer = server.ask("/gitlab/v1/", good, method="HEAD")
    assert (answer.status, answer.content) == (200, b"")


def test_a_post_without_a_body_is_read_to_its_end(server, good):
    assert server.ask("/gitlab/v1/", good, b"Content-Length: 0", method="POST").status == 200
    assert server.ask("/gitlab/v1/", good, method="POST").status == 200


def test_a_refused_post_with_a_body_is_answered(server):
    body = b"x" * 3_000_000
    answer = server.ask("/gitlab/v1/", f"Content-Length: {len(body)}".encode(), method="POST", body=body)
    assert_refused(answer)


def test_a_connection_serves_one_request_after_another(server, good):
    request = b"GET /gitlab/v1/ HTTP/1.1\r\nHost: registry.example.com\r\n%s\r\n"
    last = b"GET /gitlab/v1/ HTTP/1.1\r\nHost: registry.example.com\r\nConnection: close\r\n\r\n"
    answer = server.send(request % b"" + request % (good + b"\r\n") + last)
    assert answer.status == 401
    assert answer.content.count(b"HTTP/1.1 200") == 1
    assert answer.content.count(b"HTTP/1.1 401") == 1


def test_another_host_is_refused_as_a_request_of_its_own_kind(server, good):
    request = b"GET /gitlab/v1/ HTTP/1.1\r\nHost: evil.example.com\r\nConnection: close\r\n" + good + b"\r\n\r\n"
    assert server.send(request).status == 400
