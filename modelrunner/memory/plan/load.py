"""What a model is asked to do, as far as memory depends on it."""

from modelrunner.errors import UsageError
from modelrunner.frozen import frozen

CACHE_TYPES: dict[str, tuple[int, int]] = {
    "f32": (1, 4),
    "f16": (1, 2),
    "bf16": (1, 2),
    "q8_0": (32, 34),
    "q5_1": (32, 24),
    "q5_0": (32, 22),
    "q4_1": (32, 20),
    "q4_0": (32, 18),
    "iq4_nl": (32, 18),
}
"""The types a cache can have: elements in a block, bytes of a block."""

PADDING = 256
"""llama.cpp rounds contexts up to a multiple of this."""


@frozen
class Load:
    """How a model will be used.

    Attributes:
        context: Tokens in all, shared by all conversations.
        kv_type: What the cache's keys are kept in, and its values, where these have no type.
        kv_type_v: What its values are kept in, if that is another type.
        parallel: Conversations at the same time.
        micro_batch: Tokens that are computed at once.
        flash_attention: Whether attention is computed without keeping its scores.
        gpu_layers: Layers on the GPU; None for all of them.
        outputs: Rows of logits at once; None for one a sequence, as llama-server plans.
        cpu_moe_layers: Layers whose experts stay in host memory.
        swa_full: Whether layers with a window keep a whole context.
        unified: Whether all conversations share one cache.
        prompt_cache: Bytes of host memory for earlier prompts.
        checkpoints: States of a conversation that are kept to go back to.
        tensor_split: The share of each GPU, where that was asked for.
        movable_experts: Whether more experts may stay in host memory where that is of use.
        own_draft: Whether the model's own extra layers guess ahead (MTP).
    """

    context: int
    kv_type: str = "f16"
    parallel: int = 1
    micro_batch: int = 512
    flash_attention: bool = True
    gpu_layers: int | None = None
    outputs: int | None = None
    cpu_moe_layers: int = 0
    swa_full: bool = False
    unified: bool = False
    prompt_cache: int = 0
    checkpoints: int = 0
    own_draft: bool = False
    tensor_split: tuple[float, ...] = ()
    movable_experts: bool = True
    kv_type_v: str | None = None

    def __post_init__(self) -> None:
        for name in ("context", "parallel", "micro_batch"):
            if getattr(self, name) < 1:
                label = name.replace("_", " ")
                raise UsageError(
                    f"{label} must be at least 1, got {getattr(self, name)}",
                    hint="leave it out for the default",
                )
        for kind in self.kv_types:
            if kind not in CACHE_TYPES:
                raise UsageError(
                    f"invalid KV cache type {kind!r}",
                    hint=f"use one of {', '.join(CACHE_TYPES)}",
                )

    @property
    def kv_types(self) -> tuple[str, str]:
        """The types of the cache's keys and of its values."""
        return self.kv_type, self.kv_type_v or self.kv_type

    @property
    def cache_text(self) -> str:
        """The types of the cache as a sentence has them."""
        keys, values = self.kv_types
        return keys if keys == values else f"{keys} for keys, {values} for values"

    @property
    def each(self) -> int:
        """Tokens of one conversation."""
        return self.context // self.parallel

    @property
    def streams(self) -> int:
        """Caches that there are: one a conversation, or one for all."""
        return 1 if self.unified else self.parallel

    @property
    def cells(self) -> int:
        """Tokens that one cache holds."""
        return padded(padded(self.context) // self.streams)

    @property
    def tokens(self) -> int:
        """Tokens of the largest micro batch, the same number from each sequence."""
        return padded(min(self.context, self.micro_batch), self.parallel)

    @property
    def rows(self) -> int:
        """Rows of logits of one micro batch."""
        return min(self.tokens, self.outputs or self.parallel)

    def cache_bytes(self, elements: int, kind: str | None = None) -> int:
        """Return the bytes of a count of numbers in the cache; of keys, unless `kind` differs."""
        block, size = CACHE_TYPES[kind or self.kv_type]
        return -(-elements // block) * size


def is_packed(kind: str) -> bool:
    """Whether a type of cache packs several numbers into a block."""
    return CACHE_TYPES[kind][0] > 1


def padded(count: int, to: int = PADDING) -> int:
    """The next multiple of `to`."""
    return -(-count // to) * to
