"""What the user has decided: option > environment > `config.toml` > default, each with its origin.

See `modelrunner.config_file` for what the file says.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from modelrunner.config_file import read_config, read_mirrors, read_registries
from modelrunner.errors import ConfigError
from modelrunner.registry.settings import HUB_ENDPOINT, RegistrySettings

if TYPE_CHECKING:
    from modelrunner.registry.select import Places

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
        written = read_config(path)
        shown = [Setting("home", str(home), home_origin)]

        def chosen(name: str, variable: str | None, default: object) -> Any:  # noqa: ANN401
            found, origin = default, "default"
            if variable and environ.get(variable):
                found, origin = environ[variable], variable
            elif name in written:
                found, origin = written[name], str(path)
            shown.append(Setting(name, found, origin))
            return found

        mirrors, mirrors_origin = read_mirrors(environ, written, path)
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
            registries=read_registries(written, path),
            docker_config=_docker_config(environ),
            ca_file=chosen("ca_file", "SSL_CERT_FILE", None),
            verify=Path(environ["MODELRUNNER_VERIFY"])
            if environ.get("MODELRUNNER_VERIFY")
            else None,
            shown=tuple(shown),
        )

    def origin_of(self, name: str) -> str:
        """Who says what a setting is: a variable, a file, or `default`."""
        return next((entry.origin for entry in self.shown if entry.name == name), "default")

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
            "no home directory to keep models in",
            hint="set MODELRUNNER_HOME to a directory of yours",
        ) from exc


def _docker_config(environ: Mapping[str, str]) -> Path | None:
    if environ.get("DOCKER_CONFIG"):
        return Path(environ["DOCKER_CONFIG"]) / "config.json"
    home = environ.get("HOME") or environ.get("USERPROFILE")
    return Path(home) / ".docker" / "config.json" if home else None
