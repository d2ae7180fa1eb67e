"""Where other programs keep their models, and the file there that has a digest.

Every pull of something large asks for it; what reads their models is loaded where one is imported.
"""

import os
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import NamedTuple

from modelrunner.disk.inside import open_content
from modelrunner.oci.digest import Digest

HUB_PREFIX = "models--"
_POINTER = ".lmstudio-home-pointer"
_LONGEST_PATH = 4096


class Place(NamedTuple):
    """A program that keeps models.

    Attributes:
        title: Its name.
        folders: Where it keeps them, by home and environment; the first that is there counts.
        blob: The file in a directory that has a digest; None where the program stores no digests.
    """

    title: str
    folders: Callable[[Path, Mapping[str, str]], tuple[Path, ...]]
    blob: Callable[[str, Digest], str | None] | None


class BlobFinder:
    """Finds files by their digests; a model may have thousands.

    Args:
        home: The user's home.
        environ: The environment, whose variables name other directories.
    """

    def __init__(self, home: Path, environ: Mapping[str, str]) -> None:
        self._places = [
            (place.title, str(folder), place.blob)
            for place in PLACES.values()
            if place.blob is not None
            for folder in place.folders(home, environ)
        ]

    def find(self, digest: Digest) -> tuple[str, Path] | None:
        """Return a file that some program says has this digest, and the program's name."""
        for title, folder, blob in self._places:
            path = blob(folder, digest)
            if path is not None:
                return title, Path(path)
        return None


def _docker(home: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:
    return (Path(environ.get("MODELS_PATH") or home / ".docker/models"),)


def _docker_blob(folder: str, digest: Digest) -> str | None:
    return _there(f"{folder}/blobs/sha256/{digest.hex}")


def _hub(home: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:
    for name in ("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE"):
        if environ.get(name):
            return (Path(environ[name]).expanduser(),)
    if environ.get("HF_HOME"):
        return (Path(environ["HF_HOME"]).expanduser() / "hub",)
    cache = Path(environ.get("XDG_CACHE_HOME") or home / ".cache")
    return (cache / "huggingface/hub",)


def _hub_blob(folder: str, digest: Digest) -> str | None:
    try:
        with os.scandir(folder) as entries:
            names = [entry.name for entry in entries if entry.name.startswith(HUB_PREFIX)]
    except OSError:
        return None
    paths = (f"{folder}/{name}/blobs/{digest.hex}" for name in names)
    return next(filter(_there, paths), None)


def _lm_studio(home: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:  # noqa: ARG001
    try:
        with open_content(home / _POINTER) as file:
            named = file.content(_LONGEST_PATH).decode(errors="replace").strip()
    except OSError:
        named = ""
    if named:
        return (Path(named) / "models",)
    return (home / ".lmstudio/models", home / ".cache/lm-studio/models")


def _ollama(home: Path, environ: Mapping[str, str]) -> tuple[Path, ...]:
    if environ.get("OLLAMA_MODELS"):
        return (Path(environ["OLLAMA_MODELS"]),)
    return (home / ".ollama/models", Path("/usr/share/ollama/.ollama/models"))


def _ollama_blob(folder: str, digest: Digest) -> str | None:
    return _there(f"{folder}/blobs/sha256-{digest.hex}")


def _there(path: str) -> str | None:
    # a folder that is not ours to read has nothing for us
    return path if os.path.isfile(path) else None  # noqa: PTH113


PLACES = {
    "docker": Place("Docker Model Runner", _docker, _docker_blob),
    "hf": Place("Hugging Face cache", _hub, _hub_blob),
    "lmstudio": Place("LM Studio", _lm_studio, None),
    "ollama": Place("Ollama", _ollama, _ollama_blob),
}
