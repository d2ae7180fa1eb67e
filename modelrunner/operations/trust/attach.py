"""Attach: something that refers to a model, kept with it in the store or pushed to its registry.

It is a manifest whose `subject` is the model (image specification 1.1), with one layer, as `oras
attach` makes it. A model of the store takes it along wherever it goes; one that is in a registry
alone gets it there.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from modelrunner.errors import (
    ManifestNotFoundError,
    ModelNotFoundError,
    RegistryAnswerError,
    UsageError,
)
from modelrunner.oci import media_types
from modelrunner.oci.descriptor import Descriptor
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Index, Manifest
from modelrunner.oci.reference import Reference, is_whole_id, match_id
from modelrunner.oci.referrers import Referrer
from modelrunner.operations.model.suggestions import pin_by_content
from modelrunner.operations.package.push_referrers import ReferrerPusher
from modelrunner.provenance.documents.recognize import LIMIT, RECOGNIZE, is_text
from modelrunner.registry.http.retry import Backoff
from modelrunner.registry.source import Framed, Outflow, Sink, Source
from modelrunner.store.adopt import take
from modelrunner.store.stamps import hash_file
from modelrunner.store.store import Store, StoredModel
from modelrunner.text import os_reason, sanitize_line

TYPES = {
    "spdx": "application/spdx+json",
    "cyclonedx": "application/vnd.cyclonedx+json",
    "license": "application/vnd.cncf.model.doc.v1.raw+license",
    "card": "application/vnd.cncf.model.doc.v1.raw+modelcard",
}
"""Short names of what may be attached; any media type is one by itself."""

_TEXTS = (TYPES["license"], TYPES["card"])
_EXPECTED = {
    "SPDX": "expected JSON with `spdxVersion`, or tags that begin with `SPDXVersion: SPDX-`",
    "CycloneDX": "expected JSON with `bomFormat` and `specVersion`, or XML with a `bom` in it",
}

NOT_STORED = "pull it first, or add --push for a model that is in its registry alone"
"""The hint for what is to be attached to, and is not in the store."""

_EMPTY = b"{}"
_MOST_TYPE = 255
"""Characters of a media type, by RFC 6838 two names of 127 and a slash."""


@dataclass(frozen=True, slots=True)
class Subject:
    """What something is to refer to.

    Attributes:
        name: What it is called; None where it has no name.
        manifest: Its manifest.
        stored: The model of the store that it is, or is kept with; None where it is not there.
    """

    name: Reference | None
    manifest: Manifest | Index
    stored: StoredModel | None

    @property
    def descriptor(self) -> Descriptor:
        """Its manifest as another one names it."""
        raw = self.manifest.raw
        return Descriptor(self.manifest.media_type, Digest.of(raw), len(raw))

    @property
    def shown(self) -> str:
        """What it is called, for people."""
        return self.descriptor.digest.short if self.name is None else self.name.short


def find_subject(
    store: Store,
    source_for: Callable[[Reference], Source],
    text: str,
    *,
    remote: bool,
    otherwise: str | None = None,
) -> Subject:
    """Return the model that a text means: of the store, else of its registry.

    By its digest something is found, too, that refers to a model of the store.

    Args:
        store: Asked first.
        source_for: Opens the registry of a name.
        text: Name or ID.
        remote: Whether the registry is asked for what is not in the store.
        otherwise: The hint for what is not in the store, where nobody else is asked.

    Raises:
        ModelNotFoundError: It is in neither.
        AccessError, TransferError: The registry does not answer.
    """
    model = store.lookup(text)
    if model is not None:
        return Subject(_name_of(model, text), model.manifest, model)
    kept = _attached(store, text)
    if kept is not None:
        return kept
    if not remote or match_id(text):
        error = store.not_found(text)
        if not remote and otherwise is not None and not error.facts.get("near"):
            error.hint = otherwise
        raise error
    name = Reference.parse(text)
    exact, manifest = pin_by_content(source_for(name), name)
    return Subject(exact if name.pinned else name, manifest, None)


def _attached(store: Store, text: str) -> Subject | None:
    """Something that is kept with a model of the store, by its whole digest."""
    if is_whole_id(text):
        name, digest = None, Digest(text.removeprefix("sha256:"))
    elif "@" in text:
        name = Reference.parse(text)
        if name.digest is None:
            return None
        digest = name.digest
    else:
        return None
    for model in store.models():
        for referrer in model.referrers:
            if referrer.digest == digest:
                return Subject(name, referrer.manifest, model)
    return None


def _name_of(model: StoredModel, text: str) -> Reference | None:
    if match_id(text) is None:
        wanted = replace(Reference.parse(text), digest=None)
        return model.name_for(wanted) or wanted
    return next((name for name in model.references if not name.is_local), None)


def registry_name(subject: Subject) -> Reference:
    """Return the name by which a registry has a model.

    Raises:
        UsageError: It was given by its ID, and has no name.
        ModelNotFoundError: Its name is a local one.
    """
    name = subject.name
    if name is None:
        raise UsageError(
            "--push needs a model name, got an ID",
            hint="name the model; its name says which registry it goes to",
        )
    if name.is_local:
        raise ModelNotFoundError(
            f"{name.short} is a local name: no registry has it",
            hint=f"name it for a registry: `modelrunner tag {name.short} "
            "REGISTRY/NAMESPACE/NAME:TAG`",
            near=[],
        )
    return name


@dataclass(frozen=True, slots=True)
class Attachment:
    """A manifest that refers to another one, and its contents.

    Attributes:
        manifest: It.
        contents: Its blobs, each with its bytes or the file that has them.
    """

    manifest: Manifest
    contents: Mapping[Descriptor, bytes | Path]

    @classmethod
    def of_bytes(
        cls,
        subject: Subject,
        media_type: str,
        content: bytes,
        annotations: Mapping[str, str],
        layer_annotations: Mapping[str, str] | None = None,
    ) -> "Attachment":
        """Return one that holds some bytes, under a type that says what they are."""
        layer = Descriptor(media_type, Digest.of(content), len(content), layer_annotations or {})
        return cls._of(subject, media_type, layer, content, annotations)

    @classmethod
    def of_file(cls, subject: Subject, media_type: str, path: Path) -> "Attachment":
        """Return one that holds a file, under a type that says what it is.

        Raises:
            UsageError: There is no such file.
        """
        _require_file(path)
        title = {media_types.ANNOTATION_TITLE: sanitize_line(path.name, 200)}
        layer = Descriptor(media_type, hash_file(path), path.stat().st_size, title)
        return cls._of(subject, media_type, layer, path, {})

    @classmethod
    def _of(
        cls,
        subject: Subject,
        artifact_type: str,
        layer: Descriptor,
        content: bytes | Path,
        annotations: Mapping[str, str],
    ) -> "Attachment":
        config = Descriptor(media_types.OCI_EMPTY, Digest.of(_EMPTY), len(_EMPTY))
        manifest = Manifest.build(
            config,
            [layer],
            artifact_type=artifact_type,
            subject=subject.descriptor,
            annotations=annotations,
        )
        return cls(manifest, {config: _EMPTY, layer: content})

    @property
    def referrer(self) -> Referrer:
        """It as what refers to a model."""
        return Referrer.of(self.manifest)

    def keep(self, store: Store, model: StoredModel) -> None:
        """Keep it with a model of the store.

        Raises:
            DiskFullError, StoreAccessError: It cannot be written.
        """
        with store.arriving():
            for descriptor, content in self.contents.items():
                if isinstance(content, bytes):
                    store.blobs.put(descriptor, content)
                else:
                    take(store.blobs, content, descriptor.digest, way="copy")
            store.blobs.put(self.manifest.descriptor, self.manifest.raw)
            store.keep_referrers(model.digest, [self.referrer])

    def push(self, sink: Sink, subject: Subject, name: Reference, backoff: Backoff) -> None:
        """Push it to the registry that has what it refers to.

        Raises:
            ModelNotFoundError: The registry does not have that.
            AccessError, TransferError: The registry does not take it.
        """
        digest = subject.descriptor.digest
        pinned = replace(name, tag=None, digest=digest)
        try:
            backoff.run(lambda: sink.manifest(pinned))
        except ManifestNotFoundError as exc:
            raise ModelNotFoundError(
                f"{name.short}: {sink.name} does not have {digest.short}",
                hint=f"push the model first: `modelrunner push {name.short}`",
                near=[],
            ) from exc
        for descriptor, content in self.contents.items():
            framed = Framed(None, content) if isinstance(content, bytes) else Framed(content)
            _upload(sink, name, descriptor, framed, backoff)
        pushed = ReferrerPusher(sink, name, digest, backoff).push([self.referrer])
        if pushed.problems:
            raise RegistryAnswerError(
                f"{name.short}: {pushed.problems[0]}",
                hint=f"{sink.name} does not take what refers to a model",
            )


def _upload(
    sink: Sink, name: Reference, descriptor: Descriptor, content: Framed, backoff: Backoff
) -> None:
    if sink.has_blob(name, descriptor.digest):
        return
    upload = sink.upload(name, descriptor, content)

    def silent(_count: int) -> None:
        backoff.remaining_s()

    backoff.run(lambda: upload.send(Outflow(silent, silent, silent)))


def _require_file(path: Path) -> None:
    if not path.is_file():
        found = "is a directory, not a file" if path.is_dir() else "file not found"
        raise UsageError(f"{path}: {found}", hint="name the file to attach")


def type_of_file(path: Path, kind: str) -> str:
    """Return the media type to attach a file under, which is what that says.

    Args:
        path: The file.
        kind: A short name, or a media type; one that is not known says nothing of the file.

    Raises:
        UsageError: The type is neither, the file cannot be read, or it is something else.
    """
    wanted = media_type_of(kind)
    _require_file(path)
    known = RECOGNIZE.get(wanted)
    if known is None and wanted not in _TEXTS:
        return wanted
    try:
        # outside: a file that a person names
        with path.open("rb") as file:
            raw = file.read(LIMIT + 1)
    except OSError as exc:
        raise UsageError(
            f"cannot read {path}: {os_reason(exc)}", hint="check the file's permissions"
        ) from exc
    if len(raw) > LIMIT:
        raise UsageError(
            f"{path} exceeds {LIMIT // (1024 * 1024)} MiB",
            hint=f"attach it under a media type of its own, instead of {kind}",
        )
    if known is None:
        if is_text(raw):
            return wanted
        raise UsageError(
            f"{path} is not UTF-8 text, as {kind} has to be",
            hint="attach it under its own media type, such as --type application/pdf",
        )
    name, recognize = known
    found = recognize(raw)
    # a short name stands for each form of a document
    if found is None or (found != wanted and kind.lower() not in TYPES):
        is_other = "" if found is None else f": it is {found}"
        raise UsageError(
            f"{path} is not a document in {name}, as {kind} has to be{is_other}",
            hint=f"{_EXPECTED[name]}; attach another file under its own media type",
        )
    return found


def media_type_of(text: str) -> str:
    """Return the type that a short name or a media type means.

    Raises:
        UsageError: It is neither.
    """
    found = TYPES.get(text.lower())
    if found is not None:
        return found
    first, slash, second = text.partition("/")
    plain = text.isascii() and text.isprintable() and " " not in text
    if not (plain and slash and first and second) or len(text) > _MOST_TYPE:
        raise UsageError(
            f"invalid type {text[:80]!r}",
            hint=f"use one of {', '.join(TYPES)}, or a media type such as application/json",
        )
    return text
