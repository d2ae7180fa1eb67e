"""Models of every format and family: what their layers are, and what a program is given."""

import hashlib
import json

import pytest

from modelrunner.errors import MalformedManifestError, UnsupportedArtifactError
from modelrunner.oci.manifest import Manifest, parse_manifest
from modelrunner.oci.model.artifact import ModelArtifact
from tests.support import artifacts
from tests.support.artifacts import (
    CNCF_MODEL,
    DOCKER_AI,
    FILE_PATH,
    Artifact,
    ollama_artifact,
    plain_artifact,
)

EMPTY = "application/vnd.oci.empty.v1+json"
OCI_IMAGE = "application/vnd.oci.image.config.v1+json"
CNAI, CNAI_PATH = "application/vnd.cnai.model", "org.cnai.model.filepath"
TITLE = "org.opencontainers.image.title"
UNPACK = "io.deis.oras.content.unpack"
MODELPACK = f"{CNCF_MODEL}.config.v1+json"
DOCKER = f"{DOCKER_AI}.model.config.v0.2+json"
RAW = f"{CNCF_MODEL}.weight.v1.raw"
TAR = "application/vnd.oci.image.layer.v1.tar"


def manifest(config: str, *layers: dict[str, object], **more: object) -> Manifest:
    value = {"schemaVersion": 2, "config": described(config, "{}"), "layers": list(layers), **more}
    found = parse_manifest(json.dumps(value).encode())
    assert isinstance(found, Manifest)
    return found


def described(media_type: str, content: str, **annotations: str) -> dict[str, object]:
    raw = content.encode()
    digest = f"sha256:{hashlib.sha256(raw).hexdigest()}"
    entry: dict[str, object] = {"mediaType": media_type, "digest": digest, "size": len(raw)}
    return entry | ({"annotations": annotations} if annotations else {})


def titled(name: str, media_type: str = "application/octet-stream") -> dict[str, object]:
    return described(media_type, name, **{TITLE: name})


def placed(media_type: str, path: str) -> dict[str, object]:
    return described(media_type, path, **{FILE_PATH: path})


def read(artifact: Artifact) -> ModelArtifact:
    return ModelArtifact.from_manifest(parse_manifest(artifact.manifest, artifact.media_type))


def files(artifact: ModelArtifact) -> dict[str, str]:
    return {str(layer.path): str(layer.role) for layer in artifact.layers}


def main(artifact: ModelArtifact) -> str | None:
    return None if artifact.main is None else str(artifact.main.path)


# What is a model: its family, its format, and what a program is given: a file, or the directory.

KNOWN = {
    "oras push m.gguf": (manifest(EMPTY, titled("m.gguf", TAR)), "files", "gguf", "m.gguf"),
    "old oras": (
        manifest("application/vnd.unknown.config.v1+json", titled("m.gguf", TAR)),
        "files",
        "gguf",
        "m.gguf",
    ),
    "podman artifact add": (manifest(EMPTY, titled("tiny.gguf")), "files", "gguf", "tiny.gguf"),
    "a type of somebody's own": (
        manifest("application/vnd.acme.config", titled("m.gguf", "application/vnd.acme.weights")),
        "files",
        "gguf",
        "m.gguf",
    ),
    "only the type says it": (
        manifest(EMPTY, described(f"{DOCKER_AI}.gguf.v3", "w")),
        "files",
        "gguf",
        "model.gguf",
    ),
    "an image's config": (manifest(OCI_IMAGE, titled("m.gguf")), "files", "gguf", "m.gguf"),
    "a file and its directory": (
        manifest(EMPTY, titled("x/config.json"), titled("x/model.safetensors")),
        "files",
        "safetensors",
        None,
    ),
    "one file of safetensors": (
        manifest(EMPTY, titled("model.safetensors")),
        "files",
        "safetensors",
        "model.safetensors",
    ),
    "ONNX": (manifest(EMPTY, titled("a.onnx"), titled("b.json")), "files", "onnx", "a.onnx"),
    "GGUF beside others": (
        manifest(EMPTY, titled("big.safetensors"), titled("m.gguf")),
        "files",
        "gguf",
        "m.gguf",
    ),
    "Docker's safetensors": (
        manifest(
            DOCKER,
            placed(f"{DOCKER_AI}.safetensors", "model.safetensors"),
            placed(f"{DOCKER_AI}.model.file", "config.json"),
        ),
        "docker",
        "safetensors",
        None,
    ),
    "Docker's DDUF": (
        manifest(DOCKER, described(f"{DOCKER_AI}.dduf", "d")),
        "docker",
        "dduf",
        "model.dduf",
    ),
    "ModelPack's MLX": (manifest(MODELPACK, placed(RAW, "w.npz")), "modelpack", "mlx", "w.npz"),
    "ModelPack, something else": (
        manifest(MODELPACK, placed(RAW, "weights.xyz")),
        "modelpack",
        "files",
        "weights.xyz",
    ),
    "modctl before ModelPack": (
        manifest(
            "application/vnd.cnai.model.config.v1+json",
            described(f"{CNAI}.weight.config.v1.raw", "c", **{CNAI_PATH: "config.json"}),
            described(f"{CNAI}.weight.v1.raw", "w", **{CNAI_PATH: "x/model.safetensors"}),
            artifactType="application/vnd.cnai.model.manifest.v1+json",
        ),
        "modelpack",
        "safetensors",
        None,
    ),
    "a type that names the format": (
        manifest(MODELPACK, placed(f"{CNCF_MODEL}.weight.v1.onnx", "weights")),
        "modelpack",
        "onnx",
        "weights",
    ),
    "an adapter of PEFT": (
        manifest(EMPTY, titled("adapter_config.json"), titled("adapter_model.safetensors")),
        "files",
        "adapter",
        None,
    ),
    "an adapter in GGUF": (
        manifest(DOCKER, placed(f"{DOCKER_AI}.gguf.v3.lora", "style.gguf")),
        "docker",
        "adapter",
        "style.gguf",
    ),
    "an archive of GGUF": (
        manifest(MODELPACK, placed(f"{CNCF_MODEL}.weight.v1.tar", "m.gguf")),
        "modelpack",
        "gguf",
        None,
    ),
}


@pytest.mark.parametrize(("found", "family", "form", "given"), KNOWN.values(), ids=KNOWN)
def test_a_model_of_any_format_is_understood(
    found: Manifest, family: str, form: str, given: str | None
) -> None:
    artifact = ModelArtifact.from_manifest(found)
    assert (artifact.family, artifact.format, main(artifact)) == (family, form, given)
    assert artifact.is_runnable == (form == "gguf" and given is not None)


def test_a_directory_of_shards_has_them_in_order_and_the_rest_beside() -> None:
    names = ["m-00002-of-00002.safetensors", "config.json", "m-00001-of-00002.safetensors"]
    artifact = ModelArtifact.from_manifest(
        manifest(EMPTY, *map(titled, [*names, "LICENSE", "chat_template.jinja", "README.md"]))
    )
    assert files(artifact) == {
        "m-00001-of-00002.safetensors": "weights",
        "m-00002-of-00002.safetensors": "weights",
        "config.json": "file",
        "LICENSE": "license",
        "chat_template.jinja": "template",
        "README.md": "file",
    }
    assert list(files(artifact))[:2] == [names[2], names[0]]


def test_several_sets_of_shards_are_one_model_of_diffusers() -> None:
    sets = [f"{part}/m-0000{n}-of-00002.safetensors" for part in ("unet", "text") for n in (1, 2)]
    artifact = ModelArtifact.from_manifest(manifest(EMPTY, *map(titled, sets)))
    assert [str(layer.path) for layer in artifact.weights] == sets


@pytest.mark.parametrize(
    "names",
    [
        ["m-00001-of-00002.safetensors"],
        ["m-00001-of-00002.gguf"],
        ["a/m-00001-of-00002.safetensors", "b/m-00002-of-00002.safetensors"],
        ["a-00001-of-00002.gguf", "b-00002-of-00002.gguf", "c.gguf"],
    ],
)
def test_a_missing_shard_is_malformed_in_every_format(names: list[str]) -> None:
    with pytest.raises(MalformedManifestError, match="incomplete or mixed shards"):
        ModelArtifact.from_manifest(manifest(EMPTY, *map(titled, names)))


@pytest.mark.parametrize("name", ["../m.gguf", "/m.safetensors", "a/../../m.onnx", "a\\m.gguf"])
def test_a_name_that_leaves_its_directory_is_malformed(name: str) -> None:
    with pytest.raises(MalformedManifestError, match="unsafe file path"):
        ModelArtifact.from_manifest(manifest(EMPTY, titled(name)))


def test_two_files_of_one_name_are_malformed() -> None:
    twice = [described("x/y", text, **{TITLE: "m.safetensors"}) for text in ("a", "b")]
    with pytest.raises(MalformedManifestError, match="two layers have the same file name"):
        ModelArtifact.from_manifest(manifest(EMPTY, *twice))


def test_two_models_among_plain_files_are_delivered_and_named_where_one_is_to_run() -> None:
    names = ["m-Q8_0.gguf", "m-Q4_K_M.gguf", "README.md"]
    artifact = ModelArtifact.from_manifest(manifest(EMPTY, *map(titled, names)))
    assert files(artifact) == {
        "m-Q8_0.gguf": "weights",
        "m-Q4_K_M.gguf": "weights",
        "README.md": "file",
    }
    assert (main(artifact), artifact.is_runnable) == (None, False)
    with pytest.raises(UnsupportedArtifactError) as caught:
        artifact.require_runnable("team/two:1")
    assert caught.value.message == (
        "ambiguous artifact: it has 2 models: m-Q4_K_M.gguf, m-Q8_0.gguf"
    )
    assert caught.value.hint == (
        "place its files with `modelrunner pull team/two:1 --output DIR`, then run the one that "
        "you want: `modelrunner run DIR/FILE.gguf`"
    )


def test_two_projectors_among_plain_files_are_delivered_and_not_run() -> None:
    names = ["m.gguf", "mmproj-a.gguf", "mmproj-b.gguf"]
    artifact = ModelArtifact.from_manifest(manifest(EMPTY, *map(titled, names)))
    with pytest.raises(UnsupportedArtifactError, match="2 projectors: mmproj-a"):
        artifact.require_runnable()


def test_archives_keep_the_name_of_what_is_in_them_with_an_ending() -> None:
    artifact = ModelArtifact.from_manifest(
        manifest(
            MODELPACK,
            placed(f"{CNCF_MODEL}.weight.v1.tar+gzip", "model.safetensors"),
            placed(f"{CNCF_MODEL}.weight.config.v1.tar", "configs"),
            placed(f"{CNCF_MODEL}.doc.v1.tar+zstd", "docs.tar.zst"),
            placed(f"{DOCKER_AI}.dir.tar", "templates"),
        )
    )
    assert files(artifact) == {
        "model.safetensors.tar.gz": "weights",
        "configs.tar": "file",
        "docs.tar.zst": "file",
        "templates.tar": "file",
    }
    assert all(layer.archived for layer in artifact.layers)
    assert artifact.format == "safetensors"


def test_a_directory_that_oras_packed_is_an_archive() -> None:
    packed = described(f"{TAR}+gzip", "d", **{TITLE: "tokenizer", UNPACK: "true"})
    artifact = ModelArtifact.from_manifest(manifest(EMPTY, titled("m.gguf", TAR), packed))
    assert files(artifact) == {"m.gguf": "weights", "tokenizer.tar.gz": "file"}
    assert [layer.archived for layer in artifact.layers] == [False, True]


def test_a_weights_file_that_is_two_formats_is_delivered_by_the_larger() -> None:
    large = described("x/y", "w" * 100, **{TITLE: "model.safetensors"})
    artifact = ModelArtifact.from_manifest(manifest(EMPTY, titled("model.onnx"), large))
    assert (artifact.format, files(artifact)) == (
        "safetensors",
        {"model.safetensors": "weights", "model.onnx": "file"},
    )


def test_the_config_of_plain_files_may_be_anything() -> None:
    artifact = read(plain_artifact(b"GGUF", "m.gguf"))
    for raw in (b"{}", b"", b"no JSON", b"\x1f\x8b\0"):
        assert artifact.config(raw).family == "files"


# Ollama.


def said(artifact: Artifact):
    model = read(artifact)
    return model.config(artifact.config, lambda entry: artifact.blobs[str(entry.digest)])


def test_ollamas_layers_get_names_and_its_template_is_not_ours() -> None:
    made = ollama_artifact(
        b"GGUF",
        params={"stop": ["x"]},
        system="Be brief.",
        more={"projector": b"GGUF p", "messages": b"[]", "novelty": b"?"},
    )
    artifact = read(made)
    assert (artifact.family, artifact.format, artifact.template) == ("ollama", "gguf", None)
    assert files(artifact) == {
        "model.gguf": "weights",
        "template.tmpl": "file",
        "LICENSE": "license",
        "system": "file",
        "params": "file",
        "mmproj.gguf": "projector",
        "messages.json": "file",
        "None": "unknown",
    }
    assert artifact.is_runnable


def test_ollamas_config_parameters_and_system_prompt_are_the_artifacts() -> None:
    params = {"num_ctx": 4096, "temperature": 0.5, "top_k": 7, "stop": ["x"], "num_gpu": 1}
    config = said(ollama_artifact(b"GGUF", params=params, system=" Be brief.\n"))
    assert (config.format, config.architecture, config.parameters, config.quantization) == (
        "gguf",
        "llama",
        "1.2B",
        "Q8_0",
    )
    assert (config.context_size, config.context_length) == (4096, 4096)
    assert config.settings == {"temperature": 0.5, "top_k": 7, "system": "Be brief."}


@pytest.mark.parametrize(
    "params", [{"num_ctx": True}, {"num_ctx": -1}, {"num_ctx": 10**30}, {"num_ctx": "4096"}]
)
def test_a_context_that_makes_no_sense_is_not_ollamas(params: dict[str, object]) -> None:
    assert said(ollama_artifact(b"GGUF", params=params)).context_size is None


def test_parameters_that_cannot_be_understood_set_nothing() -> None:
    for raw in (b"", b"[1]", b"{", b"[" * 50_000, b'{"temperature": ' + b" " * 70_000 + b"1}"):
        made = ollama_artifact(b"GGUF", more={"params": raw})
        assert said(made).settings == {}


def test_a_model_of_ollamas_cloud_has_no_weights() -> None:
    with pytest.raises(UnsupportedArtifactError, match="no weights"):
        read(ollama_artifact(None))


def test_tensors_of_ollamas_own_format_are_delivered_and_not_run() -> None:
    artifact = read(ollama_artifact(None, more={"tensor": b"t"}))
    with pytest.raises(UnsupportedArtifactError) as caught:
        artifact.require_runnable("registry.example.com/x:1")
    assert caught.value.hint == "run it with `ollama run registry.example.com/x:1`"


def test_docker_refuses_several_models_in_one_artifact_as_before() -> None:
    made = artifacts.docker_artifact([b"a", b"b"], filenames=["a.gguf", "b.gguf"])
    with pytest.raises(UnsupportedArtifactError, match="2 models"):
        read(made)
