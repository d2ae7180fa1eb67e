"""Ollama's models.

```
manifests/HOST/NAMESPACE/NAME/TAG      a Docker manifest; layers application/vnd.ollama.image.*
blobs/sha256-HEX                       layers and configs
```

`HOST/NAMESPACE` is `registry.ollama.ai/library` for Ollama's own library, which is not written in
names. The directory is `OLLAMA_MODELS`, `~/.ollama/models`, or the service's own on Linux. Source:
ollama `manifest/paths.go`, `types/model/name.go`.
"""

from collections.abc import Iterator, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from modelrunner.errors import (
    MalformedManifestError,
    ModelRunnerError,
    UnsupportedArtifactError,
)
from modelrunner.frozen import replace
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.other_stores.found import (
    Found,
    FoundFile,
    FoundModel,
    Role,
    Unusable,
    read_object,
    read_text,
)
from modelrunner.text import sanitize_line
from modelrunner.wire import parse_json

_PREFIX = "application/vnd.ollama.image."
_HOST, _LIBRARY = "registry.ollama.ai", "library"
_ROLES: Mapping[str, Role] = {"model": "weights", "projector": "projector", "license": "license"}
_LEFT_OUT = {
    "messages": "its messages",
    "embed": "its embeddings",
}
_SAYS = ("params", "system", "template")
"""Layers that say how it is run: they are in no file of the model."""

_REFUSED = {
    "adapter": "adapters are not supported",
    "tensor": "its weights are safetensors, not GGUF",
}


def find(folder: Path) -> Iterator[Found]:
    """What it has, by name."""
    manifests = folder / "manifests"
    for path in sorted(manifests.glob("*/*/*/*")):
        if path.is_file() and not path.name.startswith("."):
            host, namespace, name, tag = path.relative_to(manifests).parts
            yield _model(folder, path, (host, namespace, name, tag))


def _model(folder: Path, path: Path, parts: tuple[str, str, str, str]) -> Found:
    host, namespace, name, tag = parts
    place = "/".join(part for part in (host, namespace, name) if part not in (_HOST, _LIBRARY))
    title = sanitize_line(f"{place}:{tag}")
    try:
        reference = Reference.parse(f"{host}/{namespace}/{name}:{tag}")
        return _contents(folder, path, f"{name}-{tag}", FoundModel(title, reference))
    except ModelRunnerError as exc:
        return Unusable(title, exc.message)


def _contents(folder: Path, path: Path, stem: str, model: FoundModel) -> FoundModel:
    """The model with its files, how it is run, and what is not taken.

    Raises:
        MalformedManifestError, UnsupportedArtifactError: It cannot be used.
    """
    manifest = read_object(path)
    layers = manifest.get("layers") if manifest is not None else None
    if not isinstance(layers, list):
        raise MalformedManifestError("cannot read its manifest")
    files: list[FoundFile] = []
    left_out: dict[str, None] = {}
    said: dict[str, str | None] = {}
    for layer in layers:
        kind = _kind(layer)
        if kind in _REFUSED:
            raise UnsupportedArtifactError(_REFUSED[kind])
        if kind in _ROLES:
            licenses = sum(1 for file in files if file.role == "license")
            files.append(_file(folder, layer, _ROLES[kind], stem, licenses))
        elif kind in _SAYS:
            said[kind] = _text(folder, layer)
        else:
            left_out[_LEFT_OUT.get(kind, f"an unknown layer ({kind})")] = None
    if not any(file.role == "weights" for file in files):
        raise UnsupportedArtifactError("no weights on this machine: it may run in Ollama's cloud")
    found = replace(model, files=tuple(files), left_out=tuple(left_out))
    return _run_as(found, said)


def _run_as(model: FoundModel, said: Mapping[str, str | None]) -> FoundModel:
    """The model with what its layers say of how it is run."""
    parameters: object = None
    with suppress(ValueError):
        parameters = parse_json(said.get("params") or "{}")
    unreadable = [kind for kind, text in said.items() if text is None]
    if not isinstance(parameters, dict):
        unreadable.append("params")
    return replace(
        model,
        left_out=(*model.left_out, *(f"its {kind}: cannot be read" for kind in unreadable)),
        parameters=parameters if isinstance(parameters, dict) else {},
        system=(said.get("system") or "").strip() or None,
        template=said.get("template"),
    )


def _kind(layer: object) -> str:
    media_type = layer.get("mediaType") if isinstance(layer, dict) else None
    text = media_type if isinstance(media_type, str) else "nothing"
    return sanitize_line(text.removeprefix(_PREFIX), 80)


def _file(
    folder: Path, layer: Mapping[str, Any], role: Role, stem: str, licenses: int
) -> FoundFile:
    file = _blob(folder, layer)
    names: Mapping[Role, str] = {
        "weights": f"{stem}.gguf",
        "projector": f"mmproj-{stem}.gguf",
        "license": f"LICENSE-{licenses + 1}" if licenses else "LICENSE",
    }
    digest = Digest.parse(str(layer.get("digest")))
    return FoundFile(file, names[role], file.stat().st_size, digest, role)


def _text(folder: Path, layer: Mapping[str, Any]) -> str | None:
    """The text of a layer; None where it is not there, or not what its digest says."""
    digest = Digest.parse(str(layer.get("digest")))
    text = read_text(folder / "blobs" / f"sha256-{digest.hex}")
    return text if text is not None and Digest.of(text.encode()) == digest else None


def _blob(folder: Path, layer: Mapping[str, Any]) -> Path:
    digest = Digest.parse(str(layer.get("digest")))
    file = folder / "blobs" / f"sha256-{digest.hex}"
    if not file.is_file():
        raise MalformedManifestError(f"its file {file.name} is missing")
    return file
