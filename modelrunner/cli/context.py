"""Where everything is put together: settings, console, store, registries; once for each command.

`command` gives every command the global options and hands it a `Context` instead of them.
"""

import inspect
import os
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property, wraps
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand
from typer.models import ArgumentInfo, OptionInfo

from modelrunner.cli.completion import completer_for
from modelrunner.cli.console import Console, ProgressMode
from modelrunner.cli.help_text import write_parameters
from modelrunner.errors import (
    CanceledByUserError,
    ConfigError,
    ExitStatus,
    ModelRunnerError,
    NotInStoreError,
    TransferError,
    UsageError,
)

if TYPE_CHECKING:
    # `--help` and `--version` do without them
    from modelrunner.config.settings import Settings
    from modelrunner.oci.manifest import Manifest
    from modelrunner.oci.reference import Reference
    from modelrunner.operations.trust.gate import Guard
    from modelrunner.registry.oci.referrers import ReferrerPlace
    from modelrunner.registry.registries import Registries
    from modelrunner.registry.source import Source
    from modelrunner.store.store import Store


@dataclass(slots=True)
class GlobalOptions:
    """The options that every command has; those before its name count too.

    Attributes:
        github: `--github`, of the commands that have it: GitHub Actions is told of errors too.
        interruption: What a command that is ended from outside has to say with `--json`.
    """

    json: bool = False
    quiet: bool = False
    progress: ProgressMode | None = None
    plain: bool = False
    offline: bool = False
    debug: bool = False
    github: bool = False
    interruption: CanceledByUserError | None = None

    def add(self, other: "GlobalOptions") -> None:
        """Asks for what the other asks for, too."""
        self.json |= other.json
        self.quiet |= other.quiet
        self.progress = other.progress or self.progress
        self.plain |= other.plain
        self.offline |= other.offline
        self.debug |= other.debug
        self.github |= other.github


@dataclass(frozen=True)
class Context:
    """What a command works with; `invocation` is how it was called."""

    options: GlobalOptions
    console: Console
    invocation: typer.Context = field(repr=False)
    environ: "os._Environ[str]" = field(default_factory=lambda: os.environ, repr=False)

    @cached_property
    def settings(self) -> "Settings":
        """All settings.

        Raises:
            ConfigError: The configuration cannot be understood.
        """
        from modelrunner.config.settings import Settings

        return Settings.load(self.environ)

    def settings_or_defaults(self) -> "tuple[Settings, ConfigError | None]":
        """The settings; where they cannot be understood, the defaults and what is wrong.

        Raises:
            ConfigError: There is no home directory either.
        """
        from modelrunner.config.settings import Settings

        try:
            return self.settings, None
        except ConfigError as exc:
            self.__dict__["settings"] = Settings.load(self.environ, defaults=True)
            return self.settings, exc

    @cached_property
    def store(self) -> "Store":
        """The local store."""
        from modelrunner.store.store import Store

        said: set[str] = set()

        def assumed(name: "Reference") -> None:
            if name.short not in said:
                said.add(name.short)
                self.console.say(f"using {name.short}, the only tag of {name.repository}")

        return Store(self.settings.store, assumed)

    @cached_property
    def places(self) -> "Registries":
        """Every registry, and the mirrors before them; a request that is retried is reported."""
        places = self.settings.places()
        return replace(places, backoff=replace(places.backoff, on_retry=self._report_retry))

    def _report_retry(self, error: TransferError, attempt: int, delay: float) -> None:
        console = self.console
        if console.progress is ProgressMode.JSON:
            # progress is made of events, and this is one that is about no blob
            from modelrunner.cli.progress.json_lines import JsonListener
            from modelrunner.events import Retrying

            JsonListener(console)(Retrying("", error.message, attempt, delay))
            return
        tries = self.places.backoff.attempts
        console.say(f"retrying in {delay:.1f} s (try {attempt + 1} of {tries}): {error.message}")

    def source_for(self, reference: "Reference") -> "Source":
        """Where to pull from.

        Raises:
            ModelNotFoundError: It is a name under `local/`; the near ones are named.
            NotInStoreError: `--offline` was given.
        """
        if reference.is_local:
            raise self.store.unregistered(reference)
        self.require_registry(reference)
        return self.places.source_for(reference)

    @cached_property
    def guarded(self) -> bool:
        """Whether there is a policy; most have none."""
        return self.settings.policy.exists()

    def check(self, reference: "Reference", manifest: "Manifest") -> None:
        """Raises where the policy keeps a model out.

        Raises:
            UnverifiedError: It does.
            AccessError, TransferError, NotInStoreError: Its registry does not tell.
        """
        guard = self._guard
        if guard is not None:
            guard.check(reference, manifest)

    @cached_property
    def _guard(self) -> "Guard | None":
        if not self.guarded:
            return None
        from modelrunner.operations.trust.gate import guard_at

        def ask(reference: "Reference") -> "Sequence[ReferrerPlace]":
            self.require_network(f"checking the signature of {reference.short}")
            return self.places.referrers_of(reference)

        settings = self.settings
        return guard_at(settings.policy, ask, settings.verified, self.console.warn)

    def trust(self, ca_file: Path) -> None:
        """Trusts a bundle of certificates, for every registry that has none of its own."""
        self.__dict__["places"] = replace(self.places, ca_file=str(ca_file))

    def hurry(self, seconds: float) -> None:
        """Gives up on registries after so many seconds."""
        self.__dict__["places"] = self.places.within(seconds)

    def ask_also(self, others: Sequence[str], *, lan: bool) -> None:
        """Takes content that is known by its digest from other places too.

        Args:
            others: References, and addresses of shared stores.
            lan: Whether to look for shared stores on the local network.

        Raises:
            UsageError: The extra `lan` is not installed.
        """
        if lan:
            from modelrunner.registry import lan as network
            from modelrunner.registry.registries import LanStores

            network.require()

            def find() -> Sequence[str]:
                try:
                    return network.find()
                except UsageError as exc:
                    # there are other places
                    self.console.warn(exc.message)
                    return ()

            self.__dict__["places"] = replace(self.places, lan_stores=LanStores(find))
        self.__dict__["places"] = replace(self.places, also=tuple(others))

    def explained(self, error: ModelRunnerError) -> ModelRunnerError:
        """The error; of a model that was not found, with the names that may have been meant."""
        if "ca_file" in error.facts:
            return self._with_origin(error, str(error.facts["ca_file"]))
        if error.exit_code not in (ExitStatus.NOT_FOUND, ExitStatus.ACCESS):
            return error
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

    def require_network(self, what: str) -> None:
        """Refuse what needs the network where `--offline` was given.

        Raises:
            NotInStoreError: It was.
        """
        if self.options.offline:
            raise NotInStoreError(
                f"{what} needs the network, but --offline is set", hint="run it without --offline"
            )

    def require_registry(self, reference: "Reference") -> None:
        """Refuse to ask a model's registry where `--offline` was given.

        Raises:
            NotInStoreError: It was.
        """
        if not self.options.offline:
            return
        if self.store.find(reference) is None:
            raise NotInStoreError(
                f"{reference.short} is not in the local store, and --offline is set",
                hint="run it once without --offline",
            )
        self.require_network(f"asking the registry of {reference.short}")


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


@dataclass(frozen=True, slots=True)
class Lent:
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
    quiet: Annotated[
        bool, typer.Option("--quiet", "-q", help="Print results only, no messages.")
    ] = False,
    progress: Annotated[
        ProgressMode | None,
        typer.Option("--progress", help="How to show the progress of transfers."),
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Print plain lines: no cursor movement, no drawing.")
    ] = False,
    offline: Annotated[bool, typer.Option("--offline", help="Never use the network.")] = False,
    debug: Annotated[bool, typer.Option("--debug", help="Print debug logs to stderr.")] = False,
) -> GlobalOptions:
    """The global options, as a function whose signature is lent to every command."""
    return GlobalOptions(json, quiet, progress, plain, offline, debug)


def build(options: GlobalOptions, invocation: typer.Context) -> Context:
    """The context of this process."""
    if options.debug:
        _log_everything()
    return Context(options, console_for(options), invocation)


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
        options = ctx.find_root().ensure_object(GlobalOptions)
        options.add(said)
        context = build(options, ctx)
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
    ctx.find_root().ensure_object(GlobalOptions).add(GlobalOptions(github=wanted))


def _log_everything() -> None:
    import logging

    logging.basicConfig(
        stream=sys.stderr,
        level=logging.INFO,
        format="%(relativeCreated)7.0f ms %(name)s: %(message)s",
    )
    # of our own everything; libraries may write headers with secrets at this level
    logging.getLogger("modelrunner").setLevel(logging.DEBUG)
