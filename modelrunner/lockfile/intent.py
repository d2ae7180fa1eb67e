"""`modelrunner.toml`: the models that a project wants, as people write it.

```toml
[models]
embed = "ai/embeddinggemma:300M-Q8_0"

[models.chat]
ref = "ai/granite-4.0-micro"                # no tag: the largest variant that fits
fit = { vram = "8GiB", context = 8192 }
output = "models/chat"                      # beside this file

[runtime]
image = "vulkan@b11434"                     # a build of llama.cpp
```
A model has a name, by which `lock --update` and `pull --locked` take it; the runtime is `runtime`.
"""

import json
import re
from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from modelrunner.errors import InvalidReferenceError, MalformedManifestError, UsageError
from modelrunner.frozen import field, frozen
from modelrunner.lockfile.document import Document, Kind, near, parse_document, read_document
from modelrunner.lockfile.runtime import RUNTIME, RuntimeIntent
from modelrunner.oci.model.paths import checked_path
from modelrunner.oci.reference import Reference
from modelrunner.oci.runtime_name import AUTO, BACKENDS, named
from modelrunner.units import format_size, parse_size

EXAMPLE = 'models.chat = "ai/smollm2:135M-Q4_K_M"'
KIND = Kind(
    UsageError,
    limit=1024 * 1024,
    conflict="resolve the conflict, then run `modelrunner lock`",
)
_BARE = r"[A-Za-z0-9_-]+"
_EXPLAINED = """\
# The models that this project wants: `modelrunner lock` pins them in modelrunner.lock.
[models]
# chat = "ai/smollm2:135M-Q4_K_M"

# [models.large]
# ref = "ai/granite-4.0-micro"                # no tag: the largest variant that fits
# fit = { vram = "8GiB", context = 8192 }
# output = "models/large"                     # directory for its files, beside this file
"""
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,63}")
MAX_CONTEXT = 2**31 - 1
MAX_VRAM = 1 << 50
_KEYS = ("ref", "fit", "output")
_FIT_KEYS = ("vram", "context")
_ALIASES = {"reference": "ref", "ctx": "context"}


@frozen
class Fit:
    """What a model has to fit into: bytes of GPU memory, at a context in tokens."""

    vram: int
    context: int | None = None

    def __str__(self) -> str:
        context = f" at a context of {self.context}" if self.context is not None else ""
        return f"{format_size(self.vram)}{context}"


@frozen
class ModelIntent:
    """One model of the intent.

    Attributes:
        name: What the project calls it.
        reference: The model.
        text: The reference as it is written.
        fit: What it has to fit into.
        output: A directory for its files, relative to the file's own.
        line: Where it is written.
    """

    name: str
    reference: Reference
    text: str
    fit: Fit | None = None
    output: PurePosixPath | None = None
    line: int = field(default=1, compare=False)

    @property
    def is_chosen(self) -> bool:
        """Whether the variant is still to be chosen: it has to fit, and no tag says which."""
        return self.fit is not None and not _names_one(self.text)


@frozen
class Intent:
    """A whole `modelrunner.toml`; the models are sorted by name."""

    file: str
    models: tuple[ModelIntent, ...]
    runtime: RuntimeIntent | None = None

    def require(self, name: str) -> None:
        """Accept the name of a model, or of the runtime.

        Raises:
            UsageError: Nothing has this name; similar names are suggested.
        """
        if name != RUNTIME or self.runtime is None:
            self.model(name)

    def model(self, name: str) -> ModelIntent:
        """The model of this name.

        Raises:
            UsageError: No model has this name; similar names are suggested.
        """
        for wanted in self.models:
            if wanted.name == name:
                return wanted
        names = tuple(wanted.name for wanted in self.models)
        raise UsageError(f"{self.file}: no model {name[:80]!r}", hint=near(name, names))


def first_intent(references: Sequence[str]) -> str:
    """The text of a first `modelrunner.toml`; each model is called by the last part of its name.

    Args:
        references: Models, as they are typed; without any, the file explains itself.

    Raises:
        InvalidReferenceError: One of them is not a reference.
    """
    if not references:
        return _EXPLAINED
    texts = list(dict.fromkeys(references))
    parsed = [Reference.parse(text) for text in texts]
    last = [_key(each.repository.rpartition("/")[2]) for each in parsed]
    whole = [_key(each.short) for each in parsed]
    lines = ["[models]"]
    for text, short, longer in zip(texts, last, whole, strict=True):
        name = short if last.count(short) == 1 else longer
        key = name if re.fullmatch(_BARE, name) else f'"{name}"'
        lines.append(f"{key} = {json.dumps(text)}")
    return "\n".join([*lines, ""])


def _key(text: str) -> str:
    """A name for a model; a digest is cut."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text.partition("@")[0]).strip("-.")[-64:].lstrip("-.")


def read_intent(path: Path) -> Intent:
    """Reads the file.

    Raises:
        UsageError: There is none, or it says something wrong; with the line.
    """
    document = read_document(path, KIND)
    if document is None:
        raise UsageError(
            f"{path}: file not found",
            hint="create it with `modelrunner lock --init REF...`",
            file=str(path),
        )
    return _intent(document)


def parse_intent(content: bytes, file: str = "modelrunner.toml") -> Intent:
    """Understands what such a file has; `file` is its name in errors.

    Raises:
        UsageError: It says something wrong; with the line.
    """
    return _intent(parse_document(content, file, KIND))


def _intent(document: Document) -> Intent:
    document.require_known(document.value, ("models", RUNTIME))
    models = document.value.get("models", {})
    if not isinstance(models, dict) or not models:
        document.refuse("models", message="no models listed", hint=f"add one, such as: {EXAMPLE}")
    found = tuple(_wanted(document, name, models[name]) for name in sorted(models))
    places: dict[PurePosixPath, str] = {}
    for wanted in found:
        if wanted.output is None:
            continue
        other = places.setdefault(wanted.output, wanted.name)
        if other != wanted.name:
            document.refuse(
                *("models", wanted.name, "output"),
                message=f"{other} and {wanted.name} have the same output {str(wanted.output)!r}",
                hint="give each model its own directory",
            )
    return Intent(document.file, found, _runtime(document, found))


def _runtime(document: Document, models: Sequence[ModelIntent]) -> RuntimeIntent | None:
    value = document.value.get(RUNTIME)
    if value is None:
        return None
    hint = f'write image = "vulkan@b11434": {", ".join(BACKENDS)}, or the reference of an image'
    if not isinstance(value, dict):
        document.refuse(RUNTIME, message="runtime must be a table", hint="write [runtime]")
    document.require_known(value, ("image",), RUNTIME)
    text = value.get("image")
    if not isinstance(text, str):
        document.refuse(RUNTIME, "image", message="runtime: missing `image`", hint=hint)
    if text.partition("@")[0] == AUTO:
        message = "image 'auto' depends on the machine, and a lock is the same everywhere"
        document.refuse(RUNTIME, "image", message=message, hint=hint)
    for model in models:
        if model.name == RUNTIME:
            # `lock --update runtime` could mean either
            message = "a model cannot have the name `runtime` beside a [runtime]"
            document.refuse("models", RUNTIME, message=message, hint="give the model another name")
    try:
        found = named(text)
    except (InvalidReferenceError, UsageError) as exc:
        document.refuse(RUNTIME, "image", message=exc.message, hint=exc.hint)
    return RuntimeIntent(text, found.reference, found.backend, document.line(RUNTIME, "image"))


def _wanted(document: Document, name: str, value: object) -> ModelIntent:
    at = ("models", name)
    if not NAME.fullmatch(name):
        document.refuse(
            *at,
            message=f"invalid model name {name[:80]!r}",
            hint="use up to 64 letters, digits, `.`, `_` and `-`",
        )
    table = _canonical(document, at, {"ref": value} if isinstance(value, str) else value, _KEYS)
    text = table.get("ref")
    if not isinstance(text, str):
        document.refuse(*at, message=f"{name}: missing `ref`", hint='write ref = "ai/..."')
    try:
        reference = Reference.parse(text)
    except InvalidReferenceError as exc:
        document.refuse(*at, "ref", message=exc.message, hint=exc.hint)
    fit = _fit(document, at, table["fit"]) if "fit" in table else None
    output = _output(document, at, table["output"]) if "output" in table else None
    return ModelIntent(name, reference, text, fit, output, document.line(*at))


def _fit(document: Document, at: tuple[str, ...], value: object) -> Fit:
    at = (*at, "fit")
    if not isinstance(value, dict):
        document.refuse(*at, message="fit must be a table", hint='write fit = { vram = "8GiB" }')
    table = _canonical(document, at, value, _FIT_KEYS)
    if "vram" not in table:
        # this machine's would make another lock on every machine
        document.refuse(*at, message="fit needs vram", hint='write fit = { vram = "8GiB" }')
    context = table.get("context")
    if context is not None and not is_number(context, 1, MAX_CONTEXT):
        document.refuse(*at, "context", message="context must be a number of tokens")
    return Fit(_bytes(document, at, table["vram"]), context)


def _bytes(document: Document, at: tuple[str, ...], value: object) -> int:
    try:
        size = parse_size(value) if isinstance(value, str) else value
    except ValueError as exc:
        document.refuse(*at, "vram", message=f"vram: {exc}")
    if not isinstance(size, int) or not is_number(size, 1, MAX_VRAM):
        document.refuse(
            *at, "vram", message="vram must be an amount of memory", hint='write it like "8GiB"'
        )
    return size


def _output(document: Document, at: tuple[str, ...], value: object) -> PurePosixPath:
    hint = "write a directory below this file, such as models/chat"
    if not isinstance(value, str):
        document.refuse(*at, "output", message="output must be a directory", hint=hint)
    try:
        path = checked_path(value)
    except MalformedManifestError:
        document.refuse(
            *at, "output", message=f"output {value[:120]!r} is outside of the project", hint=hint
        )
    return path


def _canonical(
    document: Document, at: tuple[str, ...], value: object, known: tuple[str, ...]
) -> dict[str, Any]:
    """A table with known keys only, each under its one name."""
    if not isinstance(value, dict):
        document.refuse(*at, message=f"{'.'.join(at)} must be a reference or a table")
    aliases = {alias: key for alias, key in _ALIASES.items() if key in known}
    for alias, key in aliases.items():
        if alias in value and key in value:
            document.refuse(*at, alias, message=f"{alias} and {key} mean the same: set only one")
    # the hint names what people should write, not every spelling
    table: dict[str, Any] = value
    strange = {key: entry for key, entry in table.items() if key not in aliases}
    document.require_known(strange, known, *at)
    return {aliases.get(key, key): entry for key, entry in table.items()}


def is_number(value: object, least: int, most: int) -> bool:
    """Whether a value is a whole number in a range; a boolean is not one."""
    return isinstance(value, int) and not isinstance(value, bool) and least <= value <= most


def _names_one(text: str) -> bool:
    return "@" in text or ":" in text.rpartition("/")[2]
