"""`modelrunner launch`."""

import secrets
import shlex
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

from modelrunner.agents.app import App, Endpoint, Place, Setup
from modelrunner.agents.known import APPS
from modelrunner.cli.context import CommandEnd, Context, command
from modelrunner.cli.options import Mcp, Mmproj, RequireGpu, RuntimeChoice
from modelrunner.cli.parser.declared import Argument, Option
from modelrunner.cli.steps.launching import (
    NO_LAUNCH_OPTIONS,
    Launch,
    find_or_pull,
    runtime_for,
    usable_for,
    waiting,
)
from modelrunner.cli.views.devices import warn_of_devices
from modelrunner.errors import UsageError
from modelrunner.operations.agents.check import check_tools, warm_up
from modelrunner.operations.agents.prepare import Chosen, Prepared, Preparing
from modelrunner.operations.agents.start import (
    find_program,
    private_folder,
    require_program,
    run_app,
    write_files,
)
from modelrunner.operations.serve.run import listening, require_libraries, serving_beside, url_of
from modelrunner.runtime.base import Ability
from modelrunner.text import closest, did_you_mean, sanitize_line
from modelrunner.tools.mcp_file import read_servers

_HOST = "127.0.0.1"
_FOLDER = Path("DIRECTORY")


@command(
    examples="  modelrunner launch claude\n"
    "  modelrunner launch codex --model ai/qwen3 -- exec 'Explain this project'\n"
    "  modelrunner launch opencode --context 65536\n"
    "  modelrunner launch claude --print\n"
    "  modelrunner launch env -- python agent.py",
    rest="--app-argument",
)
def launch(
    context: Context,
    app: Annotated[
        str | None,
        Argument(
            metavar="[APP]",
            help=f"App to start: {', '.join(APPS)}; without one, list them.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        Option(
            "--model",
            metavar="REF",
            help="Model (pulled if missing) or GGUF file (default: the best one in the local"
            " store).",
        ),
    ] = None,
    show: Annotated[
        bool,
        Option("--print", help="Print command, environment and files; start nothing."),
    ] = False,
    port: Annotated[
        int,
        Option(min=0, max=65535, metavar="N", help="Port to serve on; 0 chooses a free one."),
    ] = 0,
    options: Launch = NO_LAUNCH_OPTIONS,
    mcp: Mcp = None,
    mmproj: Mmproj = None,
    runtime: RuntimeChoice = None,
    require_gpu: RequireGpu = False,
    app_arguments: Annotated[
        list[str] | None,
        Option("--app-argument", metavar="WORD", help="Argument of the app.", hidden=True),
    ] = None,
) -> None:
    """Start a coding agent or app on a local model, and stop the model when it ends.

    Everything after `--` is passed to the app. Its own configuration is not changed.
    """
    if app is None:
        _list(context)
        return
    known = _known(app)
    arguments = tuple(app_arguments or ())
    data = context.settings.state / known.name
    servers = _servers(context, known, mcp)
    place = Place(_FOLDER, data, arguments, context.environ, servers)
    if not show:
        require_libraries()
    # what is not there is said before anything is chosen or pulled
    program: Path | str = arguments[0] if arguments else ""
    if known.program:
        found = find_program(known, context.environ)
        program = found or known.program
        if found is None and not show:
            require_program(known, context.environ)
    chosen = runtime_for(context, runtime, {Ability.TOOLS})
    usable = usable_for(context, chosen, gpu_required=require_gpu)
    preparing = Preparing(
        context.store,
        context.workspace.precedence(),
        context.workspace.estimator(usable.devices),
        chosen,
        usable,
        options,
        known,
        context.console.say,
    )
    choice = _chosen(context, preparing, model, mmproj, show=show)
    if not chosen.external:
        warn_of_devices(context.console, usable)
    for text in preparing.warnings(choice):
        context.console.warn(text)
    prepared = preparing.serve(choice)
    context.console.say(prepared.line, filled=True)
    if show:
        endpoint = prepared.endpoint(_url(port), "KEY")
        _print(context, known, endpoint, known.setup(endpoint, place), found=str(program))
        return
    status = _run(context, preparing, prepared, _Start(known, place, program, port))
    if status:
        raise CommandEnd(status)


@dataclass(frozen=True, slots=True)
class _Start:
    """What is started: the app, where, and behind which port its model is."""

    app: App
    place: Place
    program: Path | str
    port: int


def _run(context: Context, preparing: Preparing, prepared: Prepared, start: _Start) -> int:
    """Serve, run the app, and return its exit code."""
    key = secrets.token_urlsafe(32)
    with (
        listening(context.settings.servers, _HOST, start.port) as listener,
        private_folder() as folder,
    ):
        builds = context.workspace.builds()
        order = preparing.order(prepared, key, context.settings.servers, builds)
        endpoint = prepared.endpoint(url_of(order, listener), key)
        with serving_beside(order, listener) as lifeline:
            _check(context, start.app, endpoint, prepared)
            setup = start.app.setup(endpoint, replace(start.place, folder=folder))
            if not setup.command:
                return _hold(context, endpoint, setup)
            write_files(setup, folder)
            sys.stdout.flush()
            return run_app(start.program, setup, context.environ, lifeline)


def _check(context: Context, app: App, endpoint: Endpoint, prepared: Prepared) -> None:
    """Load the model, and warn where its tool calls are not understood."""
    with waiting(context, endpoint.model) as tick:
        tick(None)
        if not (app.agent and prepared.tools):
            warm_up(endpoint)
            return
        outcome = check_tools(endpoint, prepared.thinking)
    if outcome == "not called":
        context.console.warn(
            f"{endpoint.model} answered a test in words instead of calling a tool: {app.title}"
            " may not be able to read and change files"
        )
    elif outcome == "not understood":
        context.console.warn(
            f"a tool call of {endpoint.model} could not be parsed in a test: {app.title} may show"
            " calls as text; try another model or runtime"
        )


def _hold(context: Context, endpoint: Endpoint, setup: Setup) -> int:
    """Print the variables, and serve until a signal; return its exit code."""
    if context.console.json:
        context.console.emit_line({**_facts(endpoint), "environment": dict(setup.environment)})
    else:
        _print_variables(context, setup)
    context.console.flush()
    context.console.say(f"serving {endpoint.model}; press Ctrl-C to stop")
    with _one_signal() as wait:
        return 128 + wait()


@contextmanager
def _one_signal() -> Iterator[Callable[[], int]]:
    """The block in which a function waits for a signal that ends programs, and returns it."""
    wanted = {signal.SIGINT, signal.SIGTERM, signal.SIGHUP}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, wanted)
    try:
        yield lambda: signal.sigwait(wanted)
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


def _servers(context: Context, app: App, file: Path | None) -> dict[str, dict[str, object]]:
    """Return the MCP servers of a file, for an app that takes them.

    Raises:
        UsageError: It does not take them, or the file cannot be used.
    """
    if file is None:
        return {}
    if not app.mcp:
        able = " and ".join(each.name for each in APPS.values() if each.mcp)
        raise UsageError(
            f"--mcp: {app.title} takes MCP servers from its own configuration only",
            hint=f"configure them there; {able} take --mcp",
        )
    return {server.name: server.to_entry() for server in read_servers(file, context.environ)}


def _known(name: str) -> App:
    found = APPS.get(name)
    if found is None:
        shown = sanitize_line(name, 100)
        raise UsageError(
            f"unknown app {shown}",
            hint=did_you_mean(suggested)
            if (suggested := [f"modelrunner launch {near}" for near in _near(name)])
            else f"use one of {', '.join(APPS)}; `env` is for anything else",
        )
    return found


def _near(name: str) -> list[str]:
    same = name.lower().replace("_", "-")
    also = {"claude-code": "claude", "openwebui": "open-webui", "webui": "open-webui"}
    return [also[same]] if same in also else closest(same, [*APPS])


def _chosen(
    context: Context, preparing: Preparing, text: str | None, mmproj: Path | None, *, show: bool
) -> Chosen:
    """Return the model that was named, or the best of the store."""
    if text is None:
        if mmproj is not None:
            raise UsageError(
                "--mmproj needs a GGUF file, and no model was given", hint="add --model FILE.gguf"
            )
        return preparing.choose()
    if show:
        stored = context.store.lookup(text)
        if stored is None and not Path(text).is_file():
            # nothing is downloaded to be shown
            context.store.resolve(text)
    model, name = find_or_pull(context, text, mmproj, chats=True)
    # requests name a model, and a path is not the name of one
    return preparing.take(model, name if model.is_stored else model.references[0].short)


def _list(context: Context) -> None:
    rows = []
    for app in APPS.values():
        found = find_program(app, context.environ) if app.program else None
        rows.append((app, found))
    if context.console.json:
        context.console.emit(
            [
                {
                    "app": app.name,
                    "title": app.title,
                    "path": None if found is None else str(found),
                    "install": app.install or None,
                }
                for app, found in rows
            ]
        )
        return
    lines = [
        (
            app.name,
            app.title if app.program else "any program, or the variables to set",
            "" if not app.program else str(found) if found else f"no; `{app.install}`",
        )
        for app, found in rows
    ]
    context.console.table(("APP", "STARTS", "INSTALLED"), lines, cut=("INSTALLED",))


def _url(port: int) -> str:
    return f"http://{_HOST}:{port or 'PORT'}"


def _facts(endpoint: Endpoint) -> dict[str, object]:
    return {"url": endpoint.url, "model": endpoint.model, "context": endpoint.context}


def _print(context: Context, app: App, endpoint: Endpoint, setup: Setup, *, found: str) -> None:
    """Print what would be done, as a shell would write it."""
    if context.console.json:
        context.console.emit(
            {
                "app": app.name,
                "path": found or None,
                **_facts(endpoint),
                "command": list(setup.command),
                "environment": dict(setup.environment),
                "removed": list(setup.removed),
                "files": {str(_FOLDER / name): text for name, text in setup.files.items()},
            }
        )
        return
    _print_variables(context, setup)
    if setup.removed:
        context.console.print(f"unset {' '.join(setup.removed)}")
    if setup.command:
        context.console.print(shlex.join(setup.command))
    for name, text in setup.files.items():
        context.console.print(f"\n# {_FOLDER / name}")
        context.console.print(text.rstrip("\n"))


def _print_variables(context: Context, setup: Setup) -> None:
    for key, value in setup.environment.items():
        context.console.print(f"export {key}={shlex.quote(value)}")
