"""What a server keeps in host memory while it runs: earlier prompts, and states to go back to.

It grows with use up to limits that the runtime is given, so they are made for the memory that is
free beside the model. llama.cpp keeps a prompt with all its keys and values (`--cache-ram`), and,
for models whose memory cannot be cut at any token, states of each conversation (checkpoints).
"""

from collections.abc import Sequence
from typing import NamedTuple

from modelrunner.frozen import replace
from modelrunner.memory.devices.devices import Device
from modelrunner.memory.fit import Fit
from modelrunner.memory.model.shape import ModelShape
from modelrunner.memory.plan.kv_cache import checkpoint_bytes, kv_cache_bytes, recurrent_bytes
from modelrunner.memory.plan.load import Load

MIB = 1024 * 1024
USUAL_PROMPTS = 512 * MIB
MOST_PROMPTS = 8192 * MIB
"""What llama.cpp keeps by itself, whatever the model."""

USUAL_CHECKPOINTS = 8
_CONVERSATIONS = 2
"""A conversation that comes back after another one of its length finds its prompt."""


class Retained(NamedTuple):
    """The most that is kept.

    Attributes:
        prompts: Bytes for earlier prompts, whole MiB.
        checkpoints: States to go back to, for each conversation.
        states: Bytes of these, for all conversations.
        holds: Tokens of a conversation that keeps its prompt while another one of its length
            is answered; at most the context. None where its size is not known.
    """

    prompts: int
    checkpoints: int
    states: int
    holds: int | None

    @property
    def total(self) -> int:
        """Bytes in all."""
        return self.prompts + self.states


def retained(
    shape: ModelShape,
    load: Load,
    room: int | None,
    *,
    prompts: int | None = None,
    checkpoints: int | None = None,
    most: int | None = None,
) -> Retained:
    """Return what is kept beside a model.

    Args:
        shape: The model.
        load: The use.
        room: Bytes of host memory that the model leaves free; None where that is not known.
        prompts: Bytes for earlier prompts, where they were asked for.
        checkpoints: States to go back to, where they were asked for.
        most: Bytes for earlier prompts beyond which nothing is kept; None for what is usual.
    """
    parallel = load.parallel
    known = shape.is_known
    state = checkpoint_bytes(shape, replace(load, checkpoints=1)) if known else 0
    if checkpoints is None:
        checkpoints = USUAL_CHECKPOINTS
        if state and room is not None:
            checkpoints = min(checkpoints, room // 4 // state)
    states = checkpoints * state
    fixed = (recurrent_bytes(shape, load) + states) // parallel if known else 0
    cache = kv_cache_bytes(shape, load) // parallel if known else 0
    if prompts is None:
        prompts = max(USUAL_PROMPTS, min(_CONVERSATIONS * (fixed + cache), most or MOST_PROMPTS))
        prompts = USUAL_PROMPTS if room is None else min(prompts, max(room - states, 0) // 2)
        prompts = prompts // MIB * MIB
    holds = load.each if known else None
    if known and prompts < _CONVERSATIONS * (fixed + cache):
        left = max(prompts // _CONVERSATIONS - fixed, 0)
        holds = load.each * left // max(cache, 1)
    return Retained(prompts, checkpoints, states, holds)


def room_beside(fit: Fit, needed: int, available: Sequence[Device]) -> int | None:
    """Return bytes of host memory that a model leaves free; None where that is not known.

    Args:
        fit: Where the model is put.
        needed: What it takes in all.
        available: The devices of the machine.
    """
    hosts = [held for held in fit.devices if held.kind == "host"]
    if hosts and not any(device.shared for device in available):
        return max(sum(held.free_bytes - held.need_bytes for held in hosts), 0)
    return None if fit.budget_bytes is None else max(fit.budget_bytes - needed, 0)
