"""What `lock` does where it asks registries: pins models, and shows what has changed."""

from collections.abc import Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from modelrunner.cli.context import Context
from modelrunner.cli.views.lock import (
    blob_lines,
    blob_to_dict,
    change_line,
    change_to_dict,
    model_to_dict,
)
from modelrunner.disk.files import disk_errors, flush, sync_directory, write_atomically
from modelrunner.errors import UsageError
from modelrunner.lockfile.changes import Change, changes
from modelrunner.lockfile.intent import Fit, ModelIntent, first_intent, parse_intent
from modelrunner.lockfile.lock import Lock
from modelrunner.lockfile.project import Project
from modelrunner.oci.reference import Reference
from modelrunner.operations.lock.lock import Gone, Locker, write_lock
from modelrunner.text import sanitize_line
from modelrunner.units import counted

# what estimates is loaded where a model of the project has to fit
if TYPE_CHECKING:
    from modelrunner.operations.estimate.report import EstimateRequest


def write(context: Context, project: Project, update: Sequence[str], *, upgrade: bool) -> None:
    """Brings the lock up to date, and says what has changed."""
    intent, before = project.intent(), project.lock()
    renew = [wanted.name for wanted in intent.models] if upgrade else list(update)
    for name in update:
        intent.model(name)
    after = locker(context).lock(intent, before, renew)
    written = write_lock(project.lock_path, after)
    found = changes(before, after)
    if context.console.json:
        context.console.emit(
            {
                "lock": str(project.lock_path),
                "status": "written" if written else "up-to-date",
                "changes": [change_to_dict(change) for change in found],
                "models": [model_to_dict(model) for model in after.models],
            }
        )
        return
    for change in found:
        context.console.print(change_line(change))
    if not found:
        context.console.say(
            f"{project.lock_path} is up to date ({counted(len(after.models), 'model')})"
        )


def init(context: Context, project: Project, references: Sequence[str]) -> None:
    """Writes the first `modelrunner.toml` and locks it; nothing is written where that fails.

    Where an earlier try with the same models was killed between the two, or in the middle of the
    first, it goes on.

    Raises:
        UsageError: One of the two files exists.
    """
    text = first_intent(references)
    begun = _is_begun(project, text, whole=bool(references))
    for path in (project.intent_path, project.lock_path):
        if not begun and (path.exists() or path.is_symlink()):
            raise UsageError(
                f"{path} already exists",
                hint=f"add models to {project.intent_path}, then run `modelrunner lock`"
                if path == project.intent_path
                else f"remove it, or restore the {project.intent_path} that it was made from",
            )
    if not references:
        _write_new(project.intent_path, text, begun=begun)
        if context.console.json:
            context.console.emit({"intent": str(project.intent_path), "models": []})
        context.console.say(
            f"wrote {project.intent_path}: add models to it, then run `modelrunner lock`"
        )
        return
    intent = parse_intent(text.encode(), str(project.intent_path))
    before = Lock(file=str(project.lock_path))
    after = locker(context).lock(intent, before)
    _write_new(project.intent_path, text, begun=begun)
    write_lock(project.lock_path, after)
    if context.console.json:
        context.console.emit(
            {
                "intent": str(project.intent_path),
                "lock": str(project.lock_path),
                "status": "written",
                "changes": [change_to_dict(change) for change in changes(before, after)],
                "models": [model_to_dict(model) for model in after.models],
            }
        )
        return
    for change in changes(before, after):
        context.console.print(change_line(change))
    context.console.say(
        f"wrote {project.intent_path} and {project.lock_path}; `modelrunner pull --locked`"
        " downloads what they name"
    )


def _is_begun(project: Project, text: str, *, whole: bool) -> bool:
    """Whether the file is the beginning of what is to be written, or all of it, and not locked."""
    intent, lock = project.intent_path, project.lock_path
    if intent.is_symlink() or not intent.is_file() or lock.exists() or lock.is_symlink():
        return False
    written = text.encode()
    # outside: a file of the project
    with disk_errors(intent), intent.open("rb") as file:
        found = file.read(len(written) + 1)
    return written.startswith(found) and (whole or found != written)


def _write_new(path: Path, text: str, *, begun: bool) -> None:
    with disk_errors(path.parent):
        if begun:
            write_atomically(path, text.encode())
            return
        try:
            # outside: a file of the project
            file = path.open("xb")
        except FileExistsError as exc:
            raise UsageError(
                f"{path} already exists",
                hint="another process created it: check it, then run `modelrunner lock`",
            ) from exc
        try:
            with file:
                file.write(text.encode())
                file.flush()
                flush(file.fileno())
            sync_directory(path.parent)
        except OSError:
            with suppress(OSError):
                path.unlink()
            raise


def show_diff(context: Context, project: Project) -> None:
    """Says what the registries have by now, against what is locked."""
    intent, before = project.intent(), project.lock()
    found = [
        entry
        for entry in locker(context).diff(intent, before)
        if isinstance(entry, Gone) or entry.before != entry.after
    ]
    wanted = {model.name for model in intent.models}
    found += [
        Change(model.name, model, None) for model in before.models if model.name not in wanted
    ]
    if context.console.json:
        shown = [
            _gone_to_dict(entry) if isinstance(entry, Gone) else change_to_dict(entry)
            for entry in found
        ]
        context.console.emit({"lock": str(project.lock_path), "changes": shown})
        return
    for entry in found:
        if isinstance(entry, Gone):
            context.console.print(f"gone {entry.name}: {sanitize_line(entry.error.message)}")
            continue
        context.console.print(change_line(entry))
        for line in blob_lines(entry):
            context.console.print(line)
    if not found:
        held = counted(len(before.models), "model")
        context.console.say(f"nothing has changed since {project.lock_path} ({held})")


def locker(context: Context) -> Locker:
    """Who pins models for this command line."""

    def choose(wanted: ModelIntent) -> Reference:
        from modelrunner.cli.steps.fitting import fitted
        from modelrunner.operations.pull.fit import Fitting

        wanted_fit = Fitting(choose=True, require=True, request=_request(wanted.fit))
        return Reference.parse(fitted(context, wanted.text, wanted_fit))

    def check(wanted: ModelIntent, pinned: Reference) -> None:
        from modelrunner.operations.pull.fit import does_not_fit

        report = context.workspace.estimator().of_model(str(pinned), _request(wanted.fit))
        if report.fit.verdict not in ("fits", "partial"):
            name = wanted.reference.short
            raise does_not_fit(replace(report, facts=replace(report.facts, name=name)))

    return Locker(context.store, context.source_for, choose, check, context.offline)


def _request(fit: Fit | None) -> "EstimateRequest":
    """The use to fit; what this machine has or has seen must not make another lock than others."""
    from modelrunner.memory.card_estimate import CARD_CONTEXT
    from modelrunner.operations.estimate.report import EstimateRequest

    request = EstimateRequest(usual=CARD_CONTEXT, source="header")
    return request if fit is None else replace(request, context=fit.context, budget=fit.vram)


def _gone_to_dict(gone: Gone) -> dict[str, object]:
    return {
        "name": gone.name,
        "change": "gone",
        "matter": "tag",
        "reference": str(gone.before.reference),
        "from": str(gone.before.manifest.digest),
        "to": None,
        "gone": [blob_to_dict(blob) for blob in gone.before.blobs],
        "new": [],
        "download_bytes": 0,
    }
