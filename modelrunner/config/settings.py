"""What the user has decided: option > environment > `config.toml` > default, each with its origin.

See `modelrunner.config.file` for what the file says.
"""

import os
import re
import stat
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, Self

from modelrunner.config.containers import ContainerMirrors, container_mirrors
from modelrunner.config.file import read_config, read_mirrors, read_registries
from modelrunner.config.hugging_face import hub_access
from modelrunner.errors import ConfigError
from modelrunner.frozen import field, frozen, replace
from modelrunner.registry.settings import HUB_ENDPOINT, HubAccess, RegistrySettings

_APP = "modelrunner"
DEFAULT_PORT = 12434
DEFAULT_HUB_API = "https://hub.docker.com"
_REQUIRE_GPU = "MODELRUNNER_REQUIRE_GPU"
_XET = "MODELRUNNER_HF_XET"
_SWITCH = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}


@frozen
class Setting:
    """One value, and who says so."""

    name: str
    value: object
    origin: str


@frozen
class Settings:
    """All settings, resolved once; only the command line makes them."""

    home: Path
    runtime: str = "auto"
    state_home: Path | None = None
    context: int | None = None
    threads: int | None = None
    system: str | None = None
    port: int = DEFAULT_PORT
    hub_api: str = DEFAULT_HUB_API
    container_image: str = ""
    hub: HubAccess = field(default_factory=HubAccess)
    reuse: bool = True
    lan: bool = False
    require_gpu: bool = False
    mirrors: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    registries: Mapping[str, RegistrySettings] = field(default_factory=dict)
    docker_config: Path | None = None
    auth_files: tuple[Path, ...] = ()
    ca_file: str | None = None
    verify: Path | None = None
    shown: tuple[Setting, ...] = ()

    @classmethod
    def load(cls, environ: Mapping[str, str], *, defaults: bool = False) -> Self:
        """Resolves the settings from an environment and the file that it leads to.

        Args:
            environ: The environment.
            defaults: Leave `config.toml` and the mirrors out, for a diagnosis of what they say.

        Raises:
            ConfigError: The file or a variable says something that is not understood.
        """
        home, home_origin = _home(environ)
        path = home / "config.toml"
        written = {} if defaults else read_config(path)
        shown = [Setting("home", str(home), home_origin)]
        exists = "" if path.exists() else " (does not exist)"
        shown.append(Setting("config_file", f"{path}{exists}", home_origin))

        state_home, state_origin = _state_home(environ, home)
        shown.append(Setting("state", str(state_home / "state"), state_origin))

        def chosen(name: str, variable: str | None, default: object) -> Any:  # noqa: ANN401
            found, origin = default, "default"
            if variable and environ.get(variable):
                found, origin = environ[variable], variable
            elif name in written:
                found, origin = written[name], str(path)
            shown.append(Setting(name, found, origin))
            return found

        named = {} if defaults else environ
        mirrors, mirrors_origin = read_mirrors(named, written, path)
        shown.append(Setting("mirrors", {k: list(v) for k, v in mirrors.items()}, mirrors_origin))
        containers = ContainerMirrors() if defaults else container_mirrors(environ)
        also = {key: found for key, found in containers.mirrors.items() if key not in mirrors}
        shown.append(
            Setting("containers_mirrors", {k: list(v) for k, v in also.items()}, containers.origin)
        )
        mirrors = {**mirrors, **also}
        registries = read_registries(written, path)
        origin = str(path) if registries else "default"
        shown.append(Setting("registries", dict(written.get("registries", {})), origin))
        for host in containers.insecure:
            registries = {host: RegistrySettings(insecure=True), **registries}
        docker_config = _docker_config(environ)
        settings = cls(
            home=home,
            state_home=state_home,
            runtime=chosen("runtime", "MODELRUNNER_RUNTIME", "auto"),
            context=chosen("context", None, None),
            threads=chosen("threads", None, None),
            system=chosen("system", None, None),
            port=chosen("port", None, DEFAULT_PORT),
            hub_api=chosen("hub_api", "MODELRUNNER_HUB_API", DEFAULT_HUB_API),
            container_image=chosen("container_image", "MODELRUNNER_CONTAINER_IMAGE", ""),
            hub=hub_access(
                environ,
                chosen("hf_endpoint", "HF_ENDPOINT", HUB_ENDPOINT),
                xet=_switch(_XET, chosen("hf_xet", _XET, False)),  # noqa: FBT003
            ),
            reuse=chosen("reuse", None, True),  # noqa: FBT003
            lan=chosen("lan", None, False),  # noqa: FBT003
            require_gpu=_switch(_REQUIRE_GPU, chosen("require_gpu", _REQUIRE_GPU, False)),  # noqa: FBT003
            mirrors=mirrors,
            registries=registries,
            docker_config=docker_config,
            auth_files=_auth_files(environ),
            ca_file=chosen("ca_file", "SSL_CERT_FILE", None),
            verify=Path(environ["MODELRUNNER_VERIFY"])
            if environ.get("MODELRUNNER_VERIFY")
            else None,
        )
        shown += [
            Setting("verify", str(settings.policy), _variable(environ, "MODELRUNNER_VERIFY")),
            Setting("api_key", *_secret(environ, "MODELRUNNER_API_KEY")),
            Setting("hf_token", "set" if settings.hub.token else None, settings.hub.token_origin),
            Setting(
                "hf_offline", settings.hub.offline is not None, settings.hub.offline or "default"
            ),
            Setting(
                "docker_config",
                None if docker_config is None else str(docker_config),
                _variable(environ, "DOCKER_CONFIG"),
            ),
            Setting(
                "history",
                not environ.get("MODELRUNNER_NOHISTORY"),
                _variable(environ, "MODELRUNNER_NOHISTORY"),
            ),
            Setting(
                "source_date_epoch",
                environ.get("SOURCE_DATE_EPOCH") or None,
                _variable(environ, "SOURCE_DATE_EPOCH"),
            ),
            *(_proxy(environ, name) for name in ("https_proxy", "http_proxy", "no_proxy")),
        ]
        return replace(settings, shown=tuple(shown))

    def origin_of(self, name: str) -> str:
        """Who says what a setting is: a variable, a file, or `default`."""
        return next((entry.origin for entry in self.shown if entry.name == name), "default")

    @property
    def store(self) -> Path:
        """Where models are kept."""
        return self.home / "store"

    @property
    def runtimes(self) -> Path:
        """Where runtimes are installed."""
        return self.home / "runtimes"

    @property
    def cards(self) -> Path:
        """Where descriptions from Docker Hub are kept for a while."""
        return self._state_home / "cache" / "cards"

    @property
    def pushed(self) -> Path:
        """What others have pushed to `share`."""
        return self.home / "registry"

    @property
    def shared_cache(self) -> Path:
        """The cache of what `share` has fetched for others."""
        return self._state_home / "cache" / "share"

    @property
    def headers(self) -> Path:
        """The cache of the headers that estimates have read from registries."""
        return self._state_home / "cache" / "headers"

    @property
    def devices(self) -> Path:
        """The cache of the devices that the runtimes can use."""
        return self._state_home / "cache" / "devices.json"

    @property
    def state(self) -> Path:
        """Where histories, logs and what was learnt are noted.

        Raises:
            ConfigError: It would lie in a directory that another user has made.
        """
        return self._state_home / "state"

    @property
    def own_state(self) -> Path:
        """Where the home keeps its state, or has kept it before it became read-only."""
        return self.home / "state"

    @property
    def _state_home(self) -> Path:
        if self.state_home is None:
            return self.home
        if self.origin_of("state") == _READ_ONLY:
            _require_private(self.state_home)
        return self.state_home

    @property
    def policy(self) -> Path:
        """Whose signature models have to have; see `has_policy`."""
        return self.verify or self.home / "verify.toml"

    @property
    def has_policy(self) -> bool:
        """Whether there is a policy: a file that is named, or linked, has to be there."""
        return self.verify is not None or os.path.lexists(self.policy)

    @property
    def verified(self) -> Path:
        """Where it is noted what was verified."""
        return self.state / "verified"

    @property
    def servers(self) -> Path:
        """Where servers of models keep their records and logs."""
        return self.state / "serve"


def _switch(variable: str, value: object) -> bool:
    """Return a value of the file, or the text of a variable, as true or false.

    Raises:
        ConfigError: The text is neither.
    """
    if isinstance(value, bool):
        return value
    found = _SWITCH.get(str(value).lower())
    if found is None:
        raise ConfigError(
            f"{variable} must be true or false, got {str(value)[:80]!r}",
            hint=f"set {variable}=true, or unset it",
        )
    return found


def _variable(environ: Mapping[str, str], name: str) -> str:
    """Who says it: the variable, where it is set."""
    return name if environ.get(name) else "default"


def _secret(environ: Mapping[str, str], name: str) -> tuple[str | None, str]:
    return ("set", name) if environ.get(name) else (None, "default")


def _proxy(environ: Mapping[str, str], name: str) -> Setting:
    """A proxy, without the password in its address."""
    for variable in (name, name.upper()):
        value = environ.get(variable)
        if value:
            return Setting(name, re.sub(r"//[^/@]*@", "//***@", value), variable)
    return Setting(name, None, "default")


def _home(environ: Mapping[str, str]) -> tuple[Path, str]:
    try:
        if environ.get("MODELRUNNER_HOME"):
            named = Path(environ["MODELRUNNER_HOME"])
            return named.expanduser().absolute(), "MODELRUNNER_HOME"
        return _plain_home() or _home_of_platform(), "default"
    except RuntimeError as exc:
        # no HOME, and a user that the system does not know, as in a container
        raise ConfigError(
            "no home directory found to store models in",
            hint="set MODELRUNNER_HOME to a directory that you own",
        ) from exc


def _plain_home() -> Path | None:
    """The directory that `platformdirs` would name, where that is plain to see.

    Its import takes half as long as the bare interpreter, and most people have no variable of ours.
    """
    if sys.platform != "linux" or "ANDROID_DATA" in os.environ:
        return None
    data, home = os.environ.get("XDG_DATA_HOME"), os.environ.get("HOME", "")
    if data is None and home.startswith("/"):
        data = f"{home.rstrip('/')}/.local/share"
    return Path(data, _APP) if data and data.startswith("/") else None


def _home_of_platform() -> Path:
    from platformdirs import user_data_path

    return user_data_path(_APP, appauthor=False).expanduser().absolute()


_READ_ONLY = "MODELRUNNER_HOME is read-only"


def _state_home(environ: Mapping[str, str], home: Path) -> tuple[Path, str]:
    """The directory of `state/` and `cache/`: where the home is read-only, one of the user's."""
    if environ.get("MODELRUNNER_STATE"):
        named = Path(environ["MODELRUNNER_STATE"])
        try:
            return named.expanduser().absolute(), "MODELRUNNER_STATE"
        except RuntimeError as exc:
            raise ConfigError(
                f"MODELRUNNER_STATE: no home directory for {named}",
                hint="set it to an absolute path",
            ) from exc
    there = home
    while not there.exists() and there != there.parent:
        there = there.parent
    if os.access(there, os.W_OK) and _is_writable(home / "state"):
        return home, "default"
    import tempfile

    if os.name != "posix":
        return Path(tempfile.gettempdir()) / _state_name(home), _READ_ONLY
    for folder in (environ.get("XDG_RUNTIME_DIR"), f"/run/user/{os.geteuid()}"):
        if folder and Path(folder).is_absolute() and _is_private(Path(folder)):
            return Path(folder) / _state_name(home), _READ_ONLY
    try:
        temporary = tempfile.gettempdir()
    except FileNotFoundError:
        # nothing can be written anywhere: whoever has to write says so
        return home, "default"
    return Path(temporary) / f"{_state_name(home)}-{os.geteuid()}", _READ_ONLY


def _state_name(home: Path) -> str:
    """Tells homes apart: each has servers and a history of its own."""
    # few homes cannot be written to
    import hashlib

    return f"modelrunner-{hashlib.sha256(os.fsencode(home)).hexdigest()[:12]}"


def _is_writable(folder: Path) -> bool:
    """Whether files can be made in a directory; one that is missing is for the caller to judge."""
    return not folder.exists() or os.access(folder, os.W_OK)


def _is_private(folder: Path) -> bool:
    """Whether a directory is this user's, and no other's to write to; a link is not."""
    try:
        found = folder.lstat()
    except OSError:
        return False
    return (
        stat.S_ISDIR(found.st_mode)
        and found.st_uid == os.geteuid()
        and not found.st_mode & (stat.S_IWGRP | stat.S_IWOTH)
        and os.access(folder, os.W_OK)
    )


def _require_private(folder: Path) -> None:
    """Makes a directory that nobody else may enter, or sees that it is one.

    Raises:
        ConfigError: Another user has made it, or may write to it.
    """
    if os.name != "posix":
        return
    with suppress(OSError):
        folder.mkdir(mode=0o700)
    if folder.exists() or folder.is_symlink():
        if _is_private(folder):
            return
        raise ConfigError(
            f"{folder} must be a directory that only this user can access",
            hint="set MODELRUNNER_STATE to a directory that you own: MODELRUNNER_HOME is read-only",
            path=str(folder),
        )


def _docker_config(environ: Mapping[str, str]) -> Path | None:
    if environ.get("DOCKER_CONFIG"):
        return Path(environ["DOCKER_CONFIG"]) / "config.json"
    home = environ.get("HOME") or environ.get("USERPROFILE")
    return Path(home) / ".docker" / "config.json" if home else None


def _auth_files(environ: Mapping[str, str]) -> tuple[Path, ...]:
    """Podman's files of logins (containers-auth.json(5)), where it looks for them."""
    if environ.get("REGISTRY_AUTH_FILE"):
        return (Path(environ["REGISTRY_AUTH_FILE"]),)
    found = []
    if environ.get("XDG_RUNTIME_DIR"):
        found.append(Path(environ["XDG_RUNTIME_DIR"]) / "containers" / "auth.json")
    home = environ.get("HOME") or environ.get("USERPROFILE")
    config = environ.get("XDG_CONFIG_HOME") or (str(Path(home) / ".config") if home else "")
    if config:
        found.append(Path(config) / "containers" / "auth.json")
    return tuple(found)
