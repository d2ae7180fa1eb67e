"""What is served: models, by every name that a request may call them."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass, field, replace
from typing import Literal

from modelrunner.errors import InvalidReferenceError
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference, match_id, names_tag
from modelrunner.runtime.base import LaunchSpec
from modelrunner.runtime.capabilities.facts import Capabilities
from modelrunner.text import listed, sanitize_line
from modelrunner.units import format_size

LONGEST_NAME = 1024
"""Characters of what may be the name of a model; none has as many."""

Kind = Literal["chat", "embedding", "ranking"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What lists say of a model besides its names; None is not known.

    Attributes:
        created: When its artifact was made, in seconds since the epoch.
        architecture: Such as `llama`.
        parameters: How many, as text.
        quantization: Such as `MOSTLY_Q4_K_M`.
        size_bytes: The size of its files.
        embedding_length: Numbers of a vector that it makes.
        capabilities: What it can do.
        stored_at: When it came into the store, in seconds since the epoch.
    """

    created: int | None = None
    architecture: str | None = None
    parameters: str | None = None
    quantization: str | None = None
    size_bytes: int | None = None
    embedding_length: int | None = None
    capabilities: Capabilities | None = None
    stored_at: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Served:
    """One model.

    Attributes:
        name: What people call it.
        digest: Its ID.
        references: All its names.
        aliases: Other spellings of them.
        kind: What it is asked for: answers, or vectors and ranks.
        spec: How it is started.
        memory: Bytes that it takes at most once it is loaded; None if not known.
        on_gpus: Bytes that it takes of each GPU, by what identifies the GPU.
        facts: What lists say of it.
        system: The system prompt for requests that bring none.
        weights: What its weights are known by, whatever it is called.
        stored: Whether its files are those of the local store, and may be removed there.
    """

    name: str
    digest: Digest
    references: tuple[Reference, ...]
    kind: Kind
    spec: LaunchSpec
    memory: int | None
    aliases: Collection[str] = ()
    facts: Facts = field(default_factory=Facts)
    system: str | None = None
    weights: str | None = None
    stored: bool = False
    on_gpus: tuple[tuple[str, int], ...] = ()

    def renamed(self, references: tuple[Reference, ...], aliases: Collection[str]) -> "Served":
        """The model with the names that the store has for it now.

        It is shown by the same one as before while it has that.
        """
        short = [reference.short for reference in references]
        name = self.name if self.name in short else short[0]
        return replace(self, name=name, references=references, aliases=aliases)

    @property
    def claim(self) -> int:
        """Bytes that count against a budget: of a model that is not known, those of its files."""
        return (self.facts.size_bytes or 0) if self.memory is None else self.memory

    def is_called(self, called: "Called") -> bool:
        """Whether this is one of the ways to write it: an ID, a name, a name with a digest."""
        if called.id is not None and self.digest.hex.startswith(called.id):
            return True
        reference = called.reference
        if reference is None:
            return False
        if reference.digest is not None:
            return reference.digest == self.digest
        return called.spelled in self.aliases or any(
            name.digest is None and (name.name, name.tag) == (reference.name, reference.tag)
            for name in self.references
        )


@dataclass(frozen=True, slots=True)
class Room:
    """Memory for all models that are loaded at the same time.

    Attributes:
        budget: Bytes of all places together; None for no limit.
        gpus: Bytes of each GPU, by what identifies it.
    """

    budget: int | None
    gpus: tuple[tuple[str, int], ...] = ()

    def holds(self, models: Sequence[Served]) -> bool:
        """Whether these models can be loaded at the same time."""
        together = sum(model.claim for model in models)
        return (self.budget is None or together <= self.budget) and self._full_gpu(models) is None

    def _full_gpu(self, models: Sequence[Served]) -> tuple[str, int, int] | None:
        """A GPU on which models have no room: its name, what they need, and what there is."""
        for name, size in self.gpus:
            needed = sum(dict(model.on_gpus).get(name, 0) for model in models)
            if needed > size:
                return name, needed, size
        return None

    def line(self, models: Sequence[Served]) -> str:
        """What several models need together, and what is unloaded for another."""
        needed = sum(model.claim for model in models)
        of = "" if self.budget is None else f" of {format_size(self.budget)} memory"
        said = f"together: {format_size(needed)}{of}"
        if self.holds(models):
            return f"{said}; all models can be loaded at the same time"
        full = self._full_gpu(models)
        if full is not None and (self.budget is None or needed <= self.budget):
            name, more, size = full
            said += f", and {format_size(more)} of {format_size(size)} on {name}"
        first: list[Served] = []
        for model in models:
            if self.holds([*first, model]):
                first.append(model)
        *names, last = [model.name for model in first or models[:1]]
        fit = f"{listed(names)} and {last} fit at once" if names else "one model fits at a time"
        return f"{said}; {fit}, the least recently used is unloaded for another"


@dataclass(frozen=True, slots=True)
class Called:
    """What a request calls a model, parsed once for all models that it is compared with.

    Attributes:
        text: As it is written.
        id: The digits, where it has the form of an ID.
        reference: The name; None where it is not one.
        spelled: The name in full.
    """

    text: str
    id: str | None = None
    reference: Reference | None = None
    spelled: str = ""

    @classmethod
    def parse(cls, text: str) -> "Called":
        """What a text calls; nothing where it is longer than any name."""
        if len(text) > LONGEST_NAME:
            return cls(text)
        try:
            reference = Reference.parse(text)
        except InvalidReferenceError:
            return cls(text, match_id(text))
        return cls(text, match_id(text), reference, str(reference))


def find(models: Sequence[Served], text: str) -> Served | None:
    """The model that a request means; IDs come before names, as everywhere."""
    called = Called.parse(text)
    if called.id is not None:
        by_id = [model for model in models if model.digest.hex.startswith(called.id)]
        if by_id:
            return by_id[0]
    found = next((model for model in models if model.is_called(called)), None)
    return found or _only_tag(models, called)


def not_found(text: str, models: Sequence[Served]) -> str:
    """The message for a request that names no model; it lists those that there are."""
    return f"model not found: {sanitize_line(text, 200)}; {there_are(models)}"


def there_are(models: Sequence[Served]) -> str:
    """Which models a server has, for messages."""
    return f"this server has {listed([model.name for model in models]) or 'no models'}"


def _only_tag(models: Sequence[Served], called: Called) -> Served | None:
    """The model that a name under `local/` without a tag means, as in the store."""
    wanted = called.reference
    if wanted is None or not wanted.is_local or wanted.pinned or names_tag(called.text):
        return None
    named = [model for model in models for name in model.references if name.name == wanted.name]
    return named[0] if len(named) == 1 else None
