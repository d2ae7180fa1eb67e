"""Sign: a signature or an attestation of a model, as something that refers to it."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelrunner.errors import UsageError
from modelrunner.oci import media_types
from modelrunner.operations.trust.attach import Attachment, Subject
from modelrunner.provenance.signing import (
    BUNDLE,
    SignedBundle,
    StatementSigner,
    Unsigned,
    predicate_type_of,
)
from modelrunner.text import os_reason
from modelrunner.units import format_moment
from modelrunner.wire import parse_json

_PREDICATE_LIMIT = 2 * 1024 * 1024
"""Bytes of a predicate: what verifies attestations reads no larger ones."""


@dataclass(frozen=True, slots=True)
class Statement:
    """What an attestation says.

    Attributes:
        type: Its type, a URI.
        predicate: It.
    """

    type: str
    predicate: Mapping[str, Any]


def read_statement(path: Path, kind: str | None) -> Statement:
    """Return the statement in a file of JSON.

    Args:
        path: The file.
        kind: Its type, as people write it.

    Raises:
        UsageError: The file cannot be read or is not a JSON object, or there is no type.
    """
    if kind is None:
        raise UsageError("--predicate needs --type", hint="add --type slsaprovenance, or a URI")
    try:
        # outside: a file that a person names
        with path.open("rb") as file:
            raw = file.read(_PREDICATE_LIMIT + 1)
    except OSError as exc:
        raise UsageError(
            f"cannot read {path}: {os_reason(exc)}", hint="check the path in --predicate"
        ) from exc
    if len(raw) > _PREDICATE_LIMIT:
        raise UsageError(
            f"{path}: a predicate has at most {_PREDICATE_LIMIT} bytes",
            hint="attach a larger file with `modelrunner attach`",
        )
    try:
        value = parse_json(raw)
    except ValueError as exc:
        raise UsageError(f"{path} is not JSON", hint="give the predicate alone, in JSON") from exc
    if not isinstance(value, dict):
        raise UsageError(f"{path} is not a JSON object", hint="give the predicate alone, in JSON")
    return Statement(predicate_type_of(kind), value)


def sign(
    subject: Subject, signer: StatementSigner, statement: Statement | None, created: datetime
) -> tuple[Attachment, SignedBundle]:
    """Return the signature of a model, or an attestation.

    Args:
        subject: The model.
        signer: Signs.
        statement: What is attested; None to sign only.
        created: The time in the annotations of its manifest.

    Raises:
        AccessError, TransferError: It is not signed.
    """
    digest = subject.descriptor.digest
    said = (
        Unsigned.about(digest)
        if statement is None
        else Unsigned.about(digest, statement.type, statement.predicate)
    )
    bundle = signer.sign(said)
    moment = {media_types.ANNOTATION_CREATED: format_moment(created.astimezone(UTC))}
    annotations = {**moment, **bundle.annotations}
    return Attachment.of_bytes(subject, BUNDLE, bundle.raw, annotations), bundle
