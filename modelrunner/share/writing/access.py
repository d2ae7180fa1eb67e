"""Who may write to a shared store: this machine, or who has the key."""

import base64
import binascii
import hmac
from collections.abc import Mapping
from http import HTTPStatus

from modelrunner.share.repositories import RefusalError

_ASK = {"WWW-Authenticate": 'Basic realm="modelrunner share"', "Connection": "close"}


def check_writer(headers: Mapping[str, str], key: str | None) -> None:
    """Let a request write, or not.

    Args:
        headers: By lower-case name.
        key: The key; None where this machine alone reaches the server.

    Raises:
        RefusalError: It is a web page's, or does not have the key.
    """
    if "origin" in headers:
        raise RefusalError(
            HTTPStatus.FORBIDDEN, "DENIED", "web pages cannot write to this registry"
        )
    if key is not None and not _has(headers.get("authorization", ""), key):
        raise RefusalError(
            HTTPStatus.UNAUTHORIZED,
            "UNAUTHORIZED",
            "writing needs the key of this registry, as the password of any user",
            headers=_ASK,
        )


def _has(authorization: str, key: str) -> bool:
    scheme, _, said = authorization.partition(" ")
    if scheme.lower() == "bearer":
        given = said.strip().encode()
    elif scheme.lower() == "basic":
        try:
            given = base64.b64decode(said.strip(), validate=True).partition(b":")[2]
        except (binascii.Error, ValueError):
            return False
    else:
        return False
    return hmac.compare_digest(given, key.encode())
