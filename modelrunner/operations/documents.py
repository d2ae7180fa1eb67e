"""Documents of a package: lists of its parts, and how it was made, kept with it as referrers."""

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal, get_args

from modelrunner.disk.inside import open_content
from modelrunner.errors import InvalidReferenceError, MalformedManifestError, ModelRunnerError
from modelrunner.gguf.metadata import Metadata
from modelrunner.oci import media_types
from modelrunner.oci.digest import Digest
from modelrunner.oci.manifest import Manifest
from modelrunner.oci.model.layers import Role
from modelrunner.oci.reference import Reference
from modelrunner.operations.convert import quantize, to_gguf
from modelrunner.operations.model import headers
from modelrunner.operations.trust.attach import Attachment, Subject
from modelrunner.operations.trust.sign import Statement, sign
from modelrunner.provenance.documents import cyclonedx, slsa, spdx
from modelrunner.provenance.documents.facts import Conversion, PackageFacts, PackageFile, Source
from modelrunner.provenance.signatures import STATEMENT
from modelrunner.provenance.signing import PREDICATE_TYPES, StatementSigner, Unsigned
from modelrunner.runtime.packaged import Packaged
from modelrunner.store.store import Store, StoredModel
from modelrunner.text import sanitize_line
from modelrunner.units import format_moment

Form = Literal["spdx", "cyclonedx"]
"""Forms of a list of parts."""

FORMS: tuple[Form, ...] = get_args(Form)

_TEXT_LIMIT = 64 * 1024
_MOST_TEXT = 300
_URL = (
    r"(?=.{1,500}$)https?://[A-Za-z0-9-]+(\.[A-Za-z0-9-]+)*(:[0-9]{1,5})?"
    r"(/([A-Za-z0-9._~:/@+-]|%[0-9A-Fa-f]{2})*)?"
)
"""An address as all forms of documents take it, and without a password."""

_COMMIT = r"[0-9a-f]{40}|[0-9a-f]{64}"
_PREDICATE = "in-toto.io/predicate-type"
"""An annotation that says what an unsigned statement says, as BuildKit writes it."""


@dataclass(frozen=True, slots=True)
class PackageDocuments:
    """Which documents a package gets.

    Attributes:
        sboms: The forms of lists of its parts.
        provenance: Whether it says how it was made.
        signer: Signs them; None for nobody.
    """

    sboms: Sequence[Form] = ()
    provenance: bool = False
    signer: StatementSigner | None = None


def keep_documents(
    store: Store,
    parts: StoredModel,
    subject: StoredModel,
    name: Reference,
    wanted: PackageDocuments,
    moment: datetime,
) -> list[Attachment]:
    """Make the documents of a package, and keep them with it.

    Args:
        store: Where it is.
        parts: The model that its files are known by.
        subject: What the documents refer to: that model, or the image of it.
        name: Its name.
        wanted: Which documents.
        moment: The time in documents of what has none of its own, and in signatures.

    Raises:
        AccessError, TransferError: They are not signed.
        DiskFullError, StoreAccessError: They cannot be stored.
    """
    facts = facts_of(store, parts, name, subject.digest, moment)
    target = Subject(name, subject.manifest, subject)
    made = [each for form in wanted.sboms for each in _sbom(target, facts, form, wanted, moment)]
    if wanted.provenance:
        made.append(_provenance(target, facts, wanted, moment))
    for attachment in made:
        attachment.keep(store, subject)
    return made


def _sbom(
    target: Subject, facts: PackageFacts, form: Form, wanted: PackageDocuments, moment: datetime
) -> list[Attachment]:
    if form == "spdx":
        document, media_type, title = spdx.spdx(facts), spdx.MEDIA_TYPE, "sbom.spdx.json"
    else:
        document = cyclonedx.cyclonedx(facts)
        media_type, title = cyclonedx.MEDIA_TYPE, "sbom.cdx.json"
    raw = _encoded(document)
    titled = {media_types.ANNOTATION_TITLE: title}
    found = [Attachment.of_bytes(target, media_type, raw, {}, layer_annotations=titled)]
    if wanted.signer is not None:
        statement = Statement(PREDICATE_TYPES[form], document)
        found.append(sign(target, wanted.signer, statement, moment)[0])
    return found


def _provenance(
    target: Subject, facts: PackageFacts, wanted: PackageDocuments, moment: datetime
) -> Attachment:
    predicate = slsa.slsa(facts)
    if wanted.signer is not None:
        return sign(target, wanted.signer, Statement(slsa.PREDICATE_TYPE, predicate), moment)[0]
    statement = Unsigned.about(facts.digest, slsa.PREDICATE_TYPE, predicate)
    said = {_PREDICATE: slsa.PREDICATE_TYPE}
    titled = {**said, media_types.ANNOTATION_TITLE: "provenance.intoto.json"}
    return Attachment.of_bytes(target, STATEMENT, statement.payload, said, layer_annotations=titled)


def _encoded(document: Mapping[str, Any]) -> bytes:
    return json.dumps(document, indent=2, ensure_ascii=False).encode() + b"\n"


def facts_of(
    store: Store, model: StoredModel, name: Reference, digest: Digest, moment: datetime
) -> PackageFacts:
    """Return what is known of a stored package.

    Args:
        store: Where it is.
        model: It.
        name: Its name.
        digest: The digest that documents are about.
        moment: The time where its config has none.
    """
    config, metadata = model.config, _metadata(model)
    layers = [layer for layer in model.artifact.layers if layer.path is not None]
    return PackageFacts(
        name=name,
        digest=digest,
        created=_moment(config.created) or format_moment(moment),
        files=tuple(
            PackageFile(
                str(layer.path), layer.descriptor.digest, layer.descriptor.size, layer.role.value
            )
            for layer in layers
        ),
        title=None if metadata is None else _line(metadata.name),
        license=None if metadata is None else _line(metadata.license),
        license_text=_license_text(store, model),
        architecture=_line(config.architecture),
        parameters=_line(config.parameters),
        quantization=_line(config.quantization),
        context_length=config.trained_length,
        format=model.artifact.format,
        source=_source(model.manifest),
        steps=tuple(_steps(model.manifest)),
        settings=Packaged.read(config.settings).values,
    )


def _line(text: str | None) -> str | None:
    """Text of a stranger as one line; None for nothing."""
    return sanitize_line(text or "", _MOST_TEXT) or None


def _metadata(model: StoredModel) -> Metadata | None:
    """What headers say; None of a model of another format than GGUF."""
    try:
        return headers.of_stored(model).metadata
    except ModelRunnerError:
        return None


def _moment(text: str | None) -> str | None:
    """A time in the one form that all documents take; None for what is not a time."""
    try:
        found = None if text is None else datetime.fromisoformat(text)
        if found is None:
            return None
        return format_moment(found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC))
    except (OverflowError, ValueError):
        return None


def _license_text(store: Store, model: StoredModel) -> str | None:
    for layer in model.artifact.layers:
        if layer.role is Role.LICENSE and 0 < layer.descriptor.size <= _TEXT_LIMIT:
            with open_content(store.blobs.path(layer.descriptor.digest)) as file:
                return file.content(_TEXT_LIMIT).decode(errors="replace")
    return None


def _source(manifest: Manifest) -> Source | None:
    """The model or the repository that a package says it was made of.

    Annotations of other models come along: what has not the form that it should is left out.
    """
    said = manifest.annotations
    base = _digest(said.get(media_types.ANNOTATION_BASE_DIGEST))
    if base is not None:
        return Source(_name(said.get(media_types.ANNOTATION_BASE_NAME)), base)
    url = said.get(media_types.ANNOTATION_SOURCE, "")
    if re.fullmatch(_URL, url) is None:
        return None
    commit = said.get(media_types.ANNOTATION_REVISION, "")
    return Source(url, commit=commit if re.fullmatch(_COMMIT, commit) else None)


def _name(text: str | None) -> str | None:
    try:
        return None if text is None else str(Reference.parse(text))
    except InvalidReferenceError:
        return None


def _steps(manifest: Manifest) -> list[Conversion]:
    said, found = manifest.annotations, []
    if to_gguf.CONVERTER in said:
        found.append(Conversion(said[to_gguf.CONVERTER], _digests(said.get(to_gguf.SOURCE))))
    if quantize.QUANTIZER in said:
        sources = _digests(said.get(quantize.SOURCE))
        option = said.get(quantize.QUANTIZATION)
        found.append(Conversion(said[quantize.QUANTIZER], sources, option))
    return found


def _digests(text: str | None) -> tuple[Digest, ...]:
    found = (_digest(each) for each in (text or "").split(","))
    return tuple(each for each in found if each is not None)


def _digest(text: str | None) -> Digest | None:
    try:
        return None if text is None else Digest.parse(text)
    except MalformedManifestError:
        return None
