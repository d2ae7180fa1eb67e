"""Who we are at a registry: Docker's configuration, then Podman's.

`auths`, `credHelpers`, `credsStore` and identity tokens, in Docker's order. Asked only when a
registry wants to know, and never sent anywhere but to that registry and its token service.
"""

import base64
import errno
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Protocol

from modelrunner.errors import ConfigError
from modelrunner.frozen import field, frozen
from modelrunner.oci.reference import DOCKER_HUB
from modelrunner.registry import helpers
from modelrunner.system.log import Log
from modelrunner.text import mask, os_reason
from modelrunner.wire import parse_object

HUB_KEY = "https://index.docker.io/v1/"
"""Docker's own name for Docker Hub, in its file and with its helpers."""

# other tools log in to the host that is connected to
_HUB_HOSTS = ("docker.io", "index.docker.io", "registry-1.docker.io", "registry.hub.docker.com")
_TOKEN_USER = "<token>"  # noqa: S105 - the user's name that stands for an identity token
_NOT_OURS = (errno.ENOENT, errno.EACCES, errno.EPERM, errno.ENOTDIR, errno.EISDIR, errno.ELOOP)
"""Errors of a file that is another user's, or no file: then there is no login in it for us."""

_log = Log(__name__)


@frozen
class Credential:
    """A user and a secret, or a token; never shown.

    Attributes:
        username: The user.
        password: The secret of the user.
        identity_token: A token for which the registry's token service gives others.
        registry_token: A token for the registry itself.
    """

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        """Whoever it is sent to may repeat it."""
        for secret in (self.password, self.identity_token, self.registry_token):
            mask(secret)


class Credentials(Protocol):
    """Whoever knows logins."""

    def find(self, registry: str, patience_s: float = helpers.PATIENCE_S) -> Credential | None:
        """The login for a registry (host with port), None for anonymous.

        Raises:
            HelperSilentError: A credential helper has not ended after `patience_s` seconds.
        """
        ...


@frozen
class OneCredential:
    """One login, for one registry: what is typed before it is stored."""

    registry: str
    credential: Credential

    def find(self, registry: str, patience_s: float = helpers.PATIENCE_S) -> Credential | None:  # noqa: ARG002
        """The login, if it is for this registry."""
        return self.credential if registry == self.registry else None


@frozen
class Anonymous:
    """No login at all, whatever this machine has."""

    def find(self, registry: str, patience_s: float = helpers.PATIENCE_S) -> Credential | None:  # noqa: ARG002
        """None."""
        return None


@frozen
class DockerCredentials:
    """The credentials in Docker's `config.json`, and in files of the same form that others write.

    Attributes:
        config: Docker's; None where there is no such file to look at.
        others: Podman's `auth.json`, the first first. A key with a path there is the login of a
            namespace, and no login of the whole registry.
    """

    config: Path | None
    others: tuple[Path, ...] = ()

    def find(self, registry: str, patience_s: float = helpers.PATIENCE_S) -> Credential | None:
        """The credential for a registry (host with port), None for anonymous.

        Raises:
            HelperSilentError: A credential helper has not ended after `patience_s` seconds.
            ConfigError: The disk does not give a file.
        """
        files = ((self.config, False), *((path, True) for path in self.others))
        for path, scoped in files:
            if path is not None and path.is_file():
                found = _in_file(path, registry, patience_s, scoped=scoped)
                if found is not None:
                    return found
        return None


def _in_file(path: Path, registry: str, patience_s: float, *, scoped: bool) -> Credential | None:
    try:
        # outside: Docker's file, which its user writes
        value = parse_object(path.read_bytes())
    except (OSError, ValueError) as exc:
        if isinstance(exc, OSError) and exc.errno not in _NOT_OURS:
            # a login may be in it: without one, a private model would seem to be missing
            raise ConfigError(
                f"cannot read {path}: {os_reason(exc)}",
                hint="check its disk, or set DOCKER_CONFIG to another directory",
            ) from exc
        # a public model can still be pulled; where a login is needed, the registry says so
        _log.info("cannot read %s: %s", path, type(exc).__name__)
        return None
    for server in (HUB_KEY, *_HUB_HOSTS[2:]) if registry == DOCKER_HUB else (registry,):
        found = _from_helper(value, server, patience_s)
        if found is not None:
            return found
    hosts = _HUB_HOSTS if registry == DOCKER_HUB else (registry,)
    for host in hosts:
        for key, entry in _table(value, "auths").items():
            if isinstance(entry, dict) and _host_of(key, scoped=scoped) == host:
                found = _from_entry(entry)
                if found is not None:
                    return found
    return None


def _from_helper(value: Mapping[str, Any], server: str, patience_s: float) -> Credential | None:
    own = _table(value, "credHelpers")
    spellings = (HUB_KEY, *_HUB_HOSTS[:2]) if server == HUB_KEY else (server,)
    name = next((own[key] for key in spellings if key in own), None) or value.get("credsStore")
    if not isinstance(name, str) or not name:
        return None
    try:
        found = helpers.get(name, server, patience_s)
    except helpers.HelperError as exc:
        # what a helper printed is not repeated: it may be the secret
        _log.info("cannot read the login for %s: %s", server, exc)
        return None
    if found is None:
        return None
    if found["Username"] == _TOKEN_USER:
        return _usable("", "", found["Secret"])
    return _usable(found["Username"], found["Secret"], "")


def _from_entry(entry: Mapping[str, Any]) -> Credential | None:
    token = entry.get("identitytoken")
    username, password = entry.get("username"), entry.get("password")
    pair = entry.get("auth")
    if isinstance(pair, str) and pair:
        try:
            username, _, password = base64.b64decode(pair).decode().partition(":")
        except ValueError:
            return None
        password = password.strip("\x00")
    return _usable(username, password, token)


def _usable(username: object, password: object, token: object) -> Credential | None:
    user = username if isinstance(username, str) else ""
    if isinstance(token, str) and token:
        return Credential(username=user, identity_token=token)
    if user and isinstance(password, str) and password:
        return Credential(username=user, password=password)
    return None


def _host_of(key: str, *, scoped: bool) -> str | None:
    _, scheme, rest = key.rpartition("://")
    host, _, path = rest.partition("/")
    return None if path and scoped and not scheme else host


def _table(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    entry = value.get(key)
    return entry if isinstance(entry, dict) else {}
