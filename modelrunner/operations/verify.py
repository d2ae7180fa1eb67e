"""Verification: every blob of the store against its digest, many at a time.

What is damaged can be moved to `quarantine/`, so that the next pull downloads just that. A blob
that is still arriving lies elsewhere and is not damage.
"""

import re
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from modelrunner.disk.files import TEMPORARY_PREFIX
from modelrunner.errors import CorruptStoreError, MalformedManifestError, ModelRunnerError
from modelrunner.events import Advanced, Finished, Listener, Planned, Started, Verified, ignore
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, parse_manifest
from modelrunner.runtime.images.library import Installed
from modelrunner.runtime.images.tree import Deviation, deviations
from modelrunner.store import referrers
from modelrunner.store.stamps import is_copy_indeed, is_stamped
from modelrunner.store.store import Store, StoredModel
from modelrunner.store.unpacked.record import files_of
from modelrunner.store.views import copied_layers
from modelrunner.units import counted

State = Literal["good", "damaged", "absent", "malformed", "unreadable", "replaced"]

_HEX = r"[0-9a-f]{64}"
_MAX_NESTING = 8
_WORTH_TELLING = 256 * 1024 * 1024
"""Less is hashed before anybody has read that it is."""


@dataclass(frozen=True, slots=True)
class Finding:
    """What became of one blob.

    Attributes:
        digest: Its name.
        size: In bytes, according to what refers to it.
        state: `malformed` is an invalid manifest of the right digest; `unreadable` is what
            the operating system does not deliver; `replaced` is a copy in a view that is not the
            blob's content.
        models: The models that need it; may be empty.
        path: The copy, where that is what was looked at.
    """

    digest: str
    size: int
    state: State
    models: tuple[str, ...] = ()
    path: Path | None = None


@dataclass(frozen=True, slots=True)
class Verification:
    """What is in a store: its blobs, and other files among them."""

    findings: tuple[Finding, ...]
    foreign: tuple[Path, ...] = ()
    images: Mapping[str, str] = field(default_factory=dict)
    """Which names in findings are images of runtimes, each with its exact reference."""

    @property
    def bad(self) -> tuple[Finding, ...]:
        """What is not as it should be."""
        return tuple(entry for entry in self.findings if entry.state != "good")


@dataclass(slots=True)
class _Blob:
    """A blob to look at; `state` where that is known already."""

    descriptor: Descriptor
    state: State | None = None
    models: list[str] = field(default_factory=list)


def verify_models(
    store: Store, models: Iterable[StoredModel], *, deep: bool, listener: Listener = ignore
) -> tuple[Finding, ...]:
    """Checks the blobs of models, each blob once.

    A stamp is believed (see `modelrunner.store.stamps`) unless `deep`, which reads every byte.
    """
    models = tuple(models)
    found = _checked(store, _blobs_of(store, models), deep=deep, listener=listener)
    found = tuple(_without_removed(store, models, found))
    return (*found, *_replaced(store, models)) if deep else found


def verify_store(store: Store, *, deep: bool, listener: Listener = ignore) -> Verification:
    """Checks every blob that is here, needed or not: the next pull may count on it.

    Raises:
        CorruptStoreError: The index is damaged.
    """
    if not store.layout.exists():
        return Verification(())
    models = store.everything()
    blobs = _blobs_of(store, models)
    needed, foreign = len(blobs), []
    for path in _files(store.layout.blobs.parent):
        if not re.fullmatch(_HEX, path.name) or path.parent != store.layout.blobs:
            foreign.append(path)
        elif (digest := Digest(path.name)) not in blobs and path.exists():
            blobs[digest] = _Blob(Descriptor("", digest, path.stat().st_size))
    found = _checked(store, blobs, deep=deep, listener=listener)
    # what nobody needs and somebody has just removed is no loss
    rest = [entry for entry in found[needed:] if entry.state != "absent"]
    wanted = _without_removed(store, models, found[:needed])
    copies = _replaced(store, models) if deep else ()
    return Verification((*wanted, *rest, *copies), tuple(foreign), images_by_name(store))


def images_by_name(store: Store) -> Mapping[str, str]:
    """The images of runtimes: by the name that findings have, the reference with its digest."""
    return {
        _name_of(image): str(image.references[0].with_digest(image.digest))
        for image in store.images()
        if image.references
    }


@dataclass(frozen=True, slots=True)
class RuntimeFinding:
    """What became of the files of a runtime; none deviates where it is as it was unpacked."""

    runtime: Installed
    deviations: tuple[Deviation, ...]


def verify_runtimes(
    runtimes: Iterable[Installed], *, deep: bool, listener: Listener = ignore
) -> tuple[RuntimeFinding, ...]:
    """Compare the files of runtimes with those of their images.

    What looks as when it was unpacked is believed unless `deep`, which reads every byte.
    """
    return tuple(_unpacked(one, deep=deep, listener=listener) for one in runtimes)


def _unpacked(one: Installed, *, deep: bool, listener: Listener) -> RuntimeFinding:
    digest, total, done = str(one.digest), one.unpacked_bytes, 0
    report = listener if deep and total >= _WORTH_TELLING else ignore

    def advance(count: int) -> None:
        nonlocal done
        # files with several names are read once each
        done = min(total, done + count)
        report(Advanced(digest, total, done))

    report(Planned(one.name, total, 0, 0))
    report(Started(digest, total, 0, one.name))
    wrong = deviations(one.folder, deep=deep, on_bytes=advance)
    if not wrong:
        report(Verified(digest, total))
    report(Finished(one.name, digest, total))
    return RuntimeFinding(one, tuple(wrong))


def quarantine(store: Store, findings: Iterable[Finding]) -> tuple[Path, ...]:
    """Moves damaged blobs out of the way; where they lie now.

    Raises:
        StoreAccessError, DiskFullError: The store cannot be written.
    """
    damaged = [entry for entry in findings if entry.state in ("damaged", "unreadable")]
    blobs = [Descriptor("", Digest.parse(entry.digest), entry.size) for entry in damaged]
    moved = [store.blobs.set_aside(blob) for blob in blobs]
    return tuple(path for path in moved if path is not None)


def _without_removed(
    store: Store, models: Sequence[StoredModel], found: Iterable[Finding]
) -> Iterator[Finding]:
    """Leaves out what is absent because another process has removed its model meanwhile."""
    for entry in found:
        if entry.state != "absent" or not entry.models:
            yield entry
            continue
        blob = Descriptor("", Digest.parse(entry.digest), entry.size)
        there = {model.digest for model in store.everything()}
        if not any(_name_of(each) in entry.models for each in models if each.digest in there):
            continue
        # removed and pulled again
        good = store.blobs.state(blob) == "good"
        yield replace(entry, state="good") if good else entry


def _replaced(store: Store, models: Iterable[StoredModel]) -> Iterator[Finding]:
    """The copies in views that are not what their blobs are; links are the blobs themselves."""
    for model in models:
        try:
            copies = list(copied_layers(store.layout, model.artifact))
        except ModelRunnerError:
            # its manifest is found damaged, or is of another tool
            continue
        for layer, path in copies:
            blob = layer.descriptor
            try:
                if not path.is_symlink() and is_copy_indeed(store.layout, blob.digest, path):
                    continue
            except FileNotFoundError:
                continue
            except OSError:
                # a link, a directory, or what a disk does not deliver
                pass
            yield Finding(str(blob.digest), blob.size, "replaced", (_name_of(model),), path)


def _name_of(model: StoredModel) -> str:
    return model.references[0].short if model.references else str(model.digest)


def _blobs_of(store: Store, models: Iterable[StoredModel]) -> dict[Digest, _Blob]:
    found: dict[Digest, _Blob] = {}
    for model in models:
        name = _name_of(model)
        kept = map(_Blob, referrers.reached(store.blobs, model.descriptor))
        unpacked = map(_Blob, files_of(store.layout, model.digest) or ())
        for blob in (*_reached(store, model.descriptor), *kept, *unpacked):
            entry = found.setdefault(blob.descriptor.digest, blob)
            entry.models.append(name)
    return found


def _reached(store: Store, descriptor: Descriptor, depth: int = 0) -> Iterator[_Blob]:
    """A manifest, read and hashed here, and what it names; an index of another tool too."""
    try:
        raw = store.blobs.read(descriptor)
        manifest = parse_manifest(raw, descriptor.media_type)
    except CorruptStoreError:
        yield _Blob(descriptor, _hashed(store, descriptor))
        return
    except MalformedManifestError:
        yield _Blob(descriptor, "malformed")
        return
    except OSError:
        yield _Blob(descriptor, "unreadable")
        return
    yield _Blob(descriptor, "good")
    if not isinstance(manifest, Index):
        yield from map(_Blob, manifest.blobs)
    elif depth < _MAX_NESTING:
        for entry in manifest.manifests:
            # not every platform of an index has to be here
            if store.blobs.path(entry.digest).exists():
                yield from _reached(store, entry, depth + 1)


def _files(folder: Path) -> Iterator[Path]:
    """Every file below a directory but those that are being written."""
    if folder.is_dir():
        for path in sorted(folder.iterdir()):
            if path.is_dir() and not path.is_symlink():
                yield from _files(path)
            elif not path.name.startswith(TEMPORARY_PREFIX):
                yield path


def _checked(
    store: Store, blobs: dict[Digest, _Blob], *, deep: bool, listener: Listener
) -> tuple[Finding, ...]:
    if not deep:
        for blob in blobs.values():
            blob.state = blob.state or _by_stamp(store, blob.descriptor)
    unknown = [blob for blob in blobs.values() if blob.state is None]
    if unknown:
        _hash_all(store, unknown, listener)
    return tuple(
        Finding(
            str(blob.descriptor.digest),
            blob.descriptor.size,
            blob.state or "unreadable",
            tuple(blob.models),
        )
        for blob in blobs.values()
    )


def _by_stamp(store: Store, descriptor: Descriptor) -> State | None:
    """What is known without reading a blob; None where only that helps."""
    path = store.blobs.path(descriptor.digest)
    try:
        if path.stat().st_size != descriptor.size:
            return "damaged"
    except OSError:
        return "absent" if not path.exists() else None
    return "good" if is_stamped(store.layout, descriptor.digest) else None


def _hash_all(store: Store, blobs: Collection[_Blob], listener: Listener) -> None:
    """Hashes blobs on every processor; the largest first, so that none is left to the end alone."""
    # only who hashes pays for the imports
    from concurrent.futures import ThreadPoolExecutor
    from threading import Event

    from modelrunner.runtime.threads import usable_cores

    total = sum(blob.descriptor.size for blob in blobs)
    report = _Teller(listener if total >= _WORTH_TELLING else ignore)
    what = counted(len(blobs), "blob")
    report(Planned(what, total, 0, 0))
    leaving = Event()

    def check(blob: _Blob) -> None:
        digest, size = str(blob.descriptor.digest), blob.descriptor.size
        report(Started(digest, size, 0, blob.descriptor.digest.short))
        done = 0

        def advance(count: int) -> None:
            nonlocal done
            if leaving.is_set():
                raise InterruptedError
            done += count
            report(Advanced(digest, size, done))

        blob.state = _hashed(store, blob.descriptor, advance)
        if blob.state == "good":
            report(Verified(digest, size))

    largest_first = sorted(blobs, key=lambda blob: -blob.descriptor.size)
    with ThreadPoolExecutor(min(usable_cores(), len(blobs))) as pool:
        try:
            for _done in pool.map(check, largest_first):
                pass
        finally:
            # whoever interrupts this does not wait for gigabytes
            leaving.set()
    report(Finished(what, "", total))


class _Teller:
    """Calls a listener from many threads, one at a time."""

    def __init__(self, listener: Listener) -> None:
        from threading import Lock

        self._listener = listener
        self._lock = Lock()

    def __call__(self, event: Planned | Started | Advanced | Verified | Finished) -> None:
        with self._lock:
            self._listener(event)


def _hashed(
    store: Store, descriptor: Descriptor, on_bytes: Callable[[int], None] = lambda _count: None
) -> State:
    try:
        return store.blobs.deep_state(descriptor, on_bytes)
    except InterruptedError:
        raise
    except OSError:
        # a disk that gives up, or a file that is not ours to read
        return "unreadable"
