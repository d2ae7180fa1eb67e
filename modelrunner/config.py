"""What the user has decided: option > environment > `config.toml` > default, each with its origin.

`config.toml` lies in `MODELRUNNER_HOME`:

```toml
runtime = "auto"
context = 32768
container_image = "ghcr.io/ggml-org/llama.cpp:server"  # what the runtime `docker` starts
hub_api = "https://hub.docker.com"  # where descriptions of models come from
reuse = true                    # whether a pull takes what Ollama and others have here
lan = false                     # whether a pull asks shared stores on the local network
[mirrors]
"docker.io" = ["https://mirror.example.com"]
[registries."registry.example.com:5000"]
insecure = true                 # plain http
realms = ["auth.example.com"]   # where a token may be asked for
ca_file = "/etc/ssl/company.pem"
client_cert = "/etc/ssl/me.pem"  # and client_key, where it is a file of its own
```
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from modelrunner.errors import ConfigError
from modelrunner.registry.settings import HUB_ENDPOINT, RegistrySettings

if TYPE_CHECKING:
    from modelrunner.registry.select import Places

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
}
_RANGES = {"context": range(1, 2**31), "threads": range(1, 4097), "port": range(65536)}
_KINDS = {str: "text", int: "a whole number", dict: "a table", bool: "true or false"}
_TABLES = ("mirrors", "registries")
_REGISTRY = {
    "insecure": bool,
    "realms": list,
    "ca_file": str,
    "client_cert": str,
    "client_key": str,
}
DEFAULT_PORT = 12434
DEFAULT_HUB_API = "https://hub.docker.com"


@dataclass(frozen=True, slots=True)
class Setting:
    """One value, and who says so."""

    name: str
    value: object
    origin: str


@dataclass(frozen=True, slots=True)
class Settings:
    """All settings, resolved once; only the command line makes them."""

    home: Path
    runtime: str = "auto"
    context: int | None = None
    threads: int | None = None
    system: str | None = None
    port: int = DEFAULT_PORT
    hub_api: str = DEFAULT_HUB_API
    container_image: str = ""
    hf_endpoint: str = HUB_ENDPOINT
    hf_token: str | None = field(default=None, repr=False)
    reuse: bool = True
    lan: bool = False
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    docker_config: Path | None = None
    ca_file: str | None = None
    verify: Path | None = None
    shown: tuple[Setting, ...] = ()

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Resolves the settings from an environment and the file that it leads to.

        Raises:
            ConfigError: The file or a variable says something that is not understood.
        """
        home, home_origin = _home(environ)
        path = home / "config.toml"
        written = _read(path)
        shown = [Setting("home", str(home), home_origin)]

        def chosen(name: str, variable: str | None, default: object) -> Any:  # noqa: ANN401
            found, origin = default, "default"
            if variable and environ.get(variable):
                found, origin = environ[variable], variable
            elif name in written:
                found, origin = written[name], str(path)
            shown.append(Setting(name, found, origin))
            return found

        mirrors, mirrors_origin = _mirrors(environ, written, path)
        shown.append(Setting("mirrors", {k: list(v) for k, v in mirrors.items()}, mirrors_origin))
        return cls(
            home=home,
            runtime=chosen("runtime", "MODELRUNNER_RUNTIME", "auto"),
            context=chosen("context", None, None),
            threads=chosen("threads", None, None),
            system=chosen("system", None, None),
            port=chosen("port", None, DEFAULT_PORT),
            hub_api=chosen("hub_api", "MODELRUNNER_HUB_API", DEFAULT_HUB_API),
            container_image=chosen("container_image", "MODELRUNNER_CONTAINER_IMAGE", ""),
            hf_endpoint=chosen("hf_endpoint", "HF_ENDPOINT", HUB_ENDPOINT),
            hf_token=_hf_token(environ),
            reuse=chosen("reuse", None, True),  # noqa: FBT003
            lan=chosen("lan", None, False),  # noqa: FBT003
            mirrors=mirrors,
            registries=_registries(written, path),
            docker_config=_docker_config(environ),
            ca_file=chosen("ca_file", "SSL_CERT_FILE", None),
            verify=Path(environ["MODELRUNNER_VERIFY"])
            if environ.get("MODELRUNNER_VERIFY")
            else None,
            shown=tuple(shown),
        )

    @property
    def store(self) -> Path:
        """Where models are kept."""
        return self.home / "store"

    @property
    def cards(self) -> Path:
        """Where descriptions from Docker Hub are kept for a while."""
        return self.home / "cache" / "cards"

    @property
    def state(self) -> Path:
        """Where histories, logs and what was learnt are noted."""
        return self.home / "state"

    @property
    def policy(self) -> Path:
        """Whose signature models have to have; there may be no such file."""
        return self.verify or self.home / "verify.toml"

    @property
    def verified(self) -> Path:
        """Where it is noted what was verified."""
        return self.state / "verified"

    @property
    def servers(self) -> Path:
        """Where servers of models keep their records and logs."""
        return self.state / "serve"

    def places(self) -> "Places":
        """Every registry, and the mirrors before them."""
        # only what uses the network pays for it
        from modelrunner.registry.credentials import DockerCredentials
        from modelrunner.registry.hub_api import HubAccess
        from modelrunner.registry.select import Places

        return Places(
            DockerCredentials(self.docker_config),
            self.mirrors,
            self.registries,
            self.ca_file,
            hub=HubAccess(self.hf_endpoint, self.hf_token),
        )


def _hf_token(environ: Mapping[str, str]) -> str | None:
    """The token of the Hugging Face Hub: HF_TOKEN, or where `hf auth login` keeps it.

    The places are those of the package `huggingface_hub`.
    """
    for name in ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN"):
        if environ.get(name, "").strip():
            return environ[name].strip()
    if environ.get("HF_TOKEN_PATH"):
        file = Path(environ["HF_TOKEN_PATH"])
    elif environ.get("HF_HOME"):
        file = Path(environ["HF_HOME"]) / "token"
    else:
        cache = environ.get("XDG_CACHE_HOME") or "~/.cache"
        file = Path(cache) / "huggingface" / "token"
    try:
        return file.expanduser().read_text("ascii").strip() or None
    except (OSError, ValueError, RuntimeError):
        return None


def _home(environ: Mapping[str, str]) -> tuple[Path, str]:
    try:
        if environ.get("MODELRUNNER_HOME"):
            named = Path(environ["MODELRUNNER_HOME"])
            return named.expanduser().absolute(), "MODELRUNNER_HOME"
        from platformdirs import user_data_path

        return user_data_path("modelrunner", appauthor=False).expanduser().absolute(), "default"
    except RuntimeError as exc:
        # no HOME, and a user that the system does not know, as in a container
        raise ConfigError(
            "there is no home directory to keep models in",
            hint="set MODELRUNNER_HOME to a folder of yours",
        ) from exc


def _read(path: Path) -> Mapping[str, Any]:
    try:
        text = path.read_text(encoding="utf-8")
    except FileNotFoundError:
        return {}
    except NotADirectoryError as exc:
        raise ConfigError(
            f"{path.parent} is no folder, and models are to be kept in it",
            hint="set MODELRUNNER_HOME to a folder of yours",
            path=str(path.parent),
        ) from exc
    except OSError as exc:
        raise ConfigError(f"{path} cannot be read: {exc.strerror}", path=str(path)) from exc
    except UnicodeDecodeError as exc:
        raise ConfigError(f"{path} is not UTF-8 text", path=str(path)) from exc
    # most people have no such file, and do not wait for its parser
    import tomllib

    try:
        value = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{path} is no TOML: {exc}", path=str(path)) from exc
    for key, entry in value.items():
        _check(path, key, entry)
    return value


def _check(path: Path, key: str, entry: object) -> None:
    known = [*_TOP, *_TABLES, "ca_file"]
    if key not in known:
        raise ConfigError(
            f"{path} sets {key!r}, which is no setting",
            hint=f"settings are {', '.join(known)}",
        )
    kind = dict if key in _TABLES else _TOP.get(key, str)
    if not isinstance(entry, kind) or (isinstance(entry, bool) and kind is not bool):
        raise ConfigError(f"{path}: {key} should be {_KINDS[kind]}", path=str(path))
    allowed = _RANGES.get(key)
    if allowed is not None and entry not in allowed:
        raise ConfigError(
            f"{path}: {key} should be between {allowed[0]} and {allowed[-1]}", path=str(path)
        )


def _mirrors(
    environ: Mapping[str, str], written: Mapping[str, Any], path: Path
) -> tuple[Mapping[str, tuple[str, ...]], str]:
    text = environ.get("MODELRUNNER_MIRRORS", "")
    if text:
        return _mirrors_of(text), "MODELRUNNER_MIRRORS"
    table = written.get("mirrors", {})
    found = {}
    for registry, entry in table.items():
        addresses = [entry] if isinstance(entry, str) else entry
        if not isinstance(addresses, list) or not all(isinstance(a, str) for a in addresses):
            raise ConfigError(f"{path}: mirrors of {registry} should be a list of addresses")
        found[registry] = tuple(addresses)
    return found, str(path) if found else "default"


def _mirrors_of(text: str) -> Mapping[str, tuple[str, ...]]:
    found: dict[str, tuple[str, ...]] = {}
    for entry in filter(None, (part.strip() for part in text.split(","))):
        registry, equals, address = entry.partition("=")
        if not equals or not registry or not address:
            raise ConfigError(
                f"MODELRUNNER_MIRRORS: {entry[:100]!r} is not REGISTRY=ADDRESS",
                hint="write docker.io=https://mirror.example.com, several with commas",
            )
        found[registry] = (*found.get(registry, ()), address)
    return found


def _registries(written: Mapping[str, Any], path: Path) -> Mapping[str, RegistrySettings]:
    found = {}
    for registry, entry in written.get("registries", {}).items():
        if not isinstance(entry, dict):
            raise ConfigError(f"{path}: registries.{registry!r} should be a table")
        for key, value in entry.items():
            if key not in _REGISTRY or not isinstance(value, _REGISTRY[key]):
                raise ConfigError(
                    f"{path}: {key!r} of registry {registry} is not understood",
                    hint=f"there are {', '.join(_REGISTRY)}",
                )
        found[registry] = RegistrySettings(
            insecure=entry.get("insecure", False),
            realms=tuple(str(realm) for realm in entry.get("realms", ())),
            ca_file=entry.get("ca_file"),
            client_cert=entry.get("client_cert"),
            client_key=entry.get("client_key"),
        )
    return found


def _docker_config(environ: Mapping[str, str]) -> Path | None:
    if environ.get("DOCKER_CONFIG"):
        return Path(environ["DOCKER_CONFIG"]) / "config.json"
    home = environ.get("HOME") or environ.get("USERPROFILE")
    return Path(home) / ".docker" / "config.json" if home else None
