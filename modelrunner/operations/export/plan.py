"""What every export says, whatever its format: which content, how it is served, what it may use.

plan = ExportPlan(...)
plan.pinned         -> ai/smollm2:135M-Q4_1@sha256:...      what is pulled
plan.limit          -> the estimate, and a margin           what it may use
plan.arguments(...) -> --model ... --ctx-size ...           how it is served
"""

import re
from dataclasses import dataclass, replace
from pathlib import Path, PurePosixPath
from textwrap import wrap

from modelrunner.errors import UsageError
from modelrunner.oci.reference import DEFAULT_TAG, Reference
from modelrunner.runtime.backends import arguments
from modelrunner.runtime.base import PROMPT_CACHE_MIB, LaunchSpec, RuntimeOptions
from modelrunner.runtime.settings import RPC_WARNING
from modelrunner.text import sanitize_line
from modelrunner.units import format_size

NOBODY = 65534
INSIDE = 8080
"""Where a server listens in its container."""

FOLDER = PurePosixPath("/models")
"""Where a container has the model's files."""

PULLER = "docker.io/library/python:3.12-slim"
"""The image that a model is pulled with, once `pip` has put this program into it."""

GIT_PULLER = "docker.io/library/python:3.12"
"""The same with git, which downloads this program where it was installed from a repository."""

MIB = 1 << 20
_PROGRAM_MIB = 128
APART_MIB = PROMPT_CACHE_MIB + _PROGRAM_MIB
"""What a server takes beside a model: prompts of earlier conversations, and the program."""

_MARGIN = 10
_WIDTH = 96
_LONGEST_NAME = 50
_NAME = re.compile(rf"[a-z](?:[a-z0-9-]{{0,{_LONGEST_NAME - 2}}}[a-z0-9])?")
_LOUD = "LLAMA_ARG_LOG_VERBOSITY"


@dataclass(frozen=True, slots=True)
class Files:
    """A model's files by their names: the weights, or their first shard, and what stands beside."""

    weights: PurePosixPath
    projector: PurePosixPath | None = None
    template: PurePosixPath | None = None
    adapter: PurePosixPath | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ExportPlan:
    """One model as it is to be served elsewhere.

    Attributes:
        pinned: Its name and its digest.
        name: What services and units are called.
        files: Its files.
        context: Tokens of one conversation.
        kv_types: What the cache's keys and values are kept in.
        memory: Bytes that it takes, as estimated.
        port: Where it is offered.
        image: The image that serves it.
        image_note: Where that comes from, in words; None for one that was named, or the usual one.
        source: The requirement that installs this program there; None where nothing does.
        origin: Where this copy of the program came from, in words.
        puller: An image that has this program; None for one of Python that installs `source`.
        rpc: RPC servers of llama.cpp that compute too.
        embedding: Whether it makes vectors.
        ranking: Whether it scores documents.
        folder: Where its files are on this machine; None where they are not here.
        program: The path of `llama-server`, where no container has it.
        advised: What the artifact advises for a launch.
        volume: The image that has its files, by its digest; None where it is pulled.
        asks: What it advises in a line, with what a request has to say itself; None for nothing.
    """

    pinned: Reference
    name: str
    files: Files
    context: int
    kv_types: tuple[str, str]
    memory: int
    port: int
    image: str
    image_note: str | None = None
    source: str | None = None
    origin: str = ""
    puller: str | None = None
    rpc: str | None = None
    embedding: bool = False
    ranking: bool = False
    folder: Path | None = None
    program: str = "/usr/local/bin/llama-server"
    advised: RuntimeOptions = RuntimeOptions()  # noqa: RUF009 - it is frozen
    volume: str | None = None
    asks: str | None = None

    @property
    def alias(self) -> str:
        """What people call the model: its name without the digest."""
        return self.pinned.short.partition("@sha256:")[0]

    @property
    def request(self) -> int:
        """Bytes to set aside: the estimate, in whole MiB."""
        return _whole(self.memory)

    @property
    def limit(self) -> int:
        """Bytes that are not to be exceeded: the estimate, a margin, and what it does not count."""
        extra = APART_MIB * MIB
        return _whole(self.memory + -(-self.memory // _MARGIN) + extra)

    def notes(self, *more: str) -> list[str]:
        """What a person who reads the file should know, line by line; `more` stands last."""
        notes = [
            f"{self.alias}, served by llama.cpp. Pinned: {self.pinned.short}",
            self._memory_note(),
            "No API key is required: set LLAMA_API_KEY before you expose it to others.",
        ]
        if self.image_note is not None:
            notes.append(f"Server image: {self.image_note}")
        if self.asks is not None:
            notes.append(f"As packaged: {self.asks}")
        return [line for each in (*notes, *self._rpc_notes(), *more) for line in lines_of(each)]

    def _memory_note(self) -> str:
        cache = " and ".join(dict.fromkeys(self.kv_types))
        whole = ", computed at once," if self.embedding or self.ranking else ""
        return (
            f"Memory: {format_size(self.memory)} ({self.memory} bytes), as `modelrunner estimate`"
            f" has it for a context of {self.context}{whole} and a cache in {cache}."
            f" The limit of {self.limit // MIB} MiB is a tenth more, and"
            f" {PROMPT_CACHE_MIB} MiB for prompts of earlier conversations and"
            f" {_PROGRAM_MIB} MiB for the program."
        )

    def _rpc_notes(self) -> list[str]:
        if self.rpc is None:
            return []
        said = (
            f"{RPC_WARNING}. The server must be built with GGML_RPC=ON; the memory of other "
            "machines is not counted above."
        )
        return [said]

    def arguments(self, folder: PurePosixPath, host: str, port: int) -> list[str]:
        """The command line of `llama-server` after its name.

        Args:
            folder: Where it finds the model's files.
            host: Where it listens.
            port: The port of that.
        """
        line = arguments.arguments(self._spec(folder), port, host=host)
        at = line.index("--threads")
        # how many cores there are is known where it runs
        return [*line[:at], *line[at + 2 :]]

    def environment(self) -> dict[str, str]:
        """The variables of `llama-server`; a log that only we would read is left out."""
        found = arguments.environment(self._spec(FOLDER))
        return {name: value for name, value in sorted(found.items()) if name != _LOUD}

    def _spec(self, folder: PurePosixPath) -> LaunchSpec:
        files = self.files
        found = LaunchSpec(
            model=Path(folder / files.weights),
            name=self.alias,
            context=self.context,
            threads=1,
            api_key="",
            cache_type_k=self.kv_types[0],
            cache_type_v=self.kv_types[1],
            mmproj=Path(folder / files.projector) if files.projector else None,
            adapter=Path(folder / files.adapter) if files.adapter else None,
            chat_template=Path(folder / files.template) if files.template else None,
            embedding=self.embedding,
            ranking=self.ranking,
            **{**self.advised.passed_on(), "rpc": self.rpc},
        )
        # an encoder sees its text whole
        encodes = self.embedding or self.ranking
        return replace(found, batch=self.context, micro_batch=self.context) if encodes else found


def name_for(reference: Reference) -> str:
    """A name for services and units that a reference suggests: `smollm2-135m-q4-1`."""
    tag = reference.tag if reference.tag not in (None, DEFAULT_TAG) else ""
    text = f"{reference.repository.rpartition('/')[2]}-{tag}".lower()
    text = re.sub("[^a-z0-9]+", "-", text).strip("-")
    if not text[:1].isalpha():
        text = f"model-{text}"
    return text[:_LONGEST_NAME].strip("-")


def checked_name(text: str) -> str:
    """A name that every kind of export takes.

    Raises:
        UsageError: It is invalid.
    """
    if not _NAME.fullmatch(text):
        raise UsageError(
            f"--name: invalid service name {text[:80]!r}",
            hint=(
                f"use up to {_LONGEST_NAME} lower-case letters, digits and `-`, beginning with a "
                "letter"
            ),
        )
    return text


def lines_of(text: str) -> list[str]:
    """A note as lines, none of them too long."""
    return wrap(sanitize_line(text, 2000), _WIDTH, break_long_words=False, break_on_hyphens=False)


def _whole(size: int) -> int:
    return -(-size // MIB) * MIB
