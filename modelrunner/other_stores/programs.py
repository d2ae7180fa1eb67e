"""The programs whose models can be taken, and what of them is meant by a name."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelrunner.errors import ModelNotFoundError, UsageError
from modelrunner.oci.digest import Digest
from modelrunner.other_stores import docker_models, hf_cache, lm_studio, ollama
from modelrunner.other_stores.found import Found, Unusable
from modelrunner.text import sanitize_line

_NEAR = 12


@dataclass(frozen=True, slots=True)
class Program:
    """A program that keeps models.

    Attributes:
        title: Its name.
        folders: Where it keeps them, by home and environment; the first that is there counts.
        find: What a directory has.
        blob: The file in a directory that has a digest, as far as the program stores digests.
    """

    title: str
    folders: Callable[[Path, Mapping[str, str]], tuple[Path, ...]]
    find: Callable[[Path], Iterator[Found]]
    blob: Callable[[Path, Digest], Path | None]

    def folder(self, home: Path, environ: Mapping[str, str]) -> Path:
        """Where its models are.

        Raises:
            UsageError: Nowhere.
        """
        places = self.folders(home, environ)
        for place in places:
            # what may not be looked into is not there for us
            if os.path.isdir(place):  # noqa: PTH112
                return place
        raise UsageError(
            f"no {self.title} models in {' or '.join(map(str, places))}",
            hint="name its directory with --folder",
        )


def find_blob(digest: Digest, home: Path, environ: Mapping[str, str]) -> tuple[str, Path] | None:
    """A file that some program says has this digest, and the program's name."""
    for program in PROGRAMS.values():
        for folder in program.folders(home, environ):
            path = program.blob(folder, digest)
            if path is not None:
                return program.title, path
    return None


PROGRAMS = {
    "docker": Program(
        "Docker Model Runner", docker_models.folders, docker_models.find, docker_models.blob
    ),
    "hf": Program("Hugging Face cache", hf_cache.folders, hf_cache.find, hf_cache.blob),
    "lmstudio": Program("LM Studio", lm_studio.folders, lm_studio.find, lm_studio.blob),
    "ollama": Program("Ollama", ollama.folders, ollama.find, ollama.blob),
}


def pick(found: Sequence[Found], names: Sequence[str]) -> list[Found]:
    """What is meant by names: whole ones, or all up to the tag.

    Raises:
        ModelNotFoundError: There is no such model; what there is is named.
    """
    picked: dict[str, Found] = {}
    for name in names:
        matches = [model for model in found if _is_meant(model, name)]
        if not matches:
            titles = [model.title for model in found]
            more = f" and {len(titles) - _NEAR} more" if len(titles) > _NEAR else ""
            raise ModelNotFoundError(
                f"{sanitize_line(name, 200)}: not found",
                hint=f"available: {', '.join(titles[:_NEAR])}{more}" if titles else None,
            )
        picked |= {model.title: model for model in matches}
    return list(picked.values())


def _is_meant(model: Found, name: str) -> bool:
    wanted = name.lower()
    known = {model.title.lower()}
    if not isinstance(model, Unusable):
        known |= {model.reference.short.lower(), str(model.reference).lower()}
    return wanted in known or any(title.rpartition(":")[0] == wanted for title in known)
