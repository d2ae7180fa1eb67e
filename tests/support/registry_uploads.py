"""How content comes in: blobs at once, in chunks or mounted from elsewhere, and manifests."""

import json
import re

from tests.support.registry_messages import Reply, Request, error
from tests.support.registry_storage import Storage, StoredManifest, Upload, is_digest, sha256

_TAG = re.compile(r"[a-zA-Z0-9_][a-zA-Z0-9._-]{0,127}")
_CHUNK = re.compile(r"(\d+)-(\d+)")


class Uploads:
    """The writing half of the distribution specification."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    def begin(self, request: Request, *, may_mount: bool) -> Reply:
        """POST: a mount, a whole blob, or a session to send one in."""
        query = request.query
        source = self._storage.repository(query.get("from", ""))
        if "mount" in query and may_mount and source and query["mount"] in source.blobs:
            return self._filed(request, query["mount"], source.blobs[query["mount"]])
        if "digest" in query:
            return self._verified(request, query["digest"], request.body)
        upload = Upload(request.repository)
        self._storage.uploads[upload.session] = upload
        return _progress(request, upload, 202)

    def proceed(self, request: Request) -> Reply:
        """PATCH, PUT, GET and DELETE of a session."""
        upload = self._storage.uploads.get(request.reference)
        if upload is None or upload.repository != request.repository:
            return error(404, "BLOB_UPLOAD_UNKNOWN", "blob upload unknown to registry")
        if request.method == "GET":
            return _progress(request, upload, 204)
        if request.method == "DELETE":
            del self._storage.uploads[upload.session]
            return Reply(204)
        if not _follows(request, upload):
            return _progress(request, upload, 416)
        upload.content += request.body
        if request.method == "PATCH":
            return _progress(request, upload, 202)
        del self._storage.uploads[upload.session]
        return self._verified(request, request.query.get("digest", ""), bytes(upload.content))

    def put_manifest(self, request: Request) -> Reply:
        """PUT of a manifest under a tag or its digest: what it names must be here."""
        try:
            document = json.loads(request.body)
        except ValueError:
            return error(400, "MANIFEST_INVALID", "manifest is no JSON")
        media_type = request.headers.get("Content-Type", "")
        if not isinstance(document, dict) or document.get("mediaType", media_type) != media_type:
            return error(400, "MANIFEST_INVALID", "manifest is not what its Content-Type says")
        manifest = StoredManifest(request.body, media_type)
        if is_digest(request.reference) and request.reference != manifest.digest:
            return _digest_invalid(request.reference)
        if not is_digest(request.reference) and not _TAG.fullmatch(request.reference):
            return error(400, "MANIFEST_INVALID", "invalid tag")
        repository = self._storage.make_repository(request.repository)
        if missing := repository.missing(document):
            detail = {"digest": missing[0]}
            return error(404, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry", detail)
        repository.manifests[manifest.digest] = manifest
        if not is_digest(request.reference):
            repository.tags[request.reference] = manifest.digest
        headers = {
            "Location": f"/v2/{request.repository}/manifests/{manifest.digest}",
            "Docker-Content-Digest": manifest.digest,
        }
        if isinstance(document.get("subject"), dict):
            headers["OCI-Subject"] = document["subject"]["digest"]
        return Reply(201, headers)

    def _verified(self, request: Request, digest: str, content: bytes) -> Reply:
        if sha256(content) != digest:
            return _digest_invalid(digest)
        return self._filed(request, digest, content)

    def _filed(self, request: Request, digest: str, content: bytes) -> Reply:
        self._storage.make_repository(request.repository).blobs[digest] = content
        location = f"/v2/{request.repository}/blobs/{digest}"
        return Reply(201, {"Location": location, "Docker-Content-Digest": digest})


def _follows(request: Request, upload: Upload) -> bool:
    """Whether the chunk starts where the last one ended and is as long as it says."""
    stated = request.headers.get("Content-Range")
    if stated is None:
        return True
    match = _CHUNK.fullmatch(stated)
    if match is None:
        return False
    first, last = int(match[1]), int(match[2])
    return first == len(upload.content) and last - first + 1 == len(request.body)


def _progress(request: Request, upload: Upload, status: int) -> Reply:
    # the query is part of the address: a client that appends "?digest=" to it goes wrong
    location = f"/v2/{upload.repository}/blobs/uploads/{upload.session}?_state={upload.session[:8]}"
    headers = {
        "Location": location,
        "Range": f"0-{max(0, len(upload.content) - 1)}",
        "Docker-Upload-UUID": upload.session,
    }
    return Reply(status, headers)


def _digest_invalid(digest: str) -> Reply:
    message = "provided digest did not match uploaded content"
    return error(400, "DIGEST_INVALID", message, {"digest": digest})
