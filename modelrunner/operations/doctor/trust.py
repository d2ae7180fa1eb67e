"""What stands between this machine and registries: proxies, certificates, logins."""

import shlex
import ssl
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from urllib.parse import urlsplit

from modelrunner.errors import ExitStatus
from modelrunner.operations.doctor.finding import Finding, broken, doubtful, failed, well
from modelrunner.registry.credentials import Credentials
from modelrunner.registry.helpers import HelperSilentError
from modelrunner.wire import parse_json

_PROXIES = ("HTTPS_PROXY", "HTTP_PROXY", "ALL_PROXY", "NO_PROXY")
_SCHEMES = ("http", "https", "socks4", "socks5", "socks5h")
_SOON_S = 30 * 24 * 3600


def proxies(environ: Mapping[str, str]) -> Iterator[Finding]:
    """The proxies that the environment names, without their passwords."""
    found = {name: environ.get(name) or environ.get(name.lower()) or "" for name in _PROXIES}
    said = []
    for name, value in found.items():
        if not value:
            continue
        shown = value if name == "NO_PROXY" else _proxy(value)
        if shown is None:
            message = f"{name}: invalid proxy URL"
            yield broken("proxy", message, f"export {name}=http://HOST:PORT", ExitStatus.USAGE)
        else:
            said.append(f"{name}={shown}")
    yield well("proxy", ", ".join(said) or "none")


def certificates(files: Mapping[str, str]) -> Iterator[Finding]:
    """Files of certificates, by who names them: there, readable, and not run out."""
    if not files:
        yield well("certificates", f"system certificates ({ssl.OPENSSL_VERSION})")
    for who, file in files.items():
        yield _bundle(who, Path(file))


def logins(
    config: Path | None, credentials: Credentials, registries: Sequence[str]
) -> Iterator[Finding]:
    """For which registries a login is stored; never which."""
    if config is not None and config.exists() and not _is_json(config):
        fix = f"python -m json.tool {shlex.quote(str(config))}"
        yield broken("login", f"cannot read {config}", fix, ExitStatus.USAGE)
        return
    try:
        known = [name for name in registries if credentials.find(name) is not None]
    except HelperSilentError as exc:
        yield failed("login", exc, f"{exc.helper} list")
        return
    if known:
        yield well("login", f"stored for {', '.join(known)}")
    else:
        yield well("login", "none: anonymous, with the lowest rate limit")


def _proxy(value: str) -> str | None:
    """An address without user and password, None where it is none."""
    text = value if "://" in value else f"http://{value}"
    try:
        parts = urlsplit(text)
        port = f":{parts.port}" if parts.port else ""
    except ValueError:
        return None
    if parts.scheme not in _SCHEMES or not parts.hostname:
        return None
    return f"{parts.scheme}://{parts.hostname}{port}"


def _bundle(who: str, file: Path) -> Finding:
    quoted = shlex.quote(str(file))
    if not file.exists():
        message = f"{file}: file not found, set by {who}"
        return broken("certificates", message, f"ls -l {quoted}", ExitStatus.USAGE)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    fix = f"openssl x509 -noout -subject -enddate -in {quoted}"
    try:
        if file.is_dir():
            context.load_verify_locations(capath=str(file))
        else:
            context.load_verify_locations(cafile=str(file))
    except (OSError, ValueError):
        message = f"{file}: no valid certificates, set by {who}"
        return broken("certificates", message, fix, ExitStatus.USAGE)
    ends = [ssl.cert_time_to_seconds(str(entry["notAfter"])) for entry in context.get_ca_certs()]
    return _validity(f"{who}: {file}", ends, fix)


def _validity(said: str, ends: Sequence[float], fix: str) -> Finding:
    now = time.time()
    # a bundle of many always has some that are old; one that is all old helps nobody
    if ends and max(ends) < now:
        message = f"{said}: all certificates have expired"
        return broken("certificates", message, fix, ExitStatus.TRANSFER)
    if ends and max(ends) < now + _SOON_S:
        days = int((max(ends) - now) // 86400)
        return doubtful("certificates", f"{said}: expires in {days} days", fix)
    number = f"{len(ends)} authorities" if len(ends) != 1 else "1 authority"
    return well("certificates", f"{said}: {number}" if ends else said)


def _is_json(file: Path) -> bool:
    try:
        # outside: Docker's file, which its user writes
        return isinstance(parse_json(file.read_bytes()), dict)
    except (OSError, ValueError):
        return False
