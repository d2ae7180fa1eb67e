"""What is asked of a launch, from the command line, the library or a model's configuration.

`LaunchRequest` says what is asked for, `LaunchPlan` what it comes to on this machine, and
`LaunchSpec` what the runtime gets.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal, Self, cast

from modelrunner.errors import UsageError
from modelrunner.frozen import frozen
from modelrunner.memory.plan.load import Load
from modelrunner.runtime.base import (
    BATCH,
    MICRO_BATCH,
    UNQUANTIZED,
    FlashAttention,
    LaunchSpec,
    LoraAdapter,
    RopeScaling,
    RuntimeOptions,
    SplitMode,
)
from modelrunner.runtime.sampling import Sampling, Source
from modelrunner.runtime.settings import Value, changes
from modelrunner.runtime.threads import usable_cores

USUAL_CACHE = "f16"
"""What the KV cache is kept in where nobody asks for another type."""


@frozen(kw_only=True)
class LaunchRequest(RuntimeOptions):
    """How a model is to be started; None leaves a value to the plan or to llama.cpp.

    Attributes:
        context: Tokens of one conversation.
        threads: CPU threads that compute.
        gpu_layers: Layers on the GPU.
        kv_type: The type of the KV cache; for keys alone where `kv_type_v` is set.
        kv_type_v: The type of the cache's values.
        parallel: Requests that are answered at the same time.
        flash_attention: Whether to compute attention without the full matrix.
        batch: Tokens of a prompt handed over at once.
        micro_batch: Tokens of a prompt computed at once.
        memory_map: Whether to map the weights instead of reading them.
        memory_lock: Whether to forbid the system to swap the weights out.
        draft: A way to guess ahead without one: `auto`, `mtp` or `ngram`.
        system: The system prompt where a request has none.
        chat_template: A file with a Jinja template instead of the model's own.
        think: How much to think, as `ThinkKind` takes it.
        limits_thoughts: Whether the runtime can limit the tokens of thoughts.
        moves_experts: Whether the runtime can keep experts in host memory.
        chooses_devices: Whether the runtime can be kept from devices.
        sampling_parts: The sampling by who has asked for it, the one that counts most first.
    """

    context: int | None = None
    threads: int | None = None
    gpu_layers: int | None = None
    kv_type: str | None = None
    kv_type_v: str | None = None
    parallel: int | None = None
    flash_attention: FlashAttention | None = None
    batch: int | None = None
    micro_batch: int | None = None
    memory_map: bool | None = None
    memory_lock: bool | None = None
    draft: str | None = None
    system: str | None = None
    chat_template: Path | None = None
    think: str | None = None
    limits_thoughts: bool = True
    moves_experts: bool = True
    chooses_devices: bool = True
    sampling_parts: tuple[tuple[Source, Sampling], ...] = ()

    @classmethod
    def of(
        cls,
        settings: Mapping[str, Value],
        *,
        draft_model: Path | None = None,
        draft: str | None = None,
        adapters: tuple[LoraAdapter, ...] = (),
        chat_template: Path | None = None,
        raw_flags: tuple[str, ...] = (),
    ) -> Self:
        """Return the request that checked settings make.

        Args:
            settings: Values by the names of `modelrunner.runtime.settings`, without `draft`, `lora`
                and `chat-template`, which are found first.
            draft_model: The file of the draft model.
            draft: A way to guess ahead without one.
            adapters: Adapters (LoRA).
            chat_template: The file of the chat template.
            raw_flags: Flags for llama-server.
        """
        found = changes(settings)
        keys, values = _text(found, "cache_type_k"), _text(found, "cache_type_v")
        return cls(
            context=_whole(found, "context"),
            threads=_whole(found, "threads"),
            gpu_layers=_whole(found, "gpu_layers"),
            kv_type=keys,
            # `kv-type-k` alone says nothing of values
            kv_type_v=values or (keys and USUAL_CACHE),
            parallel=_whole(found, "parallel"),
            # `settings` has checked the words
            flash_attention=cast("FlashAttention | None", _text(found, "flash_attention")),
            batch=_whole(found, "batch"),
            micro_batch=_whole(found, "micro_batch"),
            memory_map=_switch(found, "memory_map"),
            memory_lock=_switch(found, "memory_lock"),
            draft_model=draft_model,
            draft=draft,
            adapters=adapters,
            devices=tuple(filter(None, (_text(found, "devices") or "").split(","))),
            main_gpu=_whole(found, "main_gpu"),
            split_mode=cast("SplitMode | None", _text(found, "split_mode")),
            # bounded: `settings` has checked the numbers
            tensor_split=tuple(
                map(float, filter(None, (_text(found, "tensor_split") or "").split(",")))
            ),
            cpu_moe_layers=_whole(found, "cpu_moe_layers"),
            swa_full=_switch(found, "swa_full") is True,
            kv_unified=_switch(found, "kv_unified"),
            cache_ram=_whole(found, "cache_ram"),
            checkpoints=_whole(found, "checkpoints"),
            template_arguments=_text(found, "template_arguments"),
            seed=_whole(found, "seed"),
            system=_text(found, "system"),
            draft_tokens=_whole(found, "draft_tokens"),
            rope_scaling=cast("RopeScaling | None", _text(found, "rope_scaling")),
            rope_scale=_number(found, "rope_scale"),
            rope_freq_base=_number(found, "rope_freq_base"),
            rpc=_text(found, "rpc"),
            chat_template=chat_template,
            sampling=Sampling.of(found),
            think=_text(found, "think"),
            raw_flags=raw_flags,
        )

    @property
    def cache_types(self) -> tuple[str, str]:
        """The types of keys and of values."""
        return self.kv_type or USUAL_CACHE, self.kv_type_v or self.kv_type or USUAL_CACHE

    def check(self) -> None:
        """Accept a request whose values go together.

        Raises:
            UsageError: A quantized cache of values needs flash attention, which is off; or there
                are draft tokens without a draft model.
        """
        _, values = self.cache_types
        if self.flash_attention == "off" and values not in UNQUANTIZED:
            raise UsageError(
                f"kv-type-v {values} needs flash attention, which is off",
                hint=f"use one of {', '.join(UNQUANTIZED)} for kv-type-v, or remove"
                " flash-attention=off",
            )
        if self.draft_tokens is not None and self.draft_model is None and self.draft is None:
            raise UsageError("draft-tokens needs a draft model", hint="add --draft")
        if self.split_mode == "none" and self.tensor_split:
            raise UsageError(
                "tensor-split cannot be combined with split-mode none",
                hint="remove one of the two; main-gpu says which GPU is used alone",
            )

    def load(self, context: int) -> Load:
        """Return what is asked of memory."""
        keys, values = self.cache_types
        parallel = self.parallel or 1
        return Load(
            context * parallel,
            keys,
            kv_type_v=values if values != keys else None,
            parallel=parallel,
            micro_batch=self.micro_batch or MICRO_BATCH,
            flash_attention=self.flash_attention != "off",
            gpu_layers=self.gpu_layers,
            cpu_moe_layers=self.cpu_moe_layers or 0,
            movable_experts=self.moves_experts,
            tensor_split=self.tensor_split,
            unified=self.kv_unified is True,
            prompt_cache=(self.cache_ram or 0) << 20,
            checkpoints=self.checkpoints or 0,
            own_draft=self.draft_kind == "draft-mtp",
        )

    def spec(
        self,
        model: Path,
        name: str,
        context: int,
        *,
        api_key: str = "",
        mmproj: Path | None = None,
        adapter: Path | None = None,
        own_template: Path | None = None,
        purpose: Literal["chat", "embedding", "ranking"] = "chat",
    ) -> LaunchSpec:
        """Return what a runtime gets.

        Args:
            model: The weights.
            name: What the server calls the model.
            context: Tokens of one conversation, as planned.
            api_key: The key that requests must carry.
            mmproj: The projector of a multimodal model.
            adapter: A LoRA.
            own_template: The chat template beside the weights, used where none is asked for.
            purpose: What is served: answers, embeddings, or scores of documents.
        """
        keys, values = self.cache_types
        return LaunchSpec(
            model=model,
            name=name,
            context=context,
            threads=self.threads or usable_cores(),
            api_key=api_key,
            parallel=self.parallel or 1,
            gpu_layers=self.gpu_layers,
            cache_type_k=keys,
            cache_type_v=values,
            flash_attention=self.flash_attention or "auto",
            batch=self.batch or BATCH,
            micro_batch=self.micro_batch or MICRO_BATCH,
            mmproj=mmproj,
            adapter=adapter,
            chat_template=self.chat_template or own_template,
            embedding=purpose == "embedding",
            ranking=purpose == "ranking",
            memory_map=self.memory_map is not False,
            memory_lock=self.memory_lock is True,
            **self.passed_on(),
        )


def _whole(fields: Mapping[str, Value], name: str) -> int | None:
    value = fields.get(name)
    return value if isinstance(value, int) else None


def _number(fields: Mapping[str, Value], name: str) -> float | None:
    value = fields.get(name)
    return value if isinstance(value, (int, float)) else None


def _text(fields: Mapping[str, Value], name: str) -> str | None:
    value = fields.get(name)
    return value if isinstance(value, str) else None


def _switch(fields: Mapping[str, Value], name: str) -> bool | None:
    value = fields.get(name)
    return value if isinstance(value, bool) else None
