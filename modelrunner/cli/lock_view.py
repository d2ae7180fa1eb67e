"""How a lock and its changes are shown: one line a change, on stdout; or all of it as JSON."""

from modelrunner.cli.context import Context
from modelrunner.lockfile.changes import Change
from modelrunner.lockfile.intent import Intent
from modelrunner.lockfile.lock import Lock, LockedBlob, LockedModel
from modelrunner.units import counted, format_size


def show_agreed(context: Context, intent: Intent, lock: Lock) -> None:
    """Says that lock and intent agree."""
    if context.console.json:
        models = [model_to_dict(model) for model in lock.models]
        context.console.emit({"lock": lock.file, "status": "up-to-date", "models": models})
    else:
        context.console.say(
            f"{lock.file} satisfies {intent.file} ({counted(len(lock.models), 'model')})"
        )


def model_to_dict(model: LockedModel) -> dict[str, object]:
    """A locked model as JSON has it."""
    return {
        "name": model.name,
        "reference": str(model.reference),
        "digest": str(model.manifest.digest),
        "format": model.format,
        "size_bytes": model.size,
        "blobs": [blob_to_dict(blob) for blob in model.blobs],
    }


def change_to_dict(change: Change) -> dict[str, object]:
    """A change as JSON has it."""
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
        "download_bytes": sum(blob.size for blob in change.new),
    }


def blob_to_dict(blob: LockedBlob) -> dict[str, object]:
    """A blob as JSON has it."""
    return {
        "digest": str(blob.digest),
        "size_bytes": blob.size,
        "media_type": blob.media_type,
        "role": blob.role,
        "name": blob.name,
    }


def change_line(change: Change) -> str:
    """`updated chat: ai/m:1 from 0123456789ab to 9876543210fe (template only)`."""
    before, after = change.before, change.after
    if before is None or after is None:
        size = f", {format_size(change.model.size)}" if change.kind == "added" else ""
        return f"{change.kind} {change.name}: {_named(change.model)}{size}"
    if before.manifest == after.manifest:
        names = f"{before.reference.short} is now {after.reference.short}"
        said = names if before.reference != after.reference else "its `fit` changed"
        return f"updated {after.name}: {said}, the content is the same"
    moved = f"from {before.manifest.digest.short} to {after.manifest.digest.short}"
    return f"updated {after.name}: {after.reference.short} {moved} ({change.matter})"


def _named(model: LockedModel) -> str:
    return f"{model.reference.short} at {model.manifest.digest.short}"


def blob_lines(change: Change) -> list[str]:
    """What a model has no more, and what is new; a file that changed has both, one by the other."""
    signs = [*(("-", blob) for blob in change.gone), *(("+", blob) for blob in change.new)]
    ordered = sorted(signs, key=lambda entry: (entry[1].role, entry[1].title, entry[0] == "+"))
    return [
        f"  {sign} {blob.role}  {blob.title}  {format_size(blob.size)}  {blob.digest.short}"
        for sign, blob in ordered
    ]
