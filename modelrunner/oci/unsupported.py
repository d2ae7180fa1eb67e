"""What an artifact is that cannot be run: named for what it is, with the program that reads it.

A family is recognized by its config, its artifact type or its layers. Sources: the registries'
manifests of Ollama, KitOps `pkg/lib/constants`, sigstore/cosign `pkg/types`, notaryproject
`specs/signature-specification.md`, oras-project `artifacts` and the media types that IANA lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass

from modelrunner.errors import UnsupportedArtifactError
from modelrunner.installation import Installation
from modelrunner.oci import media_types
from modelrunner.oci.layers import Layer, Role
from modelrunner.oci.manifest import Manifest
from modelrunner.text import sanitize_line

_IMAGES = (media_types.OCI_IMAGE_CONFIG, media_types.DOCKER_IMAGE_CONFIG)
_MODEL_ANNOTATIONS = ("org.cnai.model.", "org.cncf.model.", "org.containers.type")


@dataclass(frozen=True, slots=True)
class _Family:
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
        "ollama",
        "a model in Ollama's own format",
        "`ollama pull REF` reads it; `modelrunner import --from ollama` takes the model from there",
        layers=("application/vnd.ollama.image.",),
    ),
    _Family(
        "modelkit",
        "a ModelKit of KitOps",
        "`kit unpack REF` writes its files; then `modelrunner import FILE.gguf`",
        configs=("application/vnd.kitops.modelkit.",),
        artifacts=("application/vnd.kitops.modelkit.",),
        layers=("application/vnd.kitops.modelkit.",),
    ),
    _Family(
        "cnai",
        "a model in the format that came before CNCF ModelPack",
        "a version of `modctl` of that time reads it; then `modelrunner import FILE.gguf`",
        configs=("application/vnd.cnai.model.",),
        artifacts=("application/vnd.cnai.model.",),
    ),
    _Family(
        "signature",
        "a signature, not the model that it is about",
        "leave out the digest or the `.sig` of the name to pull the model;"
        " `cosign verify` or `notation verify` reads signatures",
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
        "an attestation, not the model that it is about",
        "leave out the digest or the `.att` of the name to pull the model;"
        " `cosign verify-attestation` reads attestations",
        artifacts=("application/vnd.in-toto", "application/vnd.dsse.envelope"),
        layers=("application/vnd.dsse.envelope", "application/vnd.in-toto"),
    ),
    _Family(
        "sbom",
        "a software bill of materials (SBOM), not a model",
        "`oras pull REF` writes its file",
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
        "`helm install NAME oci://REF` uses it",
        configs=(media_types.HELM_CONFIG,),
    ),
    _Family(
        "wasm",
        "a WebAssembly module, not a model",
        "`wkg oci pull REF` writes its file",
        configs=("application/vnd.wasm.",),
        artifacts=("application/vnd.wasm.", "application/wasm"),
        layers=("application/wasm", "application/vnd.wasm."),
    ),
    _Family(
        "compose",
        "a Compose project, not a model",
        "`docker compose -f oci://REF up` uses it",
        artifacts=("application/vnd.docker.compose.",),
        layers=("application/vnd.docker.compose.",),
    ),
    _Family(
        "docker-plugin",
        "a plugin of Docker, not a model",
        "`docker plugin install REF` uses it",
        configs=("application/vnd.docker.plugin.",),
    ),
    _Family(
        "build-cache",
        "a build cache, not a model",
        "`docker buildx build --cache-from REF` uses it",
        configs=("application/vnd.buildkit.cacheconfig.",),
    ),
    _Family(
        "apptainer",
        "an image of Apptainer (SIF), not a model",
        "`apptainer pull oras://REF` reads it",
        configs=("application/vnd.sylabs.sif.",),
        layers=("application/vnd.sylabs.sif.", "appliciation/vnd.sylabs.sif."),
    ),
    _Family(
        "devcontainer",
        "a feature or template of development containers, not a model",
        "`oras pull REF` writes its files",
        configs=("application/vnd.devcontainers",),
        artifacts=("application/vnd.devcontainers",),
        layers=("application/vnd.devcontainers.",),
    ),
    _Family(
        "flux",
        "a configuration for Flux, not a model",
        "`flux pull artifact oci://REF` reads it",
        configs=("application/vnd.cncf.flux.",),
    ),
    _Family(
        "policy",
        "a policy bundle of Open Policy Agent, not a model",
        "`conftest pull REF` reads it",
        configs=("application/vnd.cncf.openpolicyagent.",),
        layers=("application/vnd.cncf.openpolicyagent.",),
    ),
)

_FORMATS = {
    ".safetensors": ("safetensors", "vLLM or SGLang would run them"),
    ".dduf": ("DDUF", "the diffusers library would run them"),
    ".onnx": ("ONNX", "onnxruntime would run them"),
    ".bin": (".bin files", "transformers may run them"),
    ".pt": ("PyTorch files", "PyTorch may run them"),
    ".pth": ("PyTorch files", "PyTorch may run them"),
    ".ckpt": ("checkpoints", "PyTorch may run them"),
    ".npz": ("MLX or NumPy files", "mlx-lm may run them"),
    ".tflite": ("LiteRT (TensorFlow Lite)", "LiteRT would run them"),
    ".h5": ("Keras files", "Keras may run them"),
    ".keras": ("Keras files", "Keras may run them"),
    ".mlmodel": ("Core ML", "Core ML would run them"),
    ".engine": ("TensorRT engines", "TensorRT would run them"),
}
_FIND_GGUF = "`modelrunner search NAME` finds models in GGUF"


def format_of(suffix: str) -> tuple[str, str] | None:
    """What weights in files of this ending are, and what runs them; None where it is not known."""
    return _FORMATS.get(suffix.lower())


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
        return _image(manifest, name, facts)
    if manifest.config.media_type.startswith(
        (media_types.DOCKER_CONFIG_PREFIX, media_types.MODELPACK_CONFIG_PREFIX)
    ):
        return UnsupportedArtifactError(
            f"the model's config is of a newer kind than this program knows: {config}",
            hint=f"upgrade modelrunner: {Installation.current().upgrade()}",
            kind="newer",
            **facts,
        )
    return _files(manifest, layers, name, facts)


def no_weights(layers: Sequence[Layer], name: str) -> UnsupportedArtifactError:
    """The error for a model of a known family without GGUF weights."""
    error = next((error for layer in layers if (error := _other(layer, name)) is not None), None)
    if error is not None:
        return error
    if any(layer.role is Role.ADAPTER for layer in layers):
        return UnsupportedArtifactError(
            "this is an adapter (LoRA), not a model of its own",
            hint="llama-server takes it beside its base model with --lora",
            format="adapter",
        )
    return UnsupportedArtifactError(
        "the artifact has no GGUF weights: there is nothing that llama.cpp could run",
        hint=_FIND_GGUF,
        layers=[sanitize_line(layer.descriptor.media_type, 120) for layer in layers[:20]],
    )


def _other(layer: Layer, name: str) -> UnsupportedArtifactError | None:
    media_type = layer.descriptor.media_type
    suffix = layer.path.suffix.lower() if layer.path else ""
    if "safetensors" in media_type or suffix == ".safetensors":
        return UnsupportedArtifactError(
            "these weights are safetensors, which llama.cpp does not read",
            hint="vLLM or SGLang would run it; `modelrunner cards` names models in GGUF",
            format="safetensors",
        )
    if media_type == media_types.DOCKER_DDUF or suffix == ".dduf":
        return UnsupportedArtifactError(
            "this is a DDUF file, an image-generation model",
            hint="the diffusers library would run it",
            format="dduf",
        )
    weights = media_type.startswith(f"{media_types.MODELPACK_PREFIX}weight.v1")
    if weights and ".tar" in media_type:
        return UnsupportedArtifactError(
            f"the weights are packed in an archive ({sanitize_line(media_type, 120)})",
            hint=f"unpack it with `modctl pull {name} --extract-from-remote --extract-dir DIR`,"
            " then `modelrunner import DIR/FILE.gguf`",
            format="tar",
        )
    if weights and layer.role is Role.FILE:
        kind, runs = _FORMATS.get(suffix, (f"{suffix or 'unnamed'} files", _FIND_GGUF))
        return UnsupportedArtifactError(
            f"the weights are {kind}, which llama.cpp does not read",
            hint=runs,
            format=suffix.lstrip(".") or "unnamed",
        )
    return None


def _image(manifest: Manifest, name: str, facts: dict[str, str]) -> UnsupportedArtifactError:
    keys = [*manifest.annotations, *(key for each in manifest.layers for key in each.annotations)]
    if any(key.startswith(_MODEL_ANNOTATIONS) for key in keys):
        return _error(
            "this is a container image with a model in it (a modelcar), not a model artifact",
            "`ramalama pull oci://REF` or KServe reads it; or `podman create --name m REF x` and"
            " `podman cp m:/models .`, then `modelrunner import models`",
            name,
            "modelcar",
            facts,
        )
    return _error(
        "this is a container image, not a model",
        "`docker run` or `podman run` would run it; if it holds a model (a modelcar),"
        " `podman create --name m REF x` and `podman cp m:/models .` copy that out",
        name,
        "image",
        facts,
    )


def _files(
    manifest: Manifest, layers: Sequence[Layer], name: str, facts: dict[str, str]
) -> UnsupportedArtifactError:
    """For files that were pushed as they are, by `oras push`, `podman artifact` and the like."""
    paths = [str(layer.path) for layer in layers if layer.path is not None]
    gguf = [path for path in paths if path.lower().endswith(".gguf")]
    typed = any("gguf" in layer.descriptor.media_type.lower() for layer in layers)
    if gguf or typed:
        listed = f" ({', '.join(gguf[:3])}{', ...' if len(gguf) > 3 else ''})" if gguf else ""  # noqa: PLR2004
        file = gguf[0] if gguf else "FILE.gguf"
        return _error(
            f"this is GGUF pushed as a plain file{listed}, without the config of a model",
            f"`oras pull REF` writes the file; then `modelrunner import {_quoted(file)}`",
            name,
            "gguf-file",
            facts,
        )
    for layer in layers:
        suffix = layer.path.suffix.lower() if layer.path else ""
        if suffix in _FORMATS or "safetensors" in layer.descriptor.media_type:
            kind, runs = _FORMATS.get(suffix, ("safetensors", _FORMATS[".safetensors"][1]))
            return _error(
                f"these are {kind} pushed as plain files, which llama.cpp does not read",
                f"`oras pull REF` writes the files; {runs}",
                name,
                "files",
                facts,
            )
    kind = sanitize_line(manifest.artifact_type or "", 120)
    config = facts["config_media_type"]
    shown = f" with {', '.join(paths[:3])}{', ...' if len(paths) > 3 else ''}" if paths else ""  # noqa: PLR2004
    return _error(
        f"this artifact is not a model{shown}: its config is {config}"
        f"{kind and f', its type {kind}'}",
        "`oras pull REF` writes its files"
        if paths
        else "models have a config of application/vnd.docker.ai.model.config.v0.1+json, v0.2 or"
        " application/vnd.cncf.model.config.v1+json",
        name,
        "unknown",
        facts,
    )


def _error(
    message: str, hint: str, name: str, kind: str, facts: dict[str, str]
) -> UnsupportedArtifactError:
    return UnsupportedArtifactError(message, hint=hint.replace("REF", name), kind=kind, **facts)


def _quoted(path: str) -> str:
    from shlex import quote

    return quote(path)
