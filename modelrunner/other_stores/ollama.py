"""Ollama's models.

```
manifests/HOST/NAMESPACE/NAME/TAG      a Docker manifest; layers application/vnd.ollama.image.*
blobs/sha256-HEX                       layers and configs
```

`HOST/NAMESPACE` is `registry.ollama.ai/library` for Ollama's own library, which is not written in
names. The directory is `OLLAMA_MODELS`, `~/.ollama/models`, or the service's own on Linux. Source:
ollama `manifest/paths.go`, `types/model/name.go`.
"""

import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from modelrunner.errors import (
    MalformedManifestError,
    ModelRunnerError,
    UnsupportedArtifactError,
)
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.other_stores.found import Found, FoundFile, FoundModel, Role, Unusable, read_object
from modelrunner.text import sanitize_line

_PREFIX = "application/vnd.ollama.image."
_HOST, _LIBRARY = "registry.ollama.ai", "library"
_ROLES: Mapping[str, Role] = {"model": "weights", "projector": "projector", "license": "license"}
_LEFT_OUT = {
    "template": "its Go template is not supported: the template in the GGUF file is used",
    "params": "its parameters: set them with `modelrunner configure`",
    "system": "its system prompt: set it with --system",
    "messages": "its messages",
    "embed": "its embeddings",
}
_REFUSED = {
    "adapter": "adapters are not supported",
    "tensor": "its weights are safetensors, not GGUF",
}


def folders(home: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Where Ollama keeps its models."""
    if environ.get("OLLAMA_MODELS"):
        return (Path(environ["OLLAMA_MODELS"]),)
    return (home / ".ollama/models", Path("/usr/share/ollama/.ollama/models"))


def find(folder: Path) -> Iterator[Found]:
    """What it has, by name."""
    manifests = folder / "manifests"
    for path in sorted(manifests.glob("*/*/*/*")):
        if path.is_file() and not path.name.startswith("."):
            host, namespace, name, tag = path.relative_to(manifests).parts
            yield _model(folder, path, (host, namespace, name, tag))


def blob(folder: Path, digest: Digest) -> Path | None:
    """The file with this digest, if it has one."""
    path = folder / "blobs" / f"sha256-{digest.hex}"
    # a folder that is not ours to read has nothing for us
    return path if os.path.isfile(path) else None  # noqa: PTH113


def _model(folder: Path, path: Path, parts: tuple[str, str, str, str]) -> Found:
    host, namespace, name, tag = parts
    place = "/".join(part for part in (host, namespace, name) if part not in (_HOST, _LIBRARY))
    title = sanitize_line(f"{place}:{tag}")
    try:
        reference = Reference.parse(f"{host}/{namespace}/{name}:{tag}")
        files, left_out = _contents(folder, path, f"{name}-{tag}")
    except ModelRunnerError as exc:
        return Unusable(title, exc.message)
    return FoundModel(title, reference, files, left_out)


def _contents(folder: Path, path: Path, stem: str) -> tuple[tuple[FoundFile, ...], tuple[str, ...]]:
    """Files, and what is not taken.

    Raises:
        MalformedManifestError, UnsupportedArtifactError: It cannot be used.
    """
    manifest = read_object(path)
    layers = manifest.get("layers") if manifest is not None else None
    if not isinstance(layers, list):
        raise MalformedManifestError("cannot read its manifest")
    files: list[FoundFile] = []
    left_out: dict[str, None] = {}
    for layer in layers:
        kind = _kind(layer)
        if kind in _REFUSED:
            raise UnsupportedArtifactError(_REFUSED[kind])
        if kind in _ROLES:
            licenses = sum(1 for file in files if file.role == "license")
            files.append(_file(folder, layer, _ROLES[kind], stem, licenses))
        else:
            left_out[_LEFT_OUT.get(kind, f"an unknown layer ({kind})")] = None
    if not any(file.role == "weights" for file in files):
        raise UnsupportedArtifactError("no weights on this machine: it may run in Ollama's cloud")
    return tuple(files), tuple(left_out)


def _kind(layer: object) -> str:
    media_type = layer.get("mediaType") if isinstance(layer, dict) else None
    text = media_type if isinstance(media_type, str) else "nothing"
    return sanitize_line(text.removeprefix(_PREFIX), 80)


def _file(
    folder: Path, layer: Mapping[str, Any], role: Role, stem: str, licenses: int
) -> FoundFile:
    digest = Digest.parse(str(layer.get("digest")))
    file = folder / "blobs" / f"sha256-{digest.hex}"
    if not file.is_file():
        raise MalformedManifestError(f"its file {file.name} is missing")
    names: Mapping[Role, str] = {
        "weights": f"{stem}.gguf",
        "projector": f"mmproj-{stem}.gguf",
        "license": f"LICENSE-{licenses + 1}" if licenses else "LICENSE",
    }
    return FoundFile(file, names[role], file.stat().st_size, digest, role)
