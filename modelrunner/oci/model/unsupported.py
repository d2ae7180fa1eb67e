"""What cannot be run, or is not a model at all: named for what it is, with what reads it.

A family is recognized by its config, its artifact type or its layers. Sources: the registries'
manifests of Ollama, KitOps `pkg/lib/constants`, sigstore/cosign `pkg/types`, notaryproject
`specs/signature-specification.md`, oras-project `artifacts` and the media types that IANA lists.
"""

from collections.abc import Sequence
from typing import NamedTuple

from modelrunner.errors import UnsupportedArtifactError
from modelrunner.oci import media_types
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model import formats
from modelrunner.oci.model.layers import Layer, Role
from modelrunner.text import sanitize_line

_SHOWN = 5
_IMAGES = (media_types.OCI_IMAGE_CONFIG, media_types.DOCKER_IMAGE_CONFIG)


class _Family(NamedTuple):
    """Artifacts of one kind.

    Attributes:
        kind: Its name in the error's facts.
        what: What it is, for people.
        hint: What reads it; REF stands for the reference.
        configs: How the media types of configs begin.
        artifacts: How artifact types begin.
        layers: How the media types of layers begin; one such layer is enough.
    """

    kind: str
    what: str
    hint: str
    configs: tuple[str, ...] = ()
    artifacts: tuple[str, ...] = ()
    layers: tuple[str, ...] = ()

    def has(self, manifest: Manifest) -> bool:
        """Whether a manifest is of this family."""
        return (
            manifest.config.media_type.startswith(self.configs or ("\0",))
            or (manifest.artifact_type or "").startswith(self.artifacts or ("\0",))
            or any(layer.media_type.startswith(self.layers or ("\0",)) for layer in manifest.layers)
        )


# those that are known by their layers come first: their configs are often those of images
_FAMILIES = (
    _Family(
        "cnai",
        "a model in the format that preceded CNCF ModelPack",
        "download it with an old version of `modctl`, then run `modelrunner import FILE.gguf`",
        configs=("application/vnd.cnai.model.",),
        artifacts=("application/vnd.cnai.model.",),
    ),
    _Family(
        "signature",
        "a signature, not a model",
        "to pull the signed model, leave out the digest or `.sig`; to check signatures, use "
        "`cosign verify` or `notation verify`",
        artifacts=(
            "application/vnd.dev.cosign.artifact.sig",
            "application/vnd.dev.sigstore.bundle",
            "application/vnd.cncf.notary.signature",
        ),
        configs=("application/vnd.cncf.notary.signature",),
        layers=(
            "application/vnd.dev.cosign.simplesigning.",
            "application/vnd.dev.sigstore.bundle",
        ),
    ),
    _Family(
        "attestation",
        "an attestation, not a model",
        "to pull the model, leave out the digest or `.att`; to check attestations, use "
        "`cosign verify-attestation`",
        artifacts=("application/vnd.in-toto", "application/vnd.dsse.envelope"),
        layers=("application/vnd.dsse.envelope", "application/vnd.in-toto"),
    ),
    _Family(
        "sbom",
        "a software bill of materials (SBOM), not a model",
        "download its files with `oras pull REF`",
        artifacts=(
            "application/spdx",
            "text/spdx",
            "application/vnd.cyclonedx",
            "application/vnd.syft",
            "application/vnd.dev.cosign.artifact.sbom",
        ),
        layers=(
            "application/spdx",
            "text/spdx",
            "application/vnd.cyclonedx",
            "application/vnd.syft",
        ),
    ),
    _Family(
        "helm",
        "a Helm chart, not a model",
        "install it with `helm install NAME oci://REF`",
        configs=(media_types.HELM_CONFIG,),
    ),
    _Family(
        "wasm",
        "a WebAssembly module, not a model",
        "download its file with `wkg oci pull REF`",
        configs=("application/vnd.wasm.",),
        artifacts=("application/vnd.wasm.", "application/wasm"),
        layers=("application/wasm", "application/vnd.wasm."),
    ),
    _Family(
        "compose",
        "a Compose project, not a model",
        "start it with `docker compose -f oci://REF up`",
        artifacts=("application/vnd.docker.compose.",),
        layers=("application/vnd.docker.compose.",),
    ),
    _Family(
        "docker-plugin",
        "a Docker plugin, not a model",
        "install it with `docker plugin install REF`",
        configs=("application/vnd.docker.plugin.",),
    ),
    _Family(
        "build-cache",
        "a build cache, not a model",
        "use it with `docker buildx build --cache-from REF`",
        configs=("application/vnd.buildkit.cacheconfig.",),
    ),
    _Family(
        "apptainer",
        "an Apptainer image (SIF), not a model",
        "download it with `apptainer pull oras://REF`",
        configs=("application/vnd.sylabs.sif.",),
        layers=("application/vnd.sylabs.sif.", "appliciation/vnd.sylabs.sif."),
    ),
    _Family(
        "devcontainer",
        "a dev container feature or template, not a model",
        "download its files with `oras pull REF`",
        configs=("application/vnd.devcontainers",),
        artifacts=("application/vnd.devcontainers",),
        layers=("application/vnd.devcontainers.",),
    ),
    _Family(
        "flux",
        "a Flux configuration, not a model",
        "download it with `flux pull artifact oci://REF`",
        configs=("application/vnd.cncf.flux.",),
    ),
    _Family(
        "policy",
        "an Open Policy Agent bundle, not a model",
        "download it with `conftest pull REF`",
        configs=("application/vnd.cncf.openpolicyagent.",),
        layers=("application/vnd.cncf.openpolicyagent.",),
    ),
)

_FIND_GGUF = "`modelrunner search NAME` finds models in GGUF"


_CONVERT = (
    "run it with vLLM or SGLang, or convert it: `modelrunner package --from REF NAME --to-gguf`"
)

_NOT_RUNNABLE = {
    formats.ADAPTER: (
        "this is an adapter (LoRA), not a model",
        "use it with its base model: `vllm serve BASE --enable-lora --lora-modules NAME=DIR`",
    ),
    formats.SAFETENSORS: (
        "REF: these weights are safetensors, which llama.cpp does not read",
        _CONVERT,
    ),
    "dduf": (
        "this is a DDUF file, an image-generation model",
        "run it with the diffusers library",
    ),
    formats.OLLAMA: (
        "the weights are tensors in a format of Ollama's, which llama.cpp does not read",
        "run it with `ollama run REF`",
    ),
}


def is_of_others(manifest: Manifest) -> bool:
    """Whether a manifest is of something that is known, and not a model that can be delivered."""
    config = manifest.config.media_type
    newer = (media_types.DOCKER_CONFIG_PREFIX, media_types.MODELPACK_CONFIG_PREFIX)
    return config.startswith(newer) or any(family.has(manifest) for family in _FAMILIES)


def unknown_family(
    manifest: Manifest, layers: Sequence[Layer], name: str
) -> UnsupportedArtifactError:
    """The error for a manifest of neither model family: what it is, and what reads it.

    Args:
        manifest: It.
        layers: Its layers.
        name: The reference, for commands in the hint.
    """
    config = sanitize_line(manifest.config.media_type, 120)
    facts = {"config_media_type": config}
    for family in _FAMILIES:
        if family.has(manifest):
            return _error(f"this is {family.what}", family.hint, name, family.kind, facts)
    if manifest.config.media_type in _IMAGES:
        return _image(name, facts)
    if manifest.config.media_type.startswith(
        (media_types.DOCKER_CONFIG_PREFIX, media_types.MODELPACK_CONFIG_PREFIX)
    ):
        # `list` reads no metadata of pip's
        from modelrunner.system.installation import Installation

        return UnsupportedArtifactError(
            f"unsupported version of the model's config: {config}",
            hint=f"upgrade modelrunner: {Installation.current().upgrade()}",
            kind="newer",
            **facts,
        )
    return _files(manifest, layers, name, facts)


def no_weights(layers: Sequence[Layer]) -> UnsupportedArtifactError:
    """The error for a manifest of a family of models that has no weights."""
    return UnsupportedArtifactError(
        "the artifact has no weights",
        hint=_FIND_GGUF,
        layers=[sanitize_line(layer.descriptor.media_type, 120) for layer in layers[:20]],
    )


def several_models(names: Sequence[str], name: str) -> UnsupportedArtifactError:
    """The error for an artifact with more than one model, of which none is said to be meant."""
    listed = sorted(names)
    more = ", ..." if len(listed) > _SHOWN else ""
    return UnsupportedArtifactError(
        f"ambiguous artifact: it has {len(listed)} models: {', '.join(listed[:_SHOWN])}{more}",
        hint=f"place its files with `modelrunner pull {name} --output DIR`, then run the one that "
        "you want: `modelrunner run DIR/FILE.gguf`",
        files=listed[:50],
    )


def not_runnable(layers: Sequence[Layer], format_: str, name: str) -> UnsupportedArtifactError:
    """The error for a model that is delivered, and that llama.cpp cannot run.

    Args:
        layers: Its layers.
        format_: The format of its weights.
        name: What people call it, for hints.
    """
    weights = [layer for layer in layers if layer.role is Role.WEIGHTS]
    archived = next((layer for layer in layers if layer.archived), None)
    if archived is not None and all(layer.archived for layer in weights):
        media_type = sanitize_line(archived.descriptor.media_type, 120)
        return UnsupportedArtifactError(
            f"the weights are in an archive ({media_type}), which only a pull unpacks",
            hint=f"run `modelrunner pull {name}` first",
            format="tar",
        )
    if format_ == formats.ADAPTER and any(layer.role is Role.ADAPTER for layer in layers):
        return UnsupportedArtifactError(
            "this is an adapter (LoRA), not a model",
            hint="use it with its base model: `llama-server --lora FILE`",
            format=format_,
        )
    if format_ in _NOT_RUNNABLE:
        message, hint = _NOT_RUNNABLE[format_]
        about = message.removeprefix("REF: ") if name == "REF" else message.replace("REF", name)
        return UnsupportedArtifactError(about, hint=hint.replace("REF", name), format=format_)
    if not weights or format_ == formats.PROJECTOR:
        return UnsupportedArtifactError(
            "the artifact has no GGUF weights, which llama.cpp needs",
            hint=_FIND_GGUF,
            layers=[sanitize_line(layer.descriptor.media_type, 120) for layer in layers[:20]],
        )
    suffix = weights[0].path.suffix.lower() if weights[0].path else ""
    known = formats.by_suffix(suffix)
    what, runs = (known.what, known.runs) if known else (f"{suffix or 'unnamed'} files", _FIND_GGUF)
    return UnsupportedArtifactError(
        f"the weights are {what}, which llama.cpp does not read", hint=runs, format=format_
    )


def _image(name: str, facts: dict[str, str]) -> UnsupportedArtifactError:
    return _error(
        "this is a container image, not a model",
        "run it with `docker run` or `podman run`; if it contains a model under /models (a "
        "modelcar), pull it as `oci://REF`",
        name,
        "image",
        facts,
    )


def _files(
    manifest: Manifest, layers: Sequence[Layer], name: str, facts: dict[str, str]
) -> UnsupportedArtifactError:
    """For files that are not weights."""
    paths = [str(layer.path) for layer in layers if layer.path is not None]
    kind = sanitize_line(manifest.artifact_type or "", 120)
    config = facts["config_media_type"]
    shown = f" with {', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''}" if paths else ""  # noqa: PLR2004
    return _error(
        f"this artifact is not a model{shown}: its config type is "
        f"{config}{kind and f', its artifact type {kind}'}",
        "download its files with `oras pull REF`"
        if paths
        else "expected a config of type application/vnd.docker.ai.model.config.v0.1+json, v0.2 "
        "or application/vnd.cncf.model.config.v1+json",
        name,
        "unknown",
        facts,
    )


def _error(
    message: str, hint: str, name: str, kind: str, facts: dict[str, str]
) -> UnsupportedArtifactError:
    return UnsupportedArtifactError(message, hint=hint.replace("REF", name), kind=kind, **facts)
