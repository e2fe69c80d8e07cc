"""What payloads are, and that none of them breaks the parser."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from metadata_import.errors import UnusableContentError
from metadata_import.manifests import DOCKER_IMAGE, DOCKER_LIST, OCI_IMAGE, OCI_INDEX, parse_manifest
from metadata_import.records import SkipReason
from tests.metadata_import.trees import FOREIGN_LAYER, OCI_CONFIG, OCI_LAYER, encode

CONFIG = {"mediaType": OCI_CONFIG, "digest": "sha256:c", "size": 7}
LAYERS = [{"mediaType": OCI_LAYER, "digest": f"sha256:{n}", "size": 10} for n in "ab"]
JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda children: st.lists(children) | st.dictionaries(st.text(), children),
    max_leaves=10,
)
KNOWN_KEYS = [
    "schemaVersion",
    "mediaType",
    "config",
    "layers",
    "manifests",
    "subject",
    "artifactType",
    "digest",
    "size",
]
SHAPES = st.recursive(
    st.none() | st.integers() | st.sampled_from([2, OCI_IMAGE, OCI_INDEX, DOCKER_LIST, "sha256:a"]) | st.text(),
    lambda children: st.lists(children, max_size=3) | st.dictionaries(st.sampled_from(KNOWN_KEYS), children),
    max_leaves=12,
)


def image(**changes):
    return encode({"schemaVersion": 2, "mediaType": OCI_IMAGE, "config": CONFIG, "layers": LAYERS, **changes})


def reason_for(payload):
    with pytest.raises(UnusableContentError) as caught:
        parse_manifest(payload)
    return SkipReason(caught.value.code)


@pytest.mark.parametrize("media_type", [OCI_IMAGE, DOCKER_IMAGE])
def test_an_image_counts_all_layers_its_config_and_its_payload(media_type):
    payload = image(mediaType=media_type)
    parsed = parse_manifest(payload)
    assert (parsed.media_type, parsed.total_size) == (media_type, 20 + 7 + len(payload))
    assert [layer.digest for layer in parsed.layers] == ["sha256:a", "sha256:b"]
    assert parsed.config.digest == "sha256:c"


def test_foreign_layers_are_counted_but_not_kept():
    payload = image(layers=[*LAYERS, {"mediaType": FOREIGN_LAYER, "digest": "sha256:f", "size": 1000}])
    parsed = parse_manifest(payload)
    assert parsed.non_distributable_layers
    assert len(parsed.layers) == 2
    assert parsed.total_size == 1000 + 20 + 7 + len(payload)


def test_a_docker_image_may_hold_a_type_that_is_foreign_in_oci():
    parsed = parse_manifest(image(mediaType=DOCKER_IMAGE, layers=[{**LAYERS[0], "mediaType": FOREIGN_LAYER}]))
    assert not parsed.non_distributable_layers
    assert len(parsed.layers) == 1


@pytest.mark.parametrize("media_type", [OCI_INDEX, DOCKER_LIST])
def test_an_index_names_its_children_and_has_no_size(media_type):
    payload = encode({"schemaVersion": 2, "mediaType": media_type, "manifests": LAYERS})
    parsed = parse_manifest(payload)
    assert (parsed.media_type, parsed.children, parsed.total_size) == (media_type, ("sha256:a", "sha256:b"), 0)
    assert parsed.config is None


def test_without_a_media_type_an_array_of_manifests_makes_an_index():
    assert parse_manifest(b'{"schemaVersion":2,"manifests":[]}').media_type == OCI_INDEX
    assert parse_manifest(image(mediaType="")).media_type == OCI_IMAGE
    assert parse_manifest(image(mediaType=None, manifests=None)).media_type == OCI_IMAGE


def test_keys_are_taken_in_any_case():
    payload = image(platform={"os": "linux"}, annotations={"Size": "not a key"})
    for usual, odd in {
        "schemaVersion": "SCHEMAVERSION",
        "layers": "Layers",
        "digest": "Digest",
        "size": "SIZE",
    }.items():
        payload = payload.replace(f'"{usual}"'.encode(), f'"{odd}"'.encode())
    parsed = parse_manifest(payload)
    assert [(layer.digest, layer.size) for layer in parsed.layers] == [("sha256:a", 10), ("sha256:b", 10)]
    assert (parsed.config.digest, parsed.total_size) == ("sha256:c", 20 + 7 + len(payload))


def test_subject_and_artifact_type_are_kept():
    parsed = parse_manifest(image(subject={"digest": "sha256:s", "size": 1}, artifactType="application/x"))
    assert (parsed.subject, parsed.artifact_media_type) == ("sha256:s", "application/x")


# --- BuildKit caches ---------------------------------------------------------------------------------------------

CACHE_CONFIG = "application/vnd.buildkit.cacheconfig.v0"
CACHE_ENTRIES = [
    {"mediaType": OCI_LAYER, "digest": "sha256:l1", "size": 10, "annotations": {"z": "<&>", "a": "\u2028é"}},
    {"mediaType": CACHE_CONFIG, "digest": "sha256:old", "size": 1},
    {"mediaType": OCI_LAYER, "digest": "sha256:l2", "size": 0, "urls": ["https://x/"], "platform": {"os": "linux"}},
    {"mediaType": CACHE_CONFIG, "digest": "sha256:cfg", "size": 3},
]
# What Go's encoder makes of these entries as an image, typed out.
CACHE_AS_IMAGE = r"""{
   "schemaVersion": 2,
   "mediaType": "application/vnd.oci.image.manifest.v1+json",
   "config": {
      "mediaType": "application/vnd.buildkit.cacheconfig.v0",
      "size": 3,
      "digest": "sha256:cfg"
   },
   "layers": [
      {
         "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
         "size": 10,
         "digest": "sha256:l1",
         "annotations": {
            "a": "\u2028é",
            "z": "\u003c\u0026\u003e"
         }
      },
      {
         "mediaType": "application/vnd.oci.image.layer.v1.tar+gzip",
         "digest": "sha256:l2",
         "urls": [
            "https://x/"
         ]
      }
   ]
}"""
CACHE_WITHOUT_LAYERS = r"""{
   "schemaVersion": 2,
   "mediaType": "application/vnd.oci.image.manifest.v1+json",
   "config": {
      "mediaType": "application/vnd.buildkit.cacheconfig.v0",
      "size": 3,
      "digest": "sha256:cfg"
   },
   "layers": null
}"""


def cache(entries):
    return encode({"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries})


def test_a_cache_is_an_image_that_does_not_conform():
    parsed = parse_manifest(cache(CACHE_ENTRIES))
    assert (parsed.media_type, parsed.non_conformant, parsed.children) == (OCI_IMAGE, True, ())
    assert (parsed.config.digest, parsed.config.media_type) == ("sha256:cfg", CACHE_CONFIG)
    assert [layer.digest for layer in parsed.layers] == ["sha256:l1", "sha256:l2"]
    assert parsed.total_size == 10 + 3 + len(CACHE_AS_IMAGE.encode())


def test_a_cache_without_layers_has_the_size_of_an_image_without():
    assert parse_manifest(cache(CACHE_ENTRIES[3:])).total_size == 3 + len(CACHE_WITHOUT_LAYERS)


def test_blobs_without_a_cache_configuration_are_children_of_an_index():
    parsed = parse_manifest(cache(CACHE_ENTRIES[:1]))
    assert (parsed.media_type, parsed.children, parsed.non_conformant) == (OCI_INDEX, ("sha256:l1",), False)


@pytest.mark.parametrize("media_type", [OCI_IMAGE, DOCKER_IMAGE, DOCKER_LIST])
def test_a_cache_that_lists_manifests_too_is_left_out(media_type):
    entries = [*CACHE_ENTRIES, {"mediaType": media_type, "digest": "sha256:m", "size": 1}]
    assert reason_for(cache(entries)) is SkipReason.CACHE_INDEX_MIXED


# --- Odd payloads -------------------------------------------------------------------------------------------------


def test_a_layer_keeps_its_place_under_a_type_that_cannot_be_stored():
    parsed = parse_manifest(image(layers=[{**LAYERS[0], "mediaType": "x\0"}, {**LAYERS[1], "mediaType": " "}]))
    assert [layer.media_type for layer in parsed.layers] == ["application/octet-stream"] * 2


@pytest.mark.parametrize(
    ("payload", "reason"),
    [
        (b"", SkipReason.MANIFEST_EMPTY),
        (b"not json", SkipReason.MANIFEST_MALFORMED),
        (b"[]", SkipReason.MANIFEST_MALFORMED),
        (b'{"schemaVersion":"2"}', SkipReason.MANIFEST_MALFORMED),
        (b'{"x":' + b"[" * 100_000, SkipReason.MANIFEST_MALFORMED),
        (b'{"schemaVersion":2,"manifests":{}}', SkipReason.MANIFEST_MALFORMED),
        (image(config={**CONFIG, "size": "7"}), SkipReason.MANIFEST_MALFORMED),
        (image(config={**CONFIG, "size": -7}), SkipReason.MANIFEST_MALFORMED),
        (image(config={**CONFIG, "size": 2**63 - 1}), SkipReason.MANIFEST_MALFORMED),
        (image(config={**CONFIG, "mediaType": ""}), SkipReason.MEDIA_TYPE_INVALID),
        (image(config={**CONFIG, "mediaType": "x" * 256}), SkipReason.MEDIA_TYPE_INVALID),
        (b'{"schemaVersion":1}', SkipReason.SCHEMA_UNSUPPORTED),
        (b"{}", SkipReason.SCHEMA_UNSUPPORTED),
        (image(mediaType="application/vnd.oci.artifact.manifest.v1+json"), SkipReason.MANIFEST_UNSUPPORTED),
    ],
)
def test_unusable_payloads_have_a_reason(payload, reason):
    assert reason_for(payload) is reason


@given(st.binary() | JSON_VALUES.map(json.dumps).map(str.encode))
def test_arbitrary_bytes_raise_nothing_but_the_apps_own(payload):
    with pytest.raises(UnusableContentError):
        parse_manifest(payload)


@given(
    SHAPES.map(lambda shape: shape if isinstance(shape, dict) else {"layers": shape}),
    st.sampled_from([OCI_IMAGE, OCI_INDEX, ""]),
)
def test_payloads_with_known_keys_in_odd_places_raise_nothing_but_the_apps_own(shape, media_type):
    try:
        parse_manifest(encode({**shape, "schemaVersion": 2, "mediaType": media_type}))
    except UnusableContentError as error:
        SkipReason(error.code)  # or ValueError
