"""Completion in a shell: names of models and settings, and the scripts that ask for them.

The scripts hand over the line up to the cursor. A name of a model has colons, at which bash would
end a word: its script gives back what is behind the last one.
"""

import os
from collections.abc import Callable, Iterator

import typer

Completer = Callable[[typer.Context, str], list[str]]

_LOCAL = frozenset(
    {"configure", "logs", "path", "push", "rm", "save", "stop", "tag", "update", "verify"}
)
"""Commands that take only what is in the local store."""

_ASK = "_MODELRUNNER_COMPLETE=complete_bash"
SCRIPTS = {
    "bash": f"""\
# bash completion for modelrunner: eval "$(modelrunner completion bash)"
_modelrunner() {{
    local line="${{COMP_LINE:0:COMP_POINT}}" words current prefix
    read -ra words <<< "$line"
    [[ $line == *[[:space:]] ]] && words+=("")
    current="${{words[${{#words[@]}} - 1]}}"
    local IFS=$'\\n'
    COMPREPLY=($(COMP_WORDS="$line" COMP_CWORD=$((${{#words[@]}} - 1)) {_ASK} "$1"))
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
    local -a found
    local line="${{(j: :)words[1,CURRENT]}}"
    found=("${{(@f)$(COMP_WORDS=$line COMP_CWORD=$((CURRENT - 1)) {_ASK} $words[1])}}")
    if [[ -n $found[1] ]]; then
        compadd -- $found
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
    set -l found (env COMP_WORDS="$words" COMP_CWORD=$last {_ASK} $words[1])
    if test (count $found) -gt 0
        string join \\n $found
    else
        __fish_complete_path (commandline -ct)
    end
end
complete -c modelrunner -f -a "(__modelrunner_complete)"
""",
}


def completer_for(metavar: str | None) -> Completer | None:
    """What completes an argument or option that is called so in a help text; None for nothing."""
    if metavar is None:
        return None
    if "REF" in metavar:
        return models
    return settings if metavar == "KEY=VALUE" else None


def models(ctx: typer.Context, incomplete: str) -> list[str]:
    """Names of models that begin so: those of the local store, then those of the catalogue."""
    found = _stored(incomplete)
    if ctx.info_name not in _LOCAL:
        found |= dict.fromkeys(_catalogued(incomplete))
    return list(found)


def settings(_ctx: typer.Context, incomplete: str) -> list[str]:
    """Keys of settings that begin so, ready for a value."""
    from modelrunner.runtime.settings import KNOWN

    return [f"{key}=" for key in KNOWN if key.startswith(incomplete)]


def _stored(incomplete: str) -> dict[str, None]:
    from modelrunner.config import Settings
    from modelrunner.errors import ModelRunnerError
    from modelrunner.store.store import Store

    try:
        stored = Store(Settings.load(os.environ).store).models()
    except ModelRunnerError:
        # completion must not print errors; the command itself reports them
        return {}
    names = [name.short for model in stored for name in model.references]
    return dict.fromkeys(name for full in names for name in _spelled(full, incomplete))


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
    """A name as it was begun to be typed: with `ai/` or without; nothing where it is another."""
    for spelling in (name, name.removeprefix("ai/")):
        if spelling.startswith(incomplete):
            yield spelling
            return
