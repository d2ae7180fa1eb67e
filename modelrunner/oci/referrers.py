"""What refers to a manifest: signatures, attestations, lists of parts, licenses, cards.

A manifest refers to another one by its `subject` (image specification 1.1), or, as cosign has it
too, by a tag made of the other's digest: `sha256-HEX.sig`. A list of referrers is an image index,
as `GET /v2/NAME/referrers/DIGEST` answers it; a list that is kept in a store or an archive names
those that have no subject by their tags.
"""

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any, Literal, Self, get_args

from modelrunner.errors import MalformedManifestError, UsageError
from modelrunner.frozen import frozen
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest, parse_json

ReferrerChoice = Literal["all", "signatures", "none"]
"""What of all that refers to a manifest is wanted."""

SIGNATURE_SUFFIXES = (".sig", ".att")
"""Of the tags under which cosign keeps signatures, and attestations."""

SUFFIXES = (*SIGNATURE_SUFFIXES, ".sbom")

DEEPEST = 3
"""How far what refers to something is followed: to a model, to that, and to that in turn."""

MOST_SUBJECTS = 32
"""Things beside the model that are asked what refers to them."""

_TAG = re.compile(r"sha256-([0-9a-f]{64})(?:\.[a-z]{3,4})?")

_KINDS = (
    (("spdx", "cyclonedx", "syft", "sbom"), "SBOM"),
    (("in-toto", "dsse", "attestation"), "attestation"),
    (("sigstore.bundle", "signature", "simplesigning", "cosign.artifact.sig"), "signature"),
    (("license",), "license"),
    (("modelcard", "model-card"), "card"),
)
"""For people: what a type is, by words in it."""
_SIGNING = ("sigstore", "cosign", "signature", "simplesigning", "dsse", "in-toto")
# some tools give no type, and others that of an empty or an image's config
_SILENT = ("", media_types.OCI_EMPTY, media_types.OCI_IMAGE_CONFIG)


@frozen
class Referrer:
    """Something that refers to a manifest.

    Attributes:
        manifest: Its own manifest.
        artifact_type: What it is; empty where it does not say.
        tag: The tag by which it refers; None where it has a subject.
    """

    manifest: Manifest
    artifact_type: str
    tag: str | None = None

    @classmethod
    def of(cls, manifest: Manifest, tag: str | None = None, listed_type: str = "") -> Self:
        """A referrer by its manifest.

        Args:
            manifest: The manifest.
            tag: The tag by which it refers, where it has no subject.
            listed_type: The type that a list gave, which counts where the manifest has none.
        """
        found = manifest.artifact_type or listed_type or manifest.config.media_type
        return cls(manifest, found, tag)

    @property
    def digest(self) -> Digest:
        """The digest of its manifest."""
        return self.manifest.digest

    @property
    def subject(self) -> Digest | None:
        """What it refers to, by its tag or its subject; None where neither is understood."""
        if self.tag is not None:
            match = _TAG.fullmatch(self.tag)
            return None if match is None else Digest(match[1])
        try:
            found = subject_of(self.manifest)
        except MalformedManifestError:
            return None
        return None if found is None else found.digest

    @property
    def size(self) -> int:
        """The bytes of its manifest and blobs."""
        return len(self.manifest.raw) + self.manifest.total_bytes

    @property
    def kind(self) -> str:
        """What it is, for people: a word, or its type if no word is known."""
        if self.tag is not None:
            suffix = self.tag.rpartition(".")[2]
            return {"sig": "signature", "att": "attestation", "sbom": "SBOM"}.get(suffix, suffix)
        # those that give no type are known by what they hold
        types = [self.artifact_type, *(layer.media_type for layer in self.manifest.layers)]
        for text in types:
            for words, kind in _KINDS:
                if any(word in text.lower() for word in words):
                    return kind
        return self.artifact_type

    def facts(self) -> dict[str, Any]:
        """What is known of it, as JSON has it."""
        return {
            "digest": str(self.digest),
            "kind": self.kind,
            "artifact_type": self.artifact_type,
            "tag": self.tag,
            "size_bytes": self.size,
        }

    def to_dict(self) -> dict[str, Any]:
        """Its entry in a list of referrers, as the distribution specification has it."""
        value = self.manifest.descriptor.to_dict()
        value["artifactType"] = self.artifact_type
        if self.manifest.annotations:
            value["annotations"] = dict(self.manifest.annotations)
        return value


def is_signature(referrer: Referrer) -> bool:
    """Whether it may prove who made a model, or how: by its type, or by those of its layers."""
    kinds = [referrer.artifact_type, *(layer.media_type for layer in referrer.manifest.layers)]
    return any(likeness(kind) == 0 for kind in kinds)


def taken_along(
    referrers: Iterable[Referrer], choice: ReferrerChoice, root: Digest
) -> tuple[Referrer, ...]:
    """Those that a choice takes along; nothing that refers to what stays behind."""
    if choice == "none":
        return ()
    chosen = [each for each in referrers if choice == "all" or is_signature(each)]
    return reachable(root, chosen)


def by_subject(
    root: Digest, referrers: Iterable[Referrer]
) -> list[tuple[Digest, tuple[Referrer, ...]]]:
    """What refers to a manifest, and to that in turn: by what it refers to, the nearest first.

    No subject comes twice: by subjects nothing refers to itself, but a tag may say anything.
    """
    groups: dict[Digest, list[Referrer]] = {}
    for each in referrers:
        subject = each.subject
        if subject is not None:
            groups.setdefault(subject, []).append(each)
    found: dict[Digest, tuple[Referrer, ...]] = {}
    level = [root]
    for _ in range(DEEPEST):
        found |= {digest: tuple(groups[digest]) for digest in level if digest in groups}
        nearest = (each.digest for digest in level for each in groups.get(digest, ()))
        level = [digest for digest in dict.fromkeys(nearest) if digest not in found]
    return list(found.items())


def reachable(root: Digest, referrers: Iterable[Referrer]) -> tuple[Referrer, ...]:
    """Those that refer to a manifest, or to what does."""
    return tuple(each for _, group in by_subject(root, referrers) for each in group)


def direct(digest: Digest, referrers: Iterable[Referrer]) -> tuple[Referrer, ...]:
    """Those that refer to a manifest itself."""
    return tuple(each for each in referrers if each.subject == digest)


def parse_choice(text: str) -> ReferrerChoice:
    """Return the choice that a text names.

    Raises:
        UsageError: It names none.
    """
    for choice in get_args(ReferrerChoice):
        if text == choice:
            found: ReferrerChoice = choice
            return found
    raise UsageError(
        f"invalid choice of referrers: {text[:40]!r}",
        hint=f"use one of {', '.join(get_args(ReferrerChoice))}",
    )


def referrers_tag(digest: Digest, suffix: str = "") -> str:
    """The tag that stands for what refers to a manifest, where a registry has no list of it."""
    return f"sha256-{digest.hex}{suffix}"


def subject_of(manifest: Manifest) -> Descriptor | None:
    """What a manifest refers to; None where it refers to nothing.

    Raises:
        MalformedManifestError: Its subject is malformed.
    """
    value = parse_json(manifest.raw, "the manifest").get("subject")
    return None if value is None else Descriptor.from_dict(value, "the subject")


def refers_to(manifest: Manifest, digest: Digest) -> bool:
    """Whether a manifest refers to another one by its subject."""
    try:
        subject = subject_of(manifest)
    except MalformedManifestError:
        return False
    return subject is not None and subject.digest == digest


def likeness(artifact_type: str) -> int:
    """How far a type is from a signature's: 0 for one, 1 for what says nothing, 2 for others."""
    if any(word in artifact_type.lower() for word in _SIGNING):
        return 0
    return 1 if artifact_type in _SILENT else 2


def list_of(entries: Iterable[Mapping[str, Any]]) -> bytes:
    """A list of referrers as an image index, in one canonical spelling."""
    value = {
        "schemaVersion": 2,
        "mediaType": media_types.OCI_INDEX,
        "manifests": list(entries),
    }
    return json.dumps(value, separators=(",", ":")).encode()


def kept_list(referrers: Iterable[Referrer]) -> bytes:
    """The list that a store or an archive keeps; the same referrers give the same bytes."""
    return list_of(
        _kept_entry(each) for each in sorted(referrers, key=lambda one: (one.digest, one.tag or ""))
    )


def entries_in(raw: bytes) -> list[tuple[Descriptor, str, str | None]]:
    """The entries of a list: descriptor, type and tag of each; what is malformed is left out.

    Raises:
        MalformedManifestError: It is not a list.
    """
    entries = parse_json(raw, "the list of referrers").get("manifests")
    found = []
    for entry in entries if isinstance(entries, list) else []:
        try:
            descriptor = Descriptor.from_dict(entry, "a referrer")
        except MalformedManifestError:
            continue
        kind = entry.get("artifactType")
        tag = descriptor.annotations.get(media_types.ANNOTATION_REFERENCE)
        found.append((descriptor, kind if isinstance(kind, str) else "", tag))
    return found


def _kept_entry(referrer: Referrer) -> dict[str, Any]:
    value = referrer.manifest.descriptor.to_dict()
    value["artifactType"] = referrer.artifact_type
    if referrer.tag is not None:
        value["annotations"] = {media_types.ANNOTATION_REFERENCE: referrer.tag}
    return value
