"""What a runtime cannot do is said before it is started, and never left out."""

from collections.abc import Iterable, Iterator, Mapping

from modelrunner.errors import UsageError
from modelrunner.runtime.base import Ability, LaunchSpec, Runtime
from modelrunner.runtime.settings import KNOWN

ABILITIES: Mapping[str, frozenset[Ability]] = {
    # a build of any age, of which images may lack RPC
    "installed": frozenset(Ability) - {Ability.TELLS_PROGRESS},
    # older ones stay silent while they read
    "llama-server": frozenset(Ability) - {Ability.TELLS_PROGRESS},
    # it shows tools to the model, and gives a call back as text
    # a schema that it cannot follow it takes as if there were none: so it is not offered
    "llama-cpp-python": frozenset(
        {
            Ability.PROJECTOR,
            Ability.ADAPTER,
            Ability.EMBEDDING,
            Ability.ROPE,
            Ability.SPLIT,
            Ability.TEMPLATE_ARGUMENTS,
        }
    ),
    "xllamacpp": frozenset(Ability) - {Ability.RPC},
    # older images stay silent while they read
    "docker": frozenset(Ability) - {Ability.TELLS_PROGRESS},
}
"""What each runtime offers beyond answering, by its name; the preferred first."""


_MOST_NAMED = 2
"""Runtimes that a hint names: the preferred ones."""

_ABILITY_OF: Mapping[str, Ability] = {
    "mmproj": Ability.PROJECTOR,
    "adapter": Ability.ADAPTER,
    "adapters": Ability.SCALED_ADAPTERS,
    "embedding": Ability.EMBEDDING,
    "ranking": Ability.RANKING,
    "devices": Ability.DEVICES,
    "main_gpu": Ability.SPLIT,
    "split_mode": Ability.SPLIT,
    "tensor_split": Ability.SPLIT,
    "cpu_moe_layers": Ability.CPU_MOE,
    "swa_full": Ability.WHOLE_WINDOW,
    "kv_unified": Ability.UNIFIED_CACHE,
    "cache_ram": Ability.PROMPT_CACHE,
    "checkpoints": Ability.CHECKPOINTS,
    "template_arguments": Ability.TEMPLATE_ARGUMENTS,
    "thinking_budget": Ability.LIMITS_THOUGHTS,
    "draft_model": Ability.DRAFT,
    "draft_kind": Ability.DRAFT,
    "draft_tokens": Ability.DRAFT,
    "rope_scaling": Ability.ROPE,
    "rope_scale": Ability.ROPE,
    "rope_freq_base": Ability.ROPE,
    "raw_flags": Ability.RAW_FLAGS,
    "rpc": Ability.RPC,
    "ui": Ability.PAGE,
}
"""What a field of a `LaunchSpec` asks for where it is set."""


def ability_of(key: str) -> Ability | None:
    """Return what a setting asks of a runtime; None where every one has it."""
    return next(filter(None, map(_ABILITY_OF.get, KNOWN[key].fields)), None)


def needed_for(spec: LaunchSpec) -> Iterator[Ability]:
    """What a spec asks of a runtime; not `parallel`, as requests may wait for each other."""
    yield from (
        ability
        for name, ability in _ABILITY_OF.items()
        if getattr(spec, name) != getattr(LaunchSpec, name, None)
    )


def require_for(runtime: Runtime, spec: LaunchSpec) -> None:
    """Accepts a spec of which the runtime can do all.

    Raises:
        UsageError: It cannot; the runtimes that can are named.
    """
    require(runtime, needed_for(spec))


def require(runtime: Runtime, abilities: Iterable[Ability]) -> None:
    """Accepts a runtime that can do all of this.

    Raises:
        UsageError: It cannot; the runtimes that can are named.
    """
    for ability in abilities:
        error = refusal(runtime, ability)
        if error is not None:
            raise error


def refusal(runtime: Runtime, ability: Ability) -> UsageError | None:
    """What is to be said where a runtime cannot do this; None where it can."""
    if ability in runtime.abilities:
        return None
    return UsageError(
        f"{runtime.name} does not offer {ability}",
        hint=f"use {' or '.join(_who_can(ability)[:_MOST_NAMED])}",
        runtime=runtime.name,
        ability=ability.name.lower(),
    )


def _who_can(ability: Ability) -> list[str]:
    return [f"--runtime {name}" for name, offered in ABILITIES.items() if ability in offered]
