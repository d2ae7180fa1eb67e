"""From an app and a model to what is served: the plan, what to say of it, the order."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from modelrunner.agents.app import App, Endpoint
from modelrunner.operations.agents.advice import Advised, advised
from modelrunner.operations.agents.choose import Choice, choose, least_context
from modelrunner.operations.agents.sizing import Sized, sized
from modelrunner.operations.devices import Usable, narrowed
from modelrunner.operations.estimate.estimate import Estimator
from modelrunner.operations.launch.builds import Builds
from modelrunner.operations.launch.plan import external_line
from modelrunner.operations.launch.precedence import LaunchOptions, Precedence
from modelrunner.operations.serve.plan import ServePlan, budget_of, plan_serving
from modelrunner.operations.serve.run import ServeOrder
from modelrunner.runtime.abilities import require_for
from modelrunner.runtime.base import Ability, Runtime
from modelrunner.runtime.capabilities.facts import Thinking
from modelrunner.serve.client.keys import ApiKeys
from modelrunner.store.store import Store, StoredModel
from modelrunner.units import format_size

_FALLBACK = "ai/qwen3"
"""What to download where no card says that something fits."""


@dataclass(frozen=True, slots=True)
class Chosen:
    """A model for an app.

    Attributes:
        model: The model.
        name: What requests call it.
        sized: How it is run.
        choice: Why, where it was not named.
    """

    model: StoredModel
    name: str
    sized: Sized
    choice: Choice | None = None


@dataclass(frozen=True, slots=True)
class Prepared:
    """A model as it will be served to an app."""

    plan: ServePlan
    line: str
    tools: bool
    thinking: Thinking | None

    def endpoint(self, url: str, key: str) -> Endpoint:
        """Return where the app finds it."""
        served = self.plan.served
        return Endpoint(
            url=url,
            key=key,
            model=served.name,
            context=served.spec.context,
            images=served.spec.mmproj is not None,
            thinks=self.thinking is not None,
        )


@dataclass(frozen=True, slots=True)
class Preparing:
    """Chooses and plans a model for an app.

    Attributes:
        store: The local store.
        precedence: Which value of a setting counts.
        estimator: Who knows what else would fit.
        runtime: What serves.
        usable: What it can use of this machine.
        options: What the user asks for.
        app: The app.
        say: Takes sentences.
    """

    store: Store
    precedence: Precedence
    estimator: Estimator
    runtime: Runtime
    usable: Usable
    options: LaunchOptions
    app: App
    say: Callable[[str], None]

    def choose(self) -> Chosen:
        """Return the best model of the store, and say why it is.

        Raises:
            ModelNotFoundError, DoesNotFitError: None will do.
        """
        choice = choose(self.store, self.app, self._size, self._missing)
        best = choice.best
        self.say(choice.why(self.app))
        for other in choice.better[:1]:
            self.say(f"larger, but not used: {other.name}: {other.reason}")
        more = self._advised(larger_than=best.weight[1])
        if more is not None:
            self.say(
                f"`modelrunner pull {more.name}` downloads a larger one that fits"
                f" ({format_size(more.size)})"
            )
        return self.take(best.model, best.name, choice)

    def take(self, model: StoredModel, name: str, choice: Choice | None = None) -> Chosen:
        """Return a model as it would be run for the app.

        Raises:
            CorruptStoreError, MalformedGGUFError, UnsupportedArtifactError: It cannot be served.
        """
        return Chosen(model, name, self._size(model, name), choice)

    def warnings(self, chosen: Chosen) -> tuple[str, ...]:
        """What will not work well, one sentence each."""
        app, plan, context = self.app, chosen.sized.plan, chosen.sized.context
        found = []
        if app.agent and not plan.knows_tools and not self.runtime.external:
            found.append(
                f"the chat template of {chosen.name} does not support tools: {app.title} will not"
                " be able to read or change files"
            )
        least = least_context(app)
        if context < app.prompt:
            found.append(
                f"a context of {context} is too short: {app.title} sends about {app.prompt} tokens"
                f" before your first word{self._remedy(chosen)}"
            )
        elif context < least:
            found.append(
                f"a context of {context} is short for {app.title}: {least} or more are"
                f" recommended{self._remedy(chosen)}"
            )
        return tuple(found)

    def serve(self, chosen: Chosen) -> Prepared:
        """Return a model as it will be served.

        Raises:
            UsageError: The runtime has no way to do what is asked for.
        """
        usable, request = narrowed(self.usable, chosen.sized.request)
        plan = plan_serving(
            self.store, chosen.model, chosen.name, request, usable.devices, several=False
        )
        require_for(self.runtime, plan.served.spec)
        external = self.runtime.external
        line = external_line(self.runtime, chosen.name) if external else plan.line
        capabilities = chosen.sized.plan.capabilities
        return Prepared(plan, line, capabilities.tools, capabilities.thinking)

    def order(self, prepared: Prepared, key: str, state: Path, builds: Builds) -> ServeOrder:
        """Return what is served, and for whom: the app alone, for as long as it runs."""
        return ServeOrder(
            models=[prepared.plan.served],
            runtime=self.runtime,
            host="127.0.0.1",
            keys=ApiKeys.only(key),
            origins=frozenset(),
            hosts=frozenset(),
            keep_alive=None,
            budget=budget_of(self.usable.devices),
            strict=False,
            state=state,
            builds=builds,
        )

    def _size(self, model: StoredModel, name: str) -> Sized:
        request = self.precedence.request(self.runtime, model, name, self.options)
        several = Ability.PARALLEL in self.runtime.abilities
        return sized(self.store, model, name, request, self.usable, several=several)

    def _remedy(self, chosen: Chosen) -> str:
        trained = chosen.sized.plan.trained_context
        if self.options.context is not None and (trained or 0) > self.options.context:
            return "; raise --context"
        more = self._advised()
        return "" if more is None else f"; `modelrunner pull {more.name}` fits with more"

    def _missing(self) -> str:
        more = self._advised()
        name = _FALLBACK if more is None else more.name
        return f"`modelrunner pull {name}` downloads one, or name one with --model"

    def _advised(self, larger_than: int = 0) -> Advised | None:
        return advised(
            self.estimator.catalog().cards(),
            self.estimator,
            least_context(self.app),
            larger_than=larger_than,
        )
