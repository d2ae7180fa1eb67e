"""Whether a file is what it is to be attached as: SPDX, CycloneDX, or a text.

Each has a form in JSON and another one: tags and values of SPDX, XML of CycloneDX. XML is not
parsed, since its first element says enough.
"""

import re
from collections.abc import Callable, Mapping
from typing import Any

from modelrunner.wire import parse_json

LIMIT = 64 * 1024 * 1024
"""Bytes of a document that is looked at."""

SPDX_JSON = "application/spdx+json"
SPDX_TEXT = "text/spdx"
CYCLONEDX_JSON = "application/vnd.cyclonedx+json"
CYCLONEDX_XML = "application/vnd.cyclonedx+xml"

_FRONT = 64 * 1024
_TAGS = re.compile(r"^SPDXVersion:\s*SPDX-\d", re.MULTILINE)
_XML = re.compile(
    r"<(?:\w+:)?bom\s[^>]*?xmlns(?::\w+)?\s*=\s*[\"']http://cyclonedx\.org/schema/bom/\d"
)
_SPDX_CONTEXT = "https://spdx.org/rdf/"


def spdx_type(raw: bytes) -> str | None:
    """Return the media type of a document in SPDX; None for anything else."""
    value = _object(raw)
    if value is not None:
        return SPDX_JSON if _is_spdx(value) else None
    return SPDX_TEXT if _TAGS.search(_front(raw)) else None


def cyclonedx_type(raw: bytes) -> str | None:
    """Return the media type of a document in CycloneDX; None for anything else."""
    value = _object(raw)
    if value is not None:
        is_right = value.get("bomFormat") == "CycloneDX" and isinstance(
            value.get("specVersion"), str
        )
        return CYCLONEDX_JSON if is_right else None
    return CYCLONEDX_XML if _XML.search(_front(raw)) else None


def is_text(raw: bytes) -> bool:
    """Whether a file has text in it, and nothing else."""
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError:
        return False
    return bool(text.strip()) and "\0" not in text


RECOGNIZE: Mapping[str, tuple[str, Callable[[bytes], str | None]]] = {
    SPDX_JSON: ("SPDX", spdx_type),
    SPDX_TEXT: ("SPDX", spdx_type),
    CYCLONEDX_JSON: ("CycloneDX", cyclonedx_type),
    CYCLONEDX_XML: ("CycloneDX", cyclonedx_type),
}
"""For each media type that is checked: what it is called, and what says the type of a document."""


def _is_spdx(value: Mapping[str, Any]) -> bool:
    version = value.get("spdxVersion")
    if isinstance(version, str):
        return version.startswith("SPDX-")
    # from version 3 on it is JSON-LD
    context = value.get("@context")
    contexts = context if isinstance(context, list) else [context]
    return any(isinstance(each, str) and each.startswith(_SPDX_CONTEXT) for each in contexts)


def _object(raw: bytes) -> Mapping[str, Any] | None:
    if raw.lstrip()[:1] not in (b"{", b"\xef"):
        return None
    try:
        value = parse_json(raw.removeprefix(b"\xef\xbb\xbf"))
    except ValueError:
        return None
    return value if isinstance(value, dict) else None


def _front(raw: bytes) -> str:
    return raw[:_FRONT].decode("utf-8-sig", "replace")
