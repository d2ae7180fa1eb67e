"""What `config.toml` says, checked.

`config.toml` lies in `MODELRUNNER_HOME`:

```toml
runtime = "auto"
context = 32768
container_image = "ghcr.io/ggml-org/llama.cpp:server"  # what the runtime `docker` starts
hub_api = "https://hub.docker.com"  # where descriptions of models come from
reuse = true                    # whether a pull takes what Ollama and others have here
lan = false                     # whether a pull asks shared stores on the local network
hf_xet = false                  # whether large files of the Hub come out of Xet storage itself
require_gpu = false             # whether a start fails where the runtime would use no GPU
[mirrors]
"docker.io" = ["https://mirror.example.com"]
[registries."registry.example.com:5000"]
insecure = true                 # plain http; false is for TLS on this machine
realms = ["auth.example.com"]   # where a token may be asked for
ca_file = "/etc/ssl/company.pem"
client_cert = "/etc/ssl/me.pem"  # and client_key, where it is a file of its own
```
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from modelrunner.errors import ConfigError, InvalidReferenceError
from modelrunner.registry.settings import RegistrySettings
from modelrunner.text import TOML_HINT, available, os_hint, os_reason, suggest, toml_fault

_TOP = {
    "runtime": str,
    "context": int,
    "threads": int,
    "system": str,
    "port": int,
    "hub_api": str,
    "container_image": str,
    "hf_endpoint": str,
    "reuse": bool,
    "lan": bool,
    "hf_xet": bool,
    "require_gpu": bool,
}
_RANGES = {"context": range(1, 2**31), "threads": range(1, 4097), "port": range(65536)}
_KINDS = {
    str: "text",
    int: "a whole number",
    dict: "a table",
    bool: "true or false",
    list: "a list",
}
_LIKE = {
    str: '{} = "text"',
    int: "{} = 4096",
    dict: "[{}]",
    bool: "{} = true",
    list: '{} = ["text"]',
}
_EXAMPLES = {
    "runtime": 'runtime = "auto"',
    "port": "port = 12434",
    "threads": "threads = 4",
    "mirrors": '[mirrors] and, on the next line, "docker.io" = ["https://mirror.example.com"]',
    "registries": '[registries."registry.example.com"] and its settings on the next lines',
}
_TABLES = ("mirrors", "registries")
_REGISTRY = {
    "insecure": bool,
    "realms": list,
    "ca_file": str,
    "client_cert": str,
    "client_key": str,
}


def read_config(path: Path) -> Mapping[str, Any]:
    """What the file says; nothing where there is none.

    Raises:
        ConfigError: It cannot be read, or says something that is not understood.
    """
    try:
        # outside: the person's own configuration
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except NotADirectoryError as exc:
        raise ConfigError(
            f"MODELRUNNER_HOME ({path.parent}) is not a directory",
            hint="set MODELRUNNER_HOME to a directory that you own",
            path=str(path.parent),
        ) from exc
    except OSError as exc:
        raise ConfigError(
            f"cannot read {path}: {os_reason(exc)}", hint=os_hint(exc), path=str(path)
        ) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(
            f"{path}: {toml_fault(exc)}", hint="save it as UTF-8", path=str(path)
        ) from exc
    # most people have no such file, and do not wait for its parser
    import tomllib

    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(
            f"{path}: {toml_fault(exc)}", hint=f"correct the file: {TOML_HINT}", path=str(path)
        ) from exc
    for key, entry in value.items():
        _check(path, key, entry)
    return value


def _check(path: Path, key: str, entry: object) -> None:
    known = [*_TOP, *_TABLES, "ca_file"]
    if key not in known:
        raise ConfigError(
            f"{path}: unknown setting {key[:80]!r}",
            hint=suggest(key, known) or available(known, len(known)),
            path=str(path),
        )
    kind = dict if key in _TABLES else _TOP.get(key, str)
    if not isinstance(entry, kind) or (isinstance(entry, bool) and kind is not bool):
        raise ConfigError(
            f"{path}: {key} must be {_KINDS[kind]}",
            hint=f"write it like {_EXAMPLES.get(key, _LIKE[kind].format(key))}",
            path=str(path),
        )
    allowed = _RANGES.get(key)
    if allowed is not None and entry not in allowed:
        raise ConfigError(
            f"{path}: {key} must be from {allowed[0]} to {allowed[-1]}, got {entry}",
            hint=f"correct {key} in the file, or remove the line for the default",
            path=str(path),
        )


def read_mirrors(
    environ: Mapping[str, str], written: Mapping[str, Any], path: Path
) -> tuple[Mapping[str, tuple[str, ...]], str]:
    """The mirrors of registries, and who names them.

    Raises:
        ConfigError: They are not understood.
    """
    text = environ.get("MODELRUNNER_MIRRORS", "")
    if text:
        return _mirrors_of(text), "MODELRUNNER_MIRRORS"
    table = written.get("mirrors", {})
    found = {}
    for registry, entry in table.items():
        addresses = [entry] if isinstance(entry, str) else entry
        if not isinstance(addresses, list) or not all(isinstance(a, str) for a in addresses):
            raise ConfigError(
                f"{path}: mirrors of {registry[:100]} must be a list of URLs",
                hint='write "docker.io" = ["https://mirror.example.com"]',
                path=str(path),
            )
        found[_registry(registry, f"{path}: mirrors")] = tuple(addresses)
    return found, str(path) if found else "default"


def _mirrors_of(text: str) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        registry, equals, address = entry.partition("=")
        if not equals or not registry or not address:
            raise ConfigError(
                f"MODELRUNNER_MIRRORS: expected REGISTRY=URL, got {entry[:100]!r}",
                hint="write docker.io=https://mirror.example.com; separate several with commas",
            )
        name = _registry(registry.strip(), "MODELRUNNER_MIRRORS")
        found[name] = (*found.get(name, ()), address)
    return found


def _registry(text: str, where: str) -> str:
    """A registry as references name it: another spelling of it would never be looked up.

    Raises:
        ConfigError: It is not a registry.
    """
    # most people configure none
    from modelrunner.oci.reference import parse_registry

    try:
        return parse_registry(text)
    except InvalidReferenceError as exc:
        raise ConfigError(
            f"{where}: invalid registry {text[:100]!r}",
            hint="write HOST or HOST:PORT, such as docker.io or localhost:5000",
        ) from exc


def read_registries(written: Mapping[str, Any], path: Path) -> Mapping[str, RegistrySettings]:
    """What is said of registries.

    Raises:
        ConfigError: It is not understood.
    """
    found = {}
    for registry, entry in written.get("registries", {}).items():
        if not isinstance(entry, dict):
            raise ConfigError(
                f"{path}: registries.{registry[:100]!r} must be a table",
                hint='write [registries."registry.example.com"] and its settings on the next lines',
                path=str(path),
            )
        for key, value in entry.items():
            if key not in _REGISTRY or not isinstance(value, _REGISTRY[key]):
                raise ConfigError(
                    f"{path}: unknown key {key[:80]!r} of registry {registry[:100]}"
                    if key not in _REGISTRY
                    else f"{path}: {key} of registry {registry[:100]} must be"
                    f" {_KINDS[_REGISTRY[key]]}",
                    hint=suggest(key, _REGISTRY) or available(list(_REGISTRY))
                    if key not in _REGISTRY
                    else f"write it like {_LIKE[_REGISTRY[key]].format(key)}",
                    path=str(path),
                )
        found[_registry(registry, f"{path}: registries")] = RegistrySettings(
            insecure=entry.get("insecure"),
            realms=tuple(str(realm) for realm in entry.get("realms", ())),
            ca_file=entry.get("ca_file"),
            client_cert=entry.get("client_cert"),
            client_key=entry.get("client_key"),
        )
    return found
