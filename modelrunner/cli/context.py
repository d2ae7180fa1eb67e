"""What a command works with: its options, the console, and a workspace; it never changes.

`command` gives every command the global options and hands it a `Context` instead of them.
"""

import inspect
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cache, partial, wraps
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

import typer
from typer.core import TyperCommand
from typer.models import ArgumentInfo, OptionInfo

from modelrunner.cli.parser.completion import completer_for
from modelrunner.cli.parser.help_text import write_parameters
from modelrunner.cli.terminal.console import Console, ProgressMode
from modelrunner.errors import (
    CanceledByUserError,
    ConfigError,
    ExitStatus,
    ModelRunnerError,
    TransferError,
)

# late imports: every start loads this, and `--help` and `--version` need no more
if TYPE_CHECKING:
    from modelrunner.config.settings import Settings
    from modelrunner.oci.reference import Reference
    from modelrunner.registry.registries import Registries
    from modelrunner.registry.source import Source
    from modelrunner.store.store import Store
    from modelrunner.workspace import Workspace


Quiet: TypeAlias = Annotated[
    bool, typer.Option("--quiet", "-q", help="Print results only, no messages.")
]
Progress: TypeAlias = Annotated[
    ProgressMode | None,
    typer.Option("--progress", help="How to show the progress of transfers."),
]
Plain: TypeAlias = Annotated[
    bool, typer.Option("--plain", help="Print plain lines: no cursor movement, no drawing.")
]
Offline: TypeAlias = Annotated[bool, typer.Option("--offline", help="Never use the network.")]
Debug: TypeAlias = Annotated[bool, typer.Option("--debug", help="Print debug logs to stderr.")]


@dataclass(frozen=True, slots=True)
class GlobalOptions:
    """The options that every command has; those before its name count too.

    Attributes:
        github: `--github`, of the commands that have it: errors are annotated for GitHub Actions
        too.
    """

    json: bool = False
    quiet: bool = False
    progress: ProgressMode | None = None
    plain: bool = False
    offline: bool = False
    debug: bool = False
    github: bool = False

    def also(self, other: "GlobalOptions") -> "GlobalOptions":
        """Return what either asks for."""
        return GlobalOptions(
            self.json or other.json,
            self.quiet or other.quiet,
            other.progress or self.progress,
            self.plain or other.plain,
            self.offline or other.offline,
            self.debug or other.debug,
            self.github or other.github,
        )


@dataclass(slots=True, eq=False)
class Invocation:
    """What the parser has read so far, and what a command has to say if it is interrupted.

    The parser's callbacks and `main` share it; a command gets a `Context`, which does not change.
    """

    options: GlobalOptions = field(default_factory=GlobalOptions)
    interruption: CanceledByUserError | None = None

    def add(self, said: GlobalOptions) -> None:
        """Note options that were read."""
        self.options = self.options.also(said)

    def interrupted(self, error: CanceledByUserError) -> None:
        """Note what `--json` prints where the command is ended from outside."""
        self.interruption = error


@dataclass(frozen=True, eq=False)
class Context:
    """What a command works with: the options, the terminal, and a workspace.

    Attributes:
        options: The global options.
        console: The terminal.
        invocation: How the command was called.
        workspace: Store, registries and policy.
        on_interruption: Takes what is to be said where the command is ended from outside.
    """

    options: GlobalOptions
    console: Console
    invocation: typer.Context = field(repr=False)
    workspace: "Workspace"
    on_interruption: Callable[[CanceledByUserError], None] = field(repr=False)

    @property
    def environ(self) -> Mapping[str, str]:
        """The environment."""
        return self.workspace.environ

    @property
    def settings(self) -> "Settings":
        """All settings.

        Raises:
            ConfigError: The configuration cannot be understood.
        """
        return self.workspace.settings

    @property
    def store(self) -> "Store":
        """The local store."""
        return self.workspace.store

    @property
    def registries(self) -> "Registries":
        """Every registry, and the mirrors before them."""
        return self.workspace.registries

    @property
    def offline(self) -> bool:
        """Whether the network is ruled out."""
        return self.workspace.offline

    def source_for(self, reference: "Reference") -> "Source":
        """Return where to pull from, see `Workspace.source_for`."""
        return self.workspace.source_for(reference)

    def require_network(self, what: str) -> None:
        """Refuse what needs the network where it is ruled out, see `Workspace`."""
        self.workspace.require_network(what)

    def require_registry(self, reference: "Reference") -> None:
        """Refuse to ask a model's registry where the network is ruled out, see `Workspace`."""
        self.workspace.require_registry(reference)

    def over(self, workspace: "Workspace") -> "Context":
        """Return this context over another workspace."""
        return replace(self, workspace=workspace)

    def understood(self) -> "tuple[Context, ConfigError | None]":
        """Return this context; with default settings and the error where they are malformed.

        Raises:
            ConfigError: There is no home directory either.
        """
        from modelrunner.config.settings import Settings

        try:
            _ = self.settings
        except ConfigError as exc:
            settings = Settings.load(self.environ, defaults=True)
            return self.over(replace(self.workspace, load=lambda: settings)), exc
        return self, None

    def explained(self, error: ModelRunnerError) -> ModelRunnerError:
        """The error; of a model that was not found, with the names that may have been meant."""
        if isinstance(error, ConfigError) and error.ca_file is not None:
            return self._with_origin(error, error.ca_file)
        if error.exit_code not in (ExitStatus.NOT_FOUND, ExitStatus.ACCESS):
            return error
        # only what fails pays for it
        from modelrunner.cards.catalog import Catalog
        from modelrunner.operations.model.suggestions import with_near_models

        try:
            return with_near_models(error, self.store, Catalog.load())
        except ModelRunnerError:
            # a store that cannot be read helps nobody
            return error

    def _with_origin(self, error: ModelRunnerError, ca_file: str) -> ModelRunnerError:
        """The error about a file of certificates, with who names the file."""
        settings = self.settings
        naming = [
            f"ca_file of {name} in {settings.home / 'config.toml'}"
            for name, registry in settings.registries.items()
            if registry.ca_file == ca_file
        ]
        if settings.ca_file == ca_file:
            naming.insert(0, settings.origin_of("ca_file"))
        if naming:
            error.hint = f"correct the path in {' and '.join(naming)}, or remove it there"
        return error


class Command(TyperCommand):
    """A command whose usage line says `REF`, not `{REF}`: nobody types braces."""

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401 - typer's own is private
        """The words behind the command's name in its usage line."""
        return [piece.strip("{}") for piece in super().collect_usage_pieces(ctx)]

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - see above
        """Writes arguments and options, those that every command has by themselves."""
        write_parameters(ctx, formatter, self.shared)

    @property
    def shared(self) -> frozenset[str]:
        """The names of the parameters that every command has."""
        return frozenset({*inspect.signature(shared_options).parameters, "help"})


class Lent(NamedTuple):
    """Marks a parameter of a command that stands for several options, declared by a function.

    Attributes:
        by: Returns the parameter's value; its own parameters are the options.
    """

    by: Callable[..., object]


def command(
    *,
    examples: str,
    more: str = "",
    name: str | None = None,
    cls: type[Command] = Command,
    github: str | None = None,
) -> Callable[[Callable[..., None]], typer.Typer]:
    """Makes an application of one command out of a function that takes the `Context` first.

    Args:
        examples: Command lines, each indented, below the options.
        more: What stands before them, line for line.
        name: Of the command, where the function is called differently.
        cls: What reads its command line.
        github: What its `--github` does, where it has one.
    """
    epilog = "\n\n".join(f"\b\n{text}" for text in (more, f"Examples:\n{examples}") if text)

    def wrap(function: Callable[..., None]) -> typer.Typer:
        app = typer.Typer(
            rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False
        )
        app.command(name, cls=cls, epilog=epilog)(_with_context(function, github))
        return app

    return wrap


def shared_options(
    json: Annotated[bool, typer.Option("--json", help="Print the result as JSON.")] = False,
    quiet: Quiet = False,
    progress: Progress = None,
    plain: Plain = False,
    offline: Offline = False,
    debug: Debug = False,
) -> GlobalOptions:
    """The global options, as a function whose signature is lent to every command."""
    return GlobalOptions(json, quiet, progress, plain, offline, debug)


def build(invocation: Invocation, ctx: typer.Context) -> Context:
    """Return the context of this process."""
    # `--help` and `--version` need none
    from modelrunner.workspace import Workspace

    options = invocation.options
    if options.debug:
        _log_everything()
    console = console_for(options)
    said: set[str] = set()

    def on_assumed(name: "Reference") -> None:
        if name.short not in said:
            said.add(name.short)
            console.say(f"using {name.short}, the only tag of {name.repository}")

    workspace = Workspace(
        cache(partial(_load, os.environ)),
        os.environ,
        options.offline,
        console.warn,
        on_assumed,
        partial(_report_retry, console),
    )
    return Context(options, console, ctx, workspace, invocation.interrupted)


def _load(environ: Mapping[str, str]) -> "Settings":
    from modelrunner.config.settings import Settings

    return Settings.load(environ)


def _report_retry(
    console: Console, error: TransferError, attempt: int, attempts: int, delay: float
) -> None:
    if console.progress is ProgressMode.JSON:
        # progress is made of events, and this is one that is about no blob
        from modelrunner.cli.progress.json_lines import JsonListener
        from modelrunner.events import Retrying

        JsonListener(console)(Retrying("", error.message, attempt, delay))
        return
    console.say(f"retrying in {delay:.1f} s (try {attempt + 1} of {attempts}): {error.message}")


def console_for(options: GlobalOptions) -> Console:
    """The console that these options ask for."""
    return Console.on_terminal(
        os.environ,
        json_output=options.json,
        quiet=options.quiet,
        progress=options.progress or ProgressMode.AUTO,
        plain=options.plain,
    )


def _with_context(function: Callable[..., None], github: str | None) -> Callable[..., None]:
    shared = list(inspect.signature(shared_options).parameters.values())
    said_by_function = list(inspect.signature(function).parameters.values())[1:]
    lent = {entry.name: lender for entry in said_by_function if (lender := _lender(entry))}
    own = [option for entry in said_by_function for option in _options_of(entry)]
    if github is not None:
        own.append(_github_option(github))
    before = inspect.Parameter("ctx", inspect.Parameter.KEYWORD_ONLY, annotation=typer.Context)

    @wraps(function)
    def wrapper(*, ctx: typer.Context, **values: Any) -> None:  # noqa: ANN401
        said = shared_options(**{entry.name: values.pop(entry.name) for entry in shared})
        # its callback has acted
        values.pop("github", None)
        for name, lender in lent.items():
            taken = {option: values.pop(option) for option in inspect.signature(lender).parameters}
            values[name] = lender(**taken)
        invocation = ctx.find_root().ensure_object(Invocation)
        invocation.add(said)
        context = build(invocation, ctx)
        try:
            function(context, **values)
        except ModelRunnerError as exc:
            better = context.explained(exc)
            if better is exc:
                raise
            raise better from exc
        context.console.flush()

    for entry in own:
        _complete(entry)
    keyword = inspect.Parameter.KEYWORD_ONLY
    parameters = [before, *(entry.replace(kind=keyword) for entry in (*own, *shared))]
    signature = inspect.Signature(parameters, return_annotation=None)
    wrapper.__signature__ = signature  # type: ignore[attr-defined]
    wrapper.__annotations__ = {entry.name: entry.annotation for entry in parameters}
    return wrapper


def _lender(parameter: inspect.Parameter) -> Callable[..., object] | None:
    facts = getattr(parameter.annotation, "__metadata__", ())
    return next((fact.by for fact in facts if isinstance(fact, Lent)), None)


def _options_of(parameter: inspect.Parameter) -> list[inspect.Parameter]:
    lender = _lender(parameter)
    return [parameter] if lender is None else [*inspect.signature(lender).parameters.values()]


def _complete(parameter: inspect.Parameter) -> None:
    """Lets a shell complete what is called alike, in every command alike."""
    for facts in getattr(parameter.annotation, "__metadata__", ()):
        if isinstance(facts, OptionInfo | ArgumentInfo) and facts.autocompletion is None:
            facts.autocompletion = completer_for(parameter.name, facts.metavar)


def _github_option(text: str) -> inspect.Parameter:
    """`--github`, noted before other options are read: mistakes in those are told there too."""
    option = typer.Option("--github", help=text, callback=_note_github, is_eager=True)
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter("github", keyword, default=False, annotation=Annotated[bool, option])


def _note_github(ctx: typer.Context, wanted: bool) -> None:
    ctx.find_root().ensure_object(Invocation).add(GlobalOptions(github=wanted))


def _log_everything() -> None:
    import logging

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(relativeCreated)7.0f ms %(name)s: %(message)s",
    )
    # of our own everything; libraries may write headers with secrets at this level
    logging.getLogger("modelrunner").setLevel(logging.DEBUG)
