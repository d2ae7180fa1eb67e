"""Shell completion: the candidates at the cursor, and the scripts that request them.

A script passes the line up to the cursor and reads one candidate per line; those of zsh and fish
read a description behind a tab. Completion never uses the network and never prints an error: a Tab
without candidates leaves the line as it is, and the command itself reports what is wrong.

Names of models have colons, at which bash ends a word: its script returns the part behind the last
one.
"""

import os
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple, TypeAlias

from modelrunner.cli.parser.command_table import COMPLETING
from modelrunner.errors import ModelRunnerError

# late imports: every start loads this, and each place has candidates of its own
if TYPE_CHECKING:
    from typer import Context

    from modelrunner.config.settings import Settings
    from modelrunner.oci.reference import Reference

Completer: TypeAlias = Callable[["Context", str], list[str]]

_PREFIX = "complete_"

_LOCAL = frozenset(
    {
        *("configure", "logs", "outdated", "path", "push", "rm", "save", "stop", "tag", "update"),
        *("remove", "rmi", "unload", "verify"),
    }
)
"""Commands, with their aliases, that take only models of the local store."""


class Offer(NamedTuple):
    """A candidate at the cursor; `help` describes it, `type` is the parser's."""

    value: str
    help: str | None = None
    type: str = "plain"


def asking_shell(environ: Mapping[str, str]) -> str | None:
    """Return the shell that requests completions, if one does."""
    asked = environ.get(COMPLETING, "")
    shell = asked.removeprefix(_PREFIX)
    return shell if asked.startswith(_PREFIX) and shell in SCRIPTS else None


def answer(command: Any, values: Any, program: str, shell: str) -> None:  # noqa: ANN401 - the parser's are private
    """Print the candidates at the cursor.

    Args:
        command: The parser's command of the program.
        values: The values that the program would start with.
        program: The name of the program.
        shell: The requesting shell, a key of `SCRIPTS`.
    """
    # typer exports nothing that parses a line; a test notices where these move
    from typer._click.shell_completion import get_completion_class
    from typer._completion_classes import completion_init

    completion_init()
    parser = get_completion_class("bash")
    if parser is None:
        return
    try:
        asked = parser(command, values, program, COMPLETING)
        found = asked.get_completions(*asked.get_completion_args())
    except (ModelRunnerError, OSError, LookupError, ValueError):
        # what cannot be read is said when the command is run; the others are of a line that no
        # script of ours sends
        return
    lines = [candidates_line(shell, item.value, item.help) for item in found]
    # own text: for a shell, which takes no escape sequences
    sys.stdout.write("".join(f"{line}\n" for line in lines))


def candidates_line(shell: str, value: str, text: str | None = None) -> str:
    """Return a candidate, for shells that show it with its description, in one line."""
    about = "" if shell == "bash" else " ".join((text or "").split())
    return f"{value}\t{about}" if about else value


_ASK = f"{COMPLETING}={_PREFIX}"
SCRIPTS = {
    "bash": f"""\
# bash completion for modelrunner: eval "$(modelrunner completion bash)"
_modelrunner() {{
    local line="${{COMP_LINE:0:COMP_POINT}}" words current prefix
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current="${{words[${{#words[@]}} - 1]}}"
    local IFS=$'\\n'
    COMPREPLY=($(COMP_WORDS="$line" COMP_CWORD=$((${{#words[@]}} - 1)) {_ASK}bash "$1" 2>/dev/null))
    if [[ $current == *:* && $COMP_WORDBREAKS == *:* ]]; then
        prefix="${{current%"${{current##*:}}"}}"
        COMPREPLY=("${{COMPREPLY[@]#"$prefix"}}")
    fi
}}
complete -o default -F _modelrunner modelrunner
""",
    "zsh": f"""\
#compdef modelrunner
# zsh completion for modelrunner: source <(modelrunner completion zsh)
_modelrunner() {{
    local -a found values shown
    local line="${{(j: :)words[1,CURRENT]}}" last=$((CURRENT - 1)) offer tab=$'\\t'
    found=("${{(@f)$(COMP_WORDS=$line COMP_CWORD=$last {_ASK}zsh $words[1] 2>/dev/null)}}")
    if [[ -n $found[1] ]]; then
        for offer in $found; do
            values+=("${{offer%%$tab*}}")
            shown+=("${{offer/$tab/  -- }}")
        done
        if [[ "$values" == "$shown" ]]; then
            compadd -a values
        else
            compadd -l -d shown -a values
        fi
    else
        _files
    fi
}}
if [[ $funcstack[1] == _modelrunner ]]; then
    _modelrunner
else
    compdef _modelrunner modelrunner
fi
""",
    "fish": f"""\
# fish completion for modelrunner: modelrunner completion fish | source
function __modelrunner_complete
    set -l words (commandline -opc) (commandline -ct)
    set -l last (math (count $words) - 1)
    set -l found (env COMP_WORDS="$words" COMP_CWORD=$last {_ASK}fish $words[1] 2>/dev/null)
    if test (count $found) -gt 0
        string join \\n $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c modelrunner -f -a "(__modelrunner_complete)"
""",
}


def completer_for(name: str, metavar: str | None) -> Completer | None:
    """Return the completer of an argument or option; None for files only.

    Args:
        name: The parameter's name in Python.
        metavar: The placeholder of its value in help texts.
    """
    if name in _BY_NAME:
        return _BY_NAME[name]
    if metavar is None:
        return None
    return models if "REF" in metavar else _BY_METAVAR.get(metavar.strip("[].,"))


def models(ctx: "Context", incomplete: str) -> list[str]:
    """Return matching names of models: of the local store, then of the catalog."""
    found = dict.fromkeys(_stored(incomplete))
    if ctx.info_name not in _LOCAL:
        found |= dict.fromkeys(_catalogued(incomplete))
    return list(found)


def stored_models(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching names of the local store."""
    return list(dict.fromkeys(_stored(incomplete)))


def cards(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching names of the catalog."""
    from modelrunner.cards.catalog import Catalog

    return _begin(Catalog.load().names(), incomplete)


def assignments(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching settings with `=`, or after the equals sign their values."""
    from modelrunner.runtime.capabilities.think import WORDS, ThinkKind
    from modelrunner.runtime.chat_templates import NAMES
    from modelrunner.runtime.settings import KNOWN, Choice, Switch, Template, canonical

    written, equals, _ = incomplete.partition("=")
    if not equals:
        return _begin((f"{key}=" for key in KNOWN), incomplete)
    setting = KNOWN.get(canonical(written))
    values: Iterable[str] = ()
    if setting is not None:
        kind = setting.kind
        if isinstance(kind, Choice):
            values = kind.words
        elif isinstance(kind, ThinkKind):
            values = WORDS
        elif isinstance(kind, Switch):
            values = ("on", "off")
        elif isinstance(kind, Template):
            values = NAMES
    return _begin((f"{written}={value}" for value in values), incomplete)


def setting_keys(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching names of settings."""
    from modelrunner.runtime.settings import KNOWN

    return _begin(KNOWN, incomplete)


def cache_types(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching types of a KV cache."""
    from modelrunner.runtime.base import CACHE_TYPES

    return _begin(CACHE_TYPES, incomplete)


def apps(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching names of apps that `launch` starts."""
    from modelrunner.agents.known import APPS

    return _begin(APPS, incomplete)


def think_levels(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching words for how much to think."""
    from modelrunner.runtime.capabilities.think import WORDS

    return _begin(WORDS, incomplete)


def chat_templates(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching names of built-in chat templates."""
    from modelrunner.runtime.chat_templates import NAMES

    return _begin(NAMES, incomplete)


def runtimes(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching names of runtimes, installed or not, and of builds out of images."""
    from modelrunner.runtime.select import known

    settings = _settings()
    library = None if settings is None else settings.runtimes
    names = ("auto", "locked", *(runtime.name for runtime in known(os.environ, library=library)))
    return _begin((*names, *(f"installed:{name}" for name in _installed())), incomplete)


def images_of_runtimes(ctx: "Context", incomplete: str) -> list[str]:
    """Return matching names for an action of `runtimes`: what it installs, or is installed."""
    from modelrunner.oci.runtime_name import AUTO, BACKENDS

    action = ctx.params.get("action")
    given = ctx.params.get("names") or ()
    if action == "install":
        return _begin((name for name in (AUTO, *BACKENDS) if name not in given), incomplete)
    if action not in {"use", "update", "remove"} or (action == "use" and given):
        return []
    return _begin((name for name in _installed() if name not in given), incomplete)


def actions_of_runtimes(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching actions of `runtimes`."""
    return _begin(("install", "list", "use", "update", "remove"), incomplete)


def gpus(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching names of known GPUs, without spaces, in the case that was typed."""
    from modelrunner.memory.devices.named import known_gpus

    names = [name.replace(" ", "") for name in known_gpus()]
    lower = incomplete == incomplete.lower()
    return _begin([name.lower() for name in names] if lower else names, incomplete)


def locked_names(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching names of models, and `runtime`, in the current `modelrunner.toml`."""
    from modelrunner.lockfile.project import Project

    try:
        wanted = Project.at(None).intent()
    except ModelRunnerError:
        return []
    runtime = [] if wanted.runtime is None else [wanted.runtime.name]
    return _begin([*(model.name for model in wanted.models), *runtime], incomplete)


def registries(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching registries of the configuration and of stored models."""
    settings = _settings()
    if settings is None:
        return []
    configured = {*settings.registries, *settings.mirrors}
    stored = {name.registry for name in _references(settings)}
    return _begin(sorted({"docker.io", *configured, *stored} - {"local"}), incomplete)


def commands(ctx: "Context", incomplete: str) -> list[str]:
    """Return matching names of commands."""
    root: Any = ctx.find_root().command
    return [] if ctx.params.get("words") else _begin(root.list_commands(ctx), incomplete)


def export_kinds(_ctx: "Context", incomplete: str) -> list[str]:
    """Return matching kinds of `export`."""
    from modelrunner.operations.export.export import Kind

    return _begin(Kind, incomplete)


_BY_NAME: Mapping[str, Completer] = {
    "assignments": assignments,
    "chat_template": chat_templates,
    "think": think_levels,
    "gpu": gpus,
    "kind": export_kinds,
    "kv_type": cache_types,
    "kv_type_v": cache_types,
    "runtime": runtimes,
    "search": cards,
    "unset": setting_keys,
    "update": locked_names,
}
"""Parameters whose metavars mean different things in other commands."""

_BY_METAVAR: Mapping[str, Completer] = {
    "ACTION": actions_of_runtimes,
    "APP": apps,
    "COMMAND": commands,
    "KEY=VALUE": assignments,
    "REGISTRY": registries,
    "RUNTIME": images_of_runtimes,
    "SRC": stored_models,
}


def _begin(names: Iterable[str], incomplete: str) -> list[str]:
    return [str(name) for name in names if str(name).startswith(incomplete)]


def _settings() -> "Settings | None":
    """Return the settings, or the defaults if the configuration is invalid."""
    from modelrunner.config.settings import Settings

    try:
        return Settings.load(os.environ)
    except ModelRunnerError:
        pass
    try:
        return Settings.load(os.environ, defaults=True)
    except ModelRunnerError:
        return None


def _installed() -> list[str]:
    """Return the names of the runtimes that are installed from images."""
    from modelrunner.runtime.images.library import Library

    settings = _settings()
    if settings is None:
        return []
    return list(dict.fromkeys(one.name for one in Library(settings.runtimes).all()))


def _stored(incomplete: str) -> Iterator[str]:
    settings = _settings()
    for name in _references(settings) if settings is not None else ():
        yield from _spelled(name.short, incomplete)


def _references(settings: "Settings") -> "Iterator[Reference]":
    """Return every name in the local store; none if it cannot be read."""
    from modelrunner.store.store import Store

    try:
        stored = Store(settings.store).models()
    except ModelRunnerError:
        return
    for model in stored:
        yield from model.references


def _catalogued(incomplete: str) -> Iterator[str]:
    from modelrunner.cards.catalog import Catalog

    catalog = Catalog.load()
    if ":" not in incomplete:
        for name in catalog.names():
            yield from _spelled(f"ai/{name}", incomplete)
        return
    card = catalog.get(incomplete.partition(":")[0])
    for variant in card.variants if card is not None else ():
        for reference in variant.references:
            yield from _spelled(reference, incomplete)


def _spelled(name: str, incomplete: str) -> Iterator[str]:
    """Yield a matching name in the form that was typed, with `ai/` or without."""
    for spelling in (name, name.removeprefix("ai/")):
        if spelling.startswith(incomplete):
            yield spelling
            return
