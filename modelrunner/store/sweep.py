"""What the store could do without: planned first, then removed.

A blob lives as long as a name in the index reaches it, or something that is kept with a model which
it refers to. What lives is found again under the lock when things are removed (mark and sweep),
never counted. While a pull is running anywhere, blobs may be there whose name is yet to come: then
blobs are left alone, and so they are where a damaged manifest does not say which it needs. What
does not look like the store's own is left alone too.
"""

import errno
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from modelrunner.disk.files import SECONDS_IN_USE, TEMPORARY_PREFIX, disk_errors
from modelrunner.disk.lock import held, open_held, try_lock
from modelrunner.errors import CorruptStoreError, IntegrityError
from modelrunner.frozen import frozen
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, parse_manifest
from modelrunner.store import referrers
from modelrunner.store.blobs import BlobStore
from modelrunner.store.layout import Layout
from modelrunner.store.store import Store, StoredModel
from modelrunner.store.unpacked.record import files_of

_HEX = re.compile(r"[0-9a-f]{64}")
_MAX_NESTING = 8
_NO_PARTIAL = (errno.ELOOP, errno.EINVAL)
"""What opening says of a link, a pipe or a device."""


@frozen
class Leftover:
    """Something that nothing needs."""

    path: Path
    kind: str
    size: int


def leftovers(store: Store, *, partials: bool) -> tuple[Leftover, ...]:
    """What could go: blobs without a name, views of gone models, old temporary files.

    Args:
        store: Where to look.
        partials: Whether downloads that stopped count too.
    """
    if not store.layout.exists():
        return ()
    with store.arrivals_held_off() as still:
        return tuple(_found(store, still=still, partials=partials))


def sweep(store: Store, *, partials: bool) -> tuple[Leftover, ...]:
    """Remove what `leftovers` finds, under the store's locks, and return it.

    Raises:
        StoreAccessError: The store may not be written.
    """
    if not store.layout.exists():
        return ()
    root = store.layout.root
    with held(store.layout.lock), store.arrivals_held_off() as still, disk_errors(root):
        # what a view alone has is known while the blobs are there
        found = tuple(_found(store, still=still, partials=partials))
        return tuple(entry for entry in found if _remove(store.layout, entry))


def remove_blobs_of(store: Store, model: StoredModel) -> int:
    """Removes a forgotten model's blobs that no other model shares; the bytes that freed.

    Unlike `sweep` it looks at this model's blobs alone, and waits for no pull: one that counted on
    such a blob notices before it gives its model a name.
    """
    with held(store.layout.lock), disk_errors(store.layout.root):
        live = live_digests(store)
        if live is None or model.digest in live:
            return 0
        shutil.rmtree(store.layout.view(model.digest), ignore_errors=True)
        freed = 0
        for digest in _own_blobs(store, model) - live:
            freed += _remove_blob(store, digest)
            for note in store.layout.notes(digest.hex):
                note.unlink(missing_ok=True)
        (store.layout.unpacked / model.digest.hex).unlink(missing_ok=True)
        return freed


def make_room_by(store: Store, model: StoredModel, *, files: bool) -> int:
    """Removes what a model can do without, so that a full disk has room for a new index.

    That is its view and what was noted of its blobs, which are made again when they are needed;
    and with `files`, of a model that is about to be forgotten, the blobs that no other model
    shares. Its manifest and config stay: should this process die now, the model is still listed,
    and can be pulled or removed.

    Returns:
        The bytes of the blobs.
    """
    with held(store.layout.lock), disk_errors(store.layout.root):
        shutil.rmtree(store.layout.view(model.digest), ignore_errors=True)
        own = _own_blobs(store, model)
        for digest in own:
            for note in store.layout.notes(digest.hex):
                note.unlink(missing_ok=True)
        if not files:
            return 0
        others = [other for other in store.everything() if other.digest != model.digest]
        try:
            shared = [_needed(store.blobs, other.descriptor) for other in others]
        except IntegrityError:
            # what a damaged manifest needs is not known
            return 0
        keep = {model.digest, model.manifest.config.digest}.union(*shared)
        return sum(_remove_blob(store, digest) for digest in own - keep)


def make_room_by_notes(store: Store) -> int:
    """Removes a part of what is noted of blobs, at least one file if there is any; how many."""
    with held(store.layout.lock), disk_errors(store.layout.root):
        found = sorted(path for path in store.layout.stamps.iterdir() if path.is_file())
        part = found[: max(1, len(found) // 8)]
        for note in part:
            note.unlink(missing_ok=True)
    return len(part)


def _remove_blob(store: Store, digest: Digest) -> int:
    path = store.layout.blob(digest)
    try:
        found = path.stat()
        path.unlink()
    except FileNotFoundError:
        return 0
    # a file of another program, or of a person, keeps the bytes
    return found.st_size if found.st_nlink == 1 else 0


def live_digests(store: Store) -> frozenset[Digest] | None:
    """Every blob that a name reaches, manifests included; None where that cannot be known.

    Raises:
        CorruptStoreError: The index is damaged, so names are unknown.
    """
    models = store.everything()
    try:
        return frozenset().union(*(_needed(store.blobs, model.descriptor) for model in models))
    except IntegrityError:
        return None


def _needed(blobs: BlobStore, descriptor: Descriptor) -> frozenset[Digest]:
    """What an entry of the index reaches, what refers to that, and what was unpacked of it."""
    kept = referrers.reached(blobs, descriptor)
    unpacked = files_of(blobs.layout, descriptor.digest) or ()
    return _reached(blobs, descriptor).union(entry.digest for entry in (*kept, *unpacked))


def _reached(blobs: BlobStore, descriptor: Descriptor, depth: int = 0) -> frozenset[Digest]:
    """A manifest and what it names; an index, which another tool has put here, reaches further."""
    manifest = parse_manifest(blobs.read(descriptor), descriptor.media_type)
    if not isinstance(manifest, Index):
        return frozenset({descriptor.digest, *(entry.digest for entry in manifest.blobs)})
    if depth >= _MAX_NESTING:
        raise CorruptStoreError(f"the index {descriptor.digest} is nested too deeply")
    # not every platform of an index has to be here
    here = [entry for entry in manifest.manifests if blobs.path(entry.digest).exists()]
    return frozenset({descriptor.digest}).union(
        *(_reached(blobs, entry, depth + 1) for entry in here)
    )


def _own_blobs(store: Store, model: StoredModel) -> frozenset[Digest]:
    try:
        return _needed(store.blobs, model.descriptor)
    except IntegrityError:
        # a damaged manifest tells of no blobs; `prune` finds what it had
        return frozenset({model.digest})


def _found(store: Store, *, still: bool, partials: bool) -> Iterator[Leftover]:
    live = live_digests(store)
    if live is not None and still:
        alive = {digest.hex for digest in live}
        yield from _dead(store.layout.blobs, alive, "blob")
        yield from _dead_views(store.layout, alive)
        yield from _dead(store.layout.unpacked, alive, "view")
    yield from _temporaries(store.layout)
    yield from _abandoned_trees(store.layout)
    for path in _files(store.layout.quarantine):
        yield Leftover(path, "temporary", _size(path))
    if partials:
        yield from _idle_partials(store.layout)


def _dead(folder: Path, alive: set[str], kind: str) -> Iterator[Leftover]:
    for path in _files(folder):
        if _HEX.fullmatch(path.name) and path.name not in alive:
            yield Leftover(path, kind, _size(path))


def _dead_views(layout: Layout, alive: set[str]) -> Iterator[Leftover]:
    """Views of models without a name, with what is freed by them alone.

    Blobs that were removed since live on in the views that have them by a hard link.
    """
    dead = list(_dead(layout.views, alive, "view"))
    counted = {_identity(path) for path in _files(layout.blobs)} if dead else set()
    for view in dead:
        size = 0
        for path in view.path.rglob("*"):
            if path.is_symlink() or path.is_dir() or _identity(path) in counted:
                continue
            counted.add(_identity(path))
            size += _size(path)
        yield Leftover(view.path, view.kind, size)


def _identity(path: Path) -> tuple[int, int] | None:
    """What makes hard links of one file the same; None for one that is gone meanwhile."""
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino


def _temporaries(layout: Layout) -> Iterator[Leftover]:
    new = time.time() - SECONDS_IN_USE
    for folder in (layout.root, layout.blobs, layout.ingest, layout.stamps, layout.views):
        for path in _files(folder):
            # those that are gone by now were somebody's
            with suppress(FileNotFoundError):
                if path.name.startswith(TEMPORARY_PREFIX) and path.lstat().st_mtime < new:
                    yield Leftover(path, "temporary", _size(path))


def _abandoned_trees(layout: Layout) -> Iterator[Leftover]:
    """What processes that were killed have unpacked: all there is, while nobody is unpacking."""
    with suppress(OSError), open_held(layout.unpacked / "lock") as file:
        if not try_lock(file):
            return
        for path in _files(layout.unpacked):
            if path.name.startswith(TEMPORARY_PREFIX) and path.is_dir():
                inside = (each for each in path.rglob("*") if not each.is_symlink())
                yield Leftover(path, "temporary", sum(map(_size, inside)))


def _idle_partials(layout: Layout) -> Iterator[Leftover]:
    # partials first: a journal without its file does no harm
    for path in sorted(_files(layout.ingest), key=lambda path: path.suffix, reverse=True):
        if path.suffix in (".partial", ".journal") and _is_idle(path):
            # what a sparse file says it has is not what it takes
            yield Leftover(path, "partial", min(_size(path), _blocks(path)))


def _is_idle(path: Path) -> bool:
    """Whether nobody is writing a partial; a journal goes with its partial."""
    try:
        with open_held(path.with_suffix(".partial")) as file:
            return try_lock(file)
    except FileNotFoundError:
        return os.path.lexists(path)
    except IsADirectoryError:
        return False
    except OSError as exc:
        if exc.errno not in _NO_PARTIAL:
            raise
        # a link, say, that somebody has put there: nobody can be writing to it
        return True


def _size(path: Path) -> int:
    """What a file takes; a view's links and copies, and what is gone meanwhile, count nothing."""
    try:
        return 0 if path.is_dir() else path.lstat().st_size
    except FileNotFoundError:
        return 0


def _blocks(path: Path) -> int:
    try:
        return path.lstat().st_blocks * 512
    except FileNotFoundError:
        return 0


def _files(folder: Path) -> list[Path]:
    return sorted(folder.iterdir()) if folder.is_dir() else []


def _remove(layout: Layout, entry: Leftover) -> bool:
    """Removes it; False where a partial has been taken up meanwhile."""
    if entry.kind == "partial":
        return _remove_partial(entry.path)
    if entry.path.is_dir() and not entry.path.is_symlink():
        shutil.rmtree(entry.path, ignore_errors=True)
    else:
        entry.path.unlink(missing_ok=True)
    if entry.kind == "blob":
        for note in layout.notes(entry.path.name):
            note.unlink(missing_ok=True)
    return True


def _remove_partial(path: Path) -> bool:
    try:
        # locked while it is removed: whoever comes for it now waits, and then makes a new one
        with open_held(path.with_suffix(".partial")) as file:
            idle = try_lock(file)
            if idle:
                path.unlink(missing_ok=True)
            return idle
    except OSError as exc:
        if exc.errno not in (errno.ENOENT, *_NO_PARTIAL):
            raise
        path.unlink(missing_ok=True)
        return True
