"""How a model is run for an agent: a long context, room for a second request, prompts kept whole.

An agent reads its long prompt again in every turn unless the server has kept it; titles and
sub-agents come between its turns. So the longest context counts more than many requests at a time,
and what is kept of earlier prompts is sized for whole conversations.
"""

from dataclasses import dataclass, replace

from modelrunner.memory.context import DefaultContext
from modelrunner.memory.fit import Verdict
from modelrunner.memory.retained import MIB, retained, room_beside
from modelrunner.operations.devices import Usable, narrowed
from modelrunner.operations.launch.beside import with_adapters
from modelrunner.operations.launch.plan import LaunchPlan, chosen, plan_launch
from modelrunner.operations.launch.request import LaunchRequest
from modelrunner.operations.model import headers
from modelrunner.store.store import Store, StoredModel

AGENT_CONTEXT = 65536
"""Tokens below which an agent spends its turns on summaries of what it did before."""

MOST_CONTEXT = 131072
"""Tokens beyond which no context is chosen: memory for them is better used for speed."""

_AT_A_TIME = 2
"""Requests: an agent asks for a title, or has a helper, while it works."""

_RANKS: dict[Verdict, int] = {"fits": 4, "maybe": 3, "partial": 2, "unknown": 1, "no": 0}


@dataclass(frozen=True, slots=True)
class Sized:
    """A model as it would be run for an agent.

    Attributes:
        request: How it is to be started.
        plan: What that comes to for one conversation.
    """

    request: LaunchRequest
    plan: LaunchPlan

    @property
    def context(self) -> int:
        """Tokens of one conversation."""
        return self.plan.spec.context

    @property
    def rank(self) -> int:
        """How well it fits; more is better."""
        return _RANKS[self.plan.fit.verdict]

    @property
    def fits(self) -> bool:
        """Whether it fits, on the GPU or with the host's help."""
        return self.plan.fit.verdict != "no"


def sized(
    store: Store,
    model: StoredModel,
    name: str,
    request: LaunchRequest,
    usable: Usable,
    *,
    several: bool = True,
) -> Sized:
    """Decide the context of a model for an agent, and what is kept beside it.

    Args:
        store: Where it is.
        model: The model.
        name: What people call it.
        request: What the user asks for; what it says is not changed.
        usable: The devices of this machine.
        several: Whether the runtime answers several requests at a time.

    Raises:
        CorruptStoreError, MalformedGGUFError, UnsupportedArtifactError: It cannot be served.
        UsageError: A device is unknown.
    """
    usable, request = narrowed(usable, request)
    found = headers.of_stored(model)
    shape = with_adapters(found.shape, request)
    most = min(shape.context or MOST_CONTEXT, MOST_CONTEXT)
    request = chosen(
        request,
        shape,
        usable.devices,
        found.projector_bytes,
        DefaultContext(most, "usual"),
        worth=AGENT_CONTEXT,
    )
    plan = plan_launch(store, model, name, request, usable.devices)
    if request.parallel is None:
        more = replace(request, parallel=_AT_A_TIME)
        wider = plan_launch(store, model, name, more, usable.devices) if several else plan
        fits = several and wider.fit.verdict == plan.fit.verdict != "no"
        same = wider.fit.gpu_layers == plan.fit.gpu_layers
        request = more if fits and same else replace(request, parallel=1)
        plan = wider if fits and same else plan
    if request.cache_ram is None:
        # beyond what is kept by default there may be room for whole conversations
        room = room_beside(plan.fit, plan.estimate.total, plan.available)
        kept = retained(shape, plan.load, room, checkpoints=request.checkpoints, most=room)
        request = replace(request, cache_ram=kept.prompts // MIB)
    return Sized(request, plan)
