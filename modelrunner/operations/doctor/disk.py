"""The store on its disk: may it be written, is it whole, what lies about, how much is free.

Nothing is left behind: hard links are tried with a file that is gone afterwards.
"""

import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from modelrunner.disk.files import TEMPORARY_PREFIX, nearest_existing
from modelrunner.errors import ExitStatus, IntegrityError, ModelRunnerError
from modelrunner.operations.doctor.finding import Finding, broken, doubtful, failed, well
from modelrunner.store.layout import Layout
from modelrunner.store.stamps import is_stamped
from modelrunner.store.store import Store, StoredModel
from modelrunner.text import os_reason
from modelrunner.units import counted, format_size

_STALE_S = 24 * 3600
_LITTLE = 5 * 1024**3
_NOTHING = 256 * 1024**2


def home(folder: Path) -> Iterator[Finding]:
    """The directory that everything lies under."""
    there = nearest_existing(folder)
    if not there.is_dir():
        message = f"{there} is not a directory: models cannot be stored"
        yield broken("home", message, f"ls -ld {_quoted(there)}", ExitStatus.USAGE)
    elif not os.access(there, os.W_OK | os.X_OK):
        message = f"{there} is not writable: models cannot be pulled"
        fix = f"ls -ld {_quoted(there)} && id"
        if folder.exists():
            yield doubtful("home", message, fix)
        else:
            yield broken("home", message, fix, ExitStatus.USAGE)
    else:
        yield well(
            "home", str(folder) if folder.exists() else f"{folder}, created by the first pull"
        )


def space(folder: Path) -> Iterator[Finding]:
    """What is free where models are kept."""
    usage = shutil.disk_usage(nearest_existing(folder))
    said = f"{format_size(usage.free)} free of {format_size(usage.total)}"
    if usage.free < _NOTHING:
        yield broken(
            "space", f"{said}: not enough for a model", "modelrunner prune", ExitStatus.CAPACITY
        )
    elif usage.free < _LITTLE:
        yield doubtful("space", f"{said}: low for models", "modelrunner prune --dry-run")
    else:
        yield well("space", said)


def store(place: Store) -> Iterator[Finding]:
    """The store: layout, names, blobs by their sizes, leftovers, links."""
    try:
        if not place.layout.exists():
            yield well("store", "no models yet")
            return
        models = place.models()
    except ModelRunnerError as exc:
        yield failed("store", exc, f"ls -la {_quoted(place.layout.root.parent)}")
        return
    yield from _blobs(place, models)
    yield from _leftovers(place.layout)
    if os.access(place.layout.root, os.W_OK):
        yield from _links(place.layout.root)
    else:
        message = f"{place.layout.root} is not writable: local models can be used, but not changed"
        yield doubtful("links", message, f"ls -ld {_quoted(place.layout.root)}")


def _blobs(place: Store, models: tuple[StoredModel, ...]) -> Iterator[Finding]:
    wrong: list[str] = []
    fresh = 0
    total = 0
    for model in models:
        name = model.references[0].short if model.references else str(model.digest)
        try:
            blobs = (model.descriptor, *model.manifest.blobs)
        except IntegrityError:
            wrong.append(name)
            continue
        total += model.size
        sizes = [_size(place.layout.blob(blob.digest)) for blob in blobs]
        if sizes != [blob.size for blob in blobs]:
            wrong.append(name)
        # a manifest is hashed whenever it is read, and needs no stamp
        fresh += sum(not is_stamped(place.layout, b.digest) for b in model.manifest.blobs)
    said = f"{counted(len(models), 'model')}, {format_size(total)}"
    if wrong:
        message = f"{said}; missing or damaged: {', '.join(wrong)}"
        fix = f"modelrunner pull {shlex.join(wrong)}"
        yield broken("store", message, fix, ExitStatus.INTEGRITY)
    elif fresh:
        message = f"{said}; {counted(fresh, 'blob')} changed or restored since they were hashed"
        yield doubtful("store", message, "modelrunner verify")
    else:
        yield well("store", said)


def _leftovers(layout: Layout) -> Iterator[Finding]:
    old = time.time() - _STALE_S
    stopped = [path for path in _files(layout.ingest, ".partial") if _touched(path) < old]
    aside = _files(layout.quarantine)
    if stopped or aside:
        parts = [
            f"{counted(len(stopped), 'incomplete download')}" if stopped else "",
            f"{counted(len(aside), 'damaged blob')} in quarantine" if aside else "",
        ]
        yield doubtful("leftovers", ", ".join(filter(None, parts)), "modelrunner prune")
    else:
        yield well("leftovers", "none")


def _links(folder: Path) -> Iterator[Finding]:
    try:
        handle, name = tempfile.mkstemp(prefix=TEMPORARY_PREFIX, dir=folder)
    except OSError as exc:
        message = f"cannot write to {folder}: {os_reason(exc)}"
        yield broken("links", message, f"df -h {_quoted(folder)}", ExitStatus.USAGE)
        return
    os.close(handle)
    beside = f"{name}-link"
    try:
        os.link(name, beside)
    except OSError as exc:
        message = f"hard links are not supported ({os_reason(exc)}): models use twice their size"
        yield doubtful("links", message, f"df -T {_quoted(folder)}")
    else:
        yield well("links", "hard links work")
    finally:
        for path in (name, beside):
            with suppress(FileNotFoundError):
                Path(path).unlink()


def _files(folder: Path, suffix: str = "") -> list[Path]:
    try:
        return [path for path in sorted(folder.iterdir()) if path.name.endswith(suffix)]
    except OSError:
        return []


def _size(path: Path) -> int | None:
    try:
        return path.stat().st_size
    except OSError:
        return None


def _touched(path: Path) -> float:
    try:
        return path.stat().st_mtime
    except OSError:
        # gone meanwhile: somebody is at work
        return time.time()


def _quoted(path: Path) -> str:
    return shlex.quote(str(path))
