"""What the variables of the Hub's own tools say of it, as their owner defines them.

<https://huggingface.co/docs/huggingface_hub/package_reference/environment_variables>
"""

from collections.abc import Mapping
from pathlib import Path

from modelrunner.registry.settings import HubAccess
from modelrunner.wire import parse_count

_TRUE = ("1", "ON", "YES", "TRUE")
_IMPLICIT = "HF_HUB_DISABLE_IMPLICIT_TOKEN"
_ANSWER, _READ = "HF_HUB_ETAG_TIMEOUT", "HF_HUB_DOWNLOAD_TIMEOUT"


def hub_access(environ: Mapping[str, str], endpoint: str, *, xet: bool = False) -> HubAccess:
    """How the Hub may be spoken to.

    Args:
        environ: The environment.
        endpoint: The Hub's address.
        xet: Whether files may be read out of Xet storage itself, if no variable forbids it.
    """
    token, origin, file = _token(environ)
    return HubAccess(
        endpoint,
        token,
        _offline(environ),
        token_origin=origin,
        # the identity of a CI job would come first, and is not asked for
        token_file=None if environ.get("HF_OIDC_RESOURCE") else file,
        answer_timeout_s=_seconds(environ, _ANSWER) or None,
        read_timeout_s=_seconds(environ, _READ) or None,
        invalid=next((name for name in (_ANSWER, _READ) if _seconds(environ, name) is None), None),
        xet=xet and not _is_true(environ, "HF_HUB_DISABLE_XET"),
    )


def _is_true(environ: Mapping[str, str], name: str) -> bool:
    return environ.get(name, "").upper() in _TRUE


def _seconds(environ: Mapping[str, str], name: str) -> int | None:
    """Seconds; 0 stands for the usual, as for the Hub's tools, and None for an invalid value."""
    return parse_count(environ.get(name, "").strip() or "0")


def _offline(environ: Mapping[str, str]) -> str | None:
    """The variable that forbids the Hub's own tools to ask it; None where it may be asked."""
    for name in ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE"):
        if environ.get(name):
            return name if _is_true(environ, name) else None
    return None


def _token(environ: Mapping[str, str]) -> tuple[str | None, str, str | None]:
    """The token that the Hub's own tools would use, who says it, and the file that it is from.

    It may lie in the file that `hf auth login` writes.
    """
    if _is_true(environ, _IMPLICIT):
        return None, _IMPLICIT, None
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if environ.get(name, "").strip():
            return environ[name].strip(), name, None
    if environ.get("HF_TOKEN_PATH"):
        file = Path(environ["HF_TOKEN_PATH"])
    elif environ.get("HF_HOME"):
        file = Path(environ["HF_HOME"]) / "token"
    else:
        cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
        file = Path(cache) / "huggingface" / "token"
    try:
        file = file.expanduser()
        # outside: the kernel's
        token = file.read_text("ascii").strip()
    except (OSError, ValueError, RuntimeError):
        return None, "default", None
    return (token, str(file), str(file)) if token else (None, "default", None)
