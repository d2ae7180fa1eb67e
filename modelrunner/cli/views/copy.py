"""What copies print: a line for each manifest or JSON, failures, the exit code of the worst."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from modelrunner.cli.context import CommandEnd, Context
from modelrunner.operations.copy.result import Copied, NotCopied, Outcome
from modelrunner.units import counted, format_size


def copied_line(copied: Copied) -> str:
    """Return what was copied as a line."""
    if copied.status == "missing":
        return f"{copied.destination}: {copied.digest} ({format_size(copied.size)} to copy at most)"
    parts = [f"{format_size(copied.sent)} copied"]
    if copied.mounted:
        parts.append(f"{format_size(copied.mounted)} mounted")
    parts.append(f"{format_size(copied.skipped)} skipped")
    if copied.manifests > 1:
        parts.append(counted(copied.manifests, "manifest"))
    if copied.referrers is not None:
        parts.append(counted(copied.referrers.count, "referrer"))
    return f"{copied.destination}: {copied.digest} ({', '.join(parts)})"


def warn_of_referrers(context: Context, copied: Copied) -> None:
    """Warn of what refers to a manifest and could not be copied."""
    for problem in () if copied.referrers is None else copied.referrers.problems:
        context.console.warn(
            f"{copied.destination}: not all that refers to it was copied: {problem}"
        )


def show_copied(context: Context, copied: Outcome) -> None:
    """Print the result of one copy."""
    if isinstance(copied, NotCopied):
        raise copied.error
    warn_of_referrers(context, copied)
    if context.console.json:
        context.console.emit(copied.to_dict())
    else:
        context.console.print(copied_line(copied))


def show_each(context: Context, outcomes: Iterable[Outcome]) -> list[Outcome]:
    """Print the outcome of each of several copies as soon as it is known; return all."""
    found = []
    for outcome in outcomes:
        found.append(outcome)
        if isinstance(outcome, Copied):
            warn_of_referrers(context, outcome)
            if not context.console.json:
                context.console.print(copied_line(outcome))
        elif not context.console.json:
            context.console.error(context.explained(outcome.named()))
    return found


def finish(
    context: Context, outcomes: Sequence[Outcome], mirrors: Mapping[str, str] | None = None
) -> None:
    """End a command of several copies: JSON of all, and the exit code of the worst.

    Args:
        context: Where it is printed.
        outcomes: What became of each.
        mirrors: For a mirror, its address by registry.

    Raises:
        CommandEnd: One of them failed.
    """
    failed = [each for each in outcomes if isinstance(each, NotCopied)]
    rows = [each.to_dict() for each in outcomes]
    if not failed:
        if context.console.json:
            context.console.emit(rows if mirrors is None else {"mirrors": mirrors, "results": rows})
        return
    worst = max(failed, key=lambda each: each.error.exit_code).error
    if context.console.json:
        names = [each.source for each in failed]
        error = {"error": {**worst.to_dict(), "failed": names, "results": rows}}
        context.console.emit_message(error)
    raise CommandEnd(worst.exit_code)


def sum_up(context: Context, outcomes: Sequence[Outcome]) -> None:
    """Print how many were copied, were there, and failed."""
    counts = Counter("failed" if isinstance(each, NotCopied) else each.status for each in outcomes)
    words = ("copied", "present", "missing", "failed")
    context.console.say(", ".join(f"{counts[word]} {word}" for word in words if counts[word]))


def show_settings(context: Context, settings: Mapping[str, str]) -> None:
    """Print the setting that makes pulls use a mirror."""
    if not settings:
        return
    value = ",".join(f"{registry}={address}" for registry, address in settings.items())
    context.console.say(f"pull from it with MODELRUNNER_MIRRORS={value}")
