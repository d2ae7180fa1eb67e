"""A repository of the Hugging Face Hub as a source of models.

The Hub is not an OCI registry, but the sha256 that it keeps of every large file is a blob's digest.
A manifest is made of the listing, the same one on every machine: what was pulled from elsewhere
with the same digest is not downloaded again, and nothing is believed that does not match.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from fnmatch import fnmatchcase
from itertools import islice
from pathlib import PurePosixPath
from typing import TYPE_CHECKING

from modelrunner.errors import (
    AccessError,
    InterruptedTransferError,
    MalformedManifestError,
    ManifestNotFoundError,
    RegistryAnswerError,
    TransferError,
    UnsupportedArtifactError,
)
from modelrunner.frozen import replace
from modelrunner.huggingface.artifact import (
    PARAMETER_FILES,
    SMALL_LIMIT,
    HubArtifact,
    hub_artifact,
    hub_artifacts,
)
from modelrunner.huggingface.files import HubFile, choose, labels
from modelrunner.huggingface.repository import HubEntry, repository_artifact
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.hub_address import ALL, Selection, selection_of
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.paths import checked_path
from modelrunner.oci.reference import Reference
from modelrunner.registry.http.blob_stream import Part, blob_stream, range_header
from modelrunner.registry.huggingface.api import HubApi, Listing
from modelrunner.registry.huggingface.small_files import KnownFiles, with_digests
from modelrunner.registry.source import BlobStream, Choice
from modelrunner.text import closest, did_you_mean
from modelrunner.units import counted

if TYPE_CHECKING:
    from modelrunner.registry.huggingface.xet import XetReader

_MOST_NEAR_FILES = 2000
_MOST_COMMITS = 50
"""Commits that are looked through for a digest that the latest has not."""

Listings = dict[Reference, Listing]
"""What was listed, by what was asked for: a pull over several connections lists once."""


class HuggingFaceHub:
    """The Hub. Not to be shared between threads, but for what was listed."""

    def __init__(self, api: HubApi, listings: Listings, known: KnownFiles) -> None:
        self._api = api
        self._listings = listings
        self._known = known
        self._reader: XetReader | None = None

    @property
    def name(self) -> str:
        """The Hub's name, or the address of what stands for it."""
        return self._api.endpoint.label

    def resolve(self, reference: Reference) -> Digest:
        """The digest of the manifest that the listing makes.

        Raises:
            ManifestNotFoundError: No such repository or quantization; what there is is named.
            AccessError, TransferError: The Hub says no, or nothing.
        """
        return reference.digest or self._chosen(reference, self._listing(reference)).manifest.digest

    def manifest(self, reference: Reference) -> Manifest:
        """The manifest that the listing makes.

        Raises:
            ManifestNotFoundError: As with `resolve`; or the repository has moved on since.
        """
        made = self._made(reference, self._listing(reference))
        if made is None:
            made = self._earlier(reference)
        if made is None:
            raise ManifestNotFoundError(
                f"{reference.short}: the files on {self.name} have changed",
                hint="pull it without the digest, or run `modelrunner lock --update`",
                registry=self.name,
                missing="manifest",
            )
        return made.manifest

    def choice(self, reference: Reference) -> Choice | None:
        """The file that is taken for a name, and the name that means it and no other.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: As with `resolve`.
        """
        listing = self._listing(reference)
        made = self._made(reference, listing)
        if made is None or made.model is None:
            return None
        model, name = made.model, replace(reference, tag=made.model.label, digest=None)
        projector = None if model.projector is None else model.projector.path
        others = tuple(file.path for file in model.others)
        return Choice(name, model.path, projector, others, listing.commit)

    def revision(self, reference: Reference) -> str:
        """The commit whose files a name stands for.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: As with `resolve`.
        """
        return self._listing(reference).commit

    @contextmanager
    def open_blob(
        self,
        reference: Reference,
        descriptor: Descriptor,
        offset: int = 0,
        stop: int | None = None,
    ) -> Iterator[BlobStream]:
        """A stream of a file's bytes from `offset` to `stop`, not retried here.

        Raises:
            ManifestNotFoundError: The file is listed and not there.
            RangesUnsupportedError, TransferError, SizeMismatchError: As from a registry.
        """
        listing, part = self._listing(reference), (offset, stop)
        file, content = self._found(reference, listing, descriptor.digest)
        if content is not None:
            yield _in_memory(content, part)
            return
        if file is None:
            raise ManifestNotFoundError(
                f"{reference.short}: no file has the digest {descriptor.digest.short} anymore",
                registry=self.name,
                missing="blob",
            )
        with self._from_xet(reference, listing, file, descriptor.size, part) as found:
            if found is not None:
                yield found
                return
        what = f"{reference.short}: {file}"
        headers = range_header(part, descriptor.size)
        # outside: not a file but a request
        with self._api.open(reference, listing.commit, file, headers) as response:
            yield blob_stream(
                response,
                part,
                descriptor,
                what=what,
                endpoint=self._api.endpoint,
                refusal=lambda: self._api.error(response, reference, what),
            )

    def tags(self, reference: Reference) -> tuple[str, ...]:
        """The quantizations that the repository has, or else the tag for all of it.

        Raises:
            ManifestNotFoundError, AccessError, TransferError: As with `resolve`.
        """
        listing = self._listing(reference)
        return labels(listing.files) or ((ALL,) if listing.entries else ())

    def distrust(self, places: Mapping[str, int]) -> None:
        """There is no other place to go to but from Xet storage to the Hub's own bridge."""
        if not self._api.uses_xet:
            return
        # late, as in `api`
        from modelrunner.registry.huggingface.xet import PLACE

        if PLACE in places:
            for listing in self._listings.values():
                listing.xet.is_off = True

    def close(self) -> None:
        """Lets go of the connections."""
        if self._reader is not None:
            self._reader.close()
        self._api.close()

    @contextmanager
    def _from_xet(
        self, reference: Reference, listing: Listing, file: str, size: int, part: Part
    ) -> Iterator[BlobStream | None]:
        """A part of a file out of Xet storage itself; None where it is for the bridge.

        Raises:
            InterruptedTransferError: The storage does not deliver; the next try is the bridge's.
        """
        if not self._api.uses_xet or listing.xet.is_off:
            yield None
            return
        # late, as in `api`
        from modelrunner.registry.huggingface.xet import LEAST, LEAST_PART, XetFile, XetReader

        entry = listing.entries.get(file)
        offset, stop = part[0], size if part[1] is None else part[1]
        if entry is None or entry.xet is None or size < LEAST:
            yield None
            return
        stored = XetFile(entry.xet, size)
        reader, self._reader = self._reader, None
        if reader is not None and (reader.file, reader.at) != (stored, offset):
            reader.close()
            reader = None
        if reader is None and stop - offset < LEAST_PART:
            yield None
            return
        try:
            if reader is None:
                access = self._api.xet_access(reference, listing)
                reader = XetReader(access, stored, offset, self._api.read_timeout_s)
            yield reader.part()
            # what follows is asked for next
            self._reader = reader
        except (TransferError, AccessError, ManifestNotFoundError) as exc:
            if reader is not None and reader.was_aborted:
                raise
            listing.xet.is_off = True
            raise InterruptedTransferError(
                f"{exc.message}; continuing without Xet storage"
            ) from exc
        finally:
            if reader is not None and reader is not self._reader:
                reader.close()

    def _found(
        self, reference: Reference, listing: Listing, digest: Digest
    ) -> tuple[str | None, bytes | None]:
        """The path of the file with a digest, or else its content, if it is that of a small one."""
        path = listing.by_digest.get(digest)
        if path is not None:
            return path, None
        small = _small(listing, digest)
        if small is None:
            # all but the config and small files are large ones
            made = self._made(reference, listing)
            if made is not None and digest == made.manifest.config.digest:
                return None, made.config
            small = _small(listing, digest)
        return (None, None) if small is None else (small.path, listing.contents.get(small.key))

    def _chosen(self, reference: Reference, listing: Listing) -> HubArtifact:
        selection = selection_of(reference.tag)
        if selection is not None:
            return self._whole(reference, listing, selection)
        model = choose(listing.files, reference.tag, _repository(reference))
        return hub_artifact(model, self._parameters(reference, listing))

    def _whole(self, reference: Reference, listing: Listing, selection: Selection) -> HubArtifact:
        """The artifact of the files that globs choose, whatever they are."""
        if not listing.is_complete:
            raise RegistryAnswerError(
                f"{reference.short}: {self.name} does not list all files",
                hint="pull it from https://huggingface.co, or choose one model by its tag",
            )
        # late, as in `api`
        from modelrunner.registry.huggingface.hub_package import matching

        chosen = list(
            matching(listing.entries.values(), *selection, path_of=lambda entry: entry.path)
        )
        if not chosen:
            raise ManifestNotFoundError(
                f"{reference.short}: none of {counted(len(listing.entries), 'file')} matches",
                hint=_near_files(selection, listing.entries)
                or "check the globs of --include and --exclude: `*` matches `/` too, and case "
                "counts",
                missing="repository",
            )
        for entry in chosen:
            # before it is asked for: no address can be made of some
            checked_path(entry.path)
        files = with_digests(self._api, reference, listing, chosen, self._known)
        return repository_artifact(files)

    def _parameters(self, reference: Reference, listing: Listing) -> HubFile | None:
        """The repository's file that says how its models are sampled."""
        large = {file.path: file for file in listing.files if file.size <= SMALL_LIMIT}
        small = listing.parameters
        there = {*large, *([] if small is None else [small.path])}
        path = next((name for name in PARAMETER_FILES if name in there), None)
        if small is None or path in large:
            return large.get(path or "")
        content = self._api.content(reference, listing, small)
        return HubFile(small.path, len(content), Digest.of(content))

    def _made(self, reference: Reference, listing: Listing) -> HubArtifact | None:
        """The artifact that a reference names; of a pinned one None where no files make it."""
        if reference.digest is None:
            return self._chosen(reference, listing)
        with suppress(ManifestNotFoundError, MalformedManifestError, UnsupportedArtifactError):
            made = self._chosen(reference, listing)
            if made.manifest.digest == reference.digest:
                return made
        if selection_of(reference.tag) is not None:
            return None
        found = hub_artifacts(listing.files, self._parameters(reference, listing))
        return next((made for made in found if made.manifest.digest == reference.digest), None)

    def _earlier(self, reference: Reference) -> HubArtifact | None:
        """What the repository had when it had the reference's digest; it is listed from then on.

        A repository that has moved on keeps what it had, as a registry keeps a manifest that has
        lost its tag.
        """
        latest = self._listing(reference)
        for commit in self._api.commits(reference)[1:_MOST_COMMITS]:
            # what was downloaded for one commit is there for all
            listing = replace(
                self._api.listing_at(reference, commit),
                digests=latest.digests,
                contents=latest.contents,
            )
            made = self._made(reference, listing)
            if made is not None:
                self._listings[reference] = listing
                return made
        return None

    def _listing(self, reference: Reference) -> Listing:
        """What the reference is found in: of a pinned one the commit that has its digest."""
        if reference in self._listings:
            return self._listings[reference]
        latest = replace(reference, tag=None, digest=None)
        if latest not in self._listings:
            self._listings[latest] = self._api.listing(reference)
        return self._listings[latest]


def _near_files(selection: Selection, paths: Iterable[str]) -> str | None:
    """Names the files that globs may have meant."""
    known = list(islice(paths, _MOST_NEAR_FILES))
    for glob in selection[0]:
        alike = [path for path in known if fnmatchcase(path.lower(), glob.lower())]
        found = did_you_mean((alike or closest(glob, known, 3) or _of_kind(glob, known))[:3])
        if found is not None:
            return f"{found} `*` matches `/` too, and case counts"
    return None


def _of_kind(glob: str, paths: Sequence[str]) -> list[str]:
    """The files whose ending is spelled like that of a glob."""
    endings = {PurePosixPath(path).suffix for path in paths} - {""}
    meant = closest(PurePosixPath(glob).suffix, endings, 1)
    return [path for path in paths if path.endswith(tuple(meant))] if meant else []


def _small(listing: Listing, digest: Digest) -> HubEntry | None:
    """The small file with a digest, as far as that is known."""
    among = (entry for entry in listing.entries.values() if entry.sha256 is None)
    return next((entry for entry in among if listing.digests.get(entry.key) == digest), None)


def _repository(reference: Reference) -> str:
    return replace(reference, tag=None, digest=None).short


def _in_memory(content: bytes, part: Part) -> BlobStream:
    offset, stop = part
    rest = memoryview(content)[offset:stop]

    def readinto(buffer: memoryview) -> int:
        nonlocal rest
        count = min(len(buffer), len(rest))
        buffer[:count], rest = rest[:count], rest[count:]
        return count

    return BlobStream(offset, readinto)
