"""Blobs that another program on this machine has: taken from it before the network is asked."""

from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from modelrunner.errors import ModelRunnerError
from modelrunner.events import Advanced, Listener, Started, Verified
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.store.blobs import BlobStore

# late imports: most pulls bring nothing large
if TYPE_CHECKING:
    from modelrunner.other_stores.places import BlobFinder
    from modelrunner.store.layout import Layout
    from modelrunner.transfer.fetched import Fetched

Find = Callable[[Digest], tuple[str, Path] | None]
"""The program that says it has this digest, and its file."""

_WORTH_LOOKING = 1024 * 1024


def nowhere(_digest: Digest) -> None:
    """No program is asked."""


def programs(environ: Mapping[str, str]) -> Find:
    """Asks every program that is known."""

    @cache
    def finder() -> "BlobFinder":
        from modelrunner.other_stores.places import BlobFinder

        return BlobFinder(Path(environ.get("HOME") or "/"), environ)

    return lambda digest: finder().find(digest)


def cached_by_share(folder: Callable[[], Path], others: Find) -> Find:
    """Looks first at what `share --upstream` has downloaded for others.

    Args:
        folder: Where that is kept.
        others: Asked for what is not there.
    """

    @cache
    def layout() -> "Layout":
        from modelrunner.store.layout import Layout

        return Layout.under(folder())

    def find(digest: Digest) -> tuple[str, Path] | None:
        path = layout().blob(digest)
        return ("the cache of share", path) if path.is_file() else others(digest)

    return find


def bring(
    blobs: BlobStore, listener: Listener, find: Find, descriptor: Descriptor, title: str
) -> "Fetched | None":
    """Take a blob from a program that has it; None where none has one that can be used."""
    found = find(descriptor.digest) if descriptor.size >= _WORTH_LOOKING else None
    if found is None:
        return None
    from modelrunner.store.adopt import take
    from modelrunner.transfer.fetched import Fetched

    program, path = found
    digest, done = str(descriptor.digest), 0

    def advance(count: int) -> None:
        nonlocal done
        if not done:
            listener(Started(digest, descriptor.size, 0, title))
        done += count
        listener(Advanced(digest, descriptor.size, done))

    try:
        if path.stat().st_size != descriptor.size:
            return None
        take(blobs, path, descriptor.digest, on_bytes=advance)
    except (ModelRunnerError, OSError) as exc:
        # theirs is damaged, or not ours to read: it comes from where it was asked for
        import logging

        logging.getLogger(__name__).info("%s: %s", program, exc)
        return None
    listener(Verified(digest, descriptor.size))
    return Fetched(0, 0, {program: descriptor.size})
