"""The keys of a bundle: bytes that are no certificate, and a file that changes, goes and comes back."""

import base64
import os
from contextlib import suppress

import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from hypothesis import example, given
from hypothesis import strategies as st
from structlog.testing import capture_logs

from registry_project.api.keys import KeyBundle, TrustedKeys, UntrustedKeyError, UnusableBundleError
from tests.registry_project.api.certificates import bundle, trusted

TRUSTED = TrustedKeys.of(bundle(), path="bundle.pem")
DER = trusted("trusted").public_bytes(Encoding.DER)
VERSION_AT = DER.index(bytes([0x02, 0x01, 0x02])) + 2  # of the certificate's form: the first INTEGER, v3
CHANGED = 7


@given(st.integers(0, len(DER) - 1), st.integers(1, 255), st.integers(0, len(DER)))
@example(VERSION_AT, CHANGED, len(DER))
@example(0, CHANGED, 0)
def test_a_certificate_with_a_byte_changed_is_distrusted_and_no_more(place, change, length):
    changed = bytearray(DER)
    changed[place] ^= change
    with pytest.raises(UntrustedKeyError):
        TRUSTED.key_of_chain([base64.b64encode(bytes(changed[:length])).decode()])


@given(st.integers(0, len(DER) - 1), st.integers(1, 255))
@example(VERSION_AT, CHANGED)
def test_a_bundle_with_a_byte_changed_is_read_or_unusable(place, change):
    changed = bytearray(DER)
    changed[place] ^= change
    pem = b"-----BEGIN CERTIFICATE-----\n" + base64.encodebytes(bytes(changed)) + b"-----END CERTIFICATE-----\n"
    with suppress(UnusableBundleError):
        assert len(TrustedKeys.of(pem, path="bundle.pem").by_id) == 1


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "bundle.pem"
    path.write_bytes(bundle())
    return path


def test_a_file_that_is_not_there_is_unusable_at_the_start(tmp_path):
    with pytest.raises(UnusableBundleError, match="No such file"):
        KeyBundle(str(tmp_path / "missing.pem"))


def test_what_went_wrong_is_told_once_and_the_keys_stay(file):
    keys = KeyBundle(str(file))
    before = keys.keys()
    with capture_logs() as logs:
        for change in (lambda: file.write_text("nothing"), file.unlink):
            change()
            assert [keys.keys(), keys.keys(), keys.keys()] == [before] * 3
    assert [log["event"] for log in logs] == ["token keys not read anew"] * 2


def test_a_file_that_comes_back_is_read(file):
    keys = KeyBundle(str(file))
    file.unlink()
    keys.keys()
    with capture_logs() as logs:
        file.write_bytes(bundle())
        os.utime(file, (1, 1))
        assert keys.keys().by_id.keys() == TRUSTED.by_id.keys()
    assert [log["event"] for log in logs] == ["token keys read anew"]
