"""What a runtime cannot do is said before it is started, and never left out."""

from collections.abc import Iterable, Iterator, Mapping

from modelrunner.errors import UsageError
from modelrunner.runtime.base import Ability, LaunchSpec, Runtime

ABILITIES: Mapping[str, frozenset[Ability]] = {
    # a build of any age, of which images may lack RPC
    "installed": frozenset(Ability) - {Ability.TELLS_PROGRESS},
    # older ones stay silent while they read
    "llama-server": frozenset(Ability) - {Ability.TELLS_PROGRESS},
    # it shows tools to the model, and gives a call back as text
    # a schema that it cannot follow it takes as if there were none: so it is not offered
    "llama-cpp-python": frozenset(
        {Ability.PROJECTOR, Ability.ADAPTER, Ability.EMBEDDING, Ability.ROPE}
    ),
    "xllamacpp": frozenset(Ability) - {Ability.RAW_FLAGS, Ability.RPC},
    # older images stay silent while they read
    "docker": frozenset(Ability) - {Ability.TELLS_PROGRESS},
}
"""What each runtime offers beyond answering, by its name; the preferred first."""


def needed_for(spec: LaunchSpec) -> Iterator[Ability]:
    """What a spec asks of a runtime; not `parallel`, as requests may wait for each other."""
    if spec.mmproj is not None:
        yield Ability.PROJECTOR
    if spec.adapter is not None:
        yield Ability.ADAPTER
    if spec.embedding:
        yield Ability.EMBEDDING
    if spec.ranking:
        yield Ability.RANKING
    if spec.draft_model is not None or spec.draft_tokens is not None:
        yield Ability.DRAFT
    if (spec.rope_scaling, spec.rope_scale, spec.rope_freq_base) != (None, None, None):
        yield Ability.ROPE
    if spec.raw_flags:
        yield Ability.RAW_FLAGS
    if spec.rpc is not None:
        yield Ability.RPC


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
        hint=f"choose one that does: {' or '.join(_who_can(ability))}",
        runtime=runtime.name,
        ability=ability.name.lower(),
    )


def _who_can(ability: Ability) -> list[str]:
    return [f"--runtime {name}" for name, offered in ABILITIES.items() if ability in offered]
