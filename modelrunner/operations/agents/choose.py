"""The model for an app: the best of the store that calls tools and has room for its prompts."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from modelrunner.agents.app import App
from modelrunner.errors import DoesNotFitError, ModelNotFoundError, ModelRunnerError
from modelrunner.operations.agents.sizing import AGENT_CONTEXT, Sized
from modelrunner.operations.model.capabilities import capabilities_of
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import format_size

CHAT_CONTEXT = 8192
"""Tokens that an app needs which does not call tools."""

_NAMED = 3


@dataclass(frozen=True, slots=True)
class Candidate:
    """A model of the store that may be used.

    Attributes:
        model: The model.
        name: What people call it.
        sized: How it would be run; None where it cannot be used.
        reason: Why it is not used: part of a sentence about it.
        needs_memory: Whether it would do on a machine with more memory.
    """

    model: StoredModel
    name: str
    sized: Sized | None = None
    reason: str | None = None
    needs_memory: bool = False

    @property
    def weight(self) -> tuple[int, int, int]:
        """What makes one better than another: that it fits, its size, its context."""
        if self.sized is None:
            return 0, 0, 0
        plan = self.sized.plan
        return self.sized.rank, plan.estimate.weights or 0, self.sized.context


@dataclass(frozen=True, slots=True)
class Choice:
    """The model for an app, and why.

    Attributes:
        best: The model.
        others: Models that would do too.
        refused: Models that would not.
    """

    best: Candidate
    others: tuple[Candidate, ...]
    refused: tuple[Candidate, ...]

    def why(self, app: App) -> str:
        """One sentence: which model, and what speaks for it."""
        context = self.best.sized.context if self.best.sized is not None else 0
        tools = "it calls tools and " if app.agent else "it "
        among = f", the largest of {len(self.others) + 1} that do" if self.others else ""
        return f"using {self.best.name}: {tools}fits with a context of {context}{among}"

    @property
    def better(self) -> tuple[Candidate, ...]:
        """Larger models that only memory, or their context, rules out."""
        size = self.best.weight[1]
        return tuple(
            each for each in self.refused if each.sized is not None and each.weight[1] > size
        )


def least_context(app: App) -> int:
    """Tokens of context that an app needs."""
    return AGENT_CONTEXT if app.agent else CHAT_CONTEXT


def choose(
    store: Store, app: App, size: Callable[[StoredModel, str], Sized], advice: Callable[[], str]
) -> Choice:
    """Choose among the models of a store.

    Args:
        store: The store.
        app: What is to use it.
        size: Returns how a model would be run.
        advice: Returns what to download where none will do, as a hint.

    Raises:
        ModelNotFoundError: None calls tools, or none has a context that is long enough.
        DoesNotFitError: One would do with more memory.
    """
    models = [model for model in store.models() if model.references]
    able = capabilities_of(models)
    found = []
    for model, can in zip(models, able, strict=True):
        name = model.references[0].short
        if not model.is_runnable:
            found.append(Candidate(model, name, reason="llama.cpp does not read its format"))
        elif can is None:
            found.append(Candidate(model, name, reason="its header cannot be read"))
        elif not can.chat:
            found.append(Candidate(model, name, reason="it does not chat"))
        elif app.agent and not can.tools:
            found.append(Candidate(model, name, reason="its chat template has no tools"))
        else:
            found.append(_judged(model, name, app, size))
    fit = sorted((each for each in found if each.reason is None), key=lambda each: each.weight)
    refused = tuple(each for each in found if each.reason is not None)
    if not fit:
        raise _none(app, refused, advice())
    return Choice(fit[-1], tuple(reversed(fit[:-1])), refused)


def _judged(
    model: StoredModel, name: str, app: App, size: Callable[[StoredModel, str], Sized]
) -> Candidate:
    try:
        found = size(model, name)
    except ModelRunnerError as exc:
        return Candidate(model, name, reason=exc.message)
    least = least_context(app)
    trained = found.plan.trained_context
    if found.context >= least and found.fits:
        return Candidate(model, name, found)
    if trained is not None and trained < least:
        return Candidate(model, name, found, f"it was trained for a context of {trained}")
    budget = found.plan.fit.budget_bytes
    where = "" if budget is None else f" into {format_size(budget)}"
    reason = f"it does not fit{where} with a context of {least}"
    return Candidate(model, name, found, reason, needs_memory=True)


def _none(app: App, refused: Sequence[Candidate], hint: str) -> ModelRunnerError:
    tools = " calls tools and" if app.agent else ""
    least = least_context(app)
    if not refused:
        return ModelNotFoundError("no models in the local store", hint=hint)
    near = sorted(refused, key=lambda each: each.weight, reverse=True)
    reasons = "; ".join(f"{each.name}: {each.reason}" for each in near[:_NAMED])
    what = f"no local model{tools} fits with a context of {least} ({reasons})"
    error = DoesNotFitError if any(each.needs_memory for each in near) else ModelNotFoundError
    return error(what, hint=hint)
