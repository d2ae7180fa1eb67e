"""Docker's configuration, its helpers, and what is wrong with them on real machines."""

import errno
import json
import os
import stat
from pathlib import Path

import pytest

from modelrunner.errors import ConfigError
from modelrunner.registry.credentials import Credential, DockerCredentials
from modelrunner.registry.helpers import HelperSilentError
from tests.support.pulling import docker_config
from tests.support.waiting import alive, wait_until

HUB_KEY = "https://index.docker.io/v1/"


def find(folder, registry, text=None, **config):
    if text is None:
        text = json.dumps(config)
    folder.mkdir(exist_ok=True)
    (folder / "config.json").write_text(text)
    return DockerCredentials(folder / "config.json").find(registry)


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Puts `docker-credential-NAME` on the path: a shell script that gets the server on stdin."""
    monkeypatch.setenv("PATH", str(tmp_path / "bin"), prepend=os.pathsep)
    (tmp_path / "bin").mkdir()

    def make(name, script):
        path = tmp_path / "bin" / f"docker-credential-{name}"
        path.write_text(f"#!/bin/sh\nread server\n{script}\n")
        path.chmod(path.stat().st_mode | stat.S_IXUSR)

    return make


def saying(user, secret):
    return f"""echo '{{"Username":"{user}","Secret":"{secret}"}}'"""


def test_no_configuration_is_nobody(tmp_path):
    assert DockerCredentials(None).find("ghcr.io") is None
    assert DockerCredentials(tmp_path / "config.json").find("ghcr.io") is None


def test_login_is_found_by_registry(tmp_path):
    path = docker_config(tmp_path, {"ghcr.io": ("me", "pass:word"), "r.example:5000": ("you", "b")})
    found = DockerCredentials(path)
    assert found.find("ghcr.io") == Credential("me", "pass:word")
    assert found.find("r.example:5000") == Credential("you", "b")
    assert found.find("r.example") is None
    assert found.find("docker.io") is None


@pytest.mark.parametrize(
    "key",
    [
        HUB_KEY,
        "index.docker.io",
        "docker.io",
        "registry-1.docker.io",
        "https://registry-1.docker.io/v2/",
        "registry.hub.docker.com",
    ],
)
def test_login_of_docker_hub_is_found_however_it_is_spelled(tmp_path, key):
    path = docker_config(tmp_path, {key: ("me", "word")})
    assert DockerCredentials(path).find("docker.io") == Credential("me", "word")


def test_address_as_key_is_understood(tmp_path):
    path = docker_config(tmp_path, {"https://r.example/v2/": ("me", "word")})
    assert DockerCredentials(path).find("r.example") == Credential("me", "word")


def test_identity_token_in_the_file(tmp_path):
    found = find(tmp_path, "r.example", auths={"r.example": {"identitytoken": "refresh"}})
    assert found == Credential(identity_token="refresh")


def test_helper_of_one_registry_is_asked_before_the_store_of_all(tmp_path, helper):
    helper("one", saying("one", "1"))
    helper("all", saying("all", "2"))
    config = {"credHelpers": {"r.example": "one"}, "credsStore": "all"}
    assert find(tmp_path / "d", "r.example", **config) == Credential("one", "1")
    assert find(tmp_path / "d", "other.example", **config) == Credential("all", "2")


def test_helper_is_asked_for_docker_hub_by_the_name_that_docker_uses(tmp_path, helper):
    helper("x", f'[ "$server" = "{HUB_KEY}" ] && {saying("me", "word")}')
    assert find(tmp_path / "d", "docker.io", credsStore="x") == Credential("me", "word")


def test_helper_may_hold_an_identity_token(tmp_path, helper):
    helper("x", saying("<token>", "refresh"))
    found = find(tmp_path / "d", "r.example", credsStore="x")
    assert found == Credential(identity_token="refresh")


def test_helper_without_an_entry_leaves_it_to_the_file(tmp_path, helper):
    helper("x", "echo 'credentials not found in native keychain'; exit 1")
    auths = {"r.example": {"auth": "bWU6d29yZA=="}}
    found = find(tmp_path / "d", "r.example", credsStore="x", auths=auths)
    assert found == Credential("me", "word")


@pytest.mark.parametrize(
    "script",
    [
        "exit 3",
        "echo keyring is locked; exit 1",
        "echo not json",
        "echo '[]'",
        "echo '{}'",
        "echo '\"text\"'",
        "printf '\\377\\376'",
        """echo '{"Username":"","Secret":""}'""",
        "kill -9 $$",
    ],
)
def test_broken_helper_leaves_us_anonymous(tmp_path, helper, script):
    helper("x", script)
    assert find(tmp_path / "d", "r.example", credsStore="x") is None


def test_helper_that_is_not_installed_leaves_us_anonymous_without_a_word(tmp_path, capfd):
    assert find(tmp_path, "r.example", credsStore="nowhere") is None
    assert capfd.readouterr() == ("", "")


def test_what_a_failing_helper_prints_is_not_logged(tmp_path, helper, caplog):
    caplog.set_level("DEBUG")
    helper("x", f"{saying('me', 's3cret')}; exit 1")
    assert find(tmp_path / "d", "r.example", credsStore="x") is None
    assert "s3cret" not in caplog.text


@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "[]",
        "null",
        "5",
        '{"auths": []}',
        '{"auths": ["r.example"]}',
        '{"auths": {"r.example": 5}}',
        '{"auths": {"r.example": {"auth": 5}}}',
        '{"auths": {"r.example": {"auth": "%%%"}}}',
        '{"auths": {"r.example": {"auth": "bm9jb2xvbg=="}}}',
        '{"auths": {"r.example": {}}}',
        '{"credHelpers": "x"}',
        '{"credHelpers": {"r.example": 5}}',
        '{"credsStore": 5}',
        '{"HttpHeaders": {"a": "b"}}',
        "\x00",
    ],
)
def test_configuration_that_cannot_be_read_leaves_us_anonymous(tmp_path, text):
    assert find(tmp_path, "r.example", text) is None


def test_helper_that_hangs_is_ended_with_its_children_and_named(tmp_path, helper):
    noted = tmp_path / "children"
    helper("x", f"sleep 600 & echo $! > {noted}; sleep 600")
    config = tmp_path / "config.json"
    config.write_text('{"credsStore": "x"}')
    with pytest.raises(HelperSilentError, match="docker-credential-x for 1 s") as caught:
        DockerCredentials(config).find("r.example", 1.0)
    assert caught.value.hint.startswith("run `docker-credential-x list`")
    assert caught.value.exit_code == 5
    child = int(noted.read_text())
    wait_until(lambda: not alive(child))


def test_helper_of_docker_hub_may_be_written_as_people_write_it(tmp_path, helper):
    helper("x", f'[ "$server" = "{HUB_KEY}" ] && {saying("me", "word")}')
    found = find(tmp_path / "d", "docker.io", credHelpers={"docker.io": "x"})
    assert found == Credential("me", "word")


def test_login_of_podman_is_found_after_that_of_docker(tmp_path):
    docker = docker_config(tmp_path / "d", {"ghcr.io": ("docker", "1")})
    podman = docker_config(tmp_path / "p", {"ghcr.io": ("podman", "2"), "quay.io": ("podman", "3")})
    found = DockerCredentials(docker, (tmp_path / "nowhere.json", podman))
    assert found.find("ghcr.io") == Credential("docker", "1")
    assert found.find("quay.io") == Credential("podman", "3")


def test_login_of_a_namespace_in_the_file_of_podman_is_not_that_of_its_registry(tmp_path):
    podman = docker_config(tmp_path, {"quay.io/team": ("me", "word")})
    assert DockerCredentials(None, (podman,)).find("quay.io") is None


def unreadable(folder: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> Path:
    """A file with a login, each read of which fails."""
    config = docker_config(folder, {"registry.example": ("me", "you")})

    def fails(_path: Path) -> bytes:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(Path, "read_bytes", fails)
    return config


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE])
def test_a_disk_that_does_not_give_the_file_is_not_taken_for_no_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    config = unreadable(tmp_path, monkeypatch, number)
    with pytest.raises(ConfigError, match=r"cannot read .*config\.json: ") as caught:
        DockerCredentials(config).find("registry.example")
    assert caught.value.hint == "check its disk, or set DOCKER_CONFIG to another directory"


@pytest.mark.parametrize("number", [errno.EACCES, errno.ENOENT])
def test_the_file_of_another_user_has_no_login_for_us(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    config = unreadable(tmp_path, monkeypatch, number)
    assert DockerCredentials(config).find("registry.example") is None
