"""How much may be pushed to a shared store: the largest blob, all of them, and the disk's room.

What has arrived of uploads counts like what was filed. Bytes are taken before they are written, and
given back when their file goes.
"""

import shutil
from http import HTTPStatus
from pathlib import Path
from threading import Lock

from modelrunner.share.repositories import RefusalError
from modelrunner.units import format_size

MOST_NAMES = 100_000
"""Repositories, their tags, manifests and blobs: each takes room beside its content."""

_SPARE = 64 * 1024 * 1024
"""Bytes that are left free on the disk, for everybody else."""


class TooLargeError(RefusalError):
    """There is no room for what is pushed."""


class Quota:
    """What there is room for; all methods may be called from any thread.

    Args:
        largest: Bytes of the largest blob; None for any.
        total: Bytes of all that is pushed; None for as much as the disk has.
    """

    def __init__(self, largest: int | None = None, total: int | None = None) -> None:
        self.largest = largest
        self.total = total
        self._used = 0
        self._lock = Lock()

    @property
    def used(self) -> int:
        """Bytes that are there, or about to be."""
        return self._used

    def count(self, folder: Path) -> None:
        """Take what is in a directory already, whatever it is."""
        there = sum(path.lstat().st_size for path in folder.rglob("*") if path.is_file())
        with self._lock:
            self._used += there

    def check_names(self, count: int) -> None:
        """Accept a number of repositories, tags, manifests and blobs together.

        Raises:
            TooLargeError: They are too many.
        """
        if count > MOST_NAMES:
            raise _too_large(
                f"pushed repositories may have at most {MOST_NAMES} tags, manifests and blobs"
            )

    def check_blob(self, size: int) -> None:
        """Accept a blob that is to have a size.

        Raises:
            TooLargeError: It is too large.
        """
        if self.largest is not None and size > self.largest:
            raise _too_large(f"a blob may have at most {format_size(self.largest)}")

    def take(self, count: int, folder: Path) -> None:
        """Take room for some bytes.

        Args:
            count: How many.
            folder: Where they go.

        Raises:
            TooLargeError: There is no room.
        """
        with self._lock:
            if self.total is not None and self._used + count > self.total:
                raise _too_large(
                    f"pushed content may have at most {format_size(self.total)},"
                    f" and {format_size(self._used)} are taken"
                )
            if shutil.disk_usage(folder).free < count + _SPARE:
                raise _too_large("the disk of this server is full", HTTPStatus.INSUFFICIENT_STORAGE)
            self._used += count

    def give(self, count: int) -> None:
        """Give room back."""
        with self._lock:
            self._used = max(0, self._used - count)


def _too_large(
    message: str, status: HTTPStatus = HTTPStatus.REQUEST_ENTITY_TOO_LARGE
) -> TooLargeError:
    return TooLargeError(status, "SIZE_INVALID", message)
