"""Logins: tried at the registry, then stored where Docker stores them.

In the credential helper that `config.json` names for the registry, else in the store it names for
all, else in `config.json` itself, which only its owner may read then.
"""

import base64
import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelrunner.errors import (
    AccessError,
    ConfigError,
    InvalidReferenceError,
    UnauthorizedError,
)
from modelrunner.oci.reference import DOCKER_HUB, parse_registry
from modelrunner.registry.credentials import Credential
from modelrunner.registry.oci import OciRegistry
from modelrunner.text import json_fault, os_hint, os_reason

_HUB_URL = "https://index.docker.io/v1/"

_DAMAGED = "correct the file, or set DOCKER_CONFIG to another directory"
"""It is Docker's file too, so nothing is overwritten."""


@dataclass(frozen=True, slots=True)
class LoginStore:
    """The logins of one user; `config` is Docker's `config.json`."""

    config: Path

    def save(self, registry: str, credential: Credential) -> str:
        """Stores a login; where, for people.

        Raises:
            ConfigError: The file or the helper does not take it.
        """
        value = self._read()
        helper = _helper(value, registry)
        if helper is not None:
            _ask_helper(helper, "store", registry, credential)
            self._change(value, registry, {})
            return f"docker-credential-{helper}"
        pair = f"{credential.username}:{credential.password}".encode()
        self._change(value, registry, {"auth": base64.b64encode(pair).decode()})
        return str(self.config)

    def forget(self, registry: str) -> bool:
        """Removes a login; whether there was one.

        Raises:
            ConfigError: The file or the helper does not let go of it.
        """
        value = self._read()
        mine = {name for name in _table(value, "auths") if _is_of(name, registry)}
        known = bool(mine)
        helper = _helper(value, registry)
        if helper is not None:
            known = _ask_helper(helper, "erase", registry, Credential()) or known
        auths = {k: entry for k, entry in _table(value, "auths").items() if k not in mine}
        if mine:
            self._write({**value, "auths": auths})
        return known

    def _change(self, value: Mapping[str, Any], registry: str, entry: dict[str, str]) -> None:
        auths = {**_table(value, "auths"), _key(registry): entry}
        self._write({**value, "auths": auths})

    def _read(self) -> dict[str, Any]:
        try:
            value = json.loads(self.config.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise ConfigError(
                f"cannot read {self.config}: {os_reason(exc)}", hint=os_hint(exc)
            ) from exc
        except (ValueError, RecursionError) as exc:
            raise ConfigError(f"{self.config}: {json_fault(exc)}", hint=_DAMAGED) from exc
        if not isinstance(value, dict):
            raise ConfigError(f"{self.config}: expected a JSON object", hint=_DAMAGED)
        return value

    def _write(self, value: Mapping[str, Any]) -> None:
        try:
            self.config.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            beside = self.config.with_name(f".{self.config.name}-{secrets.token_hex(6)}")
            beside.touch(mode=0o600, exist_ok=False)
            beside.write_text(json.dumps(value, indent=2) + "\n")
            beside.replace(self.config)
        except OSError as exc:
            raise ConfigError(
                f"cannot write {self.config}: {os_reason(exc)}", hint=os_hint(exc)
            ) from exc


def check_login(registry: OciRegistry) -> bool:
    """Ask the registry whether it takes the login that it was made with.

    Returns:
        Whether it has asked for it; what asks nobody takes any password.

    Raises:
        UnauthorizedError: The registry or its token service refuses the login.
        TransferError: No answer, or not that of a registry.
    """
    try:
        return registry.ping()
    except AccessError as exc:
        raise UnauthorizedError(
            f"{registry.name} does not accept this user and password",
            hint="many registries expect an access token instead of the account's password",
            registry=registry.name,
        ) from exc


def _helper(value: Mapping[str, Any], registry: str) -> str | None:
    name = _table(value, "credHelpers").get(registry) or value.get("credsStore")
    return name if isinstance(name, str) and name else None


def _ask_helper(helper: str, verb: str, registry: str, credential: Credential) -> bool:
    import warnings

    from docker import credentials

    try:
        with warnings.catch_warnings():
            # it warns of a missing helper, and then fails with the same words
            warnings.simplefilter("ignore")
            store: Any = credentials.Store(helper)
        if verb == "store":
            store.store(_key(registry), credential.username, credential.password)
        else:
            store.erase(_key(registry))
    except credentials.CredentialsNotFound:
        return False
    except credentials.StoreError as exc:
        raise ConfigError(
            f"docker-credential-{helper} does not {verb} the login",
            hint="it is named in Docker's config.json; is it installed?",
        ) from exc
    return True


def _is_of(key: str, registry: str) -> bool:
    """Whether an entry of `auths` is a login of this registry, by whichever spelling."""
    host = (key.partition("://")[2] or key).partition("/")[0]
    try:
        return parse_registry(host) == registry
    except InvalidReferenceError:
        return False


def _key(registry: str) -> str:
    return _HUB_URL if registry == DOCKER_HUB else registry


def _table(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    entry = value.get(key)
    return entry if isinstance(entry, dict) else {}
