"""Typer, for what `parser.quick` does not understand: help, completion, usage errors, rare forms.

The only module that knows it: what commands declare becomes an application of Typer, a command at a
time, and its errors become ours.
"""

import inspect
import os
import sys
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import Annotated, Any

import typer
from typer.core import TyperCommand, TyperGroup

from modelrunner.cli.context import (
    GITHUB,
    CommandEnd,
    GlobalOptions,
    Invocation,
    perform,
    root_options,
    shared_options,
    show_version,
)
from modelrunner.cli.parser.command_table import ALIASES, COMMANDS, GROUPS, load, unknown
from modelrunner.cli.parser.completion import Completer, Offer, answer, asking_shell, completer_for
from modelrunner.cli.parser.declared import (
    Argument,
    Declaration,
    Option,
    Parameter,
    parameters_of,
)
from modelrunner.cli.parser.help_text import write_parameters, write_section
from modelrunner.cli.parser.overview import EPILOG, HELP
from modelrunner.cli.parser.usage import hint_of, message_of
from modelrunner.errors import ExitStatus, UsageError

# it vendors click and exports few of its exceptions; this one is the root of usage errors
_USAGE_ERROR: type[Exception] = typer.BadParameter.__mro__[1]


def run(arguments: Sequence[str], said: Invocation) -> int:
    """Run a command line and return its exit code.

    Raises:
        UsageError: It is not valid.
    """
    try:
        status = parser().main(arguments, prog_name="modelrunner", standalone_mode=False, obj=said)
    except typer.Abort:
        return ExitStatus.INTERRUPTED
    except _USAGE_ERROR as exc:
        if type(exc).__name__ == "NoArgsIsHelpError":
            typer.echo(_text_of(exc))
            return ExitStatus.OK
        raise _usage(exc, arguments) from exc
    except OSError as exc:
        if not _is_of_help(exc):
            raise
        # help that cannot be written: what a command prints fails in words of its own
        return ExitStatus.OK
    return int(status or 0)


def parser() -> Any:  # noqa: ANN401 - typer's own is private
    """Return the parser of all command lines."""
    app = typer.Typer(
        name="modelrunner",
        cls=CommandTable,
        help=HELP,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        no_args_is_help=True,
        invoke_without_command=True,
        # `completion SHELL` prints scripts that know where a name has colons
        add_completion=False,
        context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    )
    app.callback(epilog=EPILOG)(_with_signature(_root, parameters_of(root_options)))
    return typer.main.get_command(app)


def _root(*, ctx: typer.Context, **values: Any) -> None:  # noqa: ANN401
    """Handle options before the name of a command."""
    options, version = root_options(**values)
    ctx.ensure_object(Invocation).add(options)
    if version:
        show_version(options)
        raise typer.Exit


class CommandTable(TyperGroup):
    """The group of all commands, each loaded on first use."""

    def list_commands(self, ctx: Any) -> list[str]:  # noqa: ANN401, ARG002 - typer's own is private
        """Return the names in the order of `--help`."""
        return [name for names in GROUPS.values() for name in names]

    def resolve_command(self, ctx: Any, args: list[str]) -> Any:  # noqa: ANN401 - see above
        """Return the command that the first argument names.

        Raises:
            UsageError: The command is unknown; the hint names similar ones.
        """
        wanted = args[0]
        known = wanted in COMMANDS or wanted in ALIASES or wanted == "purge"
        if not known and not wanted.startswith("-") and not ctx.resilient_parsing:
            raise unknown(wanted)
        if wanted == "purge":
            # Docker Model Runner's: every model, asked for; its -f does not ask
            forced = ["--yes" if word in ("-f", "--force") else word for word in args[1:]]
            args = ["rm", "--all", *forced]
        return super().resolve_command(ctx, args)

    def make_context(self, *arguments: Any, **options: Any) -> Any:  # noqa: ANN401 - see above
        """Parse the command line, and print `--help`."""
        with _reader_may_leave():
            return super().make_context(*arguments, **options)

    def invoke(self, ctx: Any) -> Any:  # noqa: ANN401 - see above
        """Run the command."""
        with _reader_may_leave():
            return super().invoke(ctx)

    def get_command(self, ctx: Any, cmd_name: str) -> Any:  # noqa: ANN401, ARG002 - see above
        """Load a command."""
        declaration = load(cmd_name)
        if declaration is None:
            return None
        loaded = _command(declaration)
        loaded.name = cmd_name
        return loaded

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - see above
        """Write the commands in their groups, without loading any, then the options."""
        width = max(len(name) for name in self.list_commands(ctx))
        for title, names in GROUPS.items():
            # all groups in one column
            rows = [(f"{name:<{width}}", COMMANDS[name].summary) for name in names]
            write_section(formatter, title, rows)
        write_parameters(ctx, formatter, {str(entry.name) for entry in self.get_params(ctx)})

    def shell_complete(self, ctx: Any, incomplete: str) -> Any:  # noqa: ANN401 - see above
        """Return the completions after the program's name, without loading any command."""
        if incomplete.startswith("-"):
            return super(TyperGroup, self).shell_complete(ctx, incomplete)
        names = [name for name in self.list_commands(ctx) if name.startswith(incomplete)]
        return [Offer(name, COMMANDS[name].summary) for name in names]

    def _main_shell_completion(
        self,
        ctx_args: Any,  # noqa: ANN401 - see above
        prog_name: str,
        complete_var: str | None = None,  # noqa: ARG002 - typer's signature
    ) -> None:
        """Print completions and exit, if a shell requests them; runs before anything else."""
        if shell := asking_shell(os.environ):
            answer(self, ctx_args, prog_name, shell)
            sys.exit(0)


class Command(TyperCommand):
    """A command whose help has the layout of this program."""

    rest: str | None = None
    """The option that takes each word after `--`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer's own is private
        """Parse the command line."""
        if self.rest is not None and "--" in args:
            at = args.index("--")
            args = [*args[:at], *(f"{self.rest}={word}" for word in args[at + 1 :])]
        return super().parse_args(ctx, args)

    def collect_usage_pieces(self, ctx: Any) -> list[str]:  # noqa: ANN401 - see above
        """The words behind the command's name in its usage line."""
        # the parser's own braces, brackets and dots around these differ from version to version
        found = (
            parameter.metavar or str(parameter.name).upper()
            for parameter in self.get_params(ctx)
            if parameter.param_type_name == "argument"
        )
        return ["[OPTIONS]", *found]

    def format_options(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401 - see above
        """Writes arguments and options, those that every command has by themselves."""
        write_parameters(ctx, formatter, self.shared)

    @property
    def shared(self) -> frozenset[str]:
        """The names of the parameters that every command has."""
        return frozenset({*(entry.name for entry in parameters_of(shared_options)), "help"})


def _command(declaration: Declaration) -> Any:  # noqa: ANN401 - typer's own is private
    """Return the parser of one command."""

    def call(*, ctx: typer.Context, **values: Any) -> None:  # noqa: ANN401
        # its callback has acted
        values.pop(GITHUB, None)
        perform(declaration, ctx.find_root().ensure_object(Invocation), values)

    function = declaration.function
    call.__name__, call.__doc__ = function.__name__, function.__doc__
    parameters = [*declaration.parameters(), *parameters_of(shared_options)]
    app = typer.Typer(rich_markup_mode=None, pretty_exceptions_enable=False, add_completion=False)
    app.command(declaration.name, cls=Command, epilog=declaration.epilog)(
        _with_signature(call, parameters)
    )
    made: Any = typer.main.get_command(app)
    made.rest = declaration.rest
    return made


def _with_signature(
    function: Callable[..., None], parameters: Sequence[Parameter]
) -> Callable[..., None]:
    """Return a function with the parameters that Typer shall read, and its own context."""
    keyword = inspect.Parameter.KEYWORD_ONLY
    entries = [inspect.Parameter("ctx", keyword, annotation=typer.Context)]
    for entry in parameters:
        default = inspect.Parameter.empty if entry.default is ... else entry.default
        annotation = _annotation(entry)
        entries.append(
            inspect.Parameter(entry.name, keyword, default=default, annotation=annotation)
        )
    function.__signature__ = inspect.Signature(entries, return_annotation=None)  # type: ignore[attr-defined]
    function.__annotations__ = {entry.name: entry.annotation for entry in entries}
    return function


def _annotation(parameter: Parameter) -> Any:  # noqa: ANN401 - types have many types
    """Return the type of a parameter with its declaration in Typer's terms."""
    declared = parameter.declaration
    if declared is None:
        return parameter.annotation
    kind = parameter.annotation.__origin__
    # completes what is called alike, in every command alike
    completer = _completer(completer_for(parameter.name, declared.metavar))
    if isinstance(declared, Argument):
        said = typer.Argument(
            metavar=declared.metavar, help=declared.help, autocompletion=completer
        )
        return Annotated[kind, said]
    eager = parameter.name == GITHUB
    option = typer.Option(
        *declared.names,
        metavar=declared.metavar,
        help=declared.help,
        min=declared.min,
        max=declared.max,
        hidden=declared.hidden,
        autocompletion=completer,
        # noted before other options are read: mistakes in those are annotated too
        is_eager=eager,
        callback=_note_github if eager else None,
    )
    return Annotated[kind, option]


def _completer(found: Completer | None) -> Callable[..., list[str]] | None:
    """Return a completer with annotations that Typer can evaluate."""
    if found is None:
        return None

    def complete(ctx: typer.Context, incomplete: str) -> list[str]:
        return found(ctx, incomplete)

    return complete


def _note_github(ctx: typer.Context, wanted: bool) -> None:  # noqa: FBT001 - a callback of typer
    ctx.find_root().ensure_object(Invocation).add(GlobalOptions(github=wanted))


@contextmanager
def _reader_may_leave() -> Iterator[None]:
    """Treat a closed stdout, as with `| head`, as success."""
    try:
        yield
    except BrokenPipeError as exc:
        raise CommandEnd(ExitStatus.OK) from exc


def _usage(error: BaseException, arguments: Sequence[str]) -> UsageError:
    """Return the error for a mistake that the parser has found."""
    context = getattr(error, "ctx", None)
    message = _with_value(error, _text_of(error), arguments)
    option = str(getattr(error, "option_name", "") or "")
    possible = getattr(error, "possibilities", None) or ()
    # of some mistakes the parser does not say in which command they are
    names = [word for word in arguments if word in COMMANDS or word in ALIASES][:1]
    command = context.command_path if context else " ".join(["modelrunner", *names])
    return UsageError(
        message_of(message if not option or not possible else str(getattr(error, "message", ""))),
        hint=hint_of(message, command, option, possible),
    )


def _with_value(error: BaseException, message: str, words: Sequence[str]) -> str:
    """Return a message about a value as Typer had it before 0.29: with the value, and its range."""
    head, kind, fault = message.partition("Input should be ")
    parameter, context = getattr(error, "param", None), getattr(error, "ctx", None)
    command = load(context.info_name) if context is not None else None
    if not kind or parameter is None or command is None:
        return message.replace(": Value error, ", ": ", 1)
    value = _given(parameter.opts, words)
    if fault.startswith("a valid "):
        return f"{head}{value!r} is not a valid {'int' if 'integer' in fault else 'float'}"
    declared = {entry.name: entry.declaration for entry in command.parameters()}
    option = declared.get(parameter.name)
    if not isinstance(option, Option):
        return message
    low = "" if option.min is None else f"{option.min}<="
    high = "" if option.max is None else f"<={option.max}"
    return f"{head}{value} is not in the range {low}x{high}"


def _given(names: Collection[str], words: Sequence[str]) -> str:
    """Return the last value of an option in a command line."""
    value = ""
    for word, after in zip(words, [*words[1:], ""], strict=True):
        name, equals, text = word.partition("=")
        if name in names:
            value = text if equals else after
    return value


def _text_of(error: BaseException) -> str:
    return str(getattr(error, "format_message", lambda: error)())


def _is_of_help(error: OSError) -> bool:
    """Whether the parser's own printing has failed."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    return place is not None and place.tb_frame.f_code.co_name == "echo"
