"""The programs whose models can be taken, and what of them is meant by a name."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path

from modelrunner.errors import ModelNotFoundError, UsageError
from modelrunner.frozen import frozen
from modelrunner.other_stores import docker_models, hf_cache, lm_studio, ollama
from modelrunner.other_stores.found import Found, Unusable
from modelrunner.other_stores.places import PLACES, Place
from modelrunner.text import sanitize_line

_NEAR = 12


@frozen
class Program:
    """A program that keeps models.

    Attributes:
        place: Its name, and where it keeps them.
        find: What a directory has.
    """

    place: Place
    find: Callable[[Path], Iterator[Found]]

    @property
    def title(self) -> str:
        """Its name."""
        return self.place.title

    def folder(self, home: Path, environ: Mapping[str, str]) -> Path:
        """Where its models are.

        Raises:
            UsageError: Nowhere.
        """
        places = self.place.folders(home, environ)
        for place in places:
            # what may not be looked into is not there for us
            if os.path.isdir(place):  # noqa: PTH112
                return place
        raise UsageError(
            f"no {self.title} models in {' or '.join(map(str, places))}",
            hint="name its directory with --folder",
        )


_FIND = {
    "docker": docker_models.find,
    "hf": hf_cache.find,
    "lmstudio": lm_studio.find,
    "ollama": ollama.find,
}
PROGRAMS = {name: Program(place, _FIND[name]) for name, place in PLACES.items()}


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
