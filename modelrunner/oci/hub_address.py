"""Addresses on the Hugging Face Hub's own site, read as model references.

```
https://huggingface.co/ORG/REPO                                hf.co/ORG/REPO
https://huggingface.co/ORG/REPO/tree/REVISION[/DIRECTORY]      hf.co/ORG/REPO@REVISION[:DIRECTORY]
https://huggingface.co/ORG/REPO/resolve/REVISION/PATH          hf.co/ORG/REPO@REVISION:PATH
https://huggingface.co/ORG/REPO?show_file_info=PATH            hf.co/ORG/REPO:PATH
hf://ORG/REPO[@REVISION][/PATH]                                hf.co/ORG/REPO[@REVISION][:PATH]
```

A revision is a branch, a tag or a commit; the branch `main` is what is meant without one. A path is
kept whole: files of one name may lie in several directories.

Two tags stand for files of any format: `all` for everything in a repository, and
`files=*.json,*.safetensors,!onnx/*` for what globs choose, those after `!` what is left out.
"""

import re
from collections.abc import Sequence
from typing import NamedTuple

from modelrunner.errors import InvalidReferenceError

HUB_HOSTS = frozenset({"huggingface.co", "hf.co", "www.huggingface.co"})
MAIN = "main"

_FILES = frozenset({"blob", "resolve", "raw", "blame"})
_FOLDERS = frozenset({"tree", "commit", "commits"})
_NO_MODELS = {"datasets": "a dataset", "spaces": "a space", "collections": "a collection"}
_SCHEMES = frozenset({"http", "https"})
_NAME = 2
"""Parts of a repository's name."""
_PLAIN_TAG = r"[A-Za-z0-9._/-]+"
ALL = "all"
_CHOSEN = "files="
_BUT = "!"


class Selection(NamedTuple):
    """Globs that choose files of a repository, as the Hub's own tools understand them.

    Attributes:
        include: One of them matches a file that is taken; none stand for every file.
        exclude: None of them matches it.
    """

    include: tuple[str, ...] = ()
    exclude: tuple[str, ...] = ()


def selection_tag(include: Sequence[str], exclude: Sequence[str]) -> str:
    """The tag for the files that globs choose: one spelling for each set of globs.

    Raises:
        InvalidReferenceError: A glob cannot be written in a tag.
    """
    wanted, unwanted = (sorted({_glob(text) for text in texts}) for texts in (include, exclude))
    if "*" in wanted:
        wanted = []
    if not wanted and not unwanted:
        return ALL
    # few names need it
    from urllib.parse import quote

    words = (*wanted, *(f"{_BUT}{text}" for text in unwanted))
    return _CHOSEN + quote(",".join(words), safe="/+,=()[]!~*")


def selection_of(tag: str | None) -> Selection | None:
    """The globs that a tag stands for; None where it stands for one model.

    Raises:
        InvalidReferenceError: One of them is not a glob.
    """
    if tag == ALL:
        return Selection()
    if tag is None or not tag.startswith(_CHOSEN):
        return None
    words = unquoted(tag.removeprefix(_CHOSEN), strip="").split(",")
    return Selection(
        tuple(_glob(word) for word in words if not word.startswith(_BUT)),
        tuple(_glob(word.removeprefix(_BUT)) for word in words if word.startswith(_BUT)),
    )


def _glob(text: str) -> str:
    """A glob that a tag can have; one of a directory means what is in it."""
    pattern = f"{text}*" if text.endswith("/") else text
    unusual = any(mark < " " or mark in ",\x7f" for mark in pattern)
    parts = pattern.split("/")
    if unusual or pattern.startswith(_BUT) or not {"", ".", ".."}.isdisjoint(parts):
        raise InvalidReferenceError(
            f"invalid glob {text[:200]!r}",
            hint="write one such as *.safetensors or onnx/*; `?` stands for any character, a comma "
            "or a leading `!` too",
        )
    return pattern


def reference_at(text: str) -> str | None:
    """The reference that an address on the site stands for; None where it is not such an address.

    Raises:
        InvalidReferenceError: It is on the site and no model's.
    """
    scheme, separator, rest = text.partition("://")
    host, *words = (rest if separator else text).partition("?")[0].split("/")
    if separator and scheme.lower() == "hf":
        return _of_scheme(rest, text)
    if (separator and scheme.lower() not in _SCHEMES) or host.lower() not in HUB_HOSTS:
        return None
    deep = len(words) > _NAME and words[_NAME] in _FILES | _FOLDERS
    if not (separator or deep or "?" in text):
        return None
    # few names are addresses, and the others need not load this
    from urllib.parse import parse_qs, unquote

    words = [unquote(word) for word in words if word]
    query = (rest if separator else text).partition("?")[2].partition("#")[0]
    if words and words[0] in _NO_MODELS:
        raise InvalidReferenceError(
            f"{text[:200]!r} is {_NO_MODELS[words[0]]}, not a model",
            hint="write hf.co/ORG/REPO or hf.co/ORG/REPO:QUANT",
        )
    match words:
        case [organisation, name]:
            shown = parse_qs(query).get("show_file_info", [""])[0]
            return _reference(organisation, name, MAIN, shown)
        case [organisation, name, kind, revision, *path] if kind in _FILES and path:
            return _reference(organisation, name, *_revision_of(revision, path))
        case [organisation, name, kind, revision, *path] if kind in _FOLDERS:
            return _reference(organisation, name, *_revision_of(revision, path))
        case _:
            raise InvalidReferenceError(
                f"{text[:200]!r} is not a model on the Hugging Face Hub",
                hint="write hf.co/ORG/REPO, or the URL of a repository or of one of its files",
            )


def tag_of(path: str) -> str:
    """A path as a tag of a reference can have it: what is unusual in it is percent-encoded."""
    if re.fullmatch(_PLAIN_TAG, path):
        return path
    # few names need it
    from urllib.parse import quote

    return quote(path, safe="/+,=()[]!~")


def unquoted(tag: str, strip: str = "/") -> str:
    """The path, or the quantization, that a tag stands for, without these marks around it."""
    if "%" not in tag:
        return tag.strip(strip) if strip else tag
    # few names need it
    from urllib.parse import unquote

    found = unquote(tag)
    return found.strip(strip) if strip else found


def _of_scheme(rest: str, text: str) -> str:
    organisation, _, place = rest.partition("/")
    name, _, path = place.partition("/")
    name, _, revision = name.partition("@")
    if not organisation or not name:
        raise InvalidReferenceError(
            f"{text[:200]!r} is not a model on the Hugging Face Hub",
            hint="write hf.co/ORG/REPO or hf.co/ORG/REPO:QUANT",
        )
    from urllib.parse import unquote

    return _reference(organisation, name, unquote(revision) or MAIN, unquote(path))


def _reference(organisation: str, name: str, revision: str, path: str) -> str:
    at = "" if revision == MAIN else f"@{revision}"
    tag = tag_of(path.strip("/"))
    return f"hf.co/{organisation}/{name}{at}" + (f":{tag}" if tag else "")


def _revision_of(revision: str, path: list[str]) -> tuple[str, str]:
    """The revision and the path; a pull request's is written with slashes: `refs/pr/1`."""
    if revision == "refs" and len(path) >= _NAME and path[0] in {"pr", "convert", "heads", "tags"}:
        return "/".join((revision, *path[:_NAME])), "/".join(path[_NAME:])
    return revision, "/".join(path)
