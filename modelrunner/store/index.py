"""`index.json`: which names stand for which manifests.

One entry a name, as `skopeo` writes it: the manifest's descriptor, annotated with the full
reference. A second one of the same digest has the name as a tag, for `oras` and regctl, which find
no full reference; it is passed over here. Changed under the store's lock and replaced in one step.
"""

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from modelrunner.disk.files import disk_errors, write_atomically
from modelrunner.disk.inside import read_inside
from modelrunner.errors import CorruptStoreError, InvalidReferenceError, MalformedManifestError
from modelrunner.frozen import replace
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.manifest import parse_json
from modelrunner.oci.reference import Reference, is_tag_for, tags_for
from modelrunner.store.layout import Layout


class Entry(NamedTuple):
    """One name of one model; another tool may have written it without a name.

    Attributes:
        reference: The name.
        descriptor: Of the manifest.
        published: Whether a registry is known to have the model: it was pulled or pushed.
    """

    reference: Reference | None
    descriptor: Descriptor
    published: bool = False

    @classmethod
    def alias(cls, reference: Reference, of: Reference, descriptor: Descriptor) -> "Entry":
        """An entry for another spelling of a name."""
        annotations = {**descriptor.annotations, media_types.ANNOTATION_ALIAS: str(of)}
        return cls(reference, replace(descriptor, annotations=annotations))

    @property
    def alias_of(self) -> str | None:
        """The name that this one is another spelling of; None of a name that stands for itself."""
        return self.descriptor.annotations.get(media_types.ANNOTATION_ALIAS)

    @classmethod
    def image(cls, reference: Reference, descriptor: Descriptor) -> "Entry":
        """An entry for the image of a runtime."""
        notes = {**descriptor.annotations, media_types.ANNOTATION_KIND: media_types.RUNTIME}
        return cls(reference, replace(descriptor, annotations=notes), published=True)

    @property
    def is_image(self) -> bool:
        """Whether it is the image of a runtime, and not a model."""
        return self.descriptor.annotations.get(media_types.ANNOTATION_KIND) == media_types.RUNTIME

    @property
    def is_nameless(self) -> bool:
        """Whether it has no name, not even one that only another tool understands."""
        return media_types.ANNOTATION_REFERENCE not in self.descriptor.annotations


def read_index(layout: Layout) -> tuple[Entry, ...]:
    """All entries, in the order of the file; none where there is no store.

    Raises:
        CorruptStoreError: The file is damaged.
    """
    try:
        with disk_errors(layout.index):
            raw = read_inside(layout.index)
    except FileNotFoundError:
        return ()
    try:
        return tuple(_entry(value) for value in _listed(raw) if not _repeats(value))
    except MalformedManifestError as exc:
        raise CorruptStoreError(
            f"{layout.index} is damaged",
            hint="move it away and pull again: existing blobs are reused",
            path=str(layout.index),
        ) from exc


def write_index(layout: Layout, entries: Iterable[Entry]) -> None:
    """Replaces the index; the caller holds the store's lock.

    Raises:
        DiskFullError, StoreAccessError: It cannot be written; the old one stays.
    """
    ordered = sorted(entries, key=lambda entry: (str(entry.reference), entry.descriptor.digest))
    values = [_value(entry) for entry in ordered]
    value = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": [*values, *_repeated(values)],
    }
    with disk_errors(layout.index):
        write_atomically(layout.index, json.dumps(value, indent=2).encode() + b"\n")


def _listed(raw: bytes) -> list[object]:
    manifests = parse_json(raw, "the index").get("manifests")
    if not isinstance(manifests, list):
        raise MalformedManifestError("the index has no list of manifests")
    return manifests


def _repeated(values: Sequence[Mapping[str, Any]]) -> Iterator[dict[str, Any]]:
    """The entries of names once more, under tags."""
    named = {_notes(value).get(media_types.ANNOTATION_REFERENCE): value for value in values}
    for name, tag in sorted(tags_for(name for name in named if name is not None).items()):
        value = named[name]
        if media_types.ANNOTATION_ALIAS not in _notes(value):
            # older programs find what is an alias, and do not list it
            said = {
                media_types.ANNOTATION_REFERENCE: tag,
                media_types.ANNOTATION_CONTAINERD_NAME: name,
                media_types.ANNOTATION_ALIAS: name,
            }
            yield {**value, "annotations": {**_notes(value), **said}}


def _notes(value: Mapping[str, Any]) -> Mapping[str, str]:
    found: Mapping[str, str] = value.get("annotations", {})
    return found


def _repeats(value: object) -> bool:
    """Whether an entry is one of `_repeated`."""
    notes = value.get("annotations") if isinstance(value, dict) else None
    if not isinstance(notes, dict) or media_types.ANNOTATION_ALIAS not in notes:
        return False
    name, tag = notes[media_types.ANNOTATION_ALIAS], notes.get(media_types.ANNOTATION_REFERENCE)
    return isinstance(name, str) and isinstance(tag, str) and is_tag_for(tag, name)


def _entry(value: object) -> Entry:
    descriptor = Descriptor.from_dict(value, "an entry")
    name = descriptor.annotations.get(media_types.ANNOTATION_REFERENCE)
    if media_types.ANNOTATION_PUBLISHED not in descriptor.annotations:
        return Entry(_reference(name), descriptor)
    # says something of this store, not of the model
    annotations = dict(descriptor.annotations)
    published = annotations.pop(media_types.ANNOTATION_PUBLISHED) == "true"
    return Entry(_reference(name), replace(descriptor, annotations=annotations), published)


def _reference(name: str | None) -> Reference | None:
    if name is None:
        return None
    try:
        return Reference.parse(name)
    except InvalidReferenceError:
        # another tool's spelling: the model is kept, and found by its ID
        return None


def _value(entry: Entry) -> dict[str, Any]:
    annotations = dict(entry.descriptor.annotations)
    if entry.reference is not None:
        annotations[media_types.ANNOTATION_REFERENCE] = str(entry.reference)
    if entry.published:
        annotations[media_types.ANNOTATION_PUBLISHED] = "true"
    kind = entry.descriptor.media_type
    if kind == media_types.DOCKER_MANIFEST:
        # an image layout lists manifests of OCI's types alone: skopeo passes others over. What it
        # is the manifest says itself
        kind = media_types.OCI_MANIFEST
    bare = Descriptor(kind, entry.descriptor.digest, entry.descriptor.size, annotations)
    return bare.to_dict()
