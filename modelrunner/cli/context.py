"""What a command works with: its options, the console, and a workspace; it never changes.

`command` declares a function as a command: it takes a `Context` in place of the global options.
"""

import os
import sys
from collections.abc import Callable, Mapping
from functools import cache, partial
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, TypeAlias

from modelrunner.cli.parser.declared import Declaration, Option, Parameter, parameters_of
from modelrunner.cli.terminal.console import Console, ProgressMode
from modelrunner.errors import (
    CanceledByUserError,
    ConfigError,
    ExitStatus,
    ModelRunnerError,
    TransferError,
)
from modelrunner.frozen import frozen, replace
from modelrunner.version import __version__

# late imports: every start loads this, and `--help` and `--version` need no more
if TYPE_CHECKING:
    from modelrunner.config.settings import Settings
    from modelrunner.oci.reference import Reference
    from modelrunner.registry.registries import Registries
    from modelrunner.registry.source import Source
    from modelrunner.store.store import Store
    from modelrunner.workspace import Workspace


Quiet: TypeAlias = Annotated[bool, Option("--quiet", "-q", help="Print results only, no messages.")]
Progress: TypeAlias = Annotated[
    ProgressMode | None,
    Option("--progress", help="How to show the progress of transfers."),
]
Plain: TypeAlias = Annotated[
    bool, Option("--plain", help="Print plain lines: no cursor movement, no drawing.")
]
Offline: TypeAlias = Annotated[bool, Option("--offline", help="Never use the network.")]
Debug: TypeAlias = Annotated[bool, Option("--debug", help="Print debug logs to stderr.")]


GITHUB = "github"
"""The name of the option that some commands have beside the global ones."""


class GlobalOptions(NamedTuple):
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


class Invocation:
    """What the parser has read so far, and what a command has to say if it is interrupted.

    The parser's callbacks and `main` share it; a command gets a `Context`, which does not change.

    Attributes:
        options: The global options.
        interruption: What `--json` prints where the command is ended from outside.
    """

    def __init__(self) -> None:
        self.options = GlobalOptions()
        self.interruption: CanceledByUserError | None = None

    def add(self, said: GlobalOptions) -> None:
        """Note options that were read."""
        self.options = self.options.also(said)

    def interrupted(self, error: CanceledByUserError) -> None:
        """Note what `--json` prints where the command is ended from outside."""
        self.interruption = error


@frozen
class Context:
    """What a command works with: the options, the terminal, and a workspace.

    Attributes:
        options: The global options.
        console: The terminal.
        workspace: Store, registries and policy.
        on_interruption: Takes what is to be said where the command is ended from outside.
    """

    options: GlobalOptions
    console: Console
    workspace: "Workspace"
    on_interruption: Callable[[CanceledByUserError], None]

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


class CommandEnd(Exception):  # noqa: N818 - all was said: no error is printed
    """Ends a command before its function returns.

    Attributes:
        code: The exit code.
    """

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


def command(
    *,
    examples: str,
    more: str = "",
    name: str | None = None,
    rest: str | None = None,
    github: str | None = None,
) -> Callable[[Callable[..., None]], Declaration]:
    """Declare a function that takes the `Context` first as a command.

    Args:
        examples: Command lines, each indented, below the options.
        more: What stands before them, line for line.
        name: Of the command, where the function is called differently.
        rest: The option that takes each word after `--`; None where these are arguments.
        github: What its `--github` does, where it has one.
    """
    epilog = "\n\n".join(f"\b\n{text}" for text in (more, f"Examples:\n{examples}") if text)

    def wrap(function: Callable[..., None]) -> Declaration:
        also = () if github is None else (_github_option(github),)
        return Declaration(function, epilog, name, rest, also)

    return wrap


def _github_option(text: str) -> Parameter:
    return Parameter(GITHUB, Annotated[bool, Option("--github", help=text)], default=False)


def perform(declaration: Declaration, invocation: Invocation, values: dict[str, Any]) -> None:
    """Run a command.

    Args:
        declaration: The command.
        invocation: What was read before its values.
        values: The values of its parameters, and of the options that every command has.
    """
    shared = {entry.name: values.pop(entry.name) for entry in parameters_of(shared_options)}
    invocation.add(shared_options(**shared))
    context = build(invocation)
    try:
        declaration.function(context, **declaration.arguments(values))
    except ModelRunnerError as exc:
        better = context.explained(exc)
        if better is exc:
            raise
        raise better from exc
    context.console.flush()


def shared_options(
    json: Annotated[bool, Option("--json", help="Print the result as JSON.")] = False,
    quiet: Quiet = False,
    progress: Progress = None,
    plain: Plain = False,
    offline: Offline = False,
    debug: Debug = False,
) -> GlobalOptions:
    """Return the global options; every command has the parameters of this function too."""
    return GlobalOptions(json, quiet, progress, plain, offline, debug)


def root_options(
    json: Annotated[bool, Option("--json", help="Print results as JSON.")] = False,
    quiet: Quiet = False,
    progress: Progress = None,
    plain: Plain = False,
    offline: Offline = False,
    debug: Debug = False,
    version: Annotated[bool, Option("--version", "-V", help="Print the version.")] = False,
) -> tuple[GlobalOptions, bool]:
    """Return the global options before the name of a command, and whether to print the version."""
    return shared_options(json, quiet, progress, plain, offline, debug), version


def show_version(options: GlobalOptions) -> None:
    """Print the version of this program."""
    console = console_for(options)
    if options.json:
        console.emit({"version": __version__})
    else:
        console.print(f"modelrunner {__version__}")


def build(invocation: Invocation) -> Context:
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
    return Context(options, console, workspace, invocation.interrupted)


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


def _log_everything() -> None:
    import logging

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(relativeCreated)7.0f ms %(name)s: %(message)s",
    )
    # of our own everything; libraries may write headers with secrets at this level
    logging.getLogger("modelrunner").setLevel(logging.DEBUG)
