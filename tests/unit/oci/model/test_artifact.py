"""A manifest understood as a model, or refused with what it is and what would run it."""

import json
import random

import pytest

from modelrunner.errors import ExitStatus, MalformedManifestError, UnsupportedArtifactError
from modelrunner.oci.manifest import Manifest, parse_manifest
from modelrunner.oci.model.artifact import Layer, ModelArtifact, Role
from tests.support import artifacts
from tests.support.artifacts import (
    CNCF_MODEL,
    DOCKER_AI,
    FILE_PATH,
    Artifact,
    docker_artifact,
    modelpack_artifact,
)
from tests.support.work import calls

BOTH = pytest.mark.parametrize("build", [docker_artifact, modelpack_artifact])
TITLE = "org.opencontainers.image.title"


def understood(artifact: Artifact) -> ModelArtifact:
    return ModelArtifact.from_manifest(parse_manifest(artifact.manifest, artifact.media_type))


def config_of(artifact: Artifact):
    return understood(artifact).config(artifact.config)


def manifest_of(*layers, config=f"{DOCKER_AI}.model.config.v0.1+json", **more) -> Manifest:
    """A manifest with these layers: a media type, or a media type, a path and maybe a number."""
    entries = []
    for place, layer in enumerate(layers):
        media_type, path, number = (*((layer,) if isinstance(layer, str) else layer), None, None)[
            :3
        ]
        entry = descriptor(media_type, place if number is None else number)
        if path is not None:
            entry["annotations"] = {FILE_PATH: path}
        entries.append(entry)
    document = {"schemaVersion": 2, "config": descriptor(config, 999_999), "layers": entries}
    found = parse_manifest(json.dumps({**document, **more}).encode())
    assert isinstance(found, Manifest)
    return found


def descriptor(media_type, number, size=7):
    return {"mediaType": media_type, "digest": f"sha256:{number:064x}", "size": size}


def files(artifact: ModelArtifact) -> dict[str, str]:
    return {str(layer.path): str(layer.role) for layer in artifact.layers}


def shown(layers: tuple[Layer, ...]) -> list[str]:
    return [str(layer.path) for layer in layers]


GGUF = f"{DOCKER_AI}.gguf.v3"
RAW = f"{CNCF_MODEL}.weight.v1.raw"
MODELPACK_CONFIG = f"{CNCF_MODEL}.config.v1+json"
CHAIN = {
    "license": b"do as you like",
    "template": b"{{ messages }}",
    "mmproj": b"GGUF projector",
    "extra_files": {"README.md": b"# Tiny", "tokenizer/tokenizer.json": b"{}"},
}


# What is a model.


@pytest.mark.parametrize("version", ["v0.1", "v0.2"])
def test_dockers_layers_have_roles_and_names(version):
    artifact = understood(docker_artifact(b"GGUF", version=version, **CHAIN))
    assert artifact.family == "docker"
    assert files(artifact) == {
        "model.gguf": "weights",
        "mmproj-model-f16.gguf": "projector",
        "chat_template.jinja": "template",
        "LICENSE": "license",
        "README.md": "file",
        "tokenizer/tokenizer.json": "file",
    }


def test_layers_of_old_artifacts_without_annotations_get_names():
    artifact = understood(docker_artifact(b"GGUF", annotations=False, **CHAIN))
    assert files(artifact) == {
        "model.gguf": "weights",
        "mmproj.gguf": "projector",
        "template.jinja": "template",
        "LICENSE": "license",
        "None": "file",
    }


def test_modelpacks_layers_have_roles_and_names():
    artifact = understood(modelpack_artifact(b"GGUF", **CHAIN))
    assert artifact.family == "modelpack"
    assert files(artifact) == {
        "model.gguf": "weights",
        "mmproj-model-f16.gguf": "projector",
        "chat_template.jinja": "template",
        "LICENSE": "license",
        "README.md": "doc",
        "tokenizer/tokenizer.json": "file",
    }


@BOTH
def test_the_config_tells_what_the_model_is(build):
    config = config_of(build(b"GGUF"))
    assert (config.format, config.architecture) == ("gguf", "llama")
    assert (config.parameters, config.quantization) == ("3.19B", "MOSTLY_Q4_K_M")
    assert config.created == artifacts.CREATED


def test_only_dockers_config_knows_the_context():
    docker = config_of(docker_artifact(b"GGUF"))
    assert (docker.context_length, docker.context_size) == (8192, 8192)
    modelpack = config_of(modelpack_artifact(b"GGUF"))
    assert (modelpack.context_length, modelpack.context_size) == (None, None)


@pytest.mark.parametrize(
    ("size", "header", "context"),
    [
        (None, "4096", 4096),
        (0, "4096", 4096),
        (-1, "4096", 4096),
        (True, "4096", 4096),
        ("8192", "4096", 4096),
        (10**300, "4096", 4096),
        (None, "0", None),
        (None, "-5", None),
        (None, "٤٠٩٦", None),
        (None, "9" * 300, None),
        (None, "", None),
    ],
)
def test_a_context_that_makes_no_sense_is_unknown(size, header, context):
    gguf = {"general.architecture": "llama", "llama.context_length": header}
    told = config_of(docker_artifact(b"G", config={"context_size": size, "gguf": gguf}))
    assert (told.context_length, told.context_size) == (context, None)


def test_the_parameters_of_old_artifacts_are_written_like_those_of_new_ones():
    assert config_of(docker_artifact(b"G", config={"parameters": "361.82 M"})).parameters == (
        "361.82M"
    )


def test_what_a_config_says_is_safe_to_show():
    hostile = {"quantization": "\x1b[31mQ4\x07\n", "architecture": "\u202ellama"}
    config = config_of(docker_artifact(b"G", config=hostile))
    assert (config.quantization, config.architecture) == ("Q4", "llama")


@pytest.mark.parametrize("weight_type", ["weight.v1.raw", "weight.v1.gguf"])
def test_a_modelpack_is_known_by_its_artifact_type_or_by_its_config(weight_type):
    for artifact_type in (f"{CNCF_MODEL}.manifest.v1+json", None):
        artifact = modelpack_artifact(b"GGUF", weight_type=weight_type, artifact_type=artifact_type)
        assert understood(artifact).family == "modelpack"
    odd = manifest_of(
        (RAW, "m.gguf"), config="application/x", artifactType=f"{CNCF_MODEL}.manifest.v1+json"
    )
    assert ModelArtifact.from_manifest(odd).family == "modelpack"


# Shards.


@BOTH
def test_shards_are_ordered_by_their_names_wherever_they_stand(build):
    shards = [f"GGUF {number}".encode() for number in range(1, 6)]
    names = [f"m-{number:05d}-of-00005.gguf" for number in range(1, 6)]
    mixed = list(zip(shards, names, strict=True))
    random.Random(1).shuffle(mixed)
    made = build([content for content, _ in mixed], filenames=[name for _, name in mixed], **CHAIN)
    artifact = understood(made)
    assert shown(artifact.weights) == names
    contents = [made.blobs[str(layer.descriptor.digest)] for layer in artifact.weights]
    assert contents == shards


def test_shards_without_names_are_named_in_the_order_of_the_manifest():
    made = docker_artifact([b"one", b"two", b"three"], annotations=False)
    artifact = understood(made)
    assert shown(artifact.weights) == [f"model-0000{n}-of-00003.gguf" for n in (1, 2, 3)]
    assert [str(layer.descriptor.digest) for layer in artifact.weights] == made.layer_digests


@BOTH
@pytest.mark.parametrize(
    "names",
    [
        ["m-00001-of-00003.gguf", "m-00002-of-00003.gguf"],
        ["m-00002-of-00002.gguf"],
        ["m-00001-of-00002.gguf"],
        ["m-00000-of-00002.gguf", "m-00001-of-00002.gguf"],
        ["m-00001-of-00002.gguf", "m-00001-of-00002.gguf"],
        ["m-00001-of-00002.gguf", "m-00002-of-00003.gguf"],
        ["a-00001-of-00002.gguf", "b-00002-of-00002.gguf"],
        ["x/m-00001-of-00002.gguf", "y/m-00002-of-00002.gguf"],
        ["m-00000-of-00000.gguf"],
    ],
)
def test_an_incomplete_set_of_shards_is_malformed(build, names):
    shards = [name.encode() + bytes([place]) for place, name in enumerate(names)]
    with pytest.raises(MalformedManifestError, match="incomplete or mixed shards"):
        understood(build(shards, filenames=names))


@BOTH
def test_several_models_in_one_artifact_are_no_shards(build):
    made = build([b"small", b"large"], filenames=["m-Q4_K_M.gguf", "m-Q8_0.gguf"])
    with pytest.raises(UnsupportedArtifactError, match=r"2 models.*m-Q4_K_M.gguf, m-Q8_0.gguf"):
        understood(made)


def test_the_same_weights_twice_are_one_model():
    manifest = manifest_of((GGUF, "m.gguf", 1), (GGUF, "m.gguf", 1))
    assert shown(ModelArtifact.from_manifest(manifest).weights) == ["m.gguf"]


def test_weights_get_the_ending_that_programs_look_for():
    for name in ("weights", "weights.bin", "w" * 255):
        artifact = ModelArtifact.from_manifest(manifest_of((GGUF, name)))
        (path,) = shown(artifact.weights)
        assert path.endswith(".gguf")
        assert len(path) <= 255


# Projectors.


@pytest.mark.parametrize(
    "layers",
    [
        [(RAW, "mmproj-F16.gguf"), (RAW, "model.gguf")],
        [(RAW, "model.gguf"), (RAW, "vision/MMPROJ-model.GGUF")],
        [(f"{CNCF_MODEL}.weight.v1.gguf", "mmproj"), (RAW, "model.gguf")],
        [(GGUF, "mmproj-model-f16.gguf"), (GGUF, "model.gguf")],
        [f"{DOCKER_AI}.mmproj", GGUF],
        [f"{DOCKER_AI}.gguf.v3.mmproj", GGUF],
    ],
)
@pytest.mark.parametrize("config", [MODELPACK_CONFIG, f"{DOCKER_AI}.model.config.v0.2+json"])
def test_a_projector_is_never_the_weights(layers, config):
    artifact = ModelArtifact.from_manifest(manifest_of(*layers, config=config))
    assert shown(artifact.weights) == ["model.gguf"]
    assert artifact.projector is not None


def test_a_projector_alone_is_delivered_and_not_run():
    manifest = manifest_of((RAW, "mmproj.gguf"), config=MODELPACK_CONFIG)
    artifact = ModelArtifact.from_manifest(manifest)
    assert (artifact.format, artifact.weights, str(artifact.main.path)) == (
        "projector",
        (),
        "mmproj.gguf",
    )
    with pytest.raises(UnsupportedArtifactError, match="no GGUF weights"):
        artifact.require_runnable()


# Names.


def test_two_files_of_one_name_are_malformed():
    for layers in (
        [(GGUF, "m.gguf"), (f"{DOCKER_AI}.model.file", "m.gguf")],
        [(GGUF, "m.gguf"), (GGUF, "m.gguf")],
        [(GGUF, "m.gguf"), ("application/unknown", "./m.gguf")],
        [GGUF, (f"{DOCKER_AI}.model.file", "a"), (f"{DOCKER_AI}.model.file", "a")],
    ):
        with pytest.raises(MalformedManifestError, match="two layers have the same file name"):
            ModelArtifact.from_manifest(manifest_of(*layers))


def test_the_same_file_twice_is_one_file():
    twice = (f"{DOCKER_AI}.license", "LICENSE", 5)
    artifact = ModelArtifact.from_manifest(manifest_of(GGUF, twice, twice))
    assert shown(artifact.licenses) == ["LICENSE"]


def test_layers_without_a_name_get_one_that_nobody_else_has():
    license_ = f"{DOCKER_AI}.license"
    given = [(f"{DOCKER_AI}.model.file", "LICENSE"), (f"{DOCKER_AI}.model.file", "LICENSE-3")]
    artifact = ModelArtifact.from_manifest(manifest_of(license_, license_, GGUF, *given, license_))
    assert shown(artifact.licenses) == ["LICENSE-2", "LICENSE-4", "LICENSE-5"]
    assert shown(artifact.weights) == ["model.gguf"]


@pytest.mark.parametrize("order", [["a", "a/b"], ["a/b", "a"], ["a/b/c", "x", "a"], ["a", "a/b/c"]])
def test_a_file_that_is_a_folder_too_is_malformed(order):
    layers = [(f"{DOCKER_AI}.model.file", path) for path in order]
    with pytest.raises(MalformedManifestError, match="'a' is both a file and a directory"):
        ModelArtifact.from_manifest(manifest_of(GGUF, *layers))


def test_neighbours_with_a_common_beginning_are_no_collision():
    layers = [(f"{DOCKER_AI}.model.file", path) for path in ("a", "ab", "a-b/c", "a.b", "b/a")]
    assert len(ModelArtifact.from_manifest(manifest_of(GGUF, *layers)).layers) == 6


@pytest.mark.parametrize("path", ["../x.gguf", "/etc/passwd", "a\\b", "a\x00b", "\x1b[2J", "a/.."])
@pytest.mark.parametrize("media_type", [GGUF, f"{DOCKER_AI}.license", "application/unknown"])
def test_a_path_that_leaves_its_folder_is_malformed_in_every_layer(media_type, path):
    with pytest.raises(MalformedManifestError, match="unsafe file path"):
        ModelArtifact.from_manifest(manifest_of((media_type, path), GGUF))


def test_unknown_layers_are_kept():
    layers = [GGUF, ("application/vnd.x.y", "extra/data.bin"), "application/vnd.x.z"]
    artifact = ModelArtifact.from_manifest(manifest_of(*layers))
    assert [(str(entry.role), str(entry.path)) for entry in artifact.layers[1:]] == [
        ("unknown", "extra/data.bin"),
        ("unknown", "None"),
    ]
    assert len(artifact.manifest.blobs) == 4


def test_archives_are_kept_as_files_and_not_unpacked():
    layers = [GGUF, (f"{DOCKER_AI}.dir.tar", "adapters.tar"), f"{DOCKER_AI}.vllm.config.tar"]
    artifact = ModelArtifact.from_manifest(manifest_of(*layers))
    assert files(artifact) == {"model.gguf": "weights", "adapters.tar": "file", "None": "file"}


def test_the_title_that_oras_writes_names_a_layer():
    document = json.loads(docker_artifact(b"GGUF").manifest)
    document["layers"][0]["annotations"] = {TITLE: "tiny.gguf"}
    manifest = parse_manifest(json.dumps(document).encode())
    assert shown(ModelArtifact.from_manifest(manifest).weights) == ["tiny.gguf"]


@pytest.mark.parametrize("layer", [f"{DOCKER_AI}.license", (f"{DOCKER_AI}.model.file", None)])
def test_ten_times_the_layers_take_ten_times_the_work(layer):
    few, many = (manifest_of(GGUF, *[layer] * count) for count in (299, 2_999))
    steps = calls(lambda: ModelArtifact.from_manifest(few))
    assert calls(lambda: ModelArtifact.from_manifest(many)) < 15 * steps
    assert len(ModelArtifact.from_manifest(many).layers) == 3_000


def test_ten_times_the_deep_paths_take_ten_times_the_work():
    deep = "/".join("d" * 60)
    layers = [(f"{DOCKER_AI}.model.file", f"{deep}/{number}") for number in range(1_999)]
    few, many = manifest_of(GGUF, *layers[:199]), manifest_of(GGUF, *layers)
    steps = calls(lambda: ModelArtifact.from_manifest(few))
    assert calls(lambda: ModelArtifact.from_manifest(many)) < 15 * steps


# What is delivered, and what llama.cpp does not run.

NOT_RUN = {
    "safetensors": (artifacts.safetensors_artifact(), "safetensors", "vLLM"),
    "safetensors v0.1": (artifacts.safetensors_artifact(version="v0.1"), "safetensors", "vLLM"),
    "DDUF": (artifacts.dduf_artifact(), "DDUF", "diffusers"),
    "compressed weights": (modelpack_artifact(b"GGUF", compressed=True), "archive", "pull REF"),
    "raw safetensors": (
        modelpack_artifact(b"{}", filenames=["model.safetensors"]),
        "safetensors",
        "vLLM",
    ),
    "safetensors extension": (
        modelpack_artifact(
            b"{}", filenames=["model.safetensors"], weight_type="weight.v1.safetensors"
        ),
        "safetensors",
        "vLLM",
    ),
}
REFUSED = {
    "image": (artifacts.image_artifact(), "container image", "docker run"),
    "OCI image": (artifacts.image_artifact(oci=True), "container image", "podman run"),
    "helm": (artifacts.helm_like_artifact(), "Helm chart", "helm install"),
    "index": (
        artifacts.index_artifact(docker_artifact(b"a"), docker_artifact(b"b")),
        "index of 2 manifests",
        "REPOSITORY@sha256:HEX",
    ),
}


@pytest.mark.parametrize(("artifact", "what", "runs"), REFUSED.values(), ids=REFUSED)
def test_another_artifact_is_refused_with_what_it_is_and_what_would_run_it(artifact, what, runs):
    with pytest.raises(UnsupportedArtifactError) as caught:
        understood(artifact)
    assert what in caught.value.message
    assert runs in (caught.value.hint or "")
    assert caught.value.exit_code == ExitStatus.UNSUPPORTED == 10


@pytest.mark.parametrize(("artifact", "what", "runs"), NOT_RUN.values(), ids=NOT_RUN)
def test_another_format_is_delivered_and_a_run_says_what_would_run_it(artifact, what, runs):
    model = understood(artifact)
    assert not model.is_runnable
    with pytest.raises(UnsupportedArtifactError) as caught:
        model.require_runnable()
    assert what in caught.value.message
    assert runs in (caught.value.hint or "")
    assert caught.value.exit_code == ExitStatus.UNSUPPORTED == 10


@pytest.mark.parametrize(
    ("manifest", "what"),
    [
        (manifest_of(f"{DOCKER_AI}.gguf.v3.lora"), "adapter"),
        (manifest_of(("application/vnd.x.adapter", "lora.gguf")), "adapter"),
        (manifest_of((RAW, "pytorch_model.bin"), config=MODELPACK_CONFIG), r"\.bin files"),
        (manifest_of((f"{RAW[:-4]}.tar+zstd", "m"), config=MODELPACK_CONFIG), "archive"),
    ],
)
def test_what_has_no_weights_for_llama_cpp_is_not_run(manifest, what):
    with pytest.raises(UnsupportedArtifactError, match=what):
        ModelArtifact.from_manifest(manifest).require_runnable()


@pytest.mark.parametrize(
    ("manifest", "what"),
    [
        (manifest_of(), "no weights"),
        (manifest_of(f"{DOCKER_AI}.license"), "no weights"),
        (manifest_of(GGUF, config=f"{DOCKER_AI}.model.config.v0.9+json"), "unsupported version"),
        (manifest_of(RAW, config=f"{CNCF_MODEL}.config.v2+json"), "unsupported version"),
        (
            manifest_of(
                "application/x",
                config="application/vnd.oci.empty.v1+json",
                artifactType="application/vnd.acme.rocket",
            ),
            "its artifact type application/vnd.acme.rocket",
        ),
    ],
)
def test_what_has_no_weights_at_all_is_refused(manifest, what):
    with pytest.raises(UnsupportedArtifactError, match=what):
        ModelArtifact.from_manifest(manifest)


def test_a_gguf_beside_other_weights_is_the_model():
    layers = [(f"{DOCKER_AI}.safetensors", "model.safetensors"), (GGUF, "model.gguf")]
    assert shown(ModelArtifact.from_manifest(manifest_of(*layers)).weights) == ["model.gguf"]


def test_unnamed_raw_weights_are_what_the_config_says():
    unnamed = modelpack_artifact(b"{}", filenames=[""], config={"format": "safetensors"})
    artifact = understood(unnamed)
    with pytest.raises(UnsupportedArtifactError, match="safetensors"):
        artifact.config(unnamed.config)
    for format_ in ("gguf", "GGUF", None):
        told = modelpack_artifact(b"{}", filenames=[""], config={"format": format_})
        assert understood(told).config(told.config).family == "modelpack"


def test_a_name_that_ends_in_gguf_counts_more_than_the_config():
    made = modelpack_artifact(b"GGUF", config={"format": "safetensors"})
    assert config_of(made).format == "safetensors"
    assert understood(made).weights[0].role is Role.WEIGHTS


def test_a_config_too_large_to_be_one_is_refused_before_it_is_fetched():
    document = json.loads(docker_artifact(b"GGUF").manifest)
    document["config"]["size"] = 100 * 1024**3
    with pytest.raises(MalformedManifestError, match="config has 107374182400 bytes"):
        ModelArtifact.from_manifest(parse_manifest(json.dumps(document).encode()))


@pytest.mark.parametrize("raw", [b"", b"no JSON", b"[]", b"3", b"{" * 100, b"[" * 100_000])
def test_a_config_that_is_no_json_object_is_malformed(raw):
    with pytest.raises(MalformedManifestError):
        understood(docker_artifact(b"GGUF")).config(raw)


def test_foreign_text_in_a_refusal_is_safe_to_show():
    evil = "\x1b[2J\u202e\n" + "x" * 100_000
    manifests = [
        manifest_of(evil),
        manifest_of("text/plain", config=f"application/{evil}", artifactType=evil),
        manifest_of((f"{RAW[:-4]}.tar{evil}", "m"), config=MODELPACK_CONFIG),
        manifest_of(GGUF, config=f"{DOCKER_AI}.model.config.v9{evil}"),
    ]
    for manifest in manifests:
        with pytest.raises(UnsupportedArtifactError) as caught:
            ModelArtifact.from_manifest(manifest).require_runnable()
        told = caught.value.message + str(caught.value.hint) + str(dict(caught.value.facts))
        assert told.isprintable()
        assert len(told) < 1000
