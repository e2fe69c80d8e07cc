"""The bundle of certificates while the API runs: keys come and go with the file, and a broken file takes none away."""

import os
import subprocess
import sys

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tests.registry_project.api.asking import PRESENCE, assert_refused
from tests.registry_project.api.certificates import certificate, intermediate, leaf, pem, trusted, x5c
from tests.registry_project.api.issuer import ABSENT, ISSUER, REALM, SERVICE, Signer, key, private_pem, public_bytes

FIRST, SECOND = Signer("trusted"), Signer("second")


@pytest.fixture
def file(tmp_path, settings):
    """A bundle of this test's own that trusts the first key."""
    path = tmp_path / "bundle.pem"
    path.write_bytes(pem(trusted("trusted")))
    settings.AUTH_TOKEN_ROOTCERTBUNDLE = str(path)
    return path


@pytest.fixture
def believed(ask, file):
    """Whose tokens are believed: that of the first key, that of the second."""

    def both():
        return tuple(_is_believed(ask, signer.bearer()) for signer in (FIRST, SECOND))

    assert both() == (True, False)
    return both


def _is_believed(ask, authorization):
    answer = ask(PRESENCE, authorization)
    if answer.status_code != 200:
        assert_refused(answer, error="invalid_token")
    return answer.status_code == 200


def replace(file, content):
    """Put another file in place of the bundle, as whoever rotates keys does."""
    new = file.with_suffix(".new")
    new.write_bytes(content)
    new.replace(file)


def test_keys_are_rotated_without_a_restart(file, believed):
    replace(file, pem(trusted("trusted"), trusted("second")))
    assert believed() == (True, True)
    replace(file, pem(trusted("second")))
    assert believed() == (False, True)
    replace(file, pem(trusted("trusted")))
    assert believed() == (True, False)


def test_a_file_written_in_place_is_read_anew(file, believed):
    file.write_bytes(pem(trusted("trusted"), trusted("second")))
    assert believed() == (True, True)


def test_a_file_of_the_same_size_and_an_older_time_is_read_anew(file, believed):
    shorter, longer = sorted((pem(trusted("trusted")), pem(trusted("second"))), key=len)
    other = pem(trusted("second")) + b"\n" * (len(longer) - len(shorter))
    replace(file, other)
    os.utime(file, (1_000_000_000, 1_000_000_000))
    assert believed() == (False, True)


def test_a_link_to_another_file_is_followed(file, believed, tmp_path):
    generation = tmp_path / "generation-2"
    generation.write_bytes(pem(trusted("second")))
    link = tmp_path / "link"
    link.symlink_to(generation)
    link.replace(file)
    assert believed() == (False, True)


UNUSABLE = {
    "nothing": b"",
    "no certificate": b"nonsense\n",
    "half a certificate": pem(trusted("second"))[:400],
    "a certificate of nonsense": b"-----BEGIN CERTIFICATE-----\nbm9uc2Vuc2U=\n-----END CERTIFICATE-----\n",
    "bytes": bytes(range(256)),
    "a good certificate and a broken one": pem(trusted("second"))
    + b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n",
}


def other_kinds():
    """Files without any certificate but with something else in them, and one with a key of no use."""
    edwards = Ed25519PrivateKey.generate()
    return {
        "a private key alone": private_pem(key("second")),
        "a public key alone": public_bytes(key("second"), encoding=Encoding.PEM),
        "a public key of another kind": edwards.public_key().public_bytes(
            Encoding.PEM, PublicFormat.SubjectPublicKeyInfo
        ),
    }


@pytest.mark.parametrize("content", UNUSABLE.values(), ids=UNUSABLE)
def test_an_unusable_file_leaves_the_keys_as_they_were(file, believed, content):
    replace(file, content)
    assert believed() == (True, False)
    assert believed() == (True, False)
    replace(file, pem(trusted("second")))
    assert believed() == (False, True)


def test_a_file_without_certificates_leaves_the_keys_as_they_were(file, believed):
    for content in other_kinds().values():
        replace(file, content)
        assert believed() == (True, False)


def test_a_file_that_is_gone_leaves_the_keys_until_it_is_back(file, believed):
    file.unlink()
    assert believed() == (True, False)
    file.mkdir()
    assert believed() == (True, False)
    file.rmdir()
    file.write_bytes(pem(trusted("second")))
    assert believed() == (False, True)


AROUND = {
    "text before": b"subject=CN = trusted\n" + pem(trusted("second")),
    "text behind": pem(trusted("second")) + b"# the end\n",
    "a public key before": public_bytes(key("trusted-p256"), encoding=Encoding.PEM) + pem(trusted("second")),
    "a private key before": private_pem(key("stranger")) + pem(trusted("second")),
    "ends of lines of another system": pem(trusted("second")).replace(b"\n", b"\r\n"),
    "no newline at the end": pem(trusted("second")).rstrip(),
    "the same certificate twice": pem(trusted("second"), trusted("second")),
    "others of all kinds": pem(*map(trusted, ("trusted-p256", "second", "trusted-p521", "flagless", "expired"))),
}


@pytest.mark.parametrize("content", AROUND.values(), ids=AROUND)
def test_what_stands_around_a_certificate_is_skipped(file, believed, content):
    replace(file, content)
    assert believed() == (False, True)


def test_keys_that_are_no_certificates_are_not_trusted(ask, file):
    content = private_pem(key("stranger")) + public_bytes(key("second"), encoding=Encoding.PEM)
    replace(file, content + pem(trusted("trusted")))
    assert _is_believed(ask, FIRST.bearer())
    assert not _is_believed(ask, SECOND.bearer())
    assert not _is_believed(ask, Signer("stranger").bearer())


def test_a_certificate_issued_again_keeps_its_key_id(file, believed):
    replace(file, pem(certificate("trusted", subject="renamed", days=(-2, 60))))
    assert believed() == (True, False)


def test_a_root_that_is_gone_takes_its_chains_with_it(ask, file):
    authorization = Signer("leaf").bearer(header={"x5c": x5c(leaf(), intermediate()), "kid": ABSENT})
    assert _is_believed(ask, authorization)
    replace(file, pem(trusted("second")))
    assert not _is_believed(ask, authorization)


def test_an_intermediate_in_the_bundle_lends_its_key_and_its_signature(ask, file):
    replace(file, pem(intermediate()))
    assert _is_believed(ask, Signer("intermediate").bearer())
    assert _is_believed(ask, Signer("leaf").bearer(header={"x5c": x5c(leaf()), "kid": ABSENT}))
    assert not _is_believed(ask, Signer("leaf").bearer())


@pytest.mark.parametrize("content", [None, b"", UNUSABLE["a good certificate and a broken one"]])
def test_the_site_does_not_start_with_an_unusable_file(tmp_path, content):
    path = tmp_path / "bundle.pem"
    if content is not None:
        path.write_bytes(content)
    environment = {
        **os.environ,
        "REGISTRY_AUTH_TOKEN_REALM": REALM,
        "REGISTRY_AUTH_TOKEN_SERVICE": SERVICE,
        "REGISTRY_AUTH_TOKEN_ISSUER": ISSUER,
        "REGISTRY_AUTH_TOKEN_ROOTCERTBUNDLE": str(path),
    }
    command = [sys.executable, "-c", "import registry_project.wsgi"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode != 0
    assert str(path) in done.stderr
