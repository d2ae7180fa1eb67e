"""How a model is started from now on, as `docker model configure` and Compose set it."""

import asyncio
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from starlette.requests import Request
from starlette.responses import JSONResponse, Response

from modelrunner.errors import ModelRunnerError
from modelrunner.serve.apis.docker.engines import BACKEND, MODES
from modelrunner.serve.apis.docker.flags import flags_of, settings_of
from modelrunner.serve.apis.keep_alive import InvalidDurationError, parse
from modelrunner.serve.apis.served import Server
from modelrunner.serve.client.errors import FINAL, RefusalError
from modelrunner.serve.pool import Slot

_MOST_TOKENS = 2**31 - 1
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Configure:
    """`/engines/_configure`: holds until the server ends."""

    server: Server
    _known: dict[str, tuple[Slot, Mapping[str, Any]]] = field(default_factory=dict)
    _tasks: "set[asyncio.Task[None]]" = field(default_factory=set)

    async def show(self, request: Request) -> Response:
        """List what was configured, of all models or one."""
        slots = self.server.pool.slots
        wanted = request.query_params.get("model")
        chosen = list(slots.values()) if wanted is None else [self.server.slot(wanted)]
        return JSONResponse(
            [
                {
                    "Backend": BACKEND,
                    "Model": slot.model.name,
                    "ModelID": str(slot.model.digest),
                    "Mode": MODES[slot.model.kind],
                    "Config": config,
                }
                for slot in chosen
                if (config := self._config(slot)) is not None
            ]
        )

    async def change(self, request: Request) -> Response:
        """Start a model in another way from now on, and load it in the background."""
        store = self.server.changing(request)
        fields = await self.server.fields(request)
        slot = self.server.slot(str(fields.get("model", "")))
        _check(fields, slot)
        config, settings = _settings(fields)
        kept = _kept(fields.get("keep_alive"))
        if self._config(slot) == config:
            return Response(status_code=202)
        await store.configure(slot, settings)
        slot.keep_alive = kept
        self._known[str(slot.model.digest)] = (slot, config)
        # as Docker Model Runner does it: Compose expects a model that is loaded soon
        task = asyncio.create_task(self._load(slot))
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        return Response(status_code=202)

    def _config(self, slot: Slot) -> Mapping[str, Any] | None:
        """What was configured; nothing of a model that was removed and came again."""
        configured, config = self._known.get(str(slot.model.digest), (None, None))
        return config if configured is slot else None

    async def _load(self, slot: Slot) -> None:
        try:
            async with self.server.pool.borrowed(slot.model):
                pass
        except ModelRunnerError as exc:
            _log.warning("%s cannot be loaded: %s", slot.model.name, exc.message)


def _kept(value: object) -> float | None:
    """Seconds of `keep_alive`; None if not given."""
    try:
        return parse(value)
    except InvalidDurationError as exc:
        raise _invalid(
            f"invalid `keep_alive`: expected a duration such as 5m, got {str(value)[:50]!r}"
        ) from exc


def _check(fields: Mapping[str, Any], slot: Slot) -> None:
    """Refuse what could not be followed.

    Raises:
        RefusalError: `vllm`, or a mode that the model does not have.
    """
    if fields.get("vllm"):
        raise _invalid("`vllm` is not supported: models are run by llama.cpp")
    mode = fields.get("mode")
    if mode is not None and mode != MODES[slot.model.kind]:
        raise _invalid(
            f"{slot.model.name} cannot be run in the mode {str(mode)[:50]!r}: it is a model for"
            f" {MODES[slot.model.kind]!r}"
        )


def _settings(fields: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, str]]:
    """Return what is configured as Docker's API shows it, and as settings of ours.

    Raises:
        RefusalError: A value is invalid, or a flag is not allowed.
    """
    flags = flags_of(fields)
    settings = settings_of(flags)
    config: dict[str, Any] = {"runtime-flags": flags} if flags else {}
    tokens = fields.get("context-size")
    if tokens is not None:
        config["context-size"] = tokens
        if type(tokens) is not int or tokens > _MOST_TOKENS:
            raise _invalid("invalid `context-size`: expected a number of tokens")
        if tokens > 0:
            # others stand for the default
            settings["context"] = str(tokens)
    if "keep_alive" in fields:
        config["keep_alive"] = fields["keep_alive"]
    guess = fields.get("speculative")
    if isinstance(guess, Mapping) and guess.get("draft_model"):
        config["speculative"] = guess
        settings["draft"] = _draft(str(guess["draft_model"]))
        if guess.get("num_tokens"):
            settings["draft-tokens"] = str(guess["num_tokens"])
    own = fields.get("llamacpp")
    budget = own.get("reasoning-budget") if isinstance(own, Mapping) else None
    if budget is not None:
        config["llamacpp"] = own
        if type(budget) is not int:
            raise _invalid("invalid `reasoning-budget`: expected a number of tokens")
        if budget >= 0:
            settings["think"] = "off" if budget == 0 else str(budget)
    return config, settings


def _draft(name: str) -> str:
    """A draft model by its name; a path of a file is not one.

    Raises:
        RefusalError: It looks like a path.
    """
    if name.endswith(".gguf") or name.startswith((".", "/", "~")) or "\\" in name:
        raise _invalid("invalid `draft_model`: expected the name of a model, got a path")
    return name


def _invalid(message: str) -> RefusalError:
    return RefusalError(400, message, "invalid_value", [FINAL])
