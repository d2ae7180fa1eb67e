"""What a runtime is: a program that may be installed, and serves a model.

A runtime starts a server as a child process that speaks OpenAI HTTP on loopback; a client of
it needs a URL and a key, and knows nothing of the runtime:

    server = runtime.start(spec, log)
    with server:
        server.wait_until_ready(deadline_s=300)
        ...                                     # HTTP to server.base_url with server.api_key
"""

import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from enum import StrEnum
from pathlib import Path
from types import TracebackType
from typing import Any, Literal, Protocol, Self

from modelrunner.disk.inside import read_inside
from modelrunner.frozen import field, frozen
from modelrunner.runtime.placement import Placement, placement_of
from modelrunner.runtime.sampling import Sampling

_LONGEST_START = 4 << 20
"""Bytes of a log that are read for what a runtime says of its start."""

Progress = Callable[[float | None], None]
"""Hears, a few times a second, the fraction of the load that is done; None where unknown."""


def unheard(_fraction: float | None) -> None:
    """Progress that is ignored."""


class Server(ABC):
    """An OpenAI-compatible endpoint; leaving its `with` block ends it.

    Attributes:
        name: The runtime that serves it.
        api_key: What requests carry as `Authorization: Bearer ...`; empty where none is asked for.
        log: The file with everything that the server prints, if there is one.
        context: Tokens of one conversation as the server itself says once it is ready; it may be
            less than asked for, where the model was trained for less. None where it does not say.
        expert_layers: Layers whose experts it had to keep on the host.
    """

    name: str
    api_key: str
    log: Path | None = None
    context: int | None = None
    expert_layers: int = 0

    @property
    @abstractmethod
    def base_url(self) -> str:
        """`http://127.0.0.1:PORT/v1`.

        Raises:
            RuntimeFailedError: The server is not ready, and its port not known yet.
        """

    @property
    @abstractmethod
    def pid(self) -> int | None:
        """The process whose end is the server's end; None where it is not ours."""

    @abstractmethod
    def wait_until_ready(self, deadline_s: float, on_progress: Progress = unheard) -> None:
        """Return when the model answers; a server that does not get there is stopped.

        Raises:
            RuntimeFailedError: The runtime refused the model, died, or took longer than that.
            PortInUseError: Somebody else took the port.
        """

    @abstractmethod
    def alive(self) -> bool:
        """Whether the process runs, or, where it is not ours, the endpoint answers."""

    def chat_template(self) -> str | None:
        """Return the template that it uses; None where it follows its model, or does not say."""
        return None

    def placement(self) -> Placement | None:
        """Return where it has put the model; None where it does not say."""
        if self.log is None:
            return None
        try:
            text = read_inside(self.log, _LONGEST_START).decode(errors="replace")
        except OSError:
            return None
        return placement_of(text, self.expert_layers)

    @abstractmethod
    def stop(self) -> None:
        """End the server and everything that it started. Doing it twice does no harm."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.stop()


CACHE_TYPES = ("f32", "f16", "bf16", "q8_0", "q4_0", "q4_1", "iq4_nl", "q5_0", "q5_1")
"""What llama.cpp takes as the type of a KV cache."""

UNQUANTIZED = ("f32", "f16", "bf16")
"""Those of them that attention reads without unpacking."""

FlashAttention = Literal["auto", "on", "off"]
RopeScaling = Literal["none", "linear", "yarn"]
BATCH = 2048
MICRO_BATCH = 512
"""What llama.cpp takes where nothing else is asked for."""
PROMPT_CACHE_MIB = 512
"""Host memory for prompts of earlier conversations, where no plan says otherwise. llama.cpp takes
up to 8 GiB by itself, which no estimate of a small model would lead one to expect."""

CONTEXT_CHECKPOINTS = 8
"""States to go back to, for models whose memory cannot be cut at any token."""

LAST_PORT = 65535
_KEY = re.compile(r"[!-+\--~]*")


SplitMode = Literal["none", "layer", "row", "tensor"]
DraftKind = Literal["draft-simple", "draft-eagle3", "draft-dflash", "draft-mtp", "ngram-simple"]
"""How tokens are guessed ahead, in llama.cpp's words (`--spec-type`)."""


@frozen
class LoraAdapter:
    """An adapter (LoRA), and how much of it is applied."""

    path: Path
    scale: float = 1.0


@frozen(kw_only=True)
class RuntimeOptions:
    """What is asked of a launch and reaches the runtime as it is.

    Attributes:
        draft_model: A smaller model of the same family, which guesses what this one then checks.
        draft_kind: How tokens are guessed ahead; None for by the draft model, if there is one.
        draft_tokens: How many tokens it guesses at once; None leaves it to llama.cpp.
        adapters: Further ones, each with its scale.
        devices: The devices to use, as the runtime calls them; empty for all.
        main_gpu: Which of the GPUs has what is not split; None leaves it to llama.cpp.
        split_mode: How a model is split across GPUs; None leaves it to llama.cpp.
        tensor_split: The share of each GPU; empty for that of its free memory.
        cpu_moe_layers: Layers whose experts stay on the CPU.
        swa_full: Whether layers with a window keep a whole context.
        kv_unified: Whether parallel requests share one cache; None leaves it to llama.cpp.
        cache_ram: MiB of host memory for earlier prompts; None for ours.
        checkpoints: States to go back to, for each request; None for ours.
        template_arguments: Values for the chat template, a JSON object.
        seed: The random seed where a request has none; None for another one each time.
        rope_scaling: How positions are stretched beyond what was trained; None as the model says.
        rope_scale: How many times the context is stretched; None as the model says.
        rope_freq_base: The base of the rotary frequencies; None as the model says.
        rpc: Servers of llama.cpp on other machines that compute too, as `HOST:PORT,...`.
        sampling: How tokens are chosen where a request does not say.
        thinking_budget: Tokens to think at most; None leaves it to the runtime.
        raw_flags: What the person at the keyboard has written for the runtime as it is.
    """

    draft_model: Path | None = None
    draft_kind: DraftKind | None = None
    draft_tokens: int | None = None
    adapters: tuple[LoraAdapter, ...] = ()
    devices: tuple[str, ...] = ()
    main_gpu: int | None = None
    split_mode: SplitMode | None = None
    tensor_split: tuple[float, ...] = ()
    cpu_moe_layers: int | None = None
    swa_full: bool = False
    kv_unified: bool | None = None
    cache_ram: int | None = None
    checkpoints: int | None = None
    template_arguments: str | None = None
    seed: int | None = None
    rope_scaling: RopeScaling | None = None
    rope_scale: float | None = None
    rope_freq_base: float | None = None
    rpc: str | None = None
    sampling: Sampling = Sampling()
    thinking_budget: int | None = None
    raw_flags: tuple[str, ...] = ()

    def passed_on(self) -> dict[str, Any]:
        """Return these options by their names."""
        return {name: getattr(self, name) for name in RuntimeOptions.__annotations__}


@frozen(kw_only=True)
class LaunchSpec(RuntimeOptions):
    """How one model is to be served.

    Attributes:
        model: The weights; of a sharded model, the first shard.
        name: What the server calls the model in `/v1/models`.
        context: Tokens of one conversation. With `parallel` conversations the server holds that
            many contexts.
        threads: CPU threads that compute, see `modelrunner.runtime.threads`.
        api_key: The key that requests must carry; empty asks for none. It never shows in `repr`,
            in argv or in a log.
        parallel: How many requests are answered at the same time.
        gpu_layers: Layers on the GPU; None leaves it to llama.cpp: as many as fit.
        cache_type_k: The KV cache's type for keys, as llama.cpp calls it: `f16`, `q8_0`, ...
        cache_type_v: The same for values.
        flash_attention: Whether to compute attention without the full matrix.
        batch: Tokens of a prompt handed over at once.
        micro_batch: Tokens of a prompt computed at once.
        mmproj: The projector of a multimodal model.
        adapter: A LoRA that is applied to the weights.
        chat_template: A Jinja template that takes the place of the model's own.
        embedding: Whether to serve embeddings instead of completions.
        ranking: Whether to serve scores of documents instead.
        memory_map: Whether to map the weights instead of reading them.
        memory_lock: Whether to forbid the system to swap the weights out.
        planned_cache_ram: `cache_ram` where nobody asked for it; what cannot follow ignores it.
        planned_checkpoints: `checkpoints` where nobody asked for them.
        port: Where to listen on 127.0.0.1; 0 is any free port.
        ui: Whether to offer the runtime's own page for chats.
    """

    model: Path
    name: str
    context: int
    threads: int
    api_key: str = field(repr=False)
    parallel: int = 1
    gpu_layers: int | None = None
    cache_type_k: str = "f16"
    cache_type_v: str = "f16"
    flash_attention: FlashAttention = "auto"
    batch: int = BATCH
    micro_batch: int = MICRO_BATCH
    mmproj: Path | None = None
    adapter: Path | None = None
    chat_template: Path | None = None
    embedding: bool = False
    ranking: bool = False
    memory_map: bool = True
    memory_lock: bool = False
    planned_cache_ram: int = PROMPT_CACHE_MIB
    planned_checkpoints: int = CONTEXT_CHECKPOINTS
    port: int = 0
    ui: bool = False

    def __post_init__(self) -> None:
        for cache_type in (self.cache_type_k, self.cache_type_v):
            if cache_type not in CACHE_TYPES:
                raise ValueError(
                    f"invalid KV cache type {cache_type!r}: use one of {', '.join(CACHE_TYPES)}"
                )
        if not 0 <= self.port <= LAST_PORT:
            raise ValueError(f"invalid port {self.port}")
        # llama.cpp splits what it takes for a list of keys at its commas
        if not _KEY.fullmatch(self.api_key):
            raise ValueError("an API key must be printable ASCII characters without commas")

    @property
    def guesses_by(self) -> DraftKind | None:
        """How tokens are guessed ahead: by a draft model, unless another way was decided on."""
        return self.draft_kind or (None if self.draft_model is None else "draft-simple")


PATHS = ("model", "mmproj", "adapter", "chat_template", "draft_model")
"""Those of its fields that name files."""


class Ability(StrEnum):
    """What some runtimes can do and others cannot, by the words of a sentence about it."""

    TOOLS = "tool calls"
    SCHEMA = "answers that match a JSON Schema"
    PROJECTOR = "images"
    ADAPTER = "adapters (LoRA)"
    EMBEDDING = "embeddings"
    RANKING = "reranking"
    DRAFT = "a draft model"
    ROPE = "rope scaling"
    PARALLEL = "parallel requests"
    TELLS_PROGRESS = "progress while a prompt is processed"
    RAW_FLAGS = "llama-server flags"
    DEVICES = "a choice of devices"
    SPLIT = "splitting a model across GPUs"
    CPU_MOE = "experts on the CPU"
    SCALED_ADAPTERS = "several adapters, or one with a scale"
    WHOLE_WINDOW = "full-size caches of sliding-window attention"
    UNIFIED_CACHE = "one KV cache for all requests"
    PROMPT_CACHE = "a size of the prompt cache"
    CHECKPOINTS = "a number of checkpoints"
    TEMPLATE_ARGUMENTS = "values for the chat template"
    RPC = "RPC servers"
    SPLITS_THOUGHTS = "reasoning separate from the answer"
    LIMITS_THOUGHTS = "a limit of thoughts"
    TEMPLATE_FIELDS = "values for the chat template in a request"
    PAGE = "a page to chat"


@frozen
class Availability:
    """Whether a runtime is here, and what to do where it is not.

    Attributes:
        name: The runtime's name, as `--runtime` takes it.
        available: Whether it can be started.
        version: What it says of itself, where it was asked.
        detail: Where it was found, or why it cannot be used.
        hint: A command that installs it, or what it lacks.
        install: The same for what no other runtime offers; None where that is `hint`.
        installed: Whether it is installed, though it may lack something to be started.
    """

    name: str
    available: bool
    version: str | None = None
    detail: str | None = None
    hint: str | None = None
    install: str | None = None
    installed: bool = False


@frozen
class GivenGpus:
    """The GPUs that a runtime is given when it starts, where it cannot be asked before.

    Attributes:
        makers: Those of these makers: `nvidia`, `amd`, `intel`.
        remedy: What gives it those of this machine; empty where nothing does.
    """

    makers: frozenset[str]
    remedy: str = ""


@frozen
class DeviceQuery:
    """How a runtime is asked for the devices that it can use: in a process of its own.

    Attributes:
        command: What to start.
        prints: What it prints: the JSON of `backends.ggml_devices`, or lines for people.
        environ: Its environment.
        build: What changes with the runtime: its files, their sizes and times.
    """

    command: tuple[str, ...]
    prints: Literal["json", "lines"]
    environ: Mapping[str, str] = field(repr=False)
    build: str


@frozen
class RuntimeImage:
    """The image that a runtime was unpacked from.

    Attributes:
        name: What it is called, such as `vulkan@b11434`.
        reference: The name of the image in its registry.
        digest: Of the manifest for this platform.
        index: The digest of the index that the reference named; None for an image alone.
        build: Such as `b11434`, where it is known.
    """

    name: str
    reference: str
    digest: str
    index: str | None
    build: str | None

    def to_dict(self) -> dict[str, str | None]:
        """Return the image as JSON has it."""
        return {
            "name": self.name,
            "build": self.build,
            "reference": self.reference,
            "digest": self.digest,
            "index_digest": self.index,
        }


class Runtime(Protocol):
    """A way to serve a model on this machine."""

    @property
    def name(self) -> str:
        """What `--runtime` calls it."""
        ...

    @property
    def abilities(self) -> frozenset[Ability]:
        """What it can do beyond answering."""
        ...

    @property
    def external(self) -> bool:
        """Whether its server runs already: nothing is started, and its settings are its own."""
        ...

    def availability(self) -> Availability:
        """Whether it is installed and can be started: cheap, without starting it or its version."""
        ...

    def version(self) -> str | None:
        """What it says of itself; None where it is not there or does not say."""
        ...

    def build(self) -> str | None:
        """Return which build it is, without starting it; None where that cannot be known."""
        ...

    def image(self) -> RuntimeImage | None:
        """Return the image that it was unpacked from; None where it was not."""
        ...

    def device_query(self) -> DeviceQuery | GivenGpus | None:
        """Return how to ask for its devices, or which it is given; None for neither."""
        ...

    def start(self, spec: LaunchSpec, log: Path) -> Server:
        """Start a server; it is not ready yet, see `Server.wait_until_ready`.

        Args:
            spec: What to serve, and how.
            log: The file that takes what the server prints; readable by its owner only.

        Raises:
            RuntimeUnavailableError: It is not installed.
            UsageError: The spec asks for what it cannot do, see `modelrunner.runtime.abilities`.
            PortInUseError: Somebody listens on the port asked for.
        """
        ...
