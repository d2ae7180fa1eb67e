"""Errors of requests, urllib3 and the sockets below become ours: the one place for it."""

import socket

from modelrunner.errors import (
    InterruptedTransferError,
    RegistryAnswerError,
    RegistryUnavailableError,
    TransferError,
)


class narrowed:  # noqa: N801 - reads like a statement, as contextlib's own do
    """The block in which errors of requests and urllib3 become ours: the one such place."""

    def __init__(self, label: str) -> None:
        self._label = label

    def __enter__(self) -> None:
        return None

    def __exit__(self, kind: object, error: BaseException | None, trace: object) -> None:
        if error is None or isinstance(error, TransferError):
            return
        import requests
        import urllib3

        known = (
            requests.RequestException,
            urllib3.exceptions.HTTPError,
            ConnectionError,
            TimeoutError,
            socket.gaierror,
        )
        if isinstance(error, known):
            raise narrow(error, self._label) from error


def narrow(error: BaseException, label: str) -> TransferError:
    """The error of ours for an error of requests, urllib3 or the socket below."""
    import requests
    import urllib3

    broken = (
        requests.exceptions.ChunkedEncodingError,
        requests.exceptions.ContentDecodingError,
        urllib3.exceptions.ProtocolError,
        urllib3.exceptions.IncompleteRead,
        urllib3.exceptions.DecodeError,
    )
    bad_address = (
        requests.exceptions.InvalidURL,
        requests.exceptions.InvalidSchema,
        requests.exceptions.MissingSchema,
        requests.exceptions.InvalidHeader,
        urllib3.exceptions.LocationValueError,
    )
    text = _root_text(error)
    if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
        return _tls(text, label)
    if isinstance(error, requests.exceptions.ProxyError | urllib3.exceptions.ProxyError):
        return RegistryUnavailableError(
            f"{label}: the proxy does not let us through: {text}",
            hint="see HTTPS_PROXY and NO_PROXY",
        )
    if isinstance(error, bad_address):
        return RegistryAnswerError(f"{label}: an address that is none: {text}")
    if isinstance(error, broken) and not isinstance(error, requests.exceptions.ConnectTimeout):
        return InterruptedTransferError(f"{label}: the connection broke off: {text}")
    if isinstance(
        error,
        requests.exceptions.ReadTimeout | urllib3.exceptions.ReadTimeoutError | TimeoutError,
    ):
        return InterruptedTransferError(f"{label}: no byte came for a while")
    return RegistryUnavailableError(
        f"{label} cannot be reached: {text}", hint="check the name, the network and the proxy"
    )


def _tls(text: str, label: str) -> TransferError:
    if "WRONG_VERSION_NUMBER" in text or "record layer failure" in text.lower():
        return RegistryAnswerError(
            f"{label} does not speak TLS on this port",
            hint="if it is meant to be plain http, allow it in config.toml:"
            f' [registries."{label.partition("://")[2] or label}"] insecure = true',
        )
    return RegistryAnswerError(
        f"{label}: the certificate is not trusted: {text}",
        hint="for a private authority set SSL_CERT_FILE, or ca_file of this registry in"
        " config.toml",
    )


def _root_text(error: BaseException) -> str:
    """The innermost reason: the outer layers only repeat it."""
    seen: BaseException = error
    for _depth in range(10):
        reason = getattr(seen, "reason", None)
        inner = seen.args[0] if seen.args else None
        if isinstance(reason, BaseException):
            seen = reason
        elif isinstance(inner, BaseException):
            seen = inner
        else:
            break
    text = str(seen.args[-1]) if isinstance(seen, OSError) and seen.args else str(seen)
    return text.rpartition(">: ")[2].rpartition("): ")[2][:200] or type(seen).__name__
