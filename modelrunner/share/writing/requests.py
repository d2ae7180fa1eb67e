"""Requests that write: uploads, manifests, mounts, deletions, by the distribution specification.

An upload is a file that grows: what has arrived is there after a restart too, and an upload that
breaks off goes on at the byte that `GET` of its address says.
"""

import hashlib
import re
import secrets
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http import HTTPStatus
from pathlib import Path
from threading import Lock

from modelrunner.disk.files import disk_errors
from modelrunner.disk.inside import InsideFile
from modelrunner.errors import MalformedManifestError
from modelrunner.oci.reference import is_repository, is_tag, split_name
from modelrunner.share.repositories import RefusalError, unknown_blob
from modelrunner.share.writing.manifests import read_pushed
from modelrunner.share.writing.quota import TooLargeError
from modelrunner.share.writing.storage import (
    DIGEST,
    PushedContent,
    Repository,
    digest_of_bytes,
    opened_upload,
    size_of,
)
from modelrunner.wire import parse_count

MANIFEST_BYTES = 4 * 1024 * 1024
_MOST_UPLOADS = 1000
_UPLOAD = re.compile(r"(?P<name>.+)/blobs/uploads/(?P<id>[0-9a-f]{32})?/?")
_CONTENT = re.compile(r"(?P<name>.+)/(?P<kind>blobs|manifests)/(?P<of>[^/]+)")
_SPAN = re.compile(r"(?:bytes )?([0-9]{1,18})-([0-9]{1,18})(?:/.*)?")


@dataclass(frozen=True, slots=True)
class Asked:
    """A request.

    Attributes:
        method: `POST`, `PUT`, `PATCH`, `DELETE`, or `GET` of an upload.
        path: What follows `/v2/`.
        query: Each parameter's first value.
        headers: By lower-case name.
        body: Its bytes, as they arrive.
        every: Of each parameter, all values.
    """

    method: str
    path: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Callable[[], Iterator[bytes]] = field(repr=False)
    every: Mapping[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Done:
    """An answer without a body."""

    status: HTTPStatus
    headers: Mapping[str, str] = field(default_factory=dict)


class Writing:
    """What may be written to a shared store.

    Args:
        content: Where it is kept.
        is_taken: Whether a name means content of a registry, or of the store.
        key: What a client has to have to write; None where this machine alone reaches the server.
    """

    def __init__(
        self, content: PushedContent, is_taken: Callable[[str], bool], key: str | None = None
    ) -> None:
        self.content = content
        self.key = key
        self.is_taken = is_taken
        self._busy: set[str] = set()
        # what has arrived of uploads, and its hash: a large blob is not read once more at its end
        self._hashes: dict[str, tuple[int, hashlib._Hash]] = {}
        self._lock = Lock()

    def readable(self, name: str) -> Repository | None:
        """The repository of this name; None where nothing was pushed to it, or it means another."""
        found = self.content.find(name)
        is_other = split_name(name)[1] != name
        return None if found is None or is_other or self.is_taken(name) else found

    def answer(self, asked: Asked) -> Done:
        """Do what is asked.

        Raises:
            RefusalError: It is not possible, or malformed.
            StoreAccessError, DiskFullError: It cannot be written.
        """
        if "ns" in asked.query:
            # it is taken for a mirror: what is pushed here is of no other registry
            raise RefusalError(
                HTTPStatus.FORBIDDEN, "DENIED", "mirrors take no pushes: leave out ?ns="
            )
        upload = _UPLOAD.fullmatch(asked.path)
        if upload is not None:
            name = self._checked(upload["name"])
            if upload["id"] is None:
                return self._begin(asked, name)
            return self._continue(asked, name, upload["id"])
        found = _CONTENT.fullmatch(asked.path)
        if found is None:
            raise RefusalError(HTTPStatus.NOT_FOUND, "UNSUPPORTED", "not found")
        name, kind = self._checked(found["name"]), found["kind"]
        if asked.method == "DELETE":
            return self._delete(name, kind, found["of"])
        if asked.method == "PUT" and kind == "manifests":
            return self._put_manifest(asked, name, found["of"])
        raise RefusalError(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "not supported")

    def _checked(self, name: str) -> str:
        if not is_repository(name):
            raise RefusalError(
                HTTPStatus.BAD_REQUEST, "NAME_INVALID", f"invalid name {name[:100]!r}"
            )
        if name.startswith("local/"):
            raise RefusalError(
                HTTPStatus.BAD_REQUEST,
                "NAME_INVALID",
                f"{name[:100]}: names under local/ belong to one machine; push under another name",
            )
        registry, path = split_name(name)
        if path != name:
            # whoever takes this server for a mirror below that path would take it for the other's
            raise RefusalError(
                HTTPStatus.FORBIDDEN,
                "DENIED",
                f"{name[:200]} is a name of {registry}: leave the registry out",
            )
        if self.is_taken(name):
            raise RefusalError(
                HTTPStatus.FORBIDDEN,
                "DENIED",
                f"{name} is a model of the store, or of a registry behind this server",
            )
        return name

    # Uploads.

    def _begin(self, asked: Asked, name: str) -> Done:
        if asked.method != "POST":
            raise RefusalError(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "not supported")
        mount = asked.query.get("mount")
        if mount is not None:
            digest = checked_digest(mount)
            # anyone who may write here may read all that was pushed
            names = [asked.query["from"]] if "from" in asked.query else self.content.names()
            sources = filter(None, map(self.readable, names))
            if any(digest in source.blobs for source in sources):
                self.content.link(name, digest)
                return _created(name, "blobs", digest)
        self._check_length(asked, 0)
        if self._forget_uploads() >= _MOST_UPLOADS and (
            self._forget_uploads(soon=True) >= _MOST_UPLOADS
        ):
            raise RefusalError(
                HTTPStatus.TOO_MANY_REQUESTS, "TOOMANYREQUESTS", "too many unfinished uploads"
            )
        number = secrets.token_hex(16)
        path = self.content.folder / "uploads" / number
        with disk_errors(path):
            opened_upload(path, new=True).close()
        if "digest" in asked.query:
            return self._continue(asked, name, number)
        return Done(HTTPStatus.ACCEPTED, _state(name, number, 0))

    def _continue(self, asked: Asked, name: str, number: str) -> Done:
        path = self.content.folder / "uploads" / number
        size = size_of(path)
        if size is None:
            raise _no_upload()
        if asked.method == "GET":
            return Done(HTTPStatus.NO_CONTENT, _state(name, number, size))
        with self._alone(number):
            if asked.method == "DELETE":
                self.content.forget_upload(path)
                self._hashes.pop(number, None)
                return Done(HTTPStatus.NO_CONTENT)
            if asked.method not in ("PATCH", "PUT", "POST"):
                raise RefusalError(HTTPStatus.METHOD_NOT_ALLOWED, "UNSUPPORTED", "not supported")
            try:
                file = opened_upload(path, new=False)
            except FileNotFoundError as exc:
                raise _no_upload() from exc
            with file:
                try:
                    size = self._append(asked, name, number, file, path)
                    if asked.method == "PATCH":
                        return Done(HTTPStatus.ACCEPTED, _state(name, number, size))
                    digest = checked_digest(asked.query.get("digest", ""))
                    return self._finish(name, digest, file, path)
                except TooLargeError:
                    # the rest would not make it smaller
                    self.content.forget_upload(path)
                    raise

    def _append(self, asked: Asked, name: str, number: str, file: InsideFile, path: Path) -> int:
        size = file.seek(0, 2)
        said = asked.headers.get("content-range")
        if said is not None:
            span = _SPAN.fullmatch(said)
            # bounded: eighteen digits, see `_SPAN`
            first, last = (int(span[1]), int(span[2])) if span else (-1, -1)
            length = parse_count(asked.headers.get("content-length", ""))
            if first != size or last < first or length not in (None, last - first + 1):
                raise RefusalError(
                    HTTPStatus.REQUESTED_RANGE_NOT_SATISFIABLE,
                    "BLOB_UPLOAD_INVALID",
                    f"expected byte {size} next",
                    headers=_state(name, number, size),
                )
        self._check_length(asked, size)
        hashed, hasher = self._hashes.pop(number, (0, hashlib.sha256()))
        taken = 0
        try:
            with disk_errors(path):
                for chunk in asked.body():
                    self.content.quota.check_blob(size + taken + len(chunk))
                    self._take(len(chunk))
                    taken += len(chunk)
                    rest = memoryview(chunk)
                    while rest:
                        rest = rest[file.write(rest) :]
                    hasher.update(chunk)
        finally:
            there = file.seek(0, 2)
            self.content.quota.give(size + taken - there)
        if hashed == size:
            self._hashes[number] = (there, hasher)
        return there

    def _check_length(self, asked: Asked, there: int) -> None:
        """Refuse a body that is said to be too large before it is read."""
        said = parse_count(asked.headers.get("content-length", "0").strip())
        self.content.quota.check_blob(there + (said or 0))

    def _take(self, count: int) -> None:
        """Take room for what arrives, that of abandoned uploads where there is no other."""
        try:
            self.content.quota.take(count, self.content.folder)
        except TooLargeError:
            self._forget_uploads(soon=True)
            self.content.quota.take(count, self.content.folder)

    def _forget_uploads(self, *, soon: bool = False) -> int:
        with self._lock:
            left = self.content.forget_uploads(self._busy, soon=soon)
        for number in [*self._hashes]:
            if not (self.content.folder / "uploads" / number).exists():
                self._hashes.pop(number, None)
        return left

    def _finish(self, name: str, digest: str, file: InsideFile, path: Path) -> Done:
        hashed, hasher = self._hashes.pop(path.name, (-1, None))
        whole = hasher is not None and hashed == file.seek(0, 2)
        known = f"sha256:{hasher.hexdigest()}" if hasher is not None and whole else None
        if not self.content.keep(name, digest, file, path, known):
            self.content.forget_upload(path)
            raise RefusalError(
                HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", f"the content is not {digest}"
            )
        return _created(name, "blobs", digest)

    @contextmanager
    def _alone(self, number: str) -> Iterator[None]:
        """The block in which nobody else writes to an upload."""
        with self._lock:
            if number in self._busy:
                raise RefusalError(
                    HTTPStatus.CONFLICT, "BLOB_UPLOAD_INVALID", "another request writes to it"
                )
            self._busy.add(number)
        try:
            yield
        finally:
            with self._lock:
                self._busy.discard(number)

    # Manifests.

    def _put_manifest(self, asked: Asked, name: str, of: str) -> Done:
        raw = b""
        for chunk in asked.body():
            raw += chunk
            if len(raw) > MANIFEST_BYTES:
                raise RefusalError(
                    HTTPStatus.REQUEST_ENTITY_TOO_LARGE,
                    "MANIFEST_INVALID",
                    f"a manifest of more than {MANIFEST_BYTES} bytes",
                )
        if ":" in of:
            digest, tags = checked_digest(of), asked.every.get("tag", [])
            if digest_of_bytes(raw, digest.partition(":")[0]) != digest:
                raise RefusalError(
                    HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", f"the manifest is not {digest}"
                )
        else:
            digest, tags = digest_of_bytes(raw), [of]
        if not all(map(is_tag, tags)):
            raise RefusalError(HTTPStatus.BAD_REQUEST, "TAG_INVALID", "invalid tag")
        try:
            manifest = read_pushed(raw, asked.headers.get("content-type", ""), digest)
        except MalformedManifestError as exc:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "MANIFEST_INVALID", exc.message) from exc
        with self.content.lock:
            there = self.content.find(name) or Repository(name)
            missing = [each for each in sorted(manifest.blobs) if each not in there.blobs]
            missing += [each for each in sorted(manifest.children) if each not in there.manifests]
            if missing:
                raise RefusalError(
                    HTTPStatus.NOT_FOUND, "MANIFEST_BLOB_UNKNOWN", f"push {missing[0]} first"
                )
            self.content.put_manifest(name, digest, raw, manifest.entry, tags)
        done = _created(name, "manifests", digest)
        more = {}
        if manifest.entry["subject"] is not None:
            more["OCI-Subject"] = manifest.entry["subject"]
        if ":" in of and tags:
            more["OCI-Tag"] = ", ".join(tags)
        return Done(done.status, {**done.headers, **more})

    def _delete(self, name: str, kind: str, of: str) -> Done:
        if kind == "blobs":
            if not self.content.remove_blob(name, checked_digest(of)):
                raise unknown_blob(of)
        elif ":" in of:
            if not self.content.remove_manifest(name, checked_digest(of)):
                raise _no_manifest(of)
        elif not self.content.remove_tag(name, of):
            raise _no_manifest(of)
        return Done(HTTPStatus.ACCEPTED)


def checked_digest(text: str) -> str:
    """A digest by SHA-256 or SHA-512.

    Raises:
        RefusalError: It is not one.
    """
    if re.fullmatch(DIGEST, text) is None:
        raise RefusalError(
            HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", f"invalid digest {text[:100]!r}"
        )
    return text


def _state(name: str, number: str, size: int) -> dict[str, str]:
    return {
        "Location": f"/v2/{name}/blobs/uploads/{number}",
        "Docker-Upload-UUID": number,
        "Range": f"0-{max(0, size - 1)}",
    }


def _created(name: str, kind: str, digest: str) -> Done:
    headers = {"Location": f"/v2/{name}/{kind}/{digest}", "Docker-Content-Digest": digest}
    return Done(HTTPStatus.CREATED, headers)


def _no_upload() -> RefusalError:
    return RefusalError(HTTPStatus.NOT_FOUND, "BLOB_UPLOAD_UNKNOWN", "upload not found")


def _no_manifest(name: str) -> RefusalError:
    return RefusalError(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"manifest not found: {name}")
