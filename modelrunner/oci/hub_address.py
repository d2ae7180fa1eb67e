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
"""

import re

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


def unquoted(tag: str) -> str:
    """The path, or the quantization, that a tag stands for."""
    if "%" not in tag:
        return tag.strip("/")
    # few names need it
    from urllib.parse import unquote

    return unquote(tag).strip("/")


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
