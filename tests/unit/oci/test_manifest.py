"""Manifests of strangers: read within limits, or refused as malformed and in no other way."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrunner.errors import MalformedManifestError
from modelrunner.oci.descriptor import MAX_SIZE, Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import MAX_BYTES, Index, Manifest, parse_manifest
from modelrunner.oci.model.config import ModelConfig
from tests.support.artifacts import OCI_INDEX, OCI_MANIFEST, docker_artifact

SHA, OTHER = f"sha256:{'0' * 64}", f"sha256:{'1' * 64}"
CONFIG = {"mediaType": "application/vnd.docker.ai.model.config.v0.1+json", "size": 2, "digest": SHA}
LAYER = {"mediaType": "application/vnd.docker.ai.gguf.v3", "size": 3, "digest": OTHER}
GOOD = {"schemaVersion": 2, "mediaType": OCI_MANIFEST, "config": CONFIG, "layers": [LAYER]}


def encoded(value) -> bytes:
    return json.dumps(value).encode()


def bomb(depth: int) -> str:
    return "[" * depth + "]" * depth


KEYS = (
    *("schemaVersion", "mediaType", "config", "layers", "manifests", "annotations"),
    *("artifactType", "digest", "size", "urls", "data", "gguf", "descriptor"),
)
JUNK = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**70), 2**70)
    | st.floats()
    | st.text(st.characters(codec=None), max_size=20)
    | st.sampled_from([SHA, OTHER, OCI_INDEX, OCI_MANIFEST, CONFIG["mediaType"], 2]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(KEYS),
            inner,
            max_size=8,
        )
    ),
    max_leaves=25,
)


def slots(value, path=()):
    """Every place in a document where something else could stand."""
    yield path
    for key, entry in value.items() if isinstance(value, dict) else enumerate(value):
        yield from slots(entry, (*path, key)) if isinstance(entry, dict | list) else [(*path, key)]


def replaced(value, path, junk):
    if not path:
        return junk
    copy = dict(value) if isinstance(value, dict) else list(value)
    copy[path[0]] = replaced(copy[path[0]], path[1:], junk)
    return copy


FULL = {
    **GOOD,
    "artifactType": "application/x",
    "annotations": {"a": "b"},
    "layers": [{**LAYER, "annotations": {"org.cncf.model.filepath": "m.gguf"}}],
}


@given(JUNK)
def test_junk_is_malformed_and_nothing_else(value):
    with pytest.raises(MalformedManifestError):
        parse_manifest(encoded(value))


@settings(max_examples=3 * settings.default.max_examples)
@given(st.sampled_from(list(slots(FULL))), JUNK)
def test_one_wrong_value_anywhere_is_malformed_or_harmless(path, junk):
    try:
        found = parse_manifest(encoded(replaced(FULL, path, junk)))
    except MalformedManifestError:
        return
    assert isinstance(found, Manifest | Index)


@given(st.binary(max_size=60))
def test_bytes_that_are_no_json_are_malformed(raw):
    with pytest.raises(MalformedManifestError):
        parse_manifest(raw)


@given(JUNK)
def test_a_config_of_junk_is_malformed_or_tells_nothing(value):
    try:
        config = ModelConfig.from_bytes(encoded(value), "docker")
    except MalformedManifestError:
        return
    assert config.architecture is None or config.architecture.isprintable()


@pytest.mark.parametrize("depth", [100, 300, 450, 600, 900, 990, 2000, 100_000])
@pytest.mark.parametrize(
    "document",
    [
        "BOMB",
        '{"schemaVersion": BOMB}',
        '{"schemaVersion": 2, "mediaType": BOMB, "manifests": []}',
        '{"schemaVersion": 2, "config": BOMB}',
        '{"schemaVersion": 2, "config": {"mediaType": "a", "digest": "b", "size": BOMB}}',
        json.dumps({**GOOD, "annotations": {"a": "BOMB"}}).replace('"BOMB"', "BOMB"),
        json.dumps({**GOOD, "artifactType": "BOMB"}).replace('"BOMB"', "BOMB"),
        json.dumps({**GOOD, "layers": "BOMB"}).replace('"BOMB"', "BOMB"),
    ],
)
def test_a_nesting_bomb_is_malformed(document, depth):
    with pytest.raises(MalformedManifestError) as caught:
        parse_manifest(document.replace("BOMB", bomb(depth)).encode())
    assert len(caught.value.message) < 200


def test_a_nesting_bomb_where_nobody_looks_is_malformed_or_passed_over():
    document = json.dumps({**GOOD, "urls": "BOMB"}).replace('"BOMB"', bomb(400))
    assert isinstance(parse_manifest(document.encode()), Manifest)


def test_a_manifest_of_four_mebibytes_is_read_and_one_more_byte_is_too_much():
    raw = encoded(GOOD)
    assert parse_manifest(raw + b" " * (MAX_BYTES - len(raw)))
    with pytest.raises(MalformedManifestError, match="4194305 bytes"):
        parse_manifest(raw + b" " * (MAX_BYTES - len(raw) + 1))


def test_endless_layers_are_malformed():
    with pytest.raises(MalformedManifestError, match="must be a list of at most 10000 entries"):
        parse_manifest(encoded({**GOOD, "layers": [LAYER] * 10_001}))


@pytest.mark.parametrize(
    "size", [-1, MAX_SIZE + 1, 10**4000, 1.5, "3", None, True, [], {}, float("inf"), float("nan")]
)
def test_a_size_is_a_whole_number_within_reason(size):
    with pytest.raises(MalformedManifestError, match="invalid size"):
        Descriptor.from_dict({**LAYER, "size": size}, "layer 1")


@pytest.mark.parametrize(
    "digest",
    [
        "",
        "sha256:",
        "0" * 64,
        f"sha256:{'A' * 64}",
        f"sha256:{'0' * 63}",
        f"sha256:{'0' * 64}\n",
        f"sha512:{'0' * 128}",
        "sha256:../../../../etc/passwd",
        "sha256:" + "\uff10" * 64,
    ],
)
def test_a_digest_is_sixty_four_lower_case_digits(digest):
    with pytest.raises(MalformedManifestError):
        Digest.parse(digest)


@pytest.mark.parametrize("digits", ["", "../x", "A" * 64, "0" * 63, "0" * 65, "0" * 64 + "\n"])
def test_no_digest_can_be_made_of_anything_but_its_digits(digits):
    with pytest.raises(MalformedManifestError):
        Digest(digits)


def test_urls_data_and_platform_of_a_descriptor_are_ignored():
    foreign = {"urls": ["http://evil.example/blob"], "data": "aGk=", "platform": {"os": "x"}}
    descriptor = Descriptor.from_dict({**LAYER, **foreign}, "layer 1")
    assert descriptor.to_dict() == LAYER


@pytest.mark.parametrize(
    "document",
    [
        {**GOOD, "layers": [LAYER, {**LAYER, "size": 4}]},
        {**GOOD, "layers": [{**LAYER, "digest": SHA}]},
        {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": [LAYER, {**LAYER, "size": 4}]},
    ],
    ids=["layers", "config and layer", "index"],
)
def test_one_digest_has_one_size(document):
    with pytest.raises(MalformedManifestError, match="two different sizes"):
        parse_manifest(encoded(document))


@pytest.mark.parametrize(
    "document",
    [{**GOOD, "manifests": []}, {**GOOD, "mediaType": OCI_INDEX, "manifests": []}],
)
def test_a_document_that_is_an_index_and_an_image_is_malformed(document):
    with pytest.raises(MalformedManifestError, match="both an index and an image"):
        parse_manifest(encoded(document))


@pytest.mark.parametrize(
    "raw",
    [
        json.dumps(GOOD).encode("utf-16"),
        json.dumps(GOOD).encode("utf-8-sig"),
        encoded({**GOOD, "annotations": {"a": "\ud800"}}),
        json.dumps({**GOOD, "annotations": {"a": "\ud800"}}, ensure_ascii=False).encode(
            errors="surrogatepass"
        ),
    ],
    ids=["UTF-16", "BOM", "escaped half", "raw half"],
)
def test_json_is_utf_8_and_whole_characters(raw):
    with pytest.raises(MalformedManifestError, match="not JSON"):
        parse_manifest(raw)


def test_characters_beyond_the_basic_plane_are_read_from_their_two_escapes():
    raw = encoded({**GOOD, "annotations": {"a": "🙂"}})
    assert b"\\ud83d" in raw
    found = parse_manifest(raw)
    assert isinstance(found, Manifest)
    assert found.annotations == {"a": "🙂"}


def test_the_content_type_decides_where_the_bytes_do_not():
    bare = {key: value for key, value in GOOD.items() if key != "mediaType"}
    assert isinstance(parse_manifest(encoded(bare), f"{OCI_MANIFEST}; charset=utf-8"), Manifest)
    empty = {"schemaVersion": 2, "manifests": []}
    found = parse_manifest(encoded(empty))
    assert isinstance(found, Index)
    assert found.media_type == OCI_INDEX


def test_the_raw_bytes_are_kept_and_have_the_digest():
    artifact = docker_artifact(b"weights")
    manifest = Manifest.from_bytes(artifact.manifest)
    assert manifest.raw == artifact.manifest
    assert str(manifest.digest) == artifact.digest
    assert manifest.total_bytes == artifact.size


def test_a_manifest_that_is_built_is_read_back_the_same():
    config, layer = Descriptor.from_dict(CONFIG, "c"), Descriptor.from_dict(LAYER, "l")
    manifest = Manifest.build(config, [layer], artifact_type="application/x")
    assert manifest == parse_manifest(manifest.raw)
    assert (manifest.config, manifest.layers) == (config, (layer,))
    assert manifest.artifact_type == "application/x"


def test_an_index_is_no_manifest():
    with pytest.raises(MalformedManifestError, match="index"):
        Manifest.from_bytes(encoded({"schemaVersion": 2, "manifests": []}))
