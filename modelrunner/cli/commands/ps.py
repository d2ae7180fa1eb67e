"""`modelrunner ps`."""

from datetime import UTC, datetime

from modelrunner.cli.context import Context, command
from modelrunner.serve.process.control import ModelState, states
from modelrunner.units import format_duration, format_size

_HEADINGS = ("MODEL", "URL", "RUNTIME", "STATE", "MEMORY", "PROCESSOR", "CONTEXT", "UNTIL")


@command(examples="  modelrunner ps\n  modelrunner ps --json")
def ps(context: Context) -> None:
    """List served models."""
    found = states(context.settings.servers)
    if context.console.json:
        context.console.emit([state.to_dict() for state in found])
        return
    rows = [_row(state) for state in found]
    context.console.table(
        _HEADINGS, rows, drop=("RUNTIME", "CONTEXT", "PROCESSOR", "MEMORY", "UNTIL")
    )
    if not found:
        context.console.say("no models are served: `modelrunner serve REF --detach` starts one")


def _row(state: ModelState) -> tuple[str, ...]:
    return (
        state.model,
        state.url,
        state.runtime or "",
        state.state,
        format_size(state.memory_bytes) if state.memory_bytes else "",
        state.processor,
        str(state.context or ""),
        _until(state),
    )


def _until(state: ModelState) -> str:
    if state.requests:
        return "answering"
    if state.until is None:
        return "forever" if state.state == "loaded" else ""
    left = (datetime.fromisoformat(state.until) - datetime.now(UTC)).total_seconds()
    return f"in {format_duration(max(0.0, left))}"
