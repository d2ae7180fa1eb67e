"""Artifacts of others, as their tools push them: each is named, with what reads it."""

import hashlib
import json

import pytest

from modelrunner.errors import ExitStatus, UnsupportedArtifactError
from modelrunner.oci.manifest import Manifest, parse_manifest
from modelrunner.oci.model.artifact import ModelArtifact

NAME = "registry.example.com/team/thing:1"
OCI = "application/vnd.oci.image.manifest.v1+json"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
EMPTY = "application/vnd.oci.empty.v1+json"
DOCKER_IMAGE = "application/vnd.docker.container.image.v1+json"
OCI_IMAGE = "application/vnd.oci.image.config.v1+json"
TITLE = "org.opencontainers.image.title"


def descriptor(media_type: str, content: str, **annotations: str) -> dict[str, object]:
    raw = content.encode()
    entry: dict[str, object] = {
        "mediaType": media_type,
        "digest": f"sha256:{hashlib.sha256(raw).hexdigest()}",
        "size": len(raw),
    }
    return entry | ({"annotations": annotations} if annotations else {})


def titled(media_type: str, name: str) -> dict[str, object]:
    return descriptor(media_type, name, **{TITLE: name})


def manifest(
    config: str,
    *layers: dict[str, object],
    media_type: str = OCI,
    artifact_type: str | None = None,
    **more: object,
) -> Manifest:
    value: dict[str, object] = {"schemaVersion": 2, "mediaType": media_type}
    if artifact_type is not None:
        value["artifactType"] = artifact_type
    value |= {"config": descriptor(config, "{}"), "layers": list(layers), **more}
    found = parse_manifest(json.dumps(value).encode())
    assert isinstance(found, Manifest)
    return found


KIT = "application/vnd.kitops.modelkit."
WHOLE = {
    "a file that is none of these": (
        manifest(EMPTY, titled("text/plain", "README.md"), artifact_type="application/vnd.acme"),
        (
            f"this artifact is not a model with README.md: its config type is {EMPTY}, its "
            "artifact type application/vnd.acme"
        ),
        f"download its files with `oras pull {NAME}`",
    ),
    "image": (
        manifest(
            DOCKER_IMAGE,
            descriptor("application/vnd.docker.image.rootfs.diff.tar.gzip", "w"),
            media_type=DOCKER,
        ),
        "this is a container image, not a model",
        (
            "run it with `docker run` or `podman run`; if it contains a model under /models (a "
            f"modelcar), pull it as `oci://{NAME}`"
        ),
    ),
    "helm push": (
        manifest(
            "application/vnd.cncf.helm.config.v1+json",
            descriptor("application/vnd.cncf.helm.chart.content.v1.tar+gzip", "c"),
        ),
        "this is a Helm chart, not a model",
        f"install it with `helm install NAME oci://{NAME}`",
    ),
}
SIGNATURE = "this is a signature, not a model"
SBOM = "this is a software bill of materials (SBOM), not a model"
ATTESTATION = "this is an attestation, not a model"
NAMED = {
    "cosign sign, 2": (
        manifest(
            OCI_IMAGE, descriptor("application/vnd.dev.cosign.simplesigning.v1+json", "payload")
        ),
        SIGNATURE,
    ),
    "cosign sign, 3": (
        manifest(
            EMPTY,
            descriptor("application/vnd.dev.sigstore.bundle.v0.3+json", "bundle"),
            artifact_type="application/vnd.dev.sigstore.bundle.v0.3+json",
        ),
        SIGNATURE,
    ),
    "notation sign": (
        manifest(
            EMPTY,
            descriptor("application/jose+json", "jws"),
            artifact_type="application/vnd.cncf.notary.signature",
        ),
        SIGNATURE,
    ),
    "cosign attest": (
        manifest(OCI_IMAGE, descriptor("application/vnd.dsse.envelope.v1+json", "statement")),
        ATTESTATION,
    ),
    "buildkit's attestation": (
        manifest(OCI_IMAGE, descriptor("application/vnd.in-toto+json", "statement")),
        ATTESTATION,
    ),
    "oras attach, SPDX": (
        manifest(
            EMPTY, titled("application/spdx+json", "s.json"), artifact_type="application/spdx+json"
        ),
        SBOM,
    ),
    "cosign attach sbom": (
        manifest(OCI_IMAGE, descriptor("application/vnd.cyclonedx+json", "sbom")),
        SBOM,
    ),
    "wkg oci push": (
        manifest("application/vnd.wasm.config.v0+json", descriptor("application/wasm", "w")),
        "this is a WebAssembly module, not a model",
    ),
    "docker compose publish": (
        manifest(
            EMPTY,
            descriptor("application/vnd.docker.compose.file+yaml", "c"),
            artifact_type="application/vnd.docker.compose.project",
        ),
        "this is a Compose project, not a model",
    ),
    "docker plugin push": (
        manifest("application/vnd.docker.plugin.v1+json", media_type=DOCKER),
        "this is a Docker plugin, not a model",
    ),
    "buildx cache": (
        manifest("application/vnd.buildkit.cacheconfig.v0"),
        "this is a build cache, not a model",
    ),
    "apptainer push": (
        manifest(
            "application/vnd.sylabs.sif.config.v1+json",
            descriptor("application/vnd.sylabs.sif.layer.v1.sif", "s"),
        ),
        "this is an Apptainer image (SIF), not a model",
    ),
    "flux push artifact": (
        manifest("application/vnd.cncf.flux.config.v1+json"),
        "this is a Flux configuration, not a model",
    ),
    "before ModelPack": (
        manifest("application/vnd.cnai.model.config.v0+json"),
        "this is a model in the format that preceded CNCF ModelPack",
    ),
}


def not_run(found: Manifest) -> UnsupportedArtifactError:
    with pytest.raises(UnsupportedArtifactError) as caught:
        ModelArtifact.from_manifest(found).require_runnable(NAME)
    assert caught.value.exit_code is ExitStatus.UNSUPPORTED
    return caught.value


def refusal(found: Manifest, name: str = NAME) -> UnsupportedArtifactError:
    with pytest.raises(UnsupportedArtifactError) as caught:
        ModelArtifact.from_manifest(found, name)
    assert caught.value.exit_code is ExitStatus.UNSUPPORTED
    return caught.value


@pytest.mark.parametrize(("found", "message", "hint"), WHOLE.values(), ids=WHOLE)
def test_an_artifact_is_named_with_the_command_that_reads_it(
    found: Manifest, message: str, hint: str
) -> None:
    error = refusal(found)
    assert (error.message, error.hint) == (message, hint)
    assert error.facts["config_media_type"] == found.config.media_type


@pytest.mark.parametrize(("found", "message"), NAMED.values(), ids=NAMED)
def test_what_goes_with_models_and_images_is_named(found: Manifest, message: str) -> None:
    error = refusal(found)
    assert error.message == message
    assert error.hint


def test_a_hostile_name_in_what_is_not_a_model_is_not_repeated() -> None:
    error = refusal(manifest(EMPTY, titled("text/plain", "../../etc/passwd")))
    assert "passwd" not in f"{error.message} {error.hint}"


@pytest.mark.parametrize(
    ("suffix", "what", "runs"),
    [
        (".onnx", "the weights are ONNX, which", "onnxruntime"),
        (".bin", "the weights are .bin files, which", "transformers"),
        (".pt", "the weights are PyTorch files, which", "PyTorch"),
        (".unheard", "the weights are .unheard files, which", "modelrunner search"),
    ],
)
def test_weights_of_other_formats_are_named_with_what_runs_them(
    suffix: str, what: str, runs: str
) -> None:
    config = "application/vnd.cncf.model.config.v1+json"
    layer = titled("application/vnd.cncf.model.weight.v1.raw", f"model{suffix}")
    error = not_run(manifest(config, layer))
    assert error.message.startswith(what)
    assert runs in (error.hint or "")


def test_weights_in_an_archive_are_not_run_before_a_pull_unpacks_them() -> None:
    config = "application/vnd.cncf.model.config.v1+json"
    error = not_run(manifest(config, titled("application/vnd.cncf.model.weight.v1.tar", "m")))
    assert error.hint == f"run `modelrunner pull {NAME}` first"
