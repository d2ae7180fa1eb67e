"""`modelrunner serve`."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from types import MappingProxyType
from typing import Annotated

from modelrunner.cli.context import Context, command
from modelrunner.cli.options import (
    Mmproj,
    RequireGpu,
    RuntimeChoice,
)
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.launching import (
    NO_LAUNCH_OPTIONS,
    Launch,
    find_or_pull,
    runtime_for,
    usable_for,
    warn_of_rpc,
)
from modelrunner.cli.steps.serving import serve_detached, serve_here
from modelrunner.cli.views.devices import warn_of_devices
from modelrunner.errors import ModelRunnerError, UsageError
from modelrunner.net import is_loopback
from modelrunner.operations.devices import Usable, narrowed
from modelrunner.operations.launch.plan import external_line
from modelrunner.operations.launch.precedence import LaunchOptions, needs_of_options
from modelrunner.operations.pull.fit import bytes_of
from modelrunner.operations.serve.keys import (
    CONTROL_VARIABLE,
    GENERATED,
    KEY_VARIABLE,
    choose_control_key,
    choose_keys,
)
from modelrunner.operations.serve.library import StoreLibrary
from modelrunner.operations.serve.plan import ServePlan, budget_of, plan_serving, rooms_of
from modelrunner.operations.serve.run import ServeOrder, listening, require_libraries
from modelrunner.runtime.abilities import require_for
from modelrunner.runtime.base import Ability, Runtime
from modelrunner.runtime.images.library import Library
from modelrunner.serve.models import Room
from modelrunner.serve.process.certificate import Certificate
from modelrunner.store.store import StoredModel
from modelrunner.system.processes import hide_argument

_DURATION = re.compile(r"(?:(\d+)h)?(?:(\d+)m)?(?:(\d+(?:\.\d+)?)s?)?")
_ORIGIN = re.compile(r"([a-z][a-z0-9+.-]*)://([^/?#@\s]+)/?", re.IGNORECASE)
_HOST = re.compile(r"[a-z0-9_]([a-z0-9_.-]{0,251}[a-z0-9_])?", re.IGNORECASE)
_ANY_ORIGIN = "*"
_USUAL_PORTS = {"http": ":80", "https": ":443"}


@command(
    examples="  modelrunner serve ai/smollm2\n"
    "  modelrunner serve ai/granite-4.0-micro ai/smollm2 --detach --keep-alive 30m\n"
    '  curl http://127.0.0.1:12434/v1/chat/completions -d \'{"model": "ai/smollm2",'
    ' "messages": [{"role": "user", "content": "hi"}]}\'',
    rest="--flag",
)
def serve_models(
    context: Context,
    references: Annotated[
        list[str] | None,
        Argument(metavar="[REF...]", help="Models (pulled if missing) or GGUF files."),
    ] = None,
    everything: Annotated[bool, Option("--all", help="Serve all local models.")] = False,
    port: Annotated[
        int | None,
        Option(
            min=0,
            max=65535,
            metavar="N",
            help="Port to listen on; 0 chooses a free one (default: 12434).",
        ),
    ] = None,
    host: Annotated[
        str,
        Option(
            metavar="ADDRESS", help="Address to listen on; beyond loopback, an API key is required."
        ),
    ] = "127.0.0.1",
    detach: Annotated[bool, Option("--detach", "-d", help="Serve in the background.")] = False,
    api_keys: Annotated[
        list[str] | None,
        Option(
            "--api-key",
            metavar="[NAME=]KEY",
            help=f"API key that clients must send; `{GENERATED}` creates one; can be repeated"
            f" with names (default: the value of {KEY_VARIABLE}).",
        ),
    ] = None,
    api_key_file: Annotated[
        Path | None,
        Option(metavar="FILE", help="Read API keys from FILE, one a line: KEY or NAME=KEY."),
    ] = None,
    tls_cert: Annotated[
        Path | None,
        Option(
            metavar="FILE",
            help="Serve over HTTPS with the certificate in FILE (PEM), its chain included.",
        ),
    ] = None,
    tls_key: Annotated[
        Path | None,
        Option(metavar="FILE", help="Private key of --tls-cert (PEM, not encrypted)."),
    ] = None,
    keep_alive: Annotated[
        str,
        Option(
            metavar="TIME",
            help="Unload a model after it has been idle for TIME; -1 keeps it loaded.",
        ),
    ] = "5m",
    origins: Annotated[
        list[str] | None,
        Option(
            "--allow-origin",
            metavar="ORIGIN",
            help="Allow requests from web pages of this origin, such as https://chat.example.com,"
            " app://obsidian.md or `*` for all; can be repeated.",
        ),
    ] = None,
    hosts: Annotated[
        list[str] | None,
        Option(
            "--allow-host",
            metavar="NAME",
            help="Allow requests for this host name, as a reverse proxy sends them; can be"
            " repeated.",
        ),
    ] = None,
    control_key: Annotated[
        str | None,
        Option(
            metavar="KEY",
            help="Key that lets clients on other machines pull and remove models"
            f" (default: the value of {CONTROL_VARIABLE}).",
        ),
    ] = None,
    budget: Annotated[
        str | None,
        Option(
            metavar="SIZE",
            help="Limit the memory of all models together, and of each (default: what is free).",
        ),
    ] = None,
    ui: Annotated[
        bool,
        Option("--ui", help="Offer llama.cpp's page to chat with the models, at /ui."),
    ] = False,
    record_requests: Annotated[
        bool,
        Option(
            "--record-requests",
            help="Record the text of requests and answers for `modelrunner logs --requests`.",
        ),
    ] = False,
    launch: Launch = NO_LAUNCH_OPTIONS,
    mmproj: Mmproj = None,
    runtime: RuntimeChoice = None,
    require_gpu: RequireGpu = False,
) -> None:
    """Serve models through an OpenAI-compatible API; each is loaded on first use.

    The API is at `/v1`, and at `/engines/v1` for clients of Docker Model Runner; Ollama's is at
    `/api`.
    """
    for text in api_keys or ():
        # others on this machine list our arguments, as long as the server lives
        hide_argument(text)
    if control_key is not None:
        hide_argument(control_key)
    require_libraries()
    kept = _seconds(keep_alive)
    choice = choose_keys(
        api_keys or (), api_key_file, context.environ, needed=not is_loopback(host)
    )
    control = choose_control_key(control_key, context.environ)
    certificate = _certificate(context, tls_cert, tls_key)
    pages, names = _origins(origins or []), _hosts(hosts or [])
    # what is not understood is said before anything is pulled
    needs = needs_of_options(launch) & {Ability.RAW_FLAGS, Ability.RPC}
    needs |= {Ability.PAGE} if ui else set()
    memory = bytes_of(budget)
    chosen = runtime_for(context, runtime, needs)
    usable = usable_for(context, chosen, gpu_required=require_gpu)
    wanted = context.settings.port if port is None else port
    with listening(context.settings.servers, host, wanted) as listener:
        planner = _Planner(context, chosen, launch, usable, memory, ui)
        models = _chosen(context, references or [], mmproj, everything=everything)
        plans = planner.all_that_can(models) if everything else planner.all_of(models)
        if any(plan.served.spec.gpu_layers != 0 for plan in plans):
            warn_of_devices(context.console, usable)
        warn_of_rpc(context, [plan.served.spec for plan in plans])
        room = Room(
            budget_of(usable.devices) if memory is None else memory, rooms_of(usable.devices)
        )
        if len(plans) > 1 and not chosen.external:
            context.console.say(room.line([plan.served for plan in plans]), filled=True)
        order = ServeOrder(
            models=[plan.served for plan in plans],
            runtime=chosen,
            host=host,
            keys=choice.keys,
            origins=pages,
            hosts=names,
            keep_alive=kept,
            budget=room.budget,
            gpus=room.gpus,
            strict=memory is not None,
            state=context.settings.servers,
            builds=context.workspace.builds(),
            library=planner.library(),
            everything=everything,
            control_key=control,
            record_requests=record_requests,
            certificate=certificate,
        )
        if detach:
            serve_detached(context, order, listener, choice.made)
        else:
            serve_here(context, order, listener, choice.made)


@dataclass(frozen=True, slots=True)
class _Planner:
    """Plans how models are served, and prints each plan."""

    context: Context
    runtime: Runtime
    launch: LaunchOptions
    usable: Usable
    budget: int | None
    ui: bool

    def all_of(self, models: Sequence[tuple[StoredModel, str]]) -> list[ServePlan]:
        """Return the plans of all models; fails if one cannot be served."""
        return [self._plan(model, name) for model, name in models]

    def all_that_can(self, models: Sequence[tuple[StoredModel, str]]) -> list[ServePlan]:
        """Return the plans of the models that can be served.

        Raises:
            ModelRunnerError: None can be served.
        """
        plans, failure = [], None
        for model, name in models:
            try:
                plans.append(self._plan(model, name))
            except ModelRunnerError as exc:
                self.context.console.warn(f"not served: {exc.message}")
                failure = exc
        if failure is not None and not plans:
            raise failure
        return plans

    def library(self) -> StoreLibrary:
        """Return the store, for the requests that change it."""
        context = self.context
        return StoreLibrary(
            context.store,
            context.workspace.puller,
            context.workspace.pusher,
            self.plan,
            Library(context.settings.runtimes),
            context.offline,
            check=context.workspace.check_carried if context.workspace.guarded else None,
        )

    def plan(
        self, model: StoredModel, name: str, changed: Mapping[str, str] = MappingProxyType({})
    ) -> ServePlan:
        """Return the plan of one model, with settings that count more than the options."""
        request = self.context.workspace.precedence().request(
            self.runtime, model, name, self.launch.overridden(changed)
        )
        usable, request = narrowed(self.usable, request)
        several = Ability.PARALLEL in self.runtime.abilities
        plan = plan_serving(
            self.context.store,
            model,
            name,
            request,
            usable.devices,
            several=several,
            budget=self.budget,
        )
        if self.ui and plan.served.kind == "chat":
            spec = replace(plan.served.spec, ui=True)
            plan = replace(plan, served=replace(plan.served, spec=spec))
        require_for(self.runtime, plan.served.spec)
        external = self.runtime.external
        return replace(plan, line=external_line(self.runtime, name)) if external else plan

    def _plan(self, model: StoredModel, name: str) -> ServePlan:
        plan = self.plan(model, name)
        self.context.console.say(plan.line, filled=True)
        if plan.warning is not None:
            self.context.console.warn(f"{name}: {plan.warning}")
        if not plan.fits and not self.runtime.external:
            self.context.console.warn(f"{name}: memory is short, it may fail or be slow")
        return plan


def _chosen(
    context: Context, references: Sequence[str], mmproj: Path | None, *, everything: bool
) -> list[tuple[StoredModel, str]]:
    """Return each model once, with its displayed name."""
    if everything == bool(references):
        raise UsageError(
            "no model given" if not references else "--all and model names cannot be combined",
            hint="name models, or use --all to serve all local models",
        )
    if everything:
        named = [m for m in context.store.models() if m.references and m.is_runnable]
        if not named:
            context.console.say("no models in the local store yet: clients can pull them")
        return [(model, model.references[0].short) for model in named]
    if mmproj is not None and len(references) != 1:
        raise UsageError(
            f"--mmproj needs one GGUF file, got {len(references)} models",
            hint="serve the file alone: serve FILE.gguf --mmproj FILE",
        )
    chosen: dict[str, tuple[StoredModel, str]] = {}
    for text in references:
        model, name = find_or_pull(context, text, mmproj)
        # requests name a model, and a path is not the name of one
        shown = name if model.is_stored else model.references[0].short
        chosen.setdefault(str(model.digest), (model, shown))
    return list(chosen.values())


def _certificate(context: Context, file: Path | None, key: Path | None) -> Certificate | None:
    if file is None and key is None:
        return None
    if file is None or key is None:
        there, missing = ("--tls-cert", "--tls-key") if key is None else ("--tls-key", "--tls-cert")
        raise UsageError(f"{there} needs {missing}", hint=f"add `{missing} FILE`")
    found = Certificate.load(file, key)
    warning = found.warning(datetime.now(UTC))
    if warning is not None:
        context.console.warn(f"{warning}: clients will refuse it")
    return found


def _origins(said: Sequence[str]) -> frozenset[str]:
    """Return origins as browsers send them: in lower case, without a slash or default port."""
    found = set()
    for origin in said:
        match = _ORIGIN.fullmatch(origin)
        if match is None and origin != _ANY_ORIGIN:
            raise UsageError(
                f"invalid origin: {origin[:100]!r}",
                hint="write it like https://example.com, or app://* for every host of a scheme",
            )
        if match is None:
            found.add(origin)
            continue
        scheme, rest = match[1].lower(), match[2].lower()
        found.add(f"{scheme}://{rest.removesuffix(_USUAL_PORTS.get(scheme, '/'))}")
    return frozenset(found)


def _hosts(said: Sequence[str]) -> frozenset[str]:
    for name in said:
        if not _HOST.fullmatch(name):
            raise UsageError(
                f"invalid host name: {name[:100]!r}",
                hint="write it like llm.example.com, without a scheme and a port",
            )
    return frozenset(name.lower() for name in said)


def _seconds(text: str) -> float | None:
    """Return the seconds of `5m`, `1h30m`, `90s` or `90`; None for never."""
    if text == "-1":
        return None
    match = _DURATION.fullmatch(text)
    if not text or match is None:
        raise UsageError(
            f"--keep-alive: invalid duration {text[:50]!r}",
            hint="write it like 5m, 1h30m or 90s; -1 means never",
        )
    hours, minutes, seconds = match.groups()
    return int(hours or 0) * 3600 + int(minutes or 0) * 60 + float(seconds or 0)
