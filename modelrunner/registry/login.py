"""Logins: tried at the registry, then stored where Docker stores them.

In the credential helper that `config.json` names for the registry, else in the store it names for
all, else in `config.json` itself, which only its owner may read then.
"""

import base64
import errno
import fcntl
import json
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from modelrunner.disk.files import write_atomically
from modelrunner.errors import (
    AccessError,
    ConfigError,
    DiskFullError,
    InvalidReferenceError,
    UnauthorizedError,
)
from modelrunner.oci.reference import DOCKER_HUB, parse_registry
from modelrunner.registry import helpers
from modelrunner.registry.credentials import HUB_KEY, Credential
from modelrunner.registry.oci.source import OciRegistry
from modelrunner.text import json_fault, os_hint, os_reason
from modelrunner.wire import parse_json

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
        helper = _helper(self._read(), registry)
        if helper is not None:
            # without the lock: it may take its time
            _ask_helper(helper, "store", registry, credential)
        pair = f"{credential.username}:{credential.password}".encode()
        entry = {} if helper else {"auth": base64.b64encode(pair).decode()}
        with self._alone():
            value = self._read()
            self._write({**value, "auths": {**_table(value, "auths"), _key(registry): entry}})
        return f"docker-credential-{helper}" if helper else str(self.config)

    def forget(self, registry: str) -> bool:
        """Removes a login; whether there was one.

        Raises:
            ConfigError: The file or the helper does not let go of it.
        """
        helper = _helper(self._read(), registry)
        known = False
        if helper is not None:
            known = _ask_helper(helper, "erase", registry, Credential())
        if not any(_is_of(name, registry) for name in _table(self._read(), "auths")):
            return known
        with self._alone():
            value = self._read()
            auths = _table(value, "auths")
            left = {name: entry for name, entry in auths.items() if not _is_of(name, registry)}
            self._write({**value, "auths": left})
        return True

    @contextmanager
    def _alone(self) -> Iterator[None]:
        """The block in which no other modelrunner changes the file."""
        place = self._place()
        lock = place.with_name(f".{place.name}.modelrunner-lock")
        try:
            place.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
            # outside: Docker's file, which its user writes
            held = os.open(lock, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
        except OSError as exc:
            raise self._unwritable(exc) from exc
        try:
            with suppress(OSError):
                # a disk without locks has no second writer that could be kept out
                fcntl.flock(held, fcntl.LOCK_EX)
            yield
        finally:
            os.close(held)

    def _place(self) -> Path:
        """Where the file is: many keep theirs elsewhere, and a link to it here."""
        try:
            return self.config.resolve()
        except (OSError, RuntimeError) as exc:
            raise ConfigError(
                f"cannot write {self.config}: broken symbolic link",
                hint="correct or remove the link",
            ) from exc

    def _unwritable(self, error: OSError) -> ConfigError | DiskFullError:
        if error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
            return DiskFullError(
                f"cannot write {self.config}: {os_reason(error)}",
                hint="free some space on its disk, or set DOCKER_CONFIG to another directory",
            )
        return ConfigError(f"cannot write {self.config}: {os_reason(error)}", hint=os_hint(error))

    def _read(self) -> dict[str, Any]:
        try:
            # outside: Docker's file, which its user writes
            value = parse_json(self.config.read_bytes())
        except FileNotFoundError:
            return {}
        except OSError as exc:
            raise ConfigError(
                f"cannot read {self.config}: {os_reason(exc)}", hint=os_hint(exc)
            ) from exc
        except ValueError as exc:
            raise ConfigError(f"{self.config}: {json_fault(exc)}", hint=_DAMAGED) from exc
        if not isinstance(value, dict):
            raise ConfigError(f"{self.config}: expected a JSON object", hint=_DAMAGED)
        return value

    def _write(self, value: Mapping[str, Any]) -> None:
        content = json.dumps(value, indent=2).encode() + b"\n"
        try:
            write_atomically(self._place(), content, private=True)
        except OSError as exc:
            raise self._unwritable(exc) from exc


def check_login(registry: OciRegistry) -> bool:
    """Ask the registry whether it takes the login that it was made with.

    Returns:
        Whether it has asked for it; one that asks for none takes any password.

    Raises:
        UnauthorizedError: The registry or its token service refuses the login.
        TransferError: No answer, or not that of a registry.
    """
    try:
        return registry.ping()
    except AccessError as exc:
        raise UnauthorizedError(
            f"{registry.name} rejected the user name or password",
            hint="use an access token: many registries do not accept the account's password",
            registry=registry.name,
        ) from exc


def _helper(value: Mapping[str, Any], registry: str) -> str | None:
    name = _table(value, "credHelpers").get(registry) or value.get("credsStore")
    return name if isinstance(name, str) and name else None


def _ask_helper(name: str, verb: str, registry: str, credential: Credential) -> bool:
    try:
        if verb == "erase":
            return helpers.erase(name, _key(registry))
        helpers.store(name, _key(registry), credential.username, credential.password)
    except helpers.HelperError as exc:
        raise ConfigError(
            f"docker-credential-{name} cannot {verb} the login",
            hint="check that it is installed: Docker's config.json names it",
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
    return HUB_KEY if registry == DOCKER_HUB else registry


def _table(value: Mapping[str, Any], key: str) -> Mapping[str, Any]:
    entry = value.get(key)
    return entry if isinstance(entry, dict) else {}
