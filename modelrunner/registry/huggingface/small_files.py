"""Digests of a repository's small files, which the Hub knows by git's digest alone.

The content of each is downloaded once, several at a time, and verified by that digest. What is in
the local store already is known by it, so that a second pull asks for none.
"""

from collections import deque
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from queue import SimpleQueue
from threading import Thread

from modelrunner.errors import UnsupportedArtifactError
from modelrunner.huggingface.files import HubFile
from modelrunner.huggingface.repository import HubEntry
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.registry.huggingface.api import HubApi, Listing
from modelrunner.text import sanitize_line
from modelrunner.units import format_size

KnownFiles = Callable[[Reference, Collection[int]], Mapping[str, Digest]]
"""Digests of files in the local store by git's, of a repository and of these sizes."""

_WORKERS = 8
MOST_FILES = 10_000
"""Files of an artifact: their names have to fit into a manifest."""
_LARGEST = 64 * 1024 * 1024
_MOST_BYTES = 512 * 1024 * 1024
_KEPT = 1024 * 1024
_KEPT_TOGETHER = 32 * 1024 * 1024


def with_digests(
    api: HubApi,
    reference: Reference,
    listing: Listing,
    chosen: Sequence[HubEntry],
    known: KnownFiles,
) -> list[HubFile]:
    """The files, each with the digest of its content.

    Raises:
        UnsupportedArtifactError: There are too many, or small ones are too large.
        DigestMismatchError, SizeMismatchError: A small one is not what the listing says.
        AccessError, TransferError: The Hub says no, or nothing.
    """
    if len(chosen) > MOST_FILES:
        raise UnsupportedArtifactError(
            f"{reference.short}: {len(chosen)} files, more than {MOST_FILES}",
            hint="choose some of them with --include or --exclude",
        )
    small = {entry.key: entry for entry in chosen if entry.sha256 is None}
    absent = {key: entry for key, entry in small.items() if key not in listing.digests}
    if absent:
        _check_sizes(reference, absent.values())
        stored = known(reference, {entry.size for entry in absent.values()})
        listing.digests.update((key, stored[key]) for key in absent.keys() & stored.keys())
        _bring(
            api,
            reference,
            listing,
            [entry for key, entry in absent.items() if key not in listing.digests],
        )
    return [
        HubFile(
            entry.path,
            entry.size,
            listing.digests[entry.key]
            if entry.sha256 is None
            else Digest.parse(f"sha256:{entry.sha256}"),
        )
        for entry in chosen
    ]


def _check_sizes(reference: Reference, entries: Iterable[HubEntry]) -> None:
    total = 0
    for entry in entries:
        total += entry.size
        if entry.size > _LARGEST:
            path = sanitize_line(entry.path, 200)
            raise UnsupportedArtifactError(
                f"{reference.short}: {path} has {format_size(entry.size)} and no sha256, more than "
                f"{format_size(_LARGEST)}",
                hint="leave it out with --exclude",
            )
    if total > _MOST_BYTES:
        raise UnsupportedArtifactError(
            f"{reference.short}: files without a sha256 have {format_size(total)}, more than "
            f"{format_size(_MOST_BYTES)}",
            hint="choose some of them with --include or --exclude",
        )


def _bring(
    api: HubApi, reference: Reference, listing: Listing, entries: Sequence[HubEntry]
) -> None:
    """Downloads contents, and notes their digests.

    A Ctrl-C leaves what is on its way behind: a pool would wait for it.
    """
    pending = deque(entries)
    found: SimpleQueue[tuple[HubEntry, bytes] | BaseException] = SimpleQueue()

    def work(own: HubApi) -> None:
        try:
            while (entry := _next(pending)) is not None:
                found.put((entry, own.fetch_content(reference, listing, entry)))
        except BaseException as exc:  # noqa: BLE001 - raised by the thread that waits
            found.put(exc)
        finally:
            own.close()

    workers = [api.another() for _ in range(min(_WORKERS, len(entries)))]
    for own in workers:
        Thread(target=work, args=(own,), daemon=True).start()
    kept = sum(map(len, listing.contents.values()))
    try:
        for _ in entries:
            result = found.get()
            if isinstance(result, BaseException):
                raise result
            entry, content = result
            listing.digests[entry.key] = Digest.of(content)
            if len(content) <= _KEPT and kept + len(content) <= _KEPT_TOGETHER:
                # else it is asked for again, as a large one is
                listing.contents[entry.key] = content
                kept += len(content)
    finally:
        pending.clear()


def _next(pending: deque[HubEntry]) -> HubEntry | None:
    try:
        return pending.popleft()
    except IndexError:
        return None
