"""What a mirror is to have: the content of a lock, or of a list of references.

- `modelrunner.lock`: its models and its runtime, each by digest, under the tag that it names.
- `modelrunner.toml`: its models, as their tags stand now.
- TOML with `references = ["...", ...]`.
- Text: a reference a line; empty lines and what follows `#` do not count.
"""

import re
from pathlib import Path

from modelrunner.errors import UsageError
from modelrunner.lockfile.document import Kind, parse_document
from modelrunner.lockfile.intent import parse_intent
from modelrunner.lockfile.reader import parse_lock
from modelrunner.oci.reference import Reference
from modelrunner.text import os_hint, os_reason

_LIMIT = 8 * 1024 * 1024
_MOST = 10_000
_KIND = Kind(UsageError, limit=_LIMIT, conflict="resolve the conflict first")
_HINT = 'write one reference per line, or references = ["ai/smollm2:135M", ...]'
_TOML = re.compile(r"\[|[A-Za-z_]+\s*=")


def read_wanted(path: Path) -> tuple[Reference, ...]:
    """Read a file, see `parse_wanted`.

    Raises:
        UsageError: It cannot be read.
    """
    try:
        # outside: a file that a person names
        with path.open("rb") as file:
            return parse_wanted(file.read(_LIMIT + 1), str(path))
    except OSError as exc:
        raise UsageError(
            f"cannot read {path}: {os_reason(exc)}",
            hint="name a lock or a file with one reference per line; - is stdin"
            if isinstance(exc, FileNotFoundError)
            else os_hint(exc) or "check the file",
        ) from exc


def parse_wanted(content: bytes, file: str) -> tuple[Reference, ...]:
    """Return what a list names, each once, in its order; with a digest where that is pinned.

    Args:
        content: The list.
        file: What it is called; its ending says what it is, where it has one of these.

    Raises:
        UsageError, LockError: It says something wrong; with the line.
    """
    text = content[: _LIMIT + 1].decode("utf-8-sig", "replace")
    significant = (line.strip() for line in text.split("\n"))
    first = next((line for line in significant if line and not line.startswith("#")), "")
    if file.endswith((".lock", ".toml")) or _TOML.match(first):
        found = _of_toml(content, file)
    else:
        found = _of_text(content, file)
    unique = {str(each): each for each in found}
    if not unique:
        raise UsageError(f"{file}: no models listed", hint=_HINT)
    if len(unique) > _MOST:
        raise UsageError(
            f"{file}: more than {_MOST} models", hint="split the list into several files"
        )
    return tuple(unique.values())


def _of_toml(content: bytes, file: str) -> list[Reference]:
    document = parse_document(content, file, _KIND)
    if "models" in document.value:
        intent = parse_intent(content, file)
        chosen = [model for model in intent.models if model.is_chosen]
        if chosen:
            raise UsageError(
                f"{file}: which variant of {chosen[0].name} is meant is not chosen yet",
                hint="run `modelrunner lock`, and name modelrunner.lock instead",
            )
        return [model.reference for model in intent.models]
    if "references" not in document.value:
        lock = parse_lock(content, file)
        found = [model.pinned for model in lock.models]
        if lock.runtime is not None:
            found.append(lock.runtime.reference.with_digest(lock.runtime.manifest.digest))
        return found
    document.require_known(document.value, ("references",))
    texts = document.value["references"]
    if not isinstance(texts, list) or not all(isinstance(text, str) for text in texts):
        document.refuse("references", message="references must be a list of strings", hint=_HINT)
    return [Reference.parse(text) for text in texts]


def _of_text(content: bytes, file: str) -> list[Reference]:
    if len(content) > _LIMIT:
        raise UsageError(f"{file} exceeds {_LIMIT} bytes", hint="split it into several files")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UsageError(f"{file} is not UTF-8 text", hint=_HINT) from exc
    found = []
    for number, line in enumerate(text.split("\n"), start=1):
        word = line.partition("#")[0].strip()
        if not word:
            continue
        try:
            found.append(Reference.parse(word))
        except UsageError as exc:
            raise exc.about(f"{file}:{number}") from exc
    return found
