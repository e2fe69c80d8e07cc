"""Paths, links, digests and names."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metadata_import import layout
from metadata_import.errors import (
    DigestLengthError,
    InvalidDigestError,
    UnstorableDigestError,
    UnsupportedDigestError,
    UnusableContentError,
)

HEX = "26efe716" * 8
SHA256 = f"sha256:{HEX}"


def test_paths_are_those_of_the_distribution_layout():
    base = "docker/registry/v2/repositories/group/app"
    assert layout.tag_link("group/app", "1.0") == f"{base}/_manifests/tags/1.0/current/link"
    assert layout.revision_link("group/app", SHA256) == f"{base}/_manifests/revisions/sha256/{HEX}/link"
    assert layout.layer_link("group/app", SHA256) == f"{base}/_layers/sha256/{HEX}/link"
    assert layout.blob_data(SHA256) == f"docker/registry/v2/blobs/sha256/26/{HEX}/data"


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"latest",
        f" {SHA256}".encode(),
        SHA256.upper().encode(),
        f"sha256:{HEX.upper()}".encode(),
        b"sha256:",
        b"\xff" * 71,
    ],
)
def test_a_link_that_holds_no_digest_is_refused(content):
    with pytest.raises(InvalidDigestError):
        layout.parse_link(content)


@pytest.mark.parametrize("text", [f"{SHA256}\n", f"{SHA256} ", SHA256[:-1], f"{SHA256}00", "sha384:00", "sha512:xyz"])
def test_a_checksum_of_another_length_is_told_from_what_is_no_digest_at_all(text):
    with pytest.raises(DigestLengthError):
        layout.parse_link(text.encode())


def test_an_algorithm_that_only_the_database_does_not_know_is_told_from_an_unknown_one():
    with pytest.raises(UnstorableDigestError):
        layout.parse_digest(f"sha384:{'0' * 96}")


@pytest.mark.parametrize("digest", [f"md5:{'0' * 32}", "invalid:00"])
def test_other_algorithms_are_unsupported(digest):
    with pytest.raises(UnsupportedDigestError):
        layout.parse_digest(digest)


def test_digests_are_stored_with_a_byte_for_the_algorithm():
    assert layout.encode_digest(SHA256) == b"\x01" + bytes.fromhex(HEX)
    assert layout.encode_digest(f"sha512:{HEX * 2}") == b"\x02" + bytes.fromhex(HEX * 2)


@given(st.binary())
def test_no_link_breaks_the_parser(content):
    with suppress(UnusableContentError):
        assert layout.parse_link(content).encode() == content


@pytest.mark.parametrize(
    ("path", "digest"),
    [
        (layout.blob_data(SHA256), SHA256),
        (f"docker/registry/v2/blobs/sha256/{HEX}/data", SHA256),
        (layout.blob_data(f"sha512:{HEX * 2}"), f"sha512:{HEX * 2}"),
    ],
)
def test_a_blob_path_spells_its_digest(path, digest):
    assert layout.digest_from_blob_path(path) == digest


@given(st.lists(st.text(st.characters(exclude_characters="/")), max_size=5))
def test_no_blob_path_breaks_the_parser(parts):
    with suppress(InvalidDigestError, UnsupportedDigestError):
        layout.digest_from_blob_path("/".join([*parts, "data"]))


@pytest.mark.parametrize("name", ["a", "a/b", "a/b/c", "a-b.c_d__e---f/x", "Host.example:5000/app", "a/1b", "x" * 255])
def test_accepted_repository_names(name):
    assert layout.is_repository_name(name)


@pytest.mark.parametrize(
    "name", ["", "A", "a/B", "a//b", "/a", "a/", "-a", "a_", "a___b", "a..b", "x" * 256, "a\n", "é", "a/b:c"]
)
def test_refused_repository_names(name):
    assert not layout.is_repository_name(name)


def test_a_name_made_to_stall_the_grammar_is_decided_at_once():
    assert not layout.is_repository_name("a" * 120 + "-" * 120 + "!")


@pytest.mark.parametrize(
    ("root", "children", "expected"),
    [
        ("/srv", {"docker"}, None),
        ("/srv", set(), None),
        ("/srv/docker", {"registry"}, "/srv"),
        ("/docker/registry", {"v2"}, "/"),
        ("/srv/docker/registry/v2", {"repositories", "blobs"}, "/srv"),
        ("/srv/docker/registry/v2/repositories", {"group"}, "/srv"),
        ("/mnt/data", {"v2", "lockfiles"}, "a directory that holds docker/registry/v2"),
        ("/mnt/v2", {"repositories", "blobs"}, "a directory that holds docker/registry/v2"),
        ("/var/lib/docker", {"overlay2"}, None),
    ],
)
def test_a_root_inside_a_tree_is_told_from_one_above_it(root, children, expected):
    assert layout.expected_root(root, children=frozenset(children)) == expected
