"""What a registry keeps: repositories of manifests, tags and blobs, and the uploads under way."""

import hashlib
import json
import re
import secrets
from dataclasses import dataclass, field

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def sha256(content: bytes | bytearray) -> str:
    return f"sha256:{hashlib.sha256(content).hexdigest()}"


def is_digest(text: str) -> bool:
    return _DIGEST.fullmatch(text) is not None


@dataclass(frozen=True, slots=True)
class StoredManifest:
    """The bytes as they were pushed, and the type they were pushed as."""

    content: bytes
    media_type: str

    @property
    def digest(self) -> str:
        return sha256(self.content)

    @property
    def document(self) -> dict[str, object]:
        document: dict[str, object] = json.loads(self.content)
        return document


@dataclass(slots=True)
class Repository:
    """One name: a blob is here only if it was pushed or mounted here."""

    manifests: dict[str, StoredManifest] = field(default_factory=dict)
    tags: dict[str, str] = field(default_factory=dict)
    blobs: dict[str, bytes] = field(default_factory=dict)

    def find(self, reference: str) -> StoredManifest | None:
        """The manifest of a tag or digest."""
        return self.manifests.get(self.tags.get(reference, reference))

    def referrers(self, digest: str) -> list[StoredManifest]:
        """The manifests whose subject has this digest."""
        found = []
        for manifest in self.manifests.values():
            subject = manifest.document.get("subject")
            if isinstance(subject, dict) and subject.get("digest") == digest:
                found.append(manifest)
        return found

    def missing(self, document: dict[str, object]) -> list[str]:
        """The digests that a manifest names and that are not here."""
        named = [document.get("config"), *_listed(document, "layers")]
        blobs = [entry["digest"] for entry in named if isinstance(entry, dict)]
        children = [entry["digest"] for entry in _listed(document, "manifests")]
        return [digest for digest in blobs if digest not in self.blobs] + [
            digest for digest in children if digest not in self.manifests
        ]


def _listed(document: dict[str, object], key: str) -> list[dict[str, str]]:
    entries = document.get(key, [])
    return entries if isinstance(entries, list) else []


@dataclass(slots=True)
class Upload:
    """A blob on its way in."""

    repository: str
    content: bytearray = field(default_factory=bytearray)
    session: str = field(default_factory=lambda: secrets.token_hex(16))


class Storage:
    """All repositories; one exists when something was pushed to it."""

    def __init__(self) -> None:
        self.repositories: dict[str, Repository] = {}
        self.uploads: dict[str, Upload] = {}

    def repository(self, name: str) -> Repository | None:
        return self.repositories.get(name)

    def make_repository(self, name: str) -> Repository:
        return self.repositories.setdefault(name, Repository())

    def blob(self, digest: str) -> bytes | None:
        """A blob of any repository."""
        for repository in list(self.repositories.values()):
            if digest in repository.blobs:
                return repository.blobs[digest]
        return None
