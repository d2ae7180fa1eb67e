"""Results of a pull: lines, paths, or JSON.

Several models have one exit code, the highest of those that failed. As JSON, stdout has the
results only where nothing failed; else one error on stderr has them all.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from modelrunner.cli.context import CommandEnd, Context
from modelrunner.cli.terminal.console import ProgressMode
from modelrunner.frozen import frozen
from modelrunner.operations.pull.outcome import Dropped, Failed, Outcome, Pulled
from modelrunner.store.store import StoredModel
from modelrunner.units import counted, format_duration, format_size

# late imports: most pulls have no runtime, and most artifacts bring no settings
if TYPE_CHECKING:
    from modelrunner.operations.runtimes.locked import RuntimePulled
    from modelrunner.runtime.packaged import Packaged


@frozen
class Result:
    """One model of a pull.

    Attributes:
        outcome: The outcome of its pull.
        name: Its name in a lock.
        output: The path of its weights with `--output`.
        replaced: The digest that had its name before, if that was compared.
        change: The difference from that, in a word or two.
    """

    outcome: Outcome
    name: str | None = None
    output: Path | None = None
    replaced: str | None = None
    change: str | None = None

    def to_dict(self) -> dict[str, object]:
        """Return the result as JSON."""
        named: dict[str, object] = {} if self.name is None else {"name": self.name}
        match self.outcome:
            case Pulled():
                placed = {} if self.output is None else {"output": str(self.output)}
                previous = {} if self.replaced is None else self._previous()
                return named | to_dict(self.outcome) | placed | previous
            case Failed(reference, error):
                said: dict[str, object] = {"reference": str(reference), "status": "failed"}
                return named | said | {"error": error.to_dict()}
            case Dropped(reference):
                return named | {"reference": str(reference), "status": "dropped"}
            case _:
                assert_never(self.outcome)

    def _previous(self) -> dict[str, object]:
        return {"replaced": self.replaced, "change": self.change}


@frozen
class RuntimeResult:
    """The runtime of a lock: what became of it."""

    outcome: "RuntimePulled | Failed"

    @property
    def failed(self) -> Failed | None:
        """Its failure, if it failed."""
        return self.outcome if isinstance(self.outcome, Failed) else None

    @property
    def pulled(self) -> "RuntimePulled | None":
        """What it came to, if it did not fail."""
        return None if isinstance(self.outcome, Failed) else self.outcome

    def to_dict(self) -> dict[str, object]:
        """Return the result as JSON."""
        from modelrunner.lockfile.runtime import RUNTIME

        if isinstance(self.outcome, Failed):
            return Result(self.outcome, RUNTIME).to_dict()
        found, one = self.outcome, self.outcome.runtime
        return {
            "name": RUNTIME,
            "reference": str(found.locked.reference),
            "digest": None if one is None else str(one.digest),
            "status": found.status,
            "path": None if one is None else str(one.folder),
            "size_bytes": None if one is None else one.download_bytes,
            "downloaded_bytes": found.downloaded_bytes,
            "duration_s": round(found.duration_s, 3),
            "runtime": None if one is None else one.name,
            "index_digest": str(found.locked.manifest.digest),
            "in_use": found.in_use,
        }

    def line(self) -> str:
        """Return the result as a line, or why nothing was installed."""
        found = self.pulled
        if found is None:
            return ""
        name, one = found.locked.reference.short, found.runtime
        if one is None:
            return (
                f"the locked runtime {name} has no image for {found.platform}, "
                f"only for {found.locked.platforms}: nothing was installed"
            )
        elsewhere = f"elsewhere with `--runtime installed:{one.name}`"
        used = "in use" if found.in_use else f"used in the project's directory, {elsewhere}"
        if found.status == "up-to-date":
            return f"{name}: installed as {one.name} ({one.digest.short}), {used}"
        size, spent = format_size(found.downloaded_bytes), format_duration(found.duration_s)
        return f"{name}: {one.name} installed, {size} in {spent}, {used}"


def print_failure(context: Context, failed: Failed) -> None:
    """Print at once why a pull failed; with --json it is part of the results."""
    console = context.console
    if console.json:
        return
    console.error(failed.named())


def show_one(context: Context, result: Result) -> None:
    """Print the result of the only model."""
    _print(context, result)
    if context.console.json:
        context.console.emit(result.to_dict())


def show_all(
    context: Context, results: Sequence[Result], runtime: RuntimeResult | None = None
) -> None:
    """Print the results of several models, and of their lock's runtime; exit if one failed.

    Raises:
        Exit: With the highest exit code; each failure has been printed.
    """
    failed = [result.outcome for result in results if isinstance(result.outcome, Failed)]
    for result in results:
        _print(context, result)
    if runtime is not None:
        _print_runtime(context, runtime)
        failed += [] if runtime.failed is None else [runtime.failed]
    if results:
        _sum_up(context, results)
    rows = [result.to_dict() for result in results]
    if runtime is not None:
        rows.append(runtime.to_dict())
    if not failed:
        if context.console.json:
            context.console.emit(rows)
        return
    worst = max(failed, key=lambda entry: entry.error.exit_code).error
    if context.console.json:
        names = [str(entry.reference) for entry in failed]
        error = {"error": {**worst.to_dict(), "failed": names, "results": rows}}
        context.console.emit_message(error)
    raise CommandEnd(worst.exit_code)


def path_of(model: StoredModel) -> Path:
    """Return where the weights of a pulled model are: its pull has looked at each file of it."""
    return model.path or model.weights()


def to_dict(pulled: Pulled) -> dict[str, object]:
    """Return a pull as JSON."""
    return {
        "reference": str(pulled.name),
        "digest": str(pulled.model.digest),
        "status": pulled.status,
        "path": str(path_of(pulled.model)),
        "size_bytes": pulled.model.size,
        "downloaded_bytes": pulled.downloaded_bytes,
        "resumed_bytes": pulled.resumed_bytes,
        "duration_s": round(pulled.duration_s, 3),
        "source": pulled.source,
        **({"origins": dict(pulled.origins)} if _from_elsewhere(pulled) else {}),
        **_choice(pulled),
        **_packaged(pulled),
        **_referrers(pulled),
    }


def _referrers(pulled: Pulled) -> dict[str, object]:
    """Return what was kept of that which refers to the model, where there was something to do."""
    kept = pulled.referrers
    if kept is None or not (kept.is_asked_for or kept.count or kept.left_out):
        return {}
    return {"referrers": kept.to_dict()}


def _packaged(pulled: Pulled) -> dict[str, object]:
    """Return the settings that the artifact brings, where it brings some."""
    packaged = _settings(pulled)
    return {"packaged": packaged.to_dict()} if packaged is not None and packaged.values else {}


def _settings(pulled: Pulled) -> "Packaged | None":
    config = pulled.model.config
    if not config.settings and config.advised_context is None:
        return None
    from modelrunner.operations.model.recommended import packaged_by

    return packaged_by(pulled.model)


def _choice(pulled: Pulled) -> dict[str, object]:
    """Return the requested name, and the files that were chosen in a repository."""
    asked = {} if pulled.name == pulled.reference else {"requested": str(pulled.reference)}
    choice = pulled.choice
    if choice is None:
        return dict(asked)
    return {**asked, "file": choice.file, "projector": choice.projector}


def _print(context: Context, result: Result) -> None:
    pulled = result.outcome
    if context.console.json or not isinstance(pulled, Pulled):
        return
    if context.console.quiet:
        context.console.print(str(result.output or path_of(pulled.model)))
    else:
        changed = f" ({result.change})" if result.change else ""
        context.console.print(f"{_line(pulled)}{changed}")
        if pulled.status == "pulled":
            _show_packaged(context, pulled)
        kept = pulled.referrers
        if kept is not None and kept.is_asked_for:
            size = f"{counted(kept.count, 'referrer')} ({format_size(kept.size)})"
            context.console.say(f"{pulled.name.short}: {size} kept")
    context.console.flush()


def _show_packaged(context: Context, pulled: Pulled) -> None:
    """Print the settings that the artifact brings, and those of them that are not followed."""
    packaged = _settings(pulled)
    if packaged is None:
        return
    # events in JSON are the only lines then, or there are to be none
    silent = context.console.progress in (ProgressMode.JSON, ProgressMode.NONE)
    if packaged.values and not silent:
        context.console.say(f"{pulled.name.short} sets {packaged.line()}")
    if packaged.warning is not None:
        context.console.warn(f"{pulled.name.short}: {packaged.warning}")


def _print_runtime(context: Context, result: RuntimeResult) -> None:
    pulled = result.pulled
    if pulled is None:
        return
    if pulled.runtime is None:
        context.console.warn(result.line())
    elif not context.console.json and not context.console.quiet:
        context.console.print(result.line())


def _sum_up(context: Context, results: Sequence[Result]) -> None:
    pulled = [result.outcome for result in results if isinstance(result.outcome, Pulled)]
    failed = sum(1 for result in results if isinstance(result.outcome, Failed))
    new = sum(1 for entry in pulled if entry.status == "pulled")
    counts = {
        "pulled": new,
        "up to date": len(pulled) - new,
        "failed": failed,
        "canceled": len(results) - len(pulled) - failed,
    }
    said = ", ".join(f"{count} {what}" for what, count in counts.items() if count)
    size = format_size(sum(entry.downloaded_bytes for entry in pulled))
    context.console.say(f"{counted(len(results), 'model')}: {said}; {size} downloaded")


def _line(pulled: Pulled) -> str:
    name, digest = pulled.name.short, pulled.model.digest.short
    if pulled.status == "up-to-date":
        return f"{name}: up to date ({digest}, {format_size(pulled.model.size)})"
    resumed = f", {format_size(pulled.resumed_bytes)} resumed" if pulled.resumed_bytes else ""
    return (
        f"{name}: pulled {digest}, {_came(pulled)} in {format_duration(pulled.duration_s)}{resumed}"
    )


def _came(pulled: Pulled) -> str:
    """Return the bytes downloaded, and their sources."""
    if not _from_elsewhere(pulled):
        source = f" from {pulled.source}" if pulled.source else ""
        return f"{format_size(pulled.downloaded_bytes)}{source}"
    return ", ".join(f"{format_size(size)} from {place}" for place, size in pulled.origins.items())


def _from_elsewhere(pulled: Pulled) -> bool:
    """Whether any source but the one that resolved the name was used."""
    return bool(set(pulled.origins) - {pulled.source})
