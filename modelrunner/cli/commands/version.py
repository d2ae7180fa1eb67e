"""`modelrunner version` and `modelrunner config`."""

import platform

from modelrunner.cli.context import Context, command
from modelrunner.version import __version__


@command(examples="  modelrunner version --json")
def version(context: Context) -> None:
    """Print the version of modelrunner, and of what it runs on."""
    python = platform.python_version()
    if context.console.json:
        value = {"version": __version__, "python": python, "platform": platform.platform()}
        context.console.emit(value)
    else:
        context.console.print(f"modelrunner {__version__} (Python {python})")


@command(examples="  modelrunner config --json")
def config(context: Context) -> None:
    """Show every setting and where its value comes from."""
    shown = context.settings.shown
    if context.console.json:
        context.console.emit(
            {entry.name: {"value": entry.value, "origin": entry.origin} for entry in shown}
        )
        return
    rows = [(entry.name, _text(entry.value), entry.origin) for entry in shown]
    context.console.table(("SETTING", "VALUE", "FROM"), rows, cut=("VALUE",))


def _text(value: object) -> str:
    """Return a value as `config.toml` spells it."""
    if isinstance(value, dict):
        entries = (f"{key} ({_entry(entry)})" for key, entry in value.items())
        return ", ".join(entries) or "unset"
    if isinstance(value, bool):
        return "true" if value else "false"
    return "unset" if value is None or value == "" else str(value)


def _entry(value: object) -> str:
    if isinstance(value, dict):
        return ", ".join(f"{key}={_text(entry)}" for key, entry in value.items())
    return " ".join(map(str, value)) if isinstance(value, list) else str(value)
