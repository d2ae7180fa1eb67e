"""Copy to a registry: blobs pass through memory, manifests go byte for byte, the name last."""

from collections.abc import Callable, Iterable, Sequence
from contextlib import closing
from dataclasses import dataclass, field, replace

from modelrunner.errors import (
    AccessError,
    IntegrityError,
    ManifestNotFoundError,
    UnauthorizedError,
    UsageError,
)
from modelrunner.events import Finished, Listener, Planned, ignore
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference
from modelrunner.oci.referrers import Referrer, ReferrerChoice
from modelrunner.operations.copy.origin import Origin, nested
from modelrunner.operations.copy.result import Copied
from modelrunner.operations.copy.tree import Tree, read_tree
from modelrunner.operations.package.push import to_push_log_in
from modelrunner.operations.package.push_blobs import BlobPusher, Contents
from modelrunner.operations.package.push_referrers import PushedReferrers, push_referrers
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import Sink
from modelrunner.transfer.limits import Limits
from modelrunner.transfer.passage import SourceFailedError

_MOST_SUBJECTS = 32
"""Manifests of one index that are asked for what refers to them."""

_MOST_SIBLINGS = 3
"""Repositories that a blob is tried to be mounted from."""

Check = Callable[[Reference, Manifest | Index], None]
"""Raises where the policy does not let a manifest pass."""


@dataclass
class Whereabouts:
    """Which repositories of registries are known to have blobs: to mount from."""

    _found: dict[tuple[str, Digest], dict[str, None]] = field(default_factory=dict)

    def note(self, registry: str, repository: str, blobs: Iterable[Descriptor]) -> None:
        """Remember that a repository has these blobs."""
        for blob in blobs:
            self._found.setdefault((registry, blob.digest), {})[repository] = None

    def siblings(self, reference: Reference, blob: Descriptor) -> Sequence[str]:
        """Return other repositories of a registry that have a blob."""
        found = self._found.get((reference.registry, blob.digest), {})
        others = [name for name in found if name != reference.repository]
        return others[:_MOST_SIBLINGS]


@dataclass(frozen=True, slots=True)
class RegistryCopier:
    """Copies into registries.

    Attributes:
        sink_for: Opens a registry.
        check: The policy: asked before a blob moves.
        referrers: What is copied of that which refers to a manifest.
        listener: Called with events, never from two threads at once.
        backoff: How often a blob is tried again, and until when.
        limits: How many connections, and how many bytes a second.
        whereabouts: Which repositories have which blobs; shared by several copies.
    """

    sink_for: Callable[[Reference], Sink]
    check: Check
    referrers: ReferrerChoice = "all"
    listener: Listener = ignore
    backoff: Backoff = field(default_factory=Backoff)
    limits: Limits = field(default_factory=Limits)
    whereabouts: Whereabouts = field(default_factory=Whereabouts)

    def copy(self, origin: Origin, destination: Reference, tags: Sequence[str] = ()) -> Copied:
        """Copy a manifest with all that it needs, and with what refers to it.

        Args:
            origin: Where it is.
            destination: What it is called then.
            tags: More tags that it gets there.

        Raises:
            UnverifiedError: The policy keeps it out.
            ManifestNotFoundError: The source does not have it, or not all of it.
            IntegrityError: The source sends wrong bytes; the destination has not committed them.
            AccessError, TransferError: One of the two ends does not answer.
        """
        return self._run(origin, destination, tags, _Copy.run)

    def look(self, origin: Origin, destination: Reference) -> Copied:
        """Return what a copy would come to; nothing is copied.

        Raises:
            UnverifiedError: The policy keeps it out.
            ManifestNotFoundError: The source does not have it.
            AccessError, TransferError: One of the two ends does not answer.
        """
        return self._run(origin, destination, (), _Copy.look)

    def _run(
        self,
        origin: Origin,
        destination: Reference,
        tags: Sequence[str],
        act: "Callable[[_Copy], Copied]",
    ) -> Copied:
        sink = self.sink_for(destination)
        with closing(sink):
            try:
                return act(_Copy(self, origin, sink, destination, tags))
            except SourceFailedError as exc:
                raise exc.error from exc
            except UnauthorizedError as exc:
                if exc.facts.get("registry") != sink.name or _is_same_place(origin, destination):
                    raise
                raise to_push_log_in(exc, destination) from exc


class _Copy:
    """One copy."""

    def __init__(
        self,
        copier: RegistryCopier,
        origin: Origin,
        sink: Sink,
        destination: Reference,
        tags: Sequence[str],
    ) -> None:
        self._copier = copier
        self._origin = origin
        self._sink = sink
        self._destination = destination
        self._backoff = copier.backoff
        names = [destination, *(destination.with_tag(tag) for tag in tags)]
        self._names = list({str(name): name for name in names}.values())

    def run(self) -> Copied:
        """Copy; see `RegistryCopier.copy`."""
        tree, missing = self._compare()
        contents = self._origin.contents()
        try:
            return self._transfer(tree, contents, missing)
        finally:
            contents.close()

    def look(self) -> Copied:
        """Return what would be copied."""
        tree, missing = self._compare()
        return Copied(
            self._origin.label,
            str(self._destination),
            str(tree.root.digest),
            "missing" if missing else "present",
            tree.total_bytes,
            manifests=len(tree.manifests),
            tags=tuple(str(each) for each in self._names),
        )

    def _compare(self) -> tuple[Tree, Sequence[Reference]]:
        """What is to be at the destination, and the names that it does not have there."""
        digest = self._origin.digest()
        wanted = self._destination.digest
        if wanted is not None and wanted != digest:
            raise UsageError(
                f"{self._destination.short} names another digest than {self._origin.label}: "
                f"{digest}",
                hint="name the destination by a tag",
            )
        missing = [name for name in self._names if self._at(name) != digest]
        # what is there is read there: Docker Hub counts a manifest as a pull
        read = self._origin.manifest if missing else self._stored
        root = read(digest)
        if self._origin.checked is not None:
            self._copier.check(self._origin.checked, root)
        tree = read_tree(root, read)
        self._note_source(tree)
        return tree, missing

    def _transfer(self, tree: Tree, contents: Contents, missing: Sequence[Reference]) -> Copied:
        name, total = self._destination.short, tree.total_bytes
        pusher = BlobPusher(
            self._sink,
            self._destination,
            contents,
            lambda blob: self._copier.whereabouts.siblings(self._destination, blob),
            self._copier.listener,
            self._backoff,
            self._copier.limits,
        )
        sent = None
        if missing:
            self._copier.listener(Planned(name, total, 0, 0))
            sent = pusher.push(tree.blobs)
            for child in tree.manifests[:-1]:
                self._put(child, self._by_digest(child.digest))
        kept = self._copy_referrers(tree, replace(pusher, listener=ignore), has_root=not missing)
        for each in missing:
            self._put(tree.root, each)
        self._copier.whereabouts.note(
            self._destination.registry, self._destination.repository, tree.blobs
        )
        if sent is not None:
            self._copier.listener(Finished(name, str(tree.root.digest), total))
        return Copied(
            self._origin.label,
            str(self._destination),
            str(tree.root.digest),
            "present" if sent is None else "copied",
            total,
            0 if sent is None else sent.uploaded,
            0 if sent is None else sent.mounted,
            len(tree.manifests),
            kept,
            tuple(str(each) for each in self._names),
        )

    def _copy_referrers(
        self, tree: Tree, pusher: BlobPusher, *, has_root: bool
    ) -> PushedReferrers | None:
        """Copy what refers to the manifests, before the name is there."""
        count, problems = 0, []
        subjects = [tree.root, *tree.manifests[:-1]]
        if len(subjects) > _MOST_SUBJECTS:
            left = len(subjects) - _MOST_SUBJECTS
            problems.append(f"{left} manifests of the index were not asked for referrers")
        for subject in subjects[:_MOST_SUBJECTS]:
            found = self._origin.referrers(subject.digest, self._copier.referrers)
            problems += found.problems
            if not found.referrers:
                continue
            if subject is tree.root and not has_root:
                self._put(subject, self._by_digest(subject.digest))
            more, why = self._nested(subject.digest, found.referrers)
            problems += why
            referrers = (*found.referrers, *more)
            blobs = {blob.digest: blob for each in referrers for blob in each.manifest.blobs}
            pusher.push(tuple(blobs.values()))
            pushed = push_referrers(
                self._sink, self._destination, subject.digest, referrers, self._backoff
            )
            count += pushed.count
            problems += pushed.problems
        if not count and not problems:
            return None
        return PushedReferrers(count, tuple(dict.fromkeys(problems)))

    def _nested(
        self, subject: Digest, referrers: Sequence[Referrer]
    ) -> tuple[Sequence[Referrer], Sequence[str]]:
        """What refers to referrers, and to that in turn; and why that is not all."""
        if self._copier.referrers != "all":
            return (), ()
        return nested(subject, referrers, self._origin.nested)

    def _at(self, name: Reference) -> Digest | None:
        """What the destination has under a name."""
        try:
            found = self._sink.resolve(replace(name, digest=None) if name.tag else name)
            if name.tag is None:
                self._sink.manifest(name)
        except (ManifestNotFoundError, AccessError, IntegrityError):
            # one that may only be written to, does not exist yet, or is broken: the upload tells
            return None
        return found

    def _put(self, manifest: Manifest | Index, name: Reference) -> None:
        self._backoff.run(lambda: self._sink.push_manifest(name, manifest))

    def _by_digest(self, digest: Digest) -> Reference:
        return replace(self._destination, tag=None, digest=digest)

    def _stored(self, digest: Digest) -> Manifest | Index:
        return self._sink.manifest(self._by_digest(digest))

    def _note_source(self, tree: Tree) -> None:
        found = self._origin.reference
        if found is not None:
            self._copier.whereabouts.note(found.registry, found.repository, tree.blobs)


def _is_same_place(origin: Origin, destination: Reference) -> bool:
    found = origin.reference
    return found is not None and found.registry == destination.registry
