"""Views of a lock and its changes: one line per change on stdout, or JSON."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

from modelrunner.cli.context import Context
from modelrunner.lockfile.changes import Change, blobs_of
from modelrunner.lockfile.intent import Intent
from modelrunner.lockfile.lock import Lock, LockedBlob, LockedModel
from modelrunner.lockfile.project import Project
from modelrunner.lockfile.runtime import LockedRuntime
from modelrunner.text import sanitize_line
from modelrunner.units import counted, format_size

# `lock --check` uses no network, and does not load what does
if TYPE_CHECKING:
    from modelrunner.operations.lock.lock import Gone
    from modelrunner.operations.lock.project import Locked


def show_agreed(context: Context, intent: Intent, lock: Lock) -> None:
    """Print that lock and intent agree."""
    if context.console.json:
        context.console.emit({"lock": lock.file, "status": "up-to-date", **_pinned_to_dict(lock)})
    else:
        context.console.say(f"{lock.file} satisfies {intent.file} ({_counted(lock)})")


def show_locked(context: Context, project: Project, locked: "Locked") -> None:
    """Print what has changed in a lock."""
    if context.console.json:
        status = "written" if locked.written else "up-to-date"
        context.console.emit({"lock": str(project.lock_path), **_locked_to_dict(locked, status)})
        return
    for change in locked.changes:
        context.console.print(change_line(change))
    if not locked.changes:
        context.console.say(f"{project.lock_path} is up to date ({_counted(locked.lock)})")


def show_first(context: Context, project: Project, locked: "Locked | None") -> None:
    """Print which files of a project were written."""
    console = context.console
    if console.json:
        intent = {"intent": str(project.intent_path)}
        if locked is None:
            console.emit({**intent, "models": []})
        else:
            lock = {"lock": str(project.lock_path)}
            console.emit({**intent, **lock, **_locked_to_dict(locked, "written")})
    elif locked is not None:
        for change in locked.changes:
            console.print(change_line(change))
    if locked is None:
        console.say(f"wrote {project.intent_path}: add models to it, then run `modelrunner lock`")
    elif not console.json:
        console.say(
            f"wrote {project.intent_path} and {project.lock_path}; `modelrunner pull --locked`"
            " downloads what they name"
        )


def show_differences(
    context: Context, project: Project, lock: Lock, found: "Sequence[Change | Gone]"
) -> None:
    """Print how the registries differ from a lock."""
    if context.console.json:
        shown = [
            change_to_dict(entry) if isinstance(entry, Change) else _gone_to_dict(entry)
            for entry in found
        ]
        context.console.emit({"lock": str(project.lock_path), "changes": shown})
        return
    for entry in found:
        if not isinstance(entry, Change):
            context.console.print(f"gone {entry.name}: {sanitize_line(entry.error.message)}")
            continue
        context.console.print(change_line(entry))
        for line in blob_lines(entry):
            context.console.print(line)
    if not found:
        context.console.say(f"nothing has changed since {project.lock_path} ({_counted(lock)})")


def _counted(lock: Lock) -> str:
    models = counted(len(lock.models), "model")
    return models if lock.runtime is None else f"{models}, 1 runtime"


def _pinned_to_dict(lock: Lock) -> dict[str, object]:
    found: dict[str, object] = {"models": [model_to_dict(model) for model in lock.models]}
    if lock.runtime is not None:
        found["runtime"] = runtime_to_dict(lock.runtime)
    return found


def _locked_to_dict(locked: "Locked", status: str) -> dict[str, object]:
    return {
        "status": status,
        "changes": [change_to_dict(change) for change in locked.changes],
        **_pinned_to_dict(locked.lock),
    }


def _gone_to_dict(gone: "Gone") -> dict[str, object]:
    return {
        "name": gone.name,
        "change": "gone",
        "matter": "tag",
        "reference": str(gone.before.reference),
        "from": str(gone.before.manifest.digest),
        "to": None,
        "gone": [blob_to_dict(blob) for blob in blobs_of(gone.before)],
        "new": [],
        "download_bytes": 0,
    }


def model_to_dict(model: LockedModel) -> dict[str, object]:
    """Return a locked model as JSON."""
    return {
        "name": model.name,
        "reference": str(model.reference),
        "digest": str(model.manifest.digest),
        "format": model.format,
        "size_bytes": model.size,
        "blobs": [blob_to_dict(blob) for blob in model.blobs],
        "signed": [signer.to_dict() for signer in model.signed],
    }


def runtime_to_dict(runtime: LockedRuntime) -> dict[str, object]:
    """Return a locked runtime as JSON."""
    return {
        "reference": str(runtime.reference),
        "digest": str(runtime.manifest.digest),
        "images": [
            {
                "platform": None if image.platform is None else str(image.platform),
                "digest": str(image.manifest.digest),
                "download_bytes": image.download_bytes,
            }
            for image in runtime.images
        ],
    }


def change_to_dict(change: Change) -> dict[str, object]:
    """Return a change as JSON."""
    before, after = change.before, change.after
    return {
        "name": change.name,
        "change": change.kind,
        "matter": change.matter,
        "reference": str(change.model.reference),
        "from": str(before.manifest.digest) if before else None,
        "to": str(after.manifest.digest) if after else None,
        "gone": [blob_to_dict(blob) for blob in change.gone],
        "new": [blob_to_dict(blob) for blob in change.new],
        "download_bytes": change.download_bytes,
    }


def blob_to_dict(blob: LockedBlob) -> dict[str, object]:
    """Return a blob as JSON."""
    return {
        "digest": str(blob.digest),
        "size_bytes": blob.size,
        "media_type": blob.media_type,
        "role": blob.role,
        "name": blob.name,
    }


def change_line(change: Change) -> str:
    """Return `updated chat: ai/m:1 from 0123456789ab to 9876543210fe (template only)`."""
    before, after = change.before, change.after
    if before is None or after is None:
        size = f", {format_size(change.model.size)}" if change.kind == "added" else ""
        return f"{change.kind} {change.name}: {_named(change.model)}{size}"
    if before.manifest == after.manifest:
        names = f"{before.reference.short} is now {after.reference.short}"
        said = names if before.reference != after.reference else "its `fit` changed"
        if change.matter == "signers":
            said = _signers(after)
        return f"updated {after.name}: {said}, the content is the same"
    moved = f"from {before.manifest.digest.short} to {after.manifest.digest.short}"
    return f"updated {after.name}: {after.reference.short} {moved} ({change.matter})"


def _signers(model: LockedModel | LockedRuntime) -> str:
    signed = model.signed if isinstance(model, LockedModel) else ()
    if not signed:
        return "its signers were removed"
    return sanitize_line(f"signed by {', '.join(map(str, signed))}", 400)


def _named(model: LockedModel | LockedRuntime) -> str:
    return f"{model.reference.short} at {model.manifest.digest.short}"


def blob_lines(change: Change) -> list[str]:
    """Return the removed and the new blobs of a model; those of a changed file side by side."""
    signs = [*(("-", blob) for blob in change.gone), *(("+", blob) for blob in change.new)]
    ordered = sorted(signs, key=lambda entry: (entry[1].role, entry[1].title, entry[0] == "+"))
    return [
        f"  {sign} {blob.role}  {blob.title}  {format_size(blob.size)}  {blob.digest.short}"
        for sign, blob in ordered
    ]
