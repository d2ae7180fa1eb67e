"""Docker Model Runner's models.

```
models.json                  {"models": [{"id": "sha256:..", "tags": ["docker.io/ai/m:latest"]}]}
manifests/sha256/HEX         the manifest as it was pulled
blobs/sha256/HEX             layers and configs
```

The directory is `MODELS_PATH` or `~/.docker/models`. Source: docker/model-runner
`pkg/distribution/internal/store`.
"""

from collections.abc import Iterator, Mapping
from pathlib import Path

from modelrunner.disk.inside import open_content
from modelrunner.errors import ModelRunnerError
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import MAX_BYTES, parse_manifest
from modelrunner.oci.model.artifact import ModelArtifact
from modelrunner.oci.reference import LOCAL, Reference
from modelrunner.other_stores.found import Found, FoundModel, Kept, Unusable, read_object
from modelrunner.text import os_reason, sanitize_line


def find(folder: Path) -> Iterator[Found]:
    """What it has, in the order of its list."""
    listed = read_object(folder / "models.json")
    models = listed.get("models") if listed is not None else None
    for entry in models if isinstance(models, list) else []:
        if isinstance(entry, dict):
            yield _model(folder, entry)


def _model(folder: Path, entry: Mapping[str, object]) -> Found:
    tags = entry.get("tags")
    names = [tag for tag in tags if isinstance(tag, str)] if isinstance(tags, list) else []
    title = sanitize_line(names[0] if names else str(entry.get("id")))
    title = title.removeprefix("docker.io/")
    try:
        digest = Digest.parse(str(entry.get("id")))
        with open_content(folder / "manifests/sha256" / digest.hex) as file:
            # one byte more than a manifest may have tells that it is too large
            raw = file.content(MAX_BYTES + 1)
        artifact = ModelArtifact.from_manifest(parse_manifest(raw))
        references = [Reference.parse(name) for name in names]
    except ModelRunnerError as exc:
        return Unusable(title, exc.message)
    except OSError as exc:
        return Unusable(title, f"cannot read its manifest: {os_reason(exc)}")
    if artifact.manifest.digest != digest:
        return Unusable(title, "its manifest is damaged")
    blobs = {
        blob.digest: folder / "blobs/sha256" / blob.digest.hex for blob in artifact.manifest.blobs
    }
    if any(not path.is_file() for path in blobs.values()):
        return Unusable(title, "some of its files are missing")
    if not references:
        references = [Reference.parse(f"{LOCAL}/{digest.hex[:12]}")]
    return FoundModel(title, references[0], kept=Kept(raw, blobs), others=tuple(references[1:]))
