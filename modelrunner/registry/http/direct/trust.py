"""Whom connections trust, and the certificate that they show: read once, and again when changed.

To read a bundle of certificates takes longer than to make a connection.
"""

import os
import sys
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelrunner.registry.settings import ClientCertificate

if TYPE_CHECKING:
    from ssl import SSLContext


def context_of(bundle: str, client: ClientCertificate = None) -> "SSLContext":
    """A context of TLS.

    Args:
        bundle: The file, or the directory, of the certificates to trust.
        client: The certificate to show.

    Raises:
        OSError: A file is missing, or not what it is taken for.
    """
    files = () if client is None else (client,) if isinstance(client, str) else tuple(client)
    shown = tuple(file for file in files if file)
    try:
        changed = Path(bundle).stat().st_mtime_ns
    except OSError as exc:
        raise OSError(
            f"Could not find a suitable TLS CA certificate bundle, invalid path: {bundle}"
        ) from exc
    for file in shown:
        if not Path(file).exists():
            raise OSError(f"Could not find the TLS certificate file, invalid path: {file}")
        changed += Path(file).stat().st_mtime_ns
    return _context(bundle, shown, changed)


@lru_cache(maxsize=16)
def _context(bundle: str, shown: tuple[str, ...], _changed: int) -> "SSLContext":
    # plain connections, as those on this machine are, have no use for it
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    if sys.version_info >= (3, 13):
        # as the standard library's own contexts have it
        context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN | ssl.VERIFY_X509_STRICT
    context.post_handshake_auth = True
    context.hostname_checks_common_name = False
    log = os.environ.get("SSLKEYLOGFILE")
    if log:
        context.keylog_filename = os.path.expandvars(log)
    folder = Path(bundle).is_dir()
    try:
        context.load_verify_locations(None if folder else bundle, bundle if folder else None)
        if shown:
            context.load_cert_chain(shown[0], shown[-1], _refuse)
    except ssl.SSLError:
        raise
    except OSError as exc:
        raise ssl.SSLError(*exc.args) from exc
    context.set_alpn_protocols(["http/1.1"])
    # urllib3 says it again for each connection, while another thread may make one of it
    made: Any = context
    made.set_alpn_protocols = _said_already
    return context


def _refuse() -> str:
    # else OpenSSL asks at the terminal
    raise OSError("Client private key is encrypted, password is required")


def _said_already(_protocols: object) -> None:
    pass
