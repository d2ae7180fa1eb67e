"""Trusted roots of Sigstore instances: whose certificates, timestamps and logs count.

A file has either the root alone (`trusted_root.json`), or a client's whole configuration, with the
root and the services that sign (source: sigstore `protobuf-specs`, `sigstore_trustroot.proto`).
"""

import base64
import binascii
import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from modelrunner.errors import ConfigError
from modelrunner.text import os_reason
from modelrunner.wire import parse_object

_LIMIT = 4 * 1024 * 1024
_MOST_CHAINS = 100
_PERIODIC = ("certificateAuthorities", "tlogs", "ctlogs")
"""What says of each of its entries when it counts; `sigstore` itself looks at it for timestamps."""

NOTHING_VALID = "the trusted root has nothing that was valid when it was signed"

_ROOT_HINT = (
    'download it where there is a network, and set trusted_root = "trusted_root.json" in '
    "verify.toml"
)


@dataclass(frozen=True, slots=True)
class Period:
    """A time in which something counts.

    Attributes:
        start: When it begins; None for always.
        end: When it ends; None for never.
    """

    start: datetime | None = None
    end: datetime | None = None

    @classmethod
    def of(cls, value: object) -> "Period":
        """Return the period that a `validFor` says.

        Raises:
            ValueError: It is malformed.
        """
        said = value if isinstance(value, dict) else {}
        return cls(_moment(said.get("start")), _moment(said.get("end")))

    def holds(self, moment: datetime) -> bool:
        """Whether a moment is in it."""
        return not (
            (self.start is not None and moment < self.start)
            or (self.end is not None and moment > self.end)
        )


@dataclass(frozen=True, slots=True)
class Chain:
    """The certificates of an authority, in DER.

    Attributes:
        certificates: The one that signs first, the root last.
        period: When it counts.
    """

    certificates: tuple[bytes, ...] = field(repr=False)
    period: Period


@dataclass(frozen=True, slots=True)
class Root:
    """Whose certificates, timestamps and logs count.

    Attributes:
        path: The file that says so.
        raw: The file.
        is_config: Whether it is a client's whole configuration.
        authorities: Whose certificates count.
        timestamps: Whose timestamps count.
        has_log: Whether a transparency log has to have an entry of a signature.
        services: What the file says of the services that sign; None where it has the root alone.
    """

    path: Path
    raw: bytes = field(repr=False)
    is_config: bool
    authorities: tuple[Chain, ...]
    timestamps: tuple[Chain, ...]
    has_log: bool
    services: Mapping[str, Any] | None = field(default=None, repr=False)

    @classmethod
    def load(cls, path: Path) -> "Root":
        """Return what is in a file.

        Raises:
            ConfigError: It cannot be read, or is malformed.
        """
        try:
            # outside: a file that a person names
            with path.open("rb") as file:
                raw = file.read(_LIMIT + 1)
        except OSError as exc:
            raise ConfigError(
                f"cannot read the trusted root {path}: {os_reason(exc)}",
                hint=_ROOT_HINT,
                path=str(path),
            ) from exc
        try:
            return cls._parsed(path, raw)
        except ValueError as exc:
            raise ConfigError(
                f"{path} is not a trusted root of Sigstore",
                hint="give a trusted_root.json, or a client's trust configuration",
                path=str(path),
            ) from exc

    def at(self, moments: Sequence[datetime]) -> bytes | None:
        """Return what counts of the root alone, in JSON, where something was signed at a time.

        Args:
            moments: What says when it was signed; all of them have to be in a period.

        Returns:
            None where all of it counts.

        Raises:
            ValueError: It is malformed, or no authority or no log counts.
        """
        value = parse_object(self.raw)
        value = value["trustedRoot"] if self.is_config else value
        kept = {key: _counting(value.get(key), moments) for key in _PERIODIC if value.get(key)}
        if any(not entries for entries in kept.values()):
            raise ValueError(NOTHING_VALID)
        narrowed = {**value, **kept}
        return None if narrowed == value else json.dumps(narrowed).encode()

    @classmethod
    def _parsed(cls, path: Path, raw: bytes) -> "Root":
        if len(raw) > _LIMIT:
            raise ValueError("too large")
        value = parse_object(raw)
        inner = value.get("trustedRoot")
        root = inner if isinstance(inner, dict) else value
        if "trustedroot" not in str(root.get("mediaType")):
            raise ValueError("no trusted root")
        services = value.get("signingConfig")
        return cls(
            path,
            raw,
            isinstance(inner, dict),
            tuple(_chains(root.get("certificateAuthorities"))),
            tuple(_chains(root.get("timestampAuthorities"))),
            bool(root.get("tlogs")),
            services if isinstance(services, dict) else None,
        )


def _counting(entries: object, moments: Sequence[datetime]) -> list[object]:
    """Return the authorities or logs whose periods hold all of some moments."""
    found = []
    for entry in entries if isinstance(entries, list) else []:
        said = entry if isinstance(entry, dict) else {}
        key = said.get("publicKey")
        period = Period.of((key if isinstance(key, dict) else said).get("validFor"))
        if all(period.holds(moment) for moment in moments):
            found.append(entry)
    return found


def _chains(value: object) -> Iterator[Chain]:
    for entry in value[:_MOST_CHAINS] if isinstance(value, list) else []:
        match entry:
            case {"certChain": {"certificates": [_, *_] as listed}}:
                certificates = tuple(_decoded(each) for each in listed[:_MOST_CHAINS])
                yield Chain(certificates, Period.of(entry.get("validFor")))
            case _:
                raise ValueError("an authority without certificates")


def _decoded(value: object) -> bytes:
    raw = value.get("rawBytes") if isinstance(value, dict) else None
    if not isinstance(raw, str):
        raise ValueError("no certificate")  # noqa: TRY004 - callers catch one type
    try:
        return base64.b64decode(raw, validate=True)
    except binascii.Error as exc:
        raise ValueError("not base64") from exc


def _moment(value: object) -> datetime | None:
    if value is None:
        return None
    if not isinstance(value, str):
        raise ValueError("no time")  # noqa: TRY004 - callers catch one type
    try:
        found = datetime.fromisoformat(value)
    except ValueError as exc:
        raise ValueError("invalid time in `validFor`") from exc
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)
