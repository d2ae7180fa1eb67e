"""File paths that come from foreign manifests: checked before anything is made of them."""

import unicodedata
from collections.abc import Iterable, Mapping
from pathlib import PurePosixPath
from typing import Any

from modelrunner.errors import MalformedManifestError
from modelrunner.oci import media_types
from modelrunner.text import sanitize
from modelrunner.wire import parse_json

_MAX_COMPONENT = 255
_MAX_PATH = 1024
_PATHS = (
    media_types.ANNOTATION_PATH,
    media_types.ANNOTATION_CNAI_PATH,
    media_types.ANNOTATION_TITLE,
)


def checked_path(text: str) -> PurePosixPath:
    """A relative path that stays inside the directory it is put in.

    Raises:
        MalformedManifestError: It is absolute, climbs with `..`, or holds characters that no
            file of a model needs.
    """
    path = PurePosixPath(text)
    good = (
        0 < len(text) <= _MAX_PATH
        and sanitize(text) == text
        and not any(mark in text for mark in "\\\t\n")
        and not path.is_absolute()
        and not _has_drive(text)
        and path.parts
        and all(_is_component(part) for part in path.parts)
    )
    if not good:
        raise MalformedManifestError(
            f"unsafe file path in a layer: {text[:120]!r}",
            hint="the artifact is broken or hostile; nothing was stored",
            path=text[:200],
        )
    return path


def same_names(paths: Iterable[str]) -> tuple[str, str] | None:
    """Return two paths that are one where file systems ignore case or forms of Unicode.

    Directories count too: `A/x` and `a/y` would lie in one.
    """
    # a tree: each directory has a number, and each name in one is looked up by what it is taken for
    known: dict[tuple[int, str], tuple[int, str]] = {}
    for path in paths:
        parts, folder = path.split("/"), 0
        for count, part in enumerate(parts):
            folder, before = known.setdefault((folder, _folded(part)), (len(known) + 1, part))
            if before != part:
                above = parts[:count]
                return "/".join([*above, before]), "/".join([*above, part])
    return None


def _folded(name: str) -> str:
    if name.isascii():
        return name.lower()
    return unicodedata.normalize("NFC", unicodedata.normalize("NFC", name).casefold())


def annotated_path(annotations: Mapping[str, str]) -> PurePosixPath | None:
    """The path that a layer's annotations give it, None where they give none.

    The model families say `org.cncf.model.filepath`, or `org.cnai.model.filepath` before that,
    artifacts made by `oras` `org.opencontainers.image.title`.

    Raises:
        MalformedManifestError: The path is not one to be trusted.
    """
    for key in _PATHS:
        if annotations.get(key):
            return checked_path(annotations[key])
    name = _metadata_name(annotations.get(media_types.ANNOTATION_FILE, ""))
    return checked_path(name) if name else None


def _has_drive(text: str) -> bool:
    return text[1:2] == ":" and text[0].isascii() and text[0].isalpha()


def _is_component(part: str) -> bool:
    # half a surrogate pair is replaced here, and then differs
    encoded = part.encode(errors="replace")
    return part != ".." and len(encoded) <= _MAX_COMPONENT and encoded.decode() == part


def _metadata_name(text: str) -> str | None:
    try:
        value: Any = parse_json(text)
    except ValueError:
        return None
    name = value.get("name") if isinstance(value, dict) else None
    return name if isinstance(name, str) and name else None
