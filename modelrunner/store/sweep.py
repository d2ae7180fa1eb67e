"""What the store could do without: planned first, then removed.

A blob lives as long as a name in the index reaches it. What lives is found anew under the lock
when things are removed (mark and sweep), never counted. While a pull is running anywhere, blobs
may be there whose name is yet to come: then blobs are left alone, and so they are where a damaged
manifest does not tell which it needs.
"""

import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from modelrunner.errors import IntegrityError
from modelrunner.oci.digest import Digest
from modelrunner.store.files import TEMPORARY_PREFIX, disk_errors
from modelrunner.store.layout import Layout
from modelrunner.store.lock import file_lock, try_lock
from modelrunner.store.store import Store, StoredModel


@dataclass(frozen=True, slots=True)
class Leftover:
    """Something that nothing needs."""

    path: Path
    kind: str
    size: int


def leftovers(store: Store, *, partials: bool) -> tuple[Leftover, ...]:
    """What could go: blobs without a name, views of gone models, temporary files.

    Args:
        store: Where to look.
        partials: Whether downloads that stopped count too.
    """
    if not store.layout.exists():
        return ()
    found: list[Leftover] = []
    live = live_digests(store)
    if live is not None and not store.arriving_elsewhere():
        found += _dead_blobs(store.layout, live)
        found += _dead_views(store.layout, live)
        found += _temporaries(store.layout)
    if partials:
        found += _idle_partials(store.layout)
    return tuple(found)


def sweep(store: Store, *, partials: bool) -> tuple[Leftover, ...]:
    """Removes what `leftovers` finds, under the store's lock, and tells what that was.

    Raises:
        StoreAccessError: The store may not be written.
    """
    with disk_errors(store.layout.root), file_lock(store.layout.lock):
        gone = leftovers(store, partials=partials)
        for entry in gone:
            _remove(entry)
            if entry.kind == "blob":
                (store.layout.stamps / entry.path.name).unlink(missing_ok=True)
    return gone


def remove_blobs_of(store: Store, model: StoredModel) -> int:
    """Removes a forgotten model's blobs that no other model shares; the bytes that freed.

    Unlike `sweep` it looks at this model's blobs alone, so nothing has to be old.
    """
    with disk_errors(store.layout.root), file_lock(store.layout.lock):
        live = live_digests(store)
        if live is None or model.digest in live:
            return 0
        shutil.rmtree(store.layout.view(model.digest), ignore_errors=True)
        freed = 0
        for digest in _own_blobs(model) - live:
            path = store.layout.blob(digest)
            if path.exists():
                freed += path.stat().st_size
                path.unlink()
            store.layout.stamp(digest).unlink(missing_ok=True)
        return freed


def live_digests(store: Store) -> frozenset[Digest] | None:
    """Every blob that a name reaches, manifests included; None where that cannot be known."""
    try:
        return frozenset().union(*(_blobs_of(model) for model in store.models()))
    except IntegrityError:
        return None


def _blobs_of(model: StoredModel) -> frozenset[Digest]:
    return frozenset({model.digest, *(entry.digest for entry in model.manifest.blobs)})


def _own_blobs(model: StoredModel) -> frozenset[Digest]:
    try:
        return _blobs_of(model)
    except IntegrityError:
        # a damaged manifest tells of no blobs; `prune` finds what it had
        return frozenset({model.digest})


def _dead_blobs(layout: Layout, live: frozenset[Digest]) -> Iterator[Leftover]:
    alive = {digest.hex for digest in live}
    for path in _files(layout.blobs):
        if path.name not in alive:
            yield Leftover(path, "blob", path.stat().st_size)


def _dead_views(layout: Layout, live: frozenset[Digest]) -> Iterator[Leftover]:
    alive = {digest.hex for digest in live}
    for path in _files(layout.views):
        if path.name not in alive and not path.name.startswith(TEMPORARY_PREFIX):
            yield Leftover(path, "view", 0)


def _temporaries(layout: Layout) -> Iterator[Leftover]:
    for folder in (layout.root, layout.blobs, layout.ingest, layout.stamps, layout.views):
        for path in _files(folder):
            if path.name.startswith(TEMPORARY_PREFIX):
                yield Leftover(path, "temporary", 0 if path.is_dir() else path.stat().st_size)


def _idle_partials(layout: Layout) -> Iterator[Leftover]:
    for path in _files(layout.ingest):
        if path.suffix not in (".partial", ".journal"):
            continue
        with path.open("rb") as file:
            idle = try_lock(file)
        if idle:
            # what a sparse file says it has is not what it takes
            status = path.stat()
            yield Leftover(path, "partial", min(status.st_size, status.st_blocks * 512))


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _remove(entry: Leftover) -> None:
    if entry.path.is_dir():
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        entry.path.unlink(missing_ok=True)
