"""Which file each layer of a model becomes: names out of annotations, checked and completed.

Names that were given come first; what was given none takes one that is still free. Shards get the
names that llama.cpp finds them by.
"""

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from itertools import pairwise
from pathlib import PurePosixPath

from modelrunner.errors import MalformedManifestError, UnsupportedArtifactError
from modelrunner.oci.digest import Digest
from modelrunner.oci.model.formats import GGUF, suffix_of
from modelrunner.oci.model.layers import Layer, Role

SHARD = r"(?i)(?P<stem>.*)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})\.gguf"
_OTHER_SHARD = r"(?i)(?P<stem>.*)-(?P<number>[0-9]{5})-of-(?P<count>[0-9]{5})(?P<suffix>\.[a-z]+)"
_DEFAULT_NAMES = {
    Role.PROJECTOR: PurePosixPath("mmproj.gguf"),
    Role.TEMPLATE: PurePosixPath("template.jinja"),
    Role.LICENSE: PurePosixPath("LICENSE"),
    Role.ADAPTER: PurePosixPath("adapter.gguf"),
}


def shard_names(name: str) -> list[str] | None:
    """The names of all shards of the set that a file's name is of; None where it is of none."""
    match = _shard(SHARD, name)
    if match is None:
        return None
    # bounded: five digits, see `SHARD`
    count = int(match["count"])
    return [f"{match['stem']}-{number:05d}-of-{count:05d}.gguf" for number in range(1, count + 1)]


def _shard(pattern: str, name: str) -> re.Match[str] | None:
    # most files are none, and no pattern is compiled for them
    return re.fullmatch(pattern, name) if "-of-" in name.lower() else None


def name_layers(found: Sequence[Layer], *, several: bool = False) -> tuple[Layer, ...]:
    """Weights in shard order, then the rest; every known layer with a name of its own.

    Args:
        found: The layers.
        several: Whether they may be several models.

    Raises:
        MalformedManifestError: Two files have one name, or a shard is missing.
        UnsupportedArtifactError: There are several models, and may not be.
    """
    given = [layer for layer in found if layer.role is Role.WEIGHTS]
    gguf = given and all(layer.format == GGUF and not layer.archived for layer in given)
    alone = not several or len({layer.descriptor.digest for layer in given}) == 1
    weights = _name_weights(given) if gguf and alone else _in_sets(_name_unnamed(given))
    others = [layer for layer in found if layer.role is not Role.WEIGHTS]
    names = _Names(layer.path for layer in (*weights, *others))
    named = [names.place(layer) for layer in (*weights, *others)]
    names.check_nesting()
    return tuple(layer for layer in named if layer is not None)


class _Names:
    """The names of one view: those that are taken, and those that somebody is to have."""

    def __init__(self, given: Iterable[PurePosixPath | None]) -> None:
        self._given = frozenset(given)
        self._taken: dict[PurePosixPath, Layer] = {}
        self._unnamed: set[tuple[Role, Digest]] = set()
        self._numbers: Counter[PurePosixPath] = Counter()

    def place(self, layer: Layer) -> Layer | None:
        """The layer with its final path; None where the same file already exists."""
        path = layer.path
        if path is None:
            if layer.role not in _DEFAULT_NAMES:
                return layer
            if (layer.role, layer.descriptor.digest) in self._unnamed:
                return None
            self._unnamed.add((layer.role, layer.descriptor.digest))
            path = self._free(_DEFAULT_NAMES[layer.role])
        there = self._taken.setdefault(path, layer)
        if there.descriptor.digest != layer.descriptor.digest:
            raise MalformedManifestError(
                f"two layers have the same file name {str(path)!r}",
                hint="the artifact is broken: report it to its publisher",
                path=str(path),
            )
        if there is layer:
            return layer._replace(path=path)
        if there.role is layer.role or layer.role not in _DEFAULT_NAMES:
            return None
        # one file in two roles, such as a license that is the chat template too
        return self.place(layer._replace(path=None))

    def check_nesting(self) -> None:
        """Raises where one file would have to be the directory of another."""
        # sorted by their parts, whatever lies in a folder follows it
        for first, second in pairwise(sorted(path.parts for path in self._taken)):
            if second[: len(first)] == first:
                name = "/".join(first)
                raise MalformedManifestError(f"{name!r} is both a file and a directory", path=name)

    def _free(self, path: PurePosixPath) -> PurePosixPath:
        while True:
            self._numbers[path] += 1
            number = self._numbers[path]
            candidate = path if number == 1 else path.with_stem(f"{path.stem}-{number}")
            if candidate not in self._given:
                return candidate


def _name_weights(weights: list[Layer]) -> list[Layer]:
    unique = list({layer.descriptor.digest: layer for layer in weights}.values())
    shards = [
        (match, layer)
        for layer in unique
        if layer.path is not None and (match := _shard(SHARD, layer.path.name)) is not None
    ]
    if shards and len(shards) == len(unique):
        return _ordered_shards(shards)
    if len(unique) == 1:
        return [_with_ending(unique[0])]
    if all(layer.path is not None for layer in unique):
        return _refuse_choice(unique)
    # artifacts from before layers had names: shards in the order of the manifest
    count = len(unique)
    return [
        layer._replace(path=PurePosixPath(f"model-{number:05d}-of-{count:05d}.gguf"))
        for number, layer in enumerate(unique, start=1)
    ]


def _with_ending(layer: Layer) -> Layer:
    path = layer.path or PurePosixPath("model.gguf")
    if not path.name.lower().endswith(".gguf"):
        # llama.cpp is handed a path; people and scripts look for the ending
        path = path.with_name(f"{path.name[:60]}.gguf")
    return layer._replace(path=path)


def firsts(weights: Sequence[Layer]) -> list[Layer]:
    """The weights without all shards but the first: one a model."""
    found = []
    for layer in weights:
        match = None if layer.path is None else _shard(_OTHER_SHARD, layer.path.name)
        # bounded: five digits, see `_OTHER_SHARD`
        if match is None or int(match["number"]) == 1:
            found.append(layer)
    return found


def _name_unnamed(weights: Sequence[Layer]) -> list[Layer]:
    """The weights, each once; those without a name get that of their format's files."""
    unique = list({(layer.descriptor.digest, layer.path): layer for layer in weights}.values())
    unnamed = [layer for layer in unique if layer.path is None and suffix_of(layer.format)]
    count = len(unnamed)
    numbers = {id(layer): number for number, layer in enumerate(unnamed, start=1)}
    return [
        layer._replace(path=PurePosixPath(_usual_name(layer, numbers[id(layer)], count)))
        if id(layer) in numbers
        else layer
        for layer in unique
    ]


def _usual_name(layer: Layer, number: int, count: int) -> str:
    suffix = suffix_of(layer.format)
    return f"model{suffix}" if count == 1 else f"model-{number:05d}-of-{count:05d}{suffix}"


def _in_sets(weights: Sequence[Layer]) -> list[Layer]:
    """The weights, shards in the order of their numbers, each set whole.

    Raises:
        MalformedManifestError: A shard is missing.
    """
    sets: dict[tuple[PurePosixPath, str, int, str], list[tuple[int, Layer]]] = {}
    found: list[list[tuple[int, Layer]]] = []
    for layer in weights:
        path = layer.path
        match = None if path is None else _shard(_OTHER_SHARD, path.name)
        if path is None or match is None:
            found.append([(1, layer)])
            continue
        # bounded: five digits, see `_OTHER_SHARD`
        number = int(match["number"])
        # bounded: five digits, see `_OTHER_SHARD`
        count = int(match["count"])
        key = (path.parent, match["stem"], count, match["suffix"])
        if key not in sets:
            sets[key] = []
            found.append(sets[key])
        sets[key].append((number, layer))
    for (_folder, _stem, count, _suffix), shards in sets.items():
        if sorted(number for number, _ in shards) != list(range(1, count + 1)):
            raise MalformedManifestError(
                f"incomplete or mixed shards: the model has {len(shards)}, expected one set of "
                f"{count}",
                shards=[str(layer.path) for _, layer in shards][:50],
            )
    ordered = (sorted(shards, key=lambda shard: shard[0]) for shards in found)
    return [layer for shards in ordered for _, layer in shards]


def _ordered_shards(shards: list[tuple[re.Match[str], Layer]]) -> list[Layer]:
    # bounded: five digits, see `SHARD`
    count = int(shards[0][0]["count"])
    # bounded: five digits, see `SHARD`
    ordered = sorted(shards, key=lambda shard: int(shard[0]["number"]))
    sets = {
        (layer.path and layer.path.parent, match["stem"], match["count"]) for match, layer in shards
    }
    # bounded: five digits, see `SHARD`
    numbers = [int(match["number"]) for match, _ in ordered]
    if len(sets) != 1 or numbers != list(range(1, count + 1)):
        raise MalformedManifestError(
            f"incomplete or mixed shards: the model has {len(shards)}, expected one set of {count}",
            shards=[str(layer.path) for _, layer in shards][:50],
        )
    return [layer for _, layer in ordered]


def _refuse_choice(weights: list[Layer]) -> list[Layer]:
    """Refuses several models in one artifact; two files of one name are told apart later."""
    names = sorted({str(layer.path) for layer in weights})
    if len(names) < len(weights):
        return weights
    raise UnsupportedArtifactError(
        f"ambiguous artifact: it has {len(names)} models: "
        f"{', '.join(names[:5])}{', ...' if len(names) > 5 else ''}",  # noqa: PLR2004
        hint=(
            "download the file that you want (`oras pull`), then run `modelrunner package "
            "FILE.gguf REF`"
        ),
        files=names[:50],
    )
