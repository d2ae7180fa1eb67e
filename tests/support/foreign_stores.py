"""What other programs write when they fetch a model, in their layouts."""

import hashlib
import json
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from tests.support.artifacts import Artifact

_OLLAMA = "application/vnd.ollama.image."
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"


def ollama_model(
    folder: Path,
    name: str,
    layers: Sequence[tuple[str, bytes]],
    *,
    host: str = "registry.ollama.ai",
) -> Path:
    """A model as `ollama pull` leaves it; where its manifest lies.

    Args:
        folder: Ollama's.
        name: `NAMESPACE/NAME:TAG`.
        layers: Kind and content of each.
        host: Where it comes from.
    """
    config = json.dumps({"model_format": "gguf", "model_family": "llama"}).encode()
    described = [_ollama_blob(folder, f"{_OLLAMA}{kind}", content) for kind, content in layers]
    manifest = {
        "schemaVersion": 2,
        "mediaType": _MANIFEST,
        "config": _ollama_blob(folder, _CONFIG, config),
        "layers": described,
    }
    place, _, tag = name.rpartition(":")
    path = folder / "manifests" / host / place / tag
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(manifest))
    return path


def _ollama_blob(folder: Path, media_type: str, content: bytes) -> dict[str, object]:
    hexed = hashlib.sha256(content).hexdigest()
    path = folder / "blobs" / f"sha256-{hexed}"
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return {"mediaType": media_type, "digest": f"sha256:{hexed}", "size": len(content)}


def docker_models(folder: Path, artifacts: Mapping[str, Artifact]) -> None:
    """The models folder of Docker Model Runner with artifacts under their names."""
    entries = []
    for name, artifact in artifacts.items():
        manifest = folder / "manifests/sha256" / hashlib.sha256(artifact.manifest).hexdigest()
        manifest.parent.mkdir(parents=True, exist_ok=True)
        manifest.write_bytes(artifact.manifest)
        files = []
        for content in artifact.blobs.values():
            hexed = hashlib.sha256(content).hexdigest()
            blob = folder / "blobs/sha256" / hexed
            blob.parent.mkdir(parents=True, exist_ok=True)
            blob.write_bytes(content)
            files.append(f"sha256:{hexed}")
        entries.append({"id": f"sha256:{manifest.name}", "tags": [name], "files": files})
    (folder / "layout.json").write_text(json.dumps({"version": "1.0.0"}, indent=2))
    (folder / "models.json").write_text(json.dumps({"models": entries}))


def hugging_face_cache(home: Path, hub: str, repository: str, files: Sequence[str]) -> None:
    """A repository's files in a cache, put there by `huggingface_hub` itself."""
    program = "import sys; from huggingface_hub import hf_hub_download as get\n"
    program += "for name in sys.argv[2:]: get(sys.argv[1], name)"
    subprocess.run(
        [sys.executable, "-c", program, repository, *files],
        env={**os.environ, "HF_ENDPOINT": hub, "HF_HOME": str(home), "HF_HUB_DISABLE_XET": "1"},
        capture_output=True,
        check=True,
    )
