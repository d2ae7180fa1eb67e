"""Who we are at a registry: Docker's configuration, through Docker's own library.

`auths`, `credHelpers`, `credsStore` and identity tokens, in its order. Asked only when a registry
wants to know, and never sent anywhere but to that registry and its token service.
"""

import logging
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Protocol

from modelrunner.oci.reference import DOCKER_HUB

# Docker's own name for it first; other tools log in to the host that is connected to
_KEYS = {DOCKER_HUB: ("docker.io", "registry-1.docker.io", "registry.hub.docker.com")}
# how the library fails on a file or a helper's answer that is not shaped as it expects
_UNREADABLE = (ValueError, TypeError, KeyError, AttributeError, OSError)
_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Credential:
    """A user and a secret, or an identity token; never shown."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)


class Credentials(Protocol):
    """Whoever knows logins."""

    def find(self, registry: str) -> Credential | None:
        """The login for a registry (host with port), None for anonymous."""
        ...


@dataclass(frozen=True, slots=True)
class OneCredential:
    """One login, for one registry: what is typed before it is stored."""

    registry: str
    credential: Credential

    def find(self, registry: str) -> Credential | None:
        """The login, if it is for this registry."""
        return self.credential if registry == self.registry else None


@dataclass(frozen=True, slots=True)
class DockerCredentials:
    """The credentials in one `config.json`; None where there is no such file to look at."""

    config: Path | None

    def find(self, registry: str) -> Credential | None:
        """The credential for a registry (host with port), None for anonymous."""
        if self.config is None or not self.config.is_file():
            return None
        from docker import auth, errors

        # the library warns of what it cannot read; that is for --debug, not for people
        logging.getLogger("docker").setLevel(logging.ERROR)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                loaded = auth.load_config(config_path=str(self.config))
                found = None
                for key in _KEYS.get(registry, (registry,)):
                    found = found or loaded.resolve_authconfig(key)
        except (errors.DockerException, *_UNREADABLE) as exc:
            # a public model can still be had; where a login is needed, the registry will say.
            # What a helper printed is not repeated: it may be the secret
            _log.info("the login of %s cannot be read: %s", registry, type(exc).__name__)
            return None
        return _credential(found or {})


def _credential(found: dict[str, str]) -> Credential | None:
    token = found.get("IdentityToken") or found.get("identitytoken") or ""
    username = found.get("Username") or found.get("username") or ""
    password = found.get("Password") or found.get("password") or ""
    if token:
        return Credential(username=username, identity_token=token)
    return Credential(username=username, password=password) if username and password else None
