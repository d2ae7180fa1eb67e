"""Errors of connections, of urllib3 and the sockets below become ours: the one place for it.

The libraries are not loaded for it: who has loaded none of urllib3 has no error of it.
"""

import re
import sys
from collections.abc import Iterator, Mapping

from modelrunner.errors import (
    InterruptedTransferError,
    RegistryAnswerError,
    RegistryUnavailableError,
    TransferError,
)
from modelrunner.registry.http.direct.link import BrokenAnswerError, InvalidAnswerError
from modelrunner.registry.http.responses import proxy_login
from modelrunner.text import sanitize_line

_LIBRARIES = ("http", "urllib3", "socket", "ssl", "encodings")
_TLS_WORDS = {
    "self-signed certificate in certificate chain": "signed by an unknown authority",
    "unable to get local issuer certificate": "signed by an unknown authority",
    "unable to get issuer certificate": "signed by an unknown authority",
    "unable to verify the first certificate": "signed by an unknown authority",
    "violation of protocol": "the server closed the connection",
    "handshake failure": "the handshake failed",
    "protocol version": "the server supports no TLS version that this program supports",
}
_HTTP_WORDS = {
    "Remote end closed connection": "the server closed the connection",
    "IncompleteRead": "the answer ended early",
    "Incomplete read": "the answer ended early",
}
"""Texts of OpenSSL and of `http.client` by a part of them, and what is said in their place."""
_URLLIB3, _HTTP = "urllib3.exceptions", "http.client"
_QUERY = re.compile(r"\?[^\s'\"<>)]+")


class network_errors:  # noqa: N801 - reads like a statement, as contextlib's own do
    """The block in which errors of urllib3 become ours: the one such place.

    Args:
        label: Who is spoken to.
        answered: Whether an answer has begun; what breaks before that has brought nothing.
        reading: Whether the body of an answer is read, so that the other end speaks TLS.
    """

    def __init__(self, label: str, *, answered: bool = True, reading: bool = False) -> None:
        self._label = label
        self._answered = answered
        self._reading = reading

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, TransferError):
            return
        # nothing but the network is touched in such a block
        if (
            isinstance(error, OSError)
            or _is_one(error, _HTTP, "HTTPException")
            or _is_one(error, _URLLIB3, "HTTPError")
        ):
            _redact(error)
            raise translate(
                error, self._label, answered=self._answered, reading=self._reading
            ) from error
        if isinstance(error, ValueError | OverflowError) and _is_in_a_library(error):
            # the libraries take a length or a chunk's size as it comes
            raise RegistryAnswerError(
                f"{self._label}: the answer has an invalid length or chunk size"
            ) from error


def _is_one(error: BaseException, module: str, *names: str) -> bool:
    """Whether an error is one of a module's classes; of one that nobody has loaded, none is."""
    loaded = sys.modules.get(module)
    return loaded is not None and isinstance(error, tuple(getattr(loaded, each) for each in names))


def _is_in_a_library(error: BaseException) -> bool:
    """Whether an error was raised by a library; anywhere else it is a bug of ours."""
    place = error.__traceback__
    while place is not None and place.tb_next is not None:
        place = place.tb_next
    name = "" if place is None else str(place.tb_frame.f_globals.get("__name__", ""))
    return name.partition(".")[0] in _LIBRARIES


def translate(  # noqa: PLR0911 - a table
    error: BaseException, label: str, *, answered: bool = True, reading: bool = False
) -> TransferError:
    """The error of ours for an error of urllib3 or the socket below; see `network_errors`."""
    text = _root_text(error)
    if _is_one(error, _URLLIB3, "SSLError") or _is_one(error, "ssl", "SSLError"):
        return _tls(text, label, reading=reading)
    if _is_one(error, _URLLIB3, "ProxyError"):
        if " 407 " in f"{text} ":
            return proxy_login(label)
        return RegistryUnavailableError(
            f"{label}: the proxy refused the connection: {text}",
            hint="check HTTPS_PROXY and NO_PROXY",
        )
    if _is_one(error, _URLLIB3, "LocationValueError", "InvalidHeader"):
        # the library's words say neither which of the addresses it is, nor who has given it
        return RegistryAnswerError(
            f"{label}: invalid address of the server or its proxy",
            hint="check the name, HTTPS_PROXY and HTTP_PROXY: write a proxy as http://HOST:PORT",
        )
    if isinstance(error, InvalidAnswerError):
        return RegistryAnswerError(f"{label}: {text}")
    broken = (
        isinstance(error, BrokenAnswerError)
        or _is_one(error, _HTTP, "HTTPException")
        or _is_one(error, _URLLIB3, "ProtocolError", "DecodeError")
    )
    if answered and broken:
        return InterruptedTransferError(f"{label}: connection lost: {text}")
    if isinstance(error, TimeoutError) or _is_one(error, _URLLIB3, "ReadTimeoutError"):
        return InterruptedTransferError(f"{label}: no data received, timed out")
    if "CA certificate bundle" in text:
        # a shell's words are for those who are told them
        from modelrunner.system.packages import certificates_advice

        return RegistryUnavailableError(
            f"{label}: {text[:1].lower()}{text[1:]}", hint=certificates_advice()
        )
    return RegistryUnavailableError(
        f"cannot reach {label}: {text}", hint="check the name, the network and the proxy"
    )


def _tls(text: str, label: str, *, reading: bool) -> TransferError:
    if not reading and ("WRONG_VERSION_NUMBER" in text or "record layer failure" in text.lower()):
        return RegistryAnswerError(
            f"{label} does not speak TLS on this port",
            hint="if it uses plain http, allow that in config.toml: "
            f'[registries."{label.partition("://")[2] or label}"] insecure = true',
        )
    if "CERTIFICATE" not in text.upper() and "HOSTNAME" not in text.upper():
        return InterruptedTransferError(f"{label}: TLS connection failed: {_tls_reason(text)}")
    return RegistryAnswerError(
        f"{label}: certificate not trusted: {_tls_reason(text)}",
        hint="for a private certificate authority, add it to those of the system, or set "
        "SSL_CERT_FILE, or ca_file of this registry in config.toml",
    )


def _tls_reason(text: str) -> str:
    """What is wrong with a certificate or a TLS connection, without OpenSSL's own words."""
    found = re.search(r"certificate verify failed: (.+?)(?: \(_ssl\.c:\d+\))?$", text)
    said = found[1] if found else re.sub(r"\[[A-Z0-9: _]+\] ?|\(_ssl\.c:\d+\)", "", text).strip()
    return _in_words(said, _TLS_WORDS)


def _root_text(error: BaseException) -> str:
    """The innermost reason: the outer layers only repeat it."""
    seen = list(_layers(error))[-1]
    text = str(seen.args[-1]) if isinstance(seen, OSError) and seen.args else str(seen)
    said = text.rpartition(">: ")[2].rpartition("): ")[2]
    return sanitize_line(_in_words(said, _HTTP_WORDS), 200) or type(seen).__name__


def _in_words(text: str, table: Mapping[str, str]) -> str:
    """The sentence that a table has for a library's text; the text where it has none."""
    return next((said for part, said in table.items() if part in text), text)


def _layers(error: BaseException) -> Iterator[BaseException]:
    """The error and those that it was made of, from the outermost in."""
    seen: BaseException | None = error
    for _depth in range(10):
        if seen is None:
            return
        yield seen
        inner = (getattr(seen, "reason", None), *seen.args, seen.__cause__)
        seen = next((entry for entry in inner if isinstance(entry, BaseException)), None)


def _redact(error: BaseException) -> None:
    """Takes the queries of addresses out of an error's texts: signatures and tokens are there."""
    for layer in (*_layers(error), *_layers(error.__context__ or error)):
        layer.args = tuple(
            _QUERY.sub("?...", entry) if isinstance(entry, str) else entry for entry in layer.args
        )
