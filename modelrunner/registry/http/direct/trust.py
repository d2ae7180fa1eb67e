"""Whom connections trust, and the certificate that they show: read once, and again when changed.

To read a bundle of certificates takes longer than to make a connection.

Without a bundle those of the system are trusted, as by other programs: a company that looks into
connections installs its authority there. So are Mozilla's: slim systems have none.
"""

import os
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from modelrunner.registry.settings import ClientCertificate

if TYPE_CHECKING:
    from ssl import SSLContext


_SYSTEM_BUNDLES = (
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
"""Where systems keep their certificates: Debian and Alpine, Fedora, RHEL, openSUSE, BSD and macOS.

Source: the list in Go's `crypto/x509/root_linux.go`."""


def context_of(bundle: str | None, client: ClientCertificate = None) -> "SSLContext":
    """A context of TLS.

    Args:
        bundle: The file, or the directory, of the certificates to trust; None for the usual ones.
        client: The certificate to show.

    Raises:
        OSError: A file is missing, or not what it is taken for.
    """
    files = () if client is None else (client,) if isinstance(client, str) else tuple(client)
    shown = tuple(file for file in files if file)
    try:
        changed = 0 if bundle is None else Path(bundle).stat().st_mtime_ns
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
def _context(bundle: str | None, shown: tuple[str, ...], _changed: int) -> "SSLContext":
    # plain connections, as those on this machine are, have no use for it
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.options |= ssl.OP_NO_COMPRESSION | ssl.OP_NO_TICKET
    # an authority in the bundle need not be the last one. Not strict, as Python is from 3.13 on and
    # other programs are not: the authorities of many companies lack an extension, or say less of it
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    context.post_handshake_auth = True
    context.hostname_checks_common_name = False
    log = os.environ.get("SSLKEYLOGFILE")
    if log:
        context.keylog_filename = os.path.expandvars(log)
    try:
        if bundle is None:
            _trust_the_usual(context)
        else:
            folder = Path(bundle).is_dir()
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


def _trust_the_usual(context: "SSLContext") -> None:
    import ssl

    from certifi import where

    context.load_verify_locations(where())
    # the store of Windows, and elsewhere what this OpenSSL takes for the system's
    context.load_default_certs()
    places = ssl.get_default_verify_paths()
    if not places.cafile and not _is_by_hash(places.capath):
        # an OpenSSL that came with Python looks where there is nothing
        for file in filter(os.path.isfile, _SYSTEM_BUNDLES):
            with suppress(OSError):
                context.load_verify_locations(file)
                return


def _is_by_hash(folder: str | None) -> bool:
    """Whether OpenSSL finds certificates in a directory, whose names are hashes of theirs."""
    if folder is None:
        return False
    with suppress(OSError), os.scandir(folder) as entries:
        return any(entry.name.endswith(".0") for entry in entries)
    return False


def _refuse() -> str:
    # else OpenSSL asks at the terminal
    raise OSError("Client private key is encrypted, password is required")


def _said_already(_protocols: object) -> None:
    pass
