"""Model artifacts as they lie in registries, built byte for byte from what the formats say.

Two families exist. Docker's: a config of type `vnd.docker.ai.model.config`, typed layers, no
`artifactType`; older ones have no annotations. CNCF ModelPack: an `artifactType`, layers that are
told apart by annotation. The rest are artifacts that are *not* models, or models no GGUF runtime
can run. The same arguments give the same bytes, hence the same digests.
"""

import gzip
import hashlib
import io
import json
import tarfile
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field

OCI_MANIFEST = "application/vnd.oci.image.manifest.v1+json"
OCI_INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"

DOCKER_AI = "application/vnd.docker.ai"
CNCF_MODEL = "application/vnd.cncf.model"
FILE_PATH = "org.cncf.model.filepath"
FILE_METADATA = "org.cncf.model.file.metadata+json"
FILE_UNTESTED = "org.cncf.model.file.mediatype.untested"

CREATED = "2025-10-02T09:00:00Z"


@dataclass(frozen=True, slots=True)
class Artifact:
    """A manifest and what it names; an index has children instead of blobs."""

    manifest: bytes
    media_type: str
    blobs: dict[str, bytes] = field(default_factory=dict)
    children: tuple["Artifact", ...] = ()

    @property
    def digest(self) -> str:
        return _digest(self.manifest)

    @property
    def layers(self) -> list[bytes]:
        """The content of the layers, in order."""
        return [self.blobs[layer["digest"]] for layer in json.loads(self.manifest)["layers"]]

    @property
    def layer_digests(self) -> list[str]:
        return [layer["digest"] for layer in json.loads(self.manifest)["layers"]]

    @property
    def config(self) -> bytes:
        return self.blobs[json.loads(self.manifest)["config"]["digest"]]

    @property
    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(map(len, self.blobs.values()))


@dataclass(frozen=True, slots=True)
class Layer:
    """One layer to be."""

    media_type: str
    content: bytes
    path: str = ""
    diff_id: str = ""

    def descriptor(self, *, annotations: bool) -> dict[str, object]:
        entry = _descriptor(self.media_type, self.content)
        if annotations and self.path:
            metadata = {
                "name": self.path,
                "mode": 0o644,
                "uid": 0,
                "gid": 0,
                "size": len(self.content),
                "mtime": CREATED,
                "typeflag": 0,
            }
            entry["annotations"] = {
                FILE_PATH: self.path,
                FILE_METADATA: _json(metadata).decode(),
                FILE_UNTESTED: "false",
            }
        return entry


def docker_artifact(
    weights: bytes | list[bytes],
    *,
    version: str = "v0.1",
    annotations: bool = True,
    filenames: list[str] | None = None,
    license: bytes | None = None,  # noqa: A002 - the layer's name
    template: bytes | None = None,
    mmproj: bytes | None = None,
    adapter: bytes | None = None,
    more: Iterable["Layer"] = (),
    extra_files: Mapping[str, bytes] | None = None,
    config: Mapping[str, object] | None = None,
) -> Artifact:
    """A GGUF model of Docker's family; several weights are its shards.

    Args:
        annotations: Whether layers say their file names; artifacts from early 2025 do not.
        more: Other layers.
        config: Replaces keys of the inner `config`; None removes one.
    """
    shards = _shards(weights)
    layers = [
        Layer(f"{DOCKER_AI}.gguf.v3", content, name)
        for content, name in zip(shards, _names(shards, filenames), strict=True)
    ]
    if mmproj is not None:
        layers.append(Layer(f"{DOCKER_AI}.mmproj", mmproj, "mmproj-model-f16.gguf"))
    if template is not None:
        layers.append(Layer(f"{DOCKER_AI}.chat.template.jinja", template, "chat_template.jinja"))
    if license is not None:
        layers.append(Layer(f"{DOCKER_AI}.license", license, "LICENSE"))
    if adapter is not None:
        layers.append(Layer(f"{DOCKER_AI}.gguf.v3.lora", adapter, "style-lora.gguf"))
    layers += [*more, *_model_files(extra_files)]
    facts: dict[str, object] = {
        "format": "gguf",
        "quantization": "MOSTLY_Q4_K_M",
        "parameters": "3.19B",
        "architecture": "llama",
        "size": _human_size(sum(map(len, shards))),
        "gguf": {"general.architecture": "llama", "general.file_type": "15"},
        "context_size": 8192,
    }
    return _docker(layers, _replaced(facts, config), version=version, annotations=annotations)


def safetensors_artifact(
    files: Mapping[str, bytes] | None = None,
    *,
    version: str = "v0.2",
    config: Mapping[str, object] | None = None,
) -> Artifact:
    """A model for vLLM: `v0.2` has a layer a file, `v0.1` an archive of configuration."""
    files = files or {
        "config.json": b'{"architectures":["LlamaForCausalLM"]}',
        "model.safetensors": b"\x02\0\0\0\0\0\0\0{}",
        "tokenizer.json": b"{}",
    }
    weights = [path for path in files if path.endswith(".safetensors")]
    others = {path: content for path, content in files.items() if path not in weights}
    layers = [Layer(f"{DOCKER_AI}.safetensors", files[path], path) for path in weights]
    if version == "v0.1":
        archive = tar_of(others)
        layers.append(Layer(f"{DOCKER_AI}.vllm.config.tar", archive, "vllm_config.tar"))
    else:
        layers += _model_files(others)
    facts: dict[str, object] = {
        "format": "safetensors",
        "quantization": "BF16",
        "parameters": "1.24B",
        "architecture": "LlamaForCausalLM",
        "size": _human_size(sum(len(files[path]) for path in weights)),
        "safetensors": {"total_size": str(sum(len(files[path]) for path in weights))},
    }
    return _docker(layers, _replaced(facts, config), version=version, annotations=True)


def dduf_artifact(content: bytes = b"PK\x05\x06" + bytes(18)) -> Artifact:
    """An image generation model in one DDUF file."""
    layers = [Layer(f"{DOCKER_AI}.dduf", content, "model.dduf")]
    facts = {"format": "diffusers", "architecture": "diffusers", "size": _human_size(len(content))}
    return _docker(layers, facts, version="v0.1", annotations=True)


def modelpack_artifact(
    weights: bytes | list[bytes],
    *,
    filenames: list[str] | None = None,
    license: bytes | None = None,  # noqa: A002 - the layer's name
    template: bytes | None = None,
    mmproj: bytes | None = None,
    extra_files: Mapping[str, bytes] | None = None,
    compressed: bool = False,
    weight_type: str = "weight.v1.raw",
    artifact_type: str | None = f"{CNCF_MODEL}.manifest.v1+json",
    config: Mapping[str, object] | None = None,
) -> Artifact:
    """A GGUF model of the CNCF family.

    Args:
        compressed: Weights as `weight.v1.tar+gzip`, which the specification allows.
        weight_type: `weight.v1.gguf` is an extension that exists in the wild.
        config: Replaces keys of the inner `config`; None removes one.
    """
    shards = _shards(weights)
    names = _names(shards, filenames)
    weight = _archived if compressed else _raw(f"{CNCF_MODEL}.{weight_type}")
    layers = [weight(content, name) for content, name in zip(shards, names, strict=True)]
    if mmproj is not None:
        layers.append(weight(mmproj, "mmproj-model-f16.gguf"))
    if template is not None:
        layers.append(Layer(f"{CNCF_MODEL}.weight.config.v1.raw", template, "chat_template.jinja"))
    if license is not None:
        layers.append(Layer(f"{CNCF_MODEL}.doc.v1.raw", license, "LICENSE"))
    for path, content in (extra_files or {}).items():
        sort = "doc" if path.endswith((".md", ".txt")) else "weight.config"
        layers.append(Layer(f"{CNCF_MODEL}.{sort}.v1.raw", content, path))
    facts: dict[str, object] = {
        "architecture": "llama",
        "format": "gguf",
        "paramSize": "3.19B",
        "quantization": "MOSTLY_Q4_K_M",
    }
    document = {
        "descriptor": {"createdAt": CREATED, "family": "llama", "name": "model"},
        "modelfs": {"type": "layers", "diffIds": [_diff_id(layer) for layer in layers]},
        "config": _replaced(facts, config),
    }
    return _artifact(
        layers,
        (f"{CNCF_MODEL}.config.v1+json", _json(document)),
        artifact_type=artifact_type,
        annotations=True,
    )


def image_artifact(*, oci: bool = False) -> Artifact:
    """A container image, which is no model."""
    root = tar_of({"etc/hostname": b"box\n"})
    kind = ("vnd.oci.image.config.v1+json", "vnd.oci.image.layer.v1.tar+gzip")
    if not oci:
        kind = ("vnd.docker.container.image.v1+json", "vnd.docker.image.rootfs.diff.tar.gzip")
    document = {
        "architecture": "amd64",
        "os": "linux",
        "created": CREATED,
        "config": {"Cmd": ["/bin/sh"]},
        "rootfs": {"type": "layers", "diff_ids": [_digest(root)]},
    }
    layer = Layer(f"application/{kind[1]}", gzip.compress(root, mtime=0))
    return _artifact(
        [layer],
        (f"application/{kind[0]}", _json(document)),
        media_type=OCI_MANIFEST if oci else DOCKER_MANIFEST,
    )


def helm_like_artifact() -> Artifact:
    """A Helm chart, which is no model either."""
    chart = gzip.compress(tar_of({"box/Chart.yaml": b"name: box\nversion: 0.1.0\n"}), mtime=0)
    layer = Layer("application/vnd.cncf.helm.chart.content.v1.tar+gzip", chart)
    document = {"apiVersion": "v2", "name": "box", "version": "0.1.0"}
    return _artifact([layer], ("application/vnd.cncf.helm.config.v1+json", _json(document)))


def plain_artifact(
    content: bytes,
    name: str,
    more: Mapping[str, bytes] | None = None,
    media_type: str = "application/octet-stream",
) -> Artifact:
    """Files as `oras push` leaves them: an empty config, and names as the titles of layers."""
    layers = []
    for title, file in {name: content, **(more or {})}.items():
        layer = _descriptor(media_type, file)
        layer["annotations"] = {"org.opencontainers.image.title": title}
        layers.append(layer)
    config = _descriptor("application/vnd.oci.empty.v1+json", b"{}")
    document = {
        "schemaVersion": 2,
        "mediaType": OCI_MANIFEST,
        "artifactType": "application/vnd.unknown.artifact.v1",
        "config": config,
        "layers": layers,
    }
    blobs = {_digest(each): each for each in (b"{}", content, *(more or {}).values())}
    return Artifact(_json(document), OCI_MANIFEST, blobs)


def ollama_artifact(
    weights: bytes | None,
    *,
    params: Mapping[str, object] | None = None,
    system: str | None = None,
    template: str | None = "{{ .Prompt }}",
    license: str | None = "do as you like",  # noqa: A002 - the layer's name
    more: Mapping[str, bytes] | None = None,
) -> Artifact:
    """A model as Ollama pushes it: layers without names, after `server/create.go`.

    Args:
        weights: The `model` layer; None for a model that runs in Ollama's cloud.
        params: The `params` layer.
        system: The `system` layer.
        template: The `template` layer, in Go's language.
        license: The `license` layer.
        more: Other layers, by their kind: `projector`, `adapter`, `messages`, ...
    """
    parts = {
        "model": weights,
        "template": template and template.encode(),
        "license": license and license.encode(),
        "system": system and system.encode(),
        "params": None if params is None else _json(params),
        **(more or {}),
    }
    layers = [
        Layer(f"application/vnd.ollama.image.{kind}", content)
        for kind, content in parts.items()
        if content is not None
    ]
    facts = {
        "model_format": "gguf",
        "model_family": "llama",
        "model_families": ["llama"],
        "model_type": "1.2B",
        "file_type": "Q8_0",
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [_digest(layer.content) for layer in layers]},
    }
    config = ("application/vnd.docker.container.image.v1+json", _json(facts))
    return _artifact(layers, config, media_type=DOCKER_MANIFEST)


def index_artifact(
    *children: Artifact, platforms: Iterable[Mapping[str, str]] | None = None
) -> Artifact:
    """An image index over these artifacts."""
    entries = []
    for child, platform in zip(children, platforms or [{}] * len(children), strict=True):
        entry = _descriptor(child.media_type, child.manifest)
        if platform:
            entry["platform"] = dict(platform)
        entries.append(entry)
    document = {"schemaVersion": 2, "mediaType": OCI_INDEX, "manifests": entries}
    return Artifact(_json(document), OCI_INDEX, children=children)


def tar_of(files: Mapping[str, bytes]) -> bytes:
    """A tar archive without times or owners."""
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for path, content in files.items():
            member = tarfile.TarInfo(path)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def _docker(
    layers: list[Layer], facts: Mapping[str, object], *, version: str, annotations: bool
) -> Artifact:
    document = {
        "config": facts,
        "descriptor": {"created": CREATED},
        "rootfs": {"type": "rootfs", "diff_ids": [_diff_id(layer) for layer in layers]},
    }
    config_type = f"{DOCKER_AI}.model.config.{version}+json"
    return _artifact(layers, (config_type, _json(document)), annotations=annotations)


def _artifact(
    layers: list[Layer],
    config: tuple[str, bytes],
    *,
    media_type: str = OCI_MANIFEST,
    artifact_type: str | None = None,
    annotations: bool = False,
) -> Artifact:
    document: dict[str, object] = {"schemaVersion": 2, "mediaType": media_type}
    if artifact_type is not None:
        document["artifactType"] = artifact_type
    document["config"] = _descriptor(*config)
    document["layers"] = [layer.descriptor(annotations=annotations) for layer in layers]
    contents = [config[1], *(layer.content for layer in layers)]
    blobs = {_digest(content): content for content in contents}
    return Artifact(_json(document), media_type, blobs)


def _raw(media_type: str) -> Callable[[bytes, str], Layer]:
    return lambda content, name: Layer(media_type, content, name)


def _archived(content: bytes, name: str) -> Layer:
    archive = tar_of({name: content})
    packed = gzip.compress(archive, mtime=0)
    return Layer(f"{CNCF_MODEL}.weight.v1.tar+gzip", packed, name, _digest(archive))


def _model_files(files: Mapping[str, bytes] | None) -> list[Layer]:
    return [
        Layer(f"{DOCKER_AI}.model.file", content, path) for path, content in (files or {}).items()
    ]


def _shards(weights: bytes | list[bytes]) -> list[bytes]:
    return [weights] if isinstance(weights, bytes) else weights


def _names(shards: list[bytes], filenames: list[str] | None) -> list[str]:
    if filenames is not None:
        return filenames
    if len(shards) == 1:
        return ["model.gguf"]
    return [f"model-{place:05d}-of-{len(shards):05d}.gguf" for place in range(1, len(shards) + 1)]


def _replaced(
    facts: Mapping[str, object], changes: Mapping[str, object] | None
) -> dict[str, object]:
    merged = {**facts, **(changes or {})}
    return {key: value for key, value in merged.items() if value is not None}


def _diff_id(layer: Layer) -> str:
    return layer.diff_id or _digest(layer.content)


def _descriptor(media_type: str, content: bytes) -> dict[str, object]:
    return {"mediaType": media_type, "digest": _digest(content), "size": len(content)}


def _digest(content: bytes) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def _json(document: object) -> bytes:
    return json.dumps(document, separators=(",", ":")).encode()


def _human_size(size: int) -> str:
    gib, mib = 1024**3, 1024**2
    return f"{size / gib:.2f}GiB" if size >= gib else f"{size / mib:.2f}MiB"
