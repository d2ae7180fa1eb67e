import os
import subprocess
import sys
import tempfile
from pathlib import Path

import platformdirs
import pytest

from modelrunner.config.settings import Settings
from modelrunner.errors import ConfigError
from modelrunner.registry.settings import RegistrySettings


@pytest.fixture
def home(tmp_path: Path) -> Path:
    folder = tmp_path / "home"
    folder.mkdir()
    return folder


def load(home: Path, text: str = "", **environ: str) -> Settings:
    if text:
        (home / "config.toml").write_text(text)
    return Settings.load({"MODELRUNNER_HOME": str(home), "HOME": "/nobody", **environ})


def origins(settings: Settings) -> dict[str, str]:
    return {entry.name: entry.origin for entry in settings.shown}


def test_without_a_word_there_are_defaults(home: Path) -> None:
    found = load(home)
    assert (found.runtime, found.context, found.threads, found.port) == ("auto", None, None, 12434)
    assert (found.store, found.state) == (home / "store", home / "state")
    assert found.docker_config == Path("/nobody/.docker/config.json")
    assert set(origins(found).values()) == {"MODELRUNNER_HOME", "default"}


def test_the_environment_wins_over_the_file(home: Path) -> None:
    found = load(home, 'runtime = "xllamacpp"\ncontext = 4096\n', MODELRUNNER_RUNTIME="auto")
    assert (found.runtime, found.context) == ("auto", 4096)
    assert origins(found)["runtime"] == "MODELRUNNER_RUNTIME"
    assert origins(found)["context"] == str(home / "config.toml")


def test_an_empty_variable_says_nothing(home: Path) -> None:
    found = load(home, 'runtime = "xllamacpp"\n', MODELRUNNER_RUNTIME="", MODELRUNNER_MIRRORS="")
    assert (found.runtime, found.mirrors) == ("xllamacpp", {})


def test_registry_is_known_by_every_spelling_of_it(home: Path) -> None:
    text = "index.docker.io=http://a,Docker.io=http://b,GHCR.io=http://c"
    assert load(home, MODELRUNNER_MIRRORS=text).mirrors == {
        "docker.io": ("http://a", "http://b"),
        "ghcr.io": ("http://c",),
    }
    written = '[registries."Registry-1.Docker.io"]\nrealms = ["auth.example.com"]\n'
    assert load(home, written).registries == {
        "docker.io": RegistrySettings(realms=("auth.example.com",))
    }


def test_mirrors_keep_their_order(home: Path) -> None:
    text = "docker.io=http://a, docker.io=http://b,ghcr.io=http://c"
    assert load(home, MODELRUNNER_MIRRORS=text).mirrors == {
        "docker.io": ("http://a", "http://b"),
        "ghcr.io": ("http://c",),
    }
    written = '[mirrors]\n"docker.io" = ["http://a", "http://b"]\n"ghcr.io" = "http://c"\n'
    assert load(home, written).mirrors == load(home, MODELRUNNER_MIRRORS=text).mirrors


def test_a_registry_may_be_plain_and_have_realms(home: Path) -> None:
    written = '[registries."r.example:5000"]\ninsecure = true\nrealms = ["auth.example"]\n'
    found = load(home, written).registries["r.example:5000"]
    assert (found.insecure, found.realms, found.ca_file) == (True, ("auth.example",), None)


def test_a_home_under_tilde_is_the_users(monkeypatch: pytest.MonkeyPatch, home: Path) -> None:
    monkeypatch.setenv("HOME", str(home.parent))
    assert Settings.load({"MODELRUNNER_HOME": "~/home"}).home == home


def test_a_home_that_is_not_there_yet_is_fine(tmp_path: Path) -> None:
    assert load(tmp_path / "later").home == tmp_path / "later"
    assert not (tmp_path / "later").exists()


def test_docker_says_where_its_configuration_is(home: Path) -> None:
    assert load(home, DOCKER_CONFIG="/etc/docker").docker_config == Path("/etc/docker/config.json")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("contxt = 1", "unknown setting 'contxt'"),
        ('context = "long"', "context must be a whole number"),
        ("context = true", "context must be a whole number"),
        ("context = 1.5", "context must be a whole number"),
        ("context = 0", "context must be from 1 to"),
        ("threads = -1", "threads must be from 1 to"),
        ("port = 65536", "port must be from 0 to 65535"),
        ("runtime = 1", "runtime must be text"),
        ("mirrors = 1", "mirrors must be a table"),
        ('[mirrors]\n"docker.io" = 1', "must be a list of URLs"),
        ('[mirrors]\n"docker.io/ai" = "http://a"', "invalid registry 'docker.io/ai'"),
        ('[registries."a b"]\ninsecure = true', "invalid registry 'a b'"),
        ("[registries]\nr = 1", "must be a table"),
        ("[registries.r]\ninsecure = 'yes'", "insecure of registry r must be true or false"),
        ("[registries.r]\nsecure = true", "unknown key 'secure' of registry r"),
        ("context =", "invalid TOML at end of document"),
    ],
)
def test_what_is_not_understood_is_an_error_that_names_it(
    home: Path, text: str, complaint: str
) -> None:
    with pytest.raises(ConfigError) as raised:
        load(home, text)
    assert complaint in raised.value.message
    assert "config.toml" in raised.value.message


def test_bytes_that_are_no_text_are_an_error(home: Path) -> None:
    (home / "config.toml").write_bytes(b"\xff")
    with pytest.raises(ConfigError, match="expected UTF-8 text"):
        load(home)


def test_a_file_in_place_of_the_home_is_an_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="is not a directory"):
        load(tmp_path / "file")


@pytest.mark.parametrize("text", ["docker.io", "=http://a", "docker.io=", "a=b,c"])
def test_a_mirror_needs_both_halves(home: Path, text: str) -> None:
    with pytest.raises(ConfigError, match="expected REGISTRY=URL"):
        load(home, MODELRUNNER_MIRRORS=text)


@pytest.mark.skipif(sys.platform != "linux", reason="the default folder differs elsewhere")
def test_without_a_home_directory_it_is_said_what_to_set(monkeypatch: pytest.MonkeyPatch) -> None:
    def unknown(_uid: int) -> None:
        raise KeyError("no such user")

    monkeypatch.delenv("HOME")
    monkeypatch.setattr("pwd.getpwuid", unknown)
    for environ in ({}, {"MODELRUNNER_HOME": "~/models"}):
        with pytest.raises(ConfigError, match="no home directory") as caught:
            Settings.load(environ)
        assert caught.value.hint == "set MODELRUNNER_HOME to a directory that you own"


def test_logins_of_podman_are_looked_for_where_podman_keeps_them(home):
    found = load(home, HOME="/nobody", XDG_RUNTIME_DIR="/run/user/1")
    assert found.auth_files == (
        Path("/run/user/1/containers/auth.json"),
        Path("/nobody/.config/containers/auth.json"),
    )
    found = load(home, HOME="/nobody", XDG_CONFIG_HOME="/c")
    assert found.auth_files == (Path("/c/containers/auth.json"),)
    found = load(home, HOME="/nobody", REGISTRY_AUTH_FILE="/run/secrets/auth.json")
    assert found.auth_files == (Path("/run/secrets/auth.json"),)


@pytest.fixture
def sealed(home: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A home that cannot be written, and a temporary directory of the test's own."""
    real = os.access

    def access(path: os.PathLike[str], mode: int) -> bool:
        return real(path, mode) and not (mode & os.W_OK and Path(path).is_relative_to(home))

    monkeypatch.setattr(os, "access", access)
    monkeypatch.setattr(tempfile, "gettempdir", lambda: str(tmp_path / "temporary"))
    (tmp_path / "temporary").mkdir()
    return home


def test_a_variable_moves_the_state_and_the_cache(home: Path, tmp_path: Path) -> None:
    found = load(home, MODELRUNNER_STATE=str(tmp_path / "moved"))
    assert (found.state, found.servers) == (
        tmp_path / "moved/state",
        tmp_path / "moved/state/serve",
    )
    assert found.cards == tmp_path / "moved/cache/cards"
    assert (found.store, found.own_state) == (home / "store", home / "state")
    assert origins(found)["state"] == "MODELRUNNER_STATE"


def test_the_state_of_a_read_only_home_goes_to_the_runtime_directory(
    sealed: Path, tmp_path: Path
) -> None:
    runtime = tmp_path / "runtime"
    runtime.mkdir(mode=0o700)
    found = load(sealed, XDG_RUNTIME_DIR=str(runtime))
    assert found.state.parent.parent == runtime
    assert found.state.parent.stat().st_mode & 0o777 == 0o700
    assert origins(found)["state"] == "MODELRUNNER_HOME is read-only"
    assert load(sealed, XDG_RUNTIME_DIR=str(runtime)).state == found.state
    (tmp_path / "other").mkdir()
    assert load(tmp_path / "other").state == tmp_path / "other/state"


def test_without_a_runtime_directory_the_state_goes_to_a_private_temporary_one(
    sealed: Path, tmp_path: Path
) -> None:
    if Path(f"/run/user/{os.geteuid()}").is_dir():
        pytest.skip("this user has a runtime directory")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    found = load(sealed, XDG_RUNTIME_DIR=str(tmp_path / "open"))
    assert list((tmp_path / "temporary").iterdir()) == []
    assert found.state.parent.parent == tmp_path / "temporary"
    assert found.state.parent.stat().st_mode & 0o777 == 0o700


@pytest.mark.parametrize("planted", ["a link", "open to others"])
def test_a_state_directory_that_somebody_has_planted_is_refused(
    sealed: Path, tmp_path: Path, planted: str
) -> None:
    if Path(f"/run/user/{os.geteuid()}").is_dir():
        pytest.skip("this user has a runtime directory")
    found = load(sealed)
    folder = found.state.parent
    folder.rmdir()
    if planted == "a link":
        (tmp_path / "elsewhere").mkdir()
        folder.symlink_to(tmp_path / "elsewhere")
    else:
        folder.mkdir()
        folder.chmod(0o777)
    with pytest.raises(
        ConfigError, match="must be a directory that only this user can access"
    ) as caught:
        _ = found.state
    assert "MODELRUNNER_STATE" in (caught.value.hint or "")
    assert found.store == sealed / "store"


@pytest.mark.parametrize("home", ["/home/jo", "/", "//x/", "relative", "", "~", "/a b/../c", None])
@pytest.mark.parametrize("data", ["/data", "/data/", "relative", "", "  ", "~/x", None])
def test_the_home_is_where_the_platform_keeps_data(monkeypatch, home, data):
    for name, value in {"HOME": home, "XDG_DATA_HOME": data}.items():
        monkeypatch.delenv(name, raising=False)
        if value is not None:
            monkeypatch.setenv(name, value)
    there = platformdirs.user_data_path("modelrunner", appauthor=False).expanduser().absolute()
    assert Settings.load({}).home == there


def test_the_usual_home_needs_nothing_of_the_platform(tmp_path):
    program = (
        "import os, sys\nfrom modelrunner.config.settings import Settings\n"
        "print(Settings.load(os.environ).home, 'platformdirs' in sys.modules)\n"
    )
    command = [sys.executable, "-c", program]
    environ = {"HOME": str(tmp_path)}
    done = subprocess.run(command, env=environ, capture_output=True, text=True, check=True)
    home = tmp_path / ".local" / "share" / "modelrunner"
    assert done.stdout == f"{home} {sys.platform != 'linux'}\n"
