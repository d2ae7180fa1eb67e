"""A signature of files is one of all that a runtime is given, whatever that is called."""

import pytest

from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.operations.trust.signatures import _files_problem


def _layer(kind: str, path: str, content: bytes) -> Descriptor:
    named = {media_types.ANNOTATION_PATH: path}
    return Descriptor(kind, Digest.of(content), len(content), named)


@pytest.mark.parametrize("name", ["SHA256SUMS", "model.sig"])
@pytest.mark.parametrize("kind", [media_types.DOCKER_TEMPLATE, media_types.DOCKER_PROJECTOR])
def test_an_unsigned_part_does_not_hide_behind_the_name_of_a_signature(
    kind: str, name: str
) -> None:
    config = Descriptor(media_types.DOCKER_CONFIG_V01, Digest.of(b"{}"), 2)
    weights = _layer(media_types.DOCKER_GGUF, "model.gguf", b"weights")
    manifest = Manifest.build(config, [weights, _layer(kind, name, b"unsigned")])

    found = _files_problem([("model.gguf", weights.digest.hex)], manifest)

    assert found == f"{name} is not signed"
