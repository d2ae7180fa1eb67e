"""The store as a registry's clients see it: repositories, by their full names.

A model is its full name: `/v2/ghcr.io/ai/x` is that of `ghcr.io`, and `/v2/ai/x` that of
`docker.io` alone. Where a request says with `?ns=` whose mirror it takes this server for, as
containerd does, the path is one of that registry.
"""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from http import HTTPStatus

from modelrunner.errors import InvalidReferenceError, MalformedManifestError
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.reference import (
    ANY_REPOSITORY,
    Reference,
    is_repository,
    is_tag,
    listed_name,
    parse_registry,
    split_name,
)
from modelrunner.oci.referrers import Referrer, direct
from modelrunner.store.store import Store, StoredModel


@dataclass(eq=False)
class RefusalError(Exception):
    """An answer of the specification that is not the content."""

    status: HTTPStatus
    code: str
    message: str
    detail: object = None
    retry_after_s: float | None = None
    headers: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Repository:
    """The models that have names in one repository of one registry.

    The one that has all content of the store has no registry, and no tags.
    """

    registry: str | None
    path: str
    models: Sequence[StoredModel]

    @property
    def name(self) -> str:
        """The name by which it can be asked for without `?ns=`."""
        return self.path if self.registry is None else listed_name(self.registry, self.path)

    def tags(self) -> list[str]:
        """All tags, sorted; those of cosign's too, by which signatures are copied."""
        names = {
            reference.tag
            for model in self.models
            for reference in model.references
            if self._names(reference) and reference.tag
        }
        return sorted(names.union(each.tag for each in self._referrers() if each.tag))

    def manifest(self, name: str) -> Manifest:
        """The manifest that a tag or a digest names: of a model, or of what refers to one.

        Raises:
            RefusalError: None.
        """
        for model in self.models:
            if name == str(model.digest):
                return model.manifest
            for reference in model.references:
                if self._names(reference) and reference.tag == name:
                    return model.manifest
        for referrer in self._referrers():
            if name in (str(referrer.digest), referrer.tag):
                return referrer.manifest
        raise RefusalError(HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"manifest not found: {name}")

    def referrers(self, digest: Digest) -> list[Referrer]:
        """What refers to a manifest by its subject; nothing to one that is not here."""
        found = (each for each in self._referrers() if each.tag is None)
        return list({each.digest: each for each in direct(digest, found)}.values())

    def _referrers(self) -> Iterator[Referrer]:
        return (referrer for model in self.models for referrer in model.referrers)

    def _names(self, reference: Reference) -> bool:
        """Whether a tag of the reference is one here: a revision's is another model's."""
        other = reference.digest is not None or reference.revision is not None
        return (reference.registry, reference.repository) == (
            self.registry,
            self.path,
        ) and not other

    def digest(self, name: str) -> Digest:
        """The digest that is written so.

        Raises:
            RefusalError: It is not a digest.
        """
        try:
            return Digest.parse(name)
        except MalformedManifestError as exc:
            raise RefusalError(HTTPStatus.BAD_REQUEST, "DIGEST_INVALID", exc.message) from exc

    def named(self, reference: Reference, name: str) -> Reference:
        """The reference with a tag, or a digest.

        Raises:
            RefusalError: It is neither.
        """
        if name.startswith("sha256:"):
            return reference.with_digest(self.digest(name))
        if not is_tag(name):
            raise RefusalError(
                HTTPStatus.NOT_FOUND, "MANIFEST_UNKNOWN", f"manifest not found: {name}"
            )
        return replace(reference, tag=name)

    def blob(self, name: str) -> Digest:
        """The blob of this digest, where one of the models has it, or what refers to one.

        Raises:
            RefusalError: None has, or it is not a digest.
        """
        digest = self.digest(name)
        for model in self.models:
            if any(blob.digest == digest for blob in model.manifest.blobs):
                return digest
        for referrer in self._referrers():
            if any(blob.digest == digest for blob in referrer.manifest.blobs):
                return digest
        raise unknown_blob(name)


def repositories(store: Store) -> Sequence[Repository]:
    """All repositories of a store."""
    found: dict[tuple[str, str], list[StoredModel]] = {}
    for model in store.everything():
        for place in {(name.registry, name.repository) for name in model.references}:
            found.setdefault(place, []).append(model)
    return [Repository(*place, models) for place, models in found.items()]


def catalog(store: Store, namespace: str | None, more: Iterable[tuple[str, str]] = ()) -> list[str]:
    """The names of all repositories, as they can be asked for; of one registry its paths.

    Args:
        store: The store.
        namespace: The registry that the request names with `?ns=`.
        more: Registry and path of further repositories.

    Raises:
        RefusalError: The namespace is not a registry.
    """
    found = [*repositories(store), *(Repository(*place, ()) for place in more)]
    if namespace is None:
        return sorted({entry.name for entry in found})
    registry = _registry(namespace)
    return sorted({entry.path for entry in found if _is_of(entry, registry)})


def place_behind(
    path: str, namespace: str | None, serves: Callable[[str], bool]
) -> tuple[str, str] | None:
    """The registry that a path is fetched from, and the repository there; None for no such path.

    Args:
        path: What stands between `/v2/` and the kind of content.
        namespace: The registry that the request names with `?ns=`.
        serves: Whether content of a registry is fetched.

    Raises:
        RefusalError: The namespace is not a registry.
    """
    registry = None if namespace is None else _registry(namespace)
    # a path that names the registry once more is the full name: no repository is called so
    found, repository_path = _places(path, registry)[-1]
    is_one = is_repository(repository_path) and repository_path != ANY_REPOSITORY
    reference = Reference(found, repository_path, None)
    if not is_one or reference.is_local or not serves(found):
        return None
    return found, repository_path


def is_taken(store: Store, path: str, serves: Callable[[str], bool] | None) -> bool:
    """Whether a path means a model of the store, or of a registry whose content is fetched.

    Args:
        store: The store.
        path: What stands between `/v2/` and the kind of content.
        serves: Whether content of a registry is fetched; None where nothing is.
    """
    place = split_name(path)
    if path.partition("/")[0] == ANY_REPOSITORY or Reference(*place, None).is_local:
        return True
    if serves is not None and serves(place[0]):
        return True
    return any((entry.registry, entry.path) == place for entry in repositories(store))


def local_part(store: Store, reference: Reference) -> Repository:
    """What a store has of a repository, which may be nothing."""
    place = reference.registry, reference.repository
    for entry in repositories(store):
        if (entry.registry, entry.path) == place:
            return entry
    return Repository(*place, ())


def repository(store: Store, path: str, namespace: str | None) -> Repository:
    """The repository that a path means.

    Args:
        store: The store.
        path: What stands between `/v2/` and the kind of content.
        namespace: The registry that the request names with `?ns=`.

    Raises:
        RefusalError: There is none, or the namespace is not a registry.
    """
    registry = None if namespace is None else _registry(namespace)
    if path == ANY_REPOSITORY:
        return Repository(None, path, store.everything())
    found = repositories(store)
    for place in _places(path, registry):
        for entry in found:
            if (entry.registry, entry.path) == place and _is_of(entry, registry):
                return entry
    wanted = _places(path, registry)[0]
    others = sorted(entry.name for entry in found if entry.path == wanted[1])
    hint = f"; available: {', '.join(others)}" if others else ""
    raise RefusalError(
        HTTPStatus.NOT_FOUND,
        "NAME_UNKNOWN",
        f"repository not found: {'/'.join(wanted)}{hint}",
        {"near": others} if others else None,
    )


def _places(path: str, registry: str | None) -> list[tuple[str, str]]:
    """What a path may mean, as registry and repository, the likeliest first."""
    named = split_name(path)
    if registry is None:
        return [named]
    # a client that is told to ask below a path sends the full name, and the registry too
    return [(registry, path), named] if named[0] == registry else [(registry, path)]


def _is_of(entry: Repository, registry: str | None) -> bool:
    """Whether a registry's mirror has it: what was named on this machine is of no registry."""
    return registry is None or (
        entry.registry == registry and not Reference(registry, entry.path, None).is_local
    )


def _registry(namespace: str) -> str:
    try:
        return parse_registry(namespace)
    except InvalidReferenceError as exc:
        raise RefusalError(
            HTTPStatus.BAD_REQUEST, "NAME_INVALID", f"ns: {namespace[:100]!r} is not a registry"
        ) from exc


def unknown_blob(name: str) -> RefusalError:
    """What is said where a blob is not here."""
    return RefusalError(HTTPStatus.NOT_FOUND, "BLOB_UNKNOWN", f"blob not found: {name}")
