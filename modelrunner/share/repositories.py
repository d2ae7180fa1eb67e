"""The store as a registry's clients see it: repositories, by their paths, and what they have."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus

from modelrunner.errors import MalformedManifestError
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import ANY_REPOSITORY, Reference
from modelrunner.store.store import Store, StoredModel


@dataclass(frozen=True, slots=True)
class RefusalError(Exception):
    """An answer of the specification that is not the content."""

    status: HTTPStatus
    code: str
    message: str


@dataclass(frozen=True, slots=True)
class Repository:
    """The models that have names under a path, whatever their registries."""

    path: str
    models: Sequence[StoredModel]

    def tags(self) -> list[str]:
        """All tags, sorted."""
        return sorted(
            {
                reference.tag
                for model in self.models
                for reference in model.references
                if self._names(reference) and reference.tag
            }
        )

    def manifest(self, name: str) -> StoredModel:
        """The model that a tag or a digest names.

        Raises:
            RefusalError: None.
        """
        for model in self.models:
            if name == str(model.digest):
                return model
            for reference in model.references:
                if self._names(reference) and reference.tag == name:
                    return model
        raise RefusalError(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"no manifest {name} here")

    def _names(self, reference: Reference) -> bool:
        """Whether a tag of the reference is one here: a revision's is another model's."""
        other = reference.digest is not None or reference.revision is not None
        return reference.repository == self.path and not other

    def blob(self, name: str) -> Digest:
        """The blob of this digest, where one of the models has it.

        Raises:
            RefusalError: None has, or it is no digest.
        """
        try:
            digest = Digest.parse(name)
        except MalformedManifestError as exc:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", exc.message) from exc
        for model in self.models:
            if any(blob.digest == digest for blob in model.manifest.blobs):
                return digest
        raise unknown_blob(name)


def repositories(store: Store) -> Mapping[str, Repository]:
    """All of a store, by path."""
    found: dict[str, list[StoredModel]] = {}
    for model in store.models():
        for path in {reference.repository for reference in model.references}:
            found.setdefault(path, []).append(model)
    return {path: Repository(path, models) for path, models in found.items()}


def repository(store: Store, path: str) -> Repository:
    """The repository of this path; the one that has all content has no tags.

    Raises:
        RefusalError: There is none.
    """
    if path == ANY_REPOSITORY:
        return Repository(path, store.models())
    found = repositories(store).get(path)
    if found is None:
        raise RefusalError(HTTPStatus.NOT_FOUND, "NAME_UNKNOWN", f"no repository {path} here")
    return found


def unknown_blob(name: str) -> RefusalError:
    """What is said where a blob is not here."""
    return RefusalError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", f"no blob {name} here")
