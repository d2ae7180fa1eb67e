"""Every error of the libraries below becomes one of ours."""

import http.client
import socket
import ssl
import subprocess
import sys
import traceback
from collections.abc import Iterator

import pytest
import urllib3

from modelrunner.errors import (
    InterruptedTransferError,
    RegistryAnswerError,
    RegistryUnavailableError,
    TransferError,
)
from modelrunner.registry.http.connections import Connections
from modelrunner.registry.http.errors import network_errors
from modelrunner.system.packages import certificates_advice


def below(root: type) -> Iterator[type]:
    for kind in root.__subclasses__():
        yield kind
        yield from below(kind)


def classes() -> list[type[Exception]]:
    roots = (urllib3.exceptions.HTTPError, http.client.HTTPException)
    found = {kind for root in roots for kind in (root, *below(root))}
    own = ("urllib3.", "http.client")
    return sorted(
        (kind for kind in found if f"{kind.__module__}.".startswith(own)),
        key=lambda kind: (kind.__module__, kind.__name__),
    )


def make(kind: type[Exception]) -> Exception:
    """An error of this class, without the arguments that its own constructor wants."""
    error = kind.__new__(kind)
    error.args = ("what went wrong",)
    # some print more than their arguments
    error.__dict__.update(length=1, expected=2)
    error.__dict__["partial"] = b"" if kind is http.client.IncompleteRead else 0
    return error


def test_there_are_many():
    assert len(classes()) > 40


@pytest.mark.parametrize("kind", classes(), ids=lambda kind: f"{kind.__module__}.{kind.__name__}")
def test_error_of_a_library_becomes_ours(kind):
    with (
        pytest.raises(TransferError, match=r"registry\.example") as caught,
        network_errors("registry.example"),
    ):
        raise make(kind)
    assert isinstance(caught.value.__cause__, kind)


@pytest.mark.parametrize(
    "error",
    [
        ConnectionResetError(104, "Connection reset by peer"),
        TimeoutError("timed out"),
        socket.gaierror(-2, "Name or service not known"),
        OSError(113, "No route to host"),
        ssl.SSLError(1, "[SSL: DECRYPTION_FAILED_OR_BAD_RECORD_MAC] bad record mac"),
        ssl.SSLEOFError(8, "EOF occurred in violation of protocol"),
        http.client.IncompleteRead(b"", 5),
    ],
    ids=repr,
)
def test_error_of_the_socket_below_becomes_ours_and_may_pass(error):
    with pytest.raises(TransferError) as caught, network_errors("registry.example"):
        raise error
    assert caught.value.retryable


@pytest.mark.parametrize("error", [ValueError("bug"), KeyError("bug"), KeyboardInterrupt()])
def test_bug_stays_a_bug(error):
    with pytest.raises(type(error)), network_errors("registry.example"):
        raise error


def test_error_of_ours_passes_unchanged():
    mine = RegistryAnswerError("mine")
    with pytest.raises(RegistryAnswerError) as caught, network_errors("registry.example"):
        raise mine
    assert caught.value is mine


def narrow_get(address: str) -> TransferError:
    asked = Connections(lambda _host, _addresses: None, None)
    with (
        pytest.raises(TransferError) as caught,
        network_errors("registry.example", answered=False),
    ):
        asked.request("GET", address, headers={}, content=None, timeouts=(2, 2))
    return caught.value


def test_refused_connection_is_told_in_words():
    error = narrow_get("http://127.0.0.1:1/x?signature=SECRET")
    assert type(error) is RegistryUnavailableError
    assert str(error) == "cannot reach registry.example: Connection refused"


def test_unknown_name_is_told_in_words():
    error = narrow_get("http://registry.invalid/")
    assert type(error) is RegistryUnavailableError
    assert "Name or service not known" in str(error) or "name resolution" in str(error)


def test_query_of_an_address_is_in_no_traceback():
    error = narrow_get("http://127.0.0.1:1/x?signature=SECRET")
    assert "SECRET" not in "".join(traceback.format_exception(error))


def test_body_that_stands_still_is_an_interruption():
    pool = urllib3.HTTPConnectionPool("127.0.0.1", 1)
    inner = urllib3.exceptions.ReadTimeoutError(pool, "/x?sig=SECRET", "Read timed out.")
    with pytest.raises(InterruptedTransferError, match="no data received"), network_errors("r"):
        raise inner


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[SSL: CERTIFICATE_VERIFY_FAILED] self-signed certificate", "certificate not trusted"),
        ("hostname 'a' doesn't match 'b'", "certificate not trusted"),
        ("[SSL: WRONG_VERSION_NUMBER] wrong version number", "does not speak TLS"),
        ("[SSL: RECORD_LAYER_FAILURE] record layer failure", "does not speak TLS"),
    ],
)
def test_certificate_that_is_not_trusted_is_no_passing_trouble(text, says):
    with pytest.raises(RegistryAnswerError, match=says) as caught, network_errors("r"):
        raise urllib3.exceptions.SSLError(ssl.SSLError(1, text))
    assert not caught.value.retryable
    assert caught.value.hint


def test_encrypted_connection_that_breaks_off_may_be_tried_again():
    with pytest.raises(InterruptedTransferError), network_errors("r"):
        raise urllib3.exceptions.SSLError(ssl.SSLEOFError(8, "EOF occurred in violation"))


def test_what_is_not_tls_in_the_middle_of_a_body_may_be_tried_again():
    error = ssl.SSLError(1, "[SSL: WRONG_VERSION_NUMBER] wrong version number (_ssl.c:2580)")
    with pytest.raises(InterruptedTransferError) as caught, network_errors("r", reading=True):
        raise error
    assert caught.value.message == "r: TLS connection failed: wrong version number"


def test_foreign_text_has_no_control_characters():
    with pytest.raises(TransferError) as caught, network_errors("r"):
        raise http.client.BadStatusLine("\x1b]52;c;ZXZpbA==\x07HTTP/9")
    assert "\x1b" not in str(caught.value)


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (
            (
                "[SSL: CERTIFICATE_VERIFY_FAILED] certificate verify failed: unable to get local"
                " issuer certificate (_ssl.c:1000)"
            ),
            "r: certificate not trusted: signed by an unknown authority",
        ),
        (
            "[SSL: SSLV3_ALERT_HANDSHAKE_FAILURE] sslv3 alert handshake failure (_ssl.c:1000)",
            "r: TLS connection failed: the handshake failed",
        ),
        (
            "EOF occurred in violation of protocol (_ssl.c:1000)",
            "r: TLS connection failed: the server closed the connection",
        ),
    ],
)
def test_the_words_of_openssl_are_not_repeated(text, says):
    with pytest.raises(TransferError) as caught, network_errors("r"):
        raise urllib3.exceptions.SSLError(ssl.SSLError(1, text))
    assert str(caught.value) == says


def test_the_words_of_http_client_are_not_repeated():
    with pytest.raises(TransferError) as caught, network_errors("r"):
        raise http.client.RemoteDisconnected("Remote end closed connection without response")
    assert str(caught.value) == "r: connection lost: the server closed the connection"


def test_a_bundle_of_certificates_that_is_not_installed_is_named_with_its_package():
    missing = "Could not find a suitable TLS CA certificate bundle, invalid path: /etc/ssl/ca.pem"
    with pytest.raises(RegistryUnavailableError) as caught, network_errors("r.example"):
        raise OSError(missing)
    assert caught.value.message == f"r.example: c{missing[1:]}"
    assert caught.value.hint == certificates_advice()


def test_library_is_not_loaded_to_tell_what_is_not_of_it():
    program = (
        "import sys\n"
        "from modelrunner.errors import TransferError\n"
        "from modelrunner.registry.http.errors import network_errors\n"
        "for error in (ConnectionRefusedError(111, 'refused'), TimeoutError(), KeyError()):\n"
        "    try:\n"
        "        with network_errors('registry.example'):\n"
        "            raise error\n"
        "    except (TransferError, KeyError) as exc:\n"
        "        print(type(exc).__name__)\n"
        "print({'urllib3', 'http.client', 'ssl'} & sys.modules.keys())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == [
        "RegistryUnavailableError", "InterruptedTransferError", "KeyError", "set()",
    ]  # fmt: skip
