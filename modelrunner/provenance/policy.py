"""`verify.toml`: whose signature models have to have, by repository.

```toml
version = 1
default = "off"                      # off, warn or enforce

[[rule]]                             # the first that matches counts
match = "docker.io/ai/*"
mode = "enforce"
keys = ["docker.pub"]                # PEM, beside this file; any of them will do

[[rule]]
match = "ghcr.io/acme/*"
mode = "warn"
identity = "https://github.com/acme/models/.github/workflows/release.yml@refs/heads/main"
issuer = "https://token.actions.githubusercontent.com"
trusted_root = "root.json"           # of one's own Sigstore

[[rule]]
match = "registry.example.com/*"
mode = "enforce"
ca = ["ca.pem"]                      # authorities of one's own, for certificates
tsa = ["tsa.pem"]                    # and for timestamps; without it certificates must be valid now
identity = "models@example.com"      # whom the certificate is for; without it anybody
```
"""

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal, get_args

from modelrunner.errors import ConfigError, InvalidReferenceError
from modelrunner.net import is_loopback
from modelrunner.oci.reference import Reference, full_pattern
from modelrunner.text import TOML_HINT, os_hint, os_reason, toml_fault

NAME = "verify.toml"
VERSION = 1
Mode = Literal["off", "warn", "enforce"]

_ADDRESS = re.compile(r"\[[0-9a-f.*?]*:[0-9a-f:.*?]*\](?=[:/*?]|$)")
_HTTPS = ":443"
_TEXTS = ("match", "mode", "identity", "issuer", "trusted_root")
_FILES = ("keys", "ca", "tsa")
_RULE = (*_TEXTS, *_FILES)
_TOP = ("version", "default", "rule")


@dataclass(frozen=True, slots=True)
class Rule:
    """What a repository's models have to have.

    Attributes:
        match: Repositories, with `*` and `?`.
        mode: What becomes of a model that has it not.
        keys: Files of public keys, one of which has to have signed.
        identity: Who has to have signed, without a key.
        issuer: The provider that says so.
        trusted_root: Of one's own Sigstore.
        ca: Files of authorities whose certificates count.
        tsa: Files of authorities whose timestamps count.
    """

    match: str
    mode: Mode
    keys: tuple[Path, ...] = ()
    identity: str | None = None
    issuer: str | None = None
    trusted_root: Path | None = None
    ca: tuple[Path, ...] = ()
    tsa: tuple[Path, ...] = ()

    @property
    def names_signer(self) -> bool:
        """Whether it says whose signatures count."""
        return bool(self.keys or self.ca or self.identity)


@dataclass(frozen=True, slots=True)
class Policy:
    """All rules, and what becomes of what none matches."""

    default: Mode
    rules: tuple[Rule, ...]

    def rule_for(self, reference: Reference) -> Rule:
        """The first rule that matches a repository, else one that asks for nothing."""
        for rule in self.rules:
            if matches(reference.lowered, rule.match):
                return rule
        return Rule("*", self.default)


def pattern_of(match: str) -> str:
    """The pattern of a rule in full, the same for those that mean the same.

    Raises:
        InvalidReferenceError: See `full_pattern`.
    """
    return _without_port(full_pattern(match))


def matches(name: str, match: str) -> bool:
    """Whether a rule is for a repository, by its full name in lower case.

    The port of https may be spelled out in either of them. Brackets around an address of IPv6 are
    themselves.
    """
    pattern = pattern_of(match)
    if _ADDRESS.match(pattern):
        pattern = f"[[]{pattern[1:]}"
    return fnmatchcase(_without_port(name), pattern)


def _without_port(name: str) -> str:
    """A name without the port that https has anyway; a loopback address speaks http."""
    registry, slash, path = name.partition("/")
    host = registry.removesuffix(_HTTPS)
    if host == registry or is_loopback(host.strip("[]")):
        return name
    return f"{host}{slash}{path}"


def read_policy(path: Path) -> Policy:
    """Return the policy in a file.

    Raises:
        ConfigError: It does not exist, or says something that is not understood.
    """
    try:
        # outside: the person's own configuration
        raw = path.read_bytes()
    except FileNotFoundError as exc:
        # a name that is spelled wrong must not let everything in
        raise ConfigError(
            f"policy {path}: file not found",
            hint="correct the path in MODELRUNNER_VERIFY, or the link",
            path=str(path),
        ) from exc
    except OSError as exc:
        raise ConfigError(
            f"cannot read {path}: {os_reason(exc)}", hint=os_hint(exc), path=str(path)
        ) from exc
    return parse_policy(path, raw)


def parse_policy(path: Path, raw: bytes) -> Policy:
    """Return the policy that a file says.

    Args:
        path: The file: keys are named from its directory.
        raw: What is in it.

    Raises:
        ConfigError: It says something that is not understood.
    """
    try:
        value = tomllib.loads(raw.decode())
    except (UnicodeDecodeError, RecursionError, tomllib.TOMLDecodeError) as exc:
        raise ConfigError(
            f"{path}: {toml_fault(exc)}", hint=f"correct the file: {TOML_HINT}", path=str(path)
        ) from exc
    _check_keys(path, value, _TOP, "at the top level")
    if value.get("version") != VERSION:
        raise ConfigError(
            f"{path}: unsupported version {value.get('version')!r:.20}, expected {VERSION}",
            hint=f"write version = {VERSION}, or upgrade modelrunner",
            path=str(path),
        )
    rules = value.get("rule", [])
    if not isinstance(rules, list):
        raise ConfigError(
            f"{path}: rule must be a list of tables", hint="write [[rule]]", path=str(path)
        )
    return Policy(
        _mode(path, value.get("default", "off")), tuple(_rule(path, rule) for rule in rules)
    )


def _rule(path: Path, value: object) -> Rule:
    if not isinstance(value, dict):
        raise ConfigError(f"{path}: a rule must be a table", hint="write [[rule]]", path=str(path))
    _check_keys(path, value, _RULE, "in a rule")
    for key in _TEXTS:
        if not isinstance(value.get(key, ""), str):
            raise ConfigError(
                f"{path}: {key} must be text", hint=f'write {key} = "text"', path=str(path)
            )
    files = {key: _files(path, key, value.get(key, [])) for key in _FILES}
    if not value.get("match"):
        raise ConfigError(
            f"{path}: a rule needs `match`", hint='write match = "docker.io/ai/*"', path=str(path)
        )
    try:
        full_pattern(value["match"])
    except InvalidReferenceError as exc:
        # a rule that no name fits would let everything in
        raise ConfigError(f"{path}: {exc.message}", hint=exc.hint, path=str(path)) from exc
    mode = _mode(path, value.get("mode"))
    root = value.get("trusted_root")
    rule = Rule(
        value["match"],
        mode,
        files["keys"],
        value.get("identity"),
        value.get("issuer"),
        path.parent / root if root else None,
        files["ca"],
        files["tsa"],
    )
    if mode != "off" and not rule.names_signer:
        raise ConfigError(
            f"{path}: the rule for {value['match'][:100]} names no signer",
            hint="add `keys`, `ca` or `identity`",
            path=str(path),
        )
    return rule


def _files(path: Path, key: str, value: object) -> tuple[Path, ...]:
    if not isinstance(value, list) or not all(isinstance(each, str) for each in value):
        raise ConfigError(
            f"{path}: {key} must be a list of files",
            hint=f'write {key} = ["FILE.pem"]',
            path=str(path),
        )
    return tuple(path.parent / each for each in value)


def _mode(path: Path, value: object) -> Mode:
    for mode in get_args(Mode):
        if value == mode:
            found: Mode = mode
            return found
    raise ConfigError(
        f"{path}: invalid mode {value!r:.40}",
        hint=f"use one of {', '.join(get_args(Mode))}",
        path=str(path),
    )


def _check_keys(path: Path, value: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for key in value:
        if key not in known:
            raise ConfigError(
                f"{path}: unknown key {key[:60]!r} {what}",
                hint=f"known keys: {', '.join(known)}",
                path=str(path),
            )
