"""The image of a model: an index of two that share all layers."""

import json

from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, parse_manifest
from modelrunner.oci.modelcar.image import About, File, images, index_of

FILES = [File("a.gguf", Digest("1" * 64), 4096), File("LICENSE", Digest("2" * 64), 4096)]
ABOUT = About("granite", "docker.io/ai/granite:1", Digest("3" * 64), {"format": "gguf", "x": None})


def test_the_index_names_an_image_for_each_platform() -> None:
    made = images(FILES, ABOUT)
    index = index_of(made, ABOUT)
    assert isinstance(parse_manifest(index.raw), Index)
    digest = "86af153bd5c03c77644275ee4436a7f702d636cfd5de772d99a6f8e298ea578d"
    assert str(index.digest) == f"sha256:{digest}"
    document = json.loads(index.raw)
    assert [entry["platform"] for entry in document["manifests"]] == [
        {"architecture": "amd64", "os": "linux"},
        {"architecture": "arm64", "os": "linux"},
    ]
    labels = {
        "org.containers.type": "ai.image.model.raw",
        "org.opencontainers.image.title": "granite",
        "vnd.modelrunner.model.digest": f"sha256:{'3' * 64}",
        "vnd.modelrunner.model.format": "gguf",
        "vnd.modelrunner.model.name": "docker.io/ai/granite:1",
    }
    assert document["annotations"] == labels
    first, second = (json.loads(image.manifest.raw) for image in made)
    assert first["layers"] == second["layers"]
    assert first["layers"][0] == {
        "mediaType": "application/vnd.oci.image.layer.v1.tar",
        "digest": f"sha256:{'1' * 64}",
        "size": 4096,
        "annotations": {"org.cncf.model.filepath": "a.gguf"},
    }
    assert first["annotations"] == labels
    assert json.loads(made[1].config) == {
        "created": "1970-01-01T00:00:00Z",
        "architecture": "arm64",
        "os": "linux",
        "config": {"Labels": labels},
        "rootfs": {
            "type": "layers",
            "diff_ids": [f"sha256:{'1' * 64}", f"sha256:{'2' * 64}"],
        },
        "history": [
            {"created": "1970-01-01T00:00:00Z", "created_by": "modelrunner: /models/a.gguf"},
            {"created": "1970-01-01T00:00:00Z", "created_by": "modelrunner: /models/LICENSE"},
        ],
    }
    assert made[1].manifest.config.digest == Digest.of(made[1].config)


def test_a_model_that_no_registry_has_gives_no_name() -> None:
    assert About("granite").to_dict() == {
        "org.containers.type": "ai.image.model.raw",
        "org.opencontainers.image.title": "granite",
    }
