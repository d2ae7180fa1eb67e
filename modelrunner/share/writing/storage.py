"""Pushed content on disk: blobs by their digest, and a file for each repository.

```
registry/  lock
           blobs/<algorithm>/<hex>       0444, complete and verified
           uploads/<id>                  arriving
           repositories/<sha256>.json    tags, manifests and blobs of one repository
```
A repository's file is replaced in one step, after the content that it names is there: what is
interrupted in between leaves content without a name, and nothing else. Any artifact may be pushed,
so none of it is a model of the store before somebody pulls it. One process at a time has it.
"""

import hashlib
import json
import re
import time
from collections.abc import Collection, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from threading import RLock
from typing import Any, Self

from modelrunner.disk.files import disk_errors, flush, sync_directory, write_atomically
from modelrunner.disk.inside import (
    InsideFile,
    make_directory,
    make_read_only,
    open_content,
    open_inside,
    read_inside,
)
from modelrunner.disk.lock import open_lock, try_lock
from modelrunner.errors import ConfigError
from modelrunner.oci.reference import is_repository, is_tag
from modelrunner.share.writing.quota import Quota
from modelrunner.wire import parse_object

DIGEST = r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}"
_CHUNK = 1024 * 1024
_UPLOAD_S = 7 * 24 * 3600
"""Seconds after which an upload that does not go on is removed."""
_SOON_S = 3600
"""The same, where there is no room for another one."""
_MANIFEST_BYTES = 4 * 1024 * 1024


@dataclass
class Repository:
    """One repository.

    Attributes:
        name: Its path.
        tags: The digest that each tag stands for.
        manifests: By digest, the entry as a list of referrers has it, with the subject's digest.
        blobs: The digests of its blobs.
    """

    name: str
    tags: dict[str, str] = field(default_factory=dict)
    manifests: dict[str, dict[str, Any]] = field(default_factory=dict)
    blobs: set[str] = field(default_factory=set)

    def resolve(self, name: str) -> str | None:
        """The digest that a tag or a digest stands for; None where there is no such manifest."""
        digest = self.tags.get(name, name)
        return digest if digest in self.manifests else None

    def referrers(self, digest: str) -> Iterator[Mapping[str, Any]]:
        """The entries of manifests whose subject this is."""
        for entry in self.manifests.values():
            if entry["subject"] == digest:
                yield {key: value for key, value in entry.items() if key != "subject"}


class PushedContent:
    """All pushed repositories; all methods may be called from any thread.

    Args:
        folder: Their directory.
        quota: How much may be there; None for as much as the disk has.

    Raises:
        ConfigError: Another process has it.
        StoreAccessError, DiskFullError: It cannot be written.
    """

    def __init__(self, folder: Path, quota: Quota | None = None) -> None:
        self.folder = folder
        self.quota = quota or Quota()
        self.lock = RLock()
        with disk_errors(folder):
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("blobs", "blobs/sha256", "blobs/sha512", "uploads", "repositories"):
                make_directory(folder / name)
            self._owner = open_lock(folder / "lock")
            if not try_lock(self._owner):
                self._owner.close()
                raise ConfigError(
                    f"another `modelrunner share --writable` uses {folder}",
                    hint="stop it, or set MODELRUNNER_HOME to another directory",
                    path=str(folder),
                )
            self.forget_uploads(())
            self._repositories = {found.name: found for found in self._read()}
            self.quota.count(folder / "blobs")
            self.quota.count(folder / "uploads")

    def close(self) -> None:
        """Lets others have it."""
        self._owner.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_error: object) -> None:
        self.close()

    def names(self) -> list[str]:
        """The names of all repositories."""
        with self.lock:
            return sorted(self._repositories)

    def find(self, name: str) -> Repository | None:
        """The repository of this name; None where nothing was pushed to it."""
        with self.lock:
            return self._repositories.get(name)

    def path(self, digest: str) -> Path:
        """Where a blob lies, whether it is there or not."""
        algorithm, _, hexadecimal = digest.partition(":")
        return self.folder / "blobs" / algorithm / hexadecimal

    def keep(
        self, name: str, digest: str, file: InsideFile, place: Path, known: str | None = None
    ) -> bool:
        """Give an arrived file its digest's name, and a repository the blob.

        Args:
            name: The repository.
            digest: The digest that the file should have.
            file: The file.
            place: Its path.
            known: Its digest by SHA-256, where that was computed while it arrived.

        Returns:
            Whether the file has that digest.
        """
        algorithm = digest.partition(":")[0]
        got = known if known and algorithm == "sha256" else digest_of(file, algorithm)
        if got != digest:
            return False
        with disk_errors(place):
            flush(file.fileno())
            make_read_only(file, place)
            with self.lock:
                # before the file has its name: nothing would have it
                self._check_link(name, digest)
                # what was there before goes
                self.quota.give(size_of(self.path(digest)) or 0)
                place.replace(self.path(digest))
            sync_directory(self.path(digest).parent)
        self.link(name, digest)
        return True

    def link(self, name: str, digest: str) -> None:
        """Give a repository a blob that is here.

        Raises:
            RefusalError: There is no room for it.
        """
        with self.lock:
            if self._check_link(name, digest):
                found = self._made(name)
                found.blobs.add(digest)
                self._write(found)

    def put_manifest(
        self, name: str, digest: str, raw: bytes, entry: dict[str, Any], tags: list[str]
    ) -> None:
        """File a manifest, and let tags stand for it.

        Raises:
            RefusalError: There is no room for it.
        """
        path = self.path(digest)
        with self.lock:
            there = self._repositories.get(name) or Repository(name)
            new = [tag for tag in dict.fromkeys(tags) if tag not in there.tags]
            self._check_names(len(new) + (digest not in there.manifests))
            if size_of(path) is None:
                self.quota.take(len(raw), self.folder)
            with disk_errors(path):
                write_atomically(path, raw)
            found = self._made(name)
            found.manifests[digest] = entry
            found.tags.update(dict.fromkeys(tags, digest))
            self._write(found)

    def manifest(self, digest: str) -> bytes:
        """The bytes of a manifest."""
        with disk_errors(self.path(digest)):
            return read_inside(self.path(digest), _MANIFEST_BYTES)

    def remove_tag(self, name: str, tag: str) -> bool:
        """Whether there was such a tag; the manifest stays."""
        with self.lock:
            found = self._repositories.get(name)
            if found is None or found.tags.pop(tag, None) is None:
                return False
            self._write(found)
            return True

    def remove_manifest(self, name: str, digest: str) -> bool:
        """Whether there was such a manifest; its tags go with it."""
        with self.lock:
            found = self._repositories.get(name)
            if found is None or found.manifests.pop(digest, None) is None:
                return False
            found.tags = {tag: of for tag, of in found.tags.items() if of != digest}
            self._write(found)
            self._sweep(digest)
            return True

    def remove_blob(self, name: str, digest: str) -> bool:
        """Whether there was such a blob; its file goes when no repository has it."""
        with self.lock:
            found = self._repositories.get(name)
            if found is None or digest not in found.blobs:
                return False
            found.blobs.remove(digest)
            self._write(found)
            self._sweep(digest)
            return True

    def forget_uploads(self, busy: Collection[str], *, soon: bool = False) -> int:
        """Remove uploads that nobody has gone on with for long; how many are left.

        Args:
            busy: Those that are written to.
            soon: Whether there is no room for another one.
        """
        left, before = 0, time.time() - (_SOON_S if soon else _UPLOAD_S)
        for path in (self.folder / "uploads").iterdir():
            with suppress(FileNotFoundError):
                if path.name in busy or path.lstat().st_mtime >= before:
                    left += 1
                    continue
                self.forget_upload(path)
        return left

    def forget_upload(self, path: Path) -> None:
        """Remove an upload."""
        size = size_of(path)
        if size is not None:
            path.unlink(missing_ok=True)
            self.quota.give(size)

    def _check_link(self, name: str, digest: str) -> bool:
        """Whether a repository has not a blob yet, for which there is room then."""
        there = self._repositories.get(name)
        is_new = there is None or digest not in there.blobs
        self._check_names(1 if is_new else 0)
        return is_new

    def _check_names(self, more: int) -> None:
        if more:
            every = self._repositories.values()
            held = sum(1 + len(each.tags) + len(each.manifests) + len(each.blobs) for each in every)
            self.quota.check_names(held + more)

    def _sweep(self, digest: str) -> None:
        every = self._repositories.values()
        if not any(digest in found.blobs or digest in found.manifests for found in every):
            size = size_of(self.path(digest))
            self.path(digest).unlink(missing_ok=True)
            self.quota.give(size or 0)

    def _made(self, name: str) -> Repository:
        return self._repositories.setdefault(name, Repository(name))

    def _write(self, found: Repository) -> None:
        value = {
            "name": found.name,
            "tags": found.tags,
            "manifests": found.manifests,
            "blobs": sorted(found.blobs),
        }
        path = self.folder / "repositories" / f"{_sha256(found.name.encode())}.json"
        with disk_errors(path):
            write_atomically(path, json.dumps(value).encode())

    def _read(self) -> Iterator[Repository]:
        for path in sorted((self.folder / "repositories").glob("*.json")):
            with suppress(OSError, ValueError, LookupError, TypeError, AttributeError):
                value = parse_object(read_inside(path))
                if not is_repository(value["name"]):
                    continue
                yield Repository(
                    value["name"],
                    {tag: of for tag, of in value["tags"].items() if is_tag(tag)},
                    {of: entry for of, entry in value["manifests"].items() if _is_digest(of)},
                    {of for of in value["blobs"] if _is_digest(of)},
                )


def digest_of(file: InsideFile, algorithm: str) -> str:
    """The digest of an open file."""
    hasher = hashlib.new(algorithm)
    file.seek(0)
    while block := file.read(_CHUNK):
        hasher.update(block)
    return f"{algorithm}:{hasher.hexdigest()}"


def digest_of_bytes(raw: bytes, algorithm: str = "sha256") -> str:
    """The digest of bytes."""
    return f"{algorithm}:{hashlib.new(algorithm, raw).hexdigest()}"


def _is_digest(text: str) -> bool:
    return re.fullmatch(DIGEST, text) is not None


def _sha256(raw: bytes) -> str:
    return hashlib.sha256(raw).hexdigest()


def opened_upload(path: Path, *, new: bool) -> InsideFile:
    """The file of an upload."""
    return open_inside(path, "update" if new else "change")


def size_of(path: Path) -> int | None:
    """The bytes of a file; None where it is not there."""
    try:
        with open_content(path) as file:
            return file.seek(0, 2)
    except FileNotFoundError:
        return None
