"""`login` and `logout` against a registry that asks, and with a credential helper."""

import base64
import json
import stat
import sys

import pytest

from tests.support.artifacts import docker_artifact
from tests.support.registry import Registry

SECRET = "s3cret-token"
HELPER = """#!{python}
import json, pathlib, sys
kept = pathlib.Path(__file__).with_name("kept.json")
known = json.loads(kept.read_text()) if kept.exists() else {{}}
text = sys.stdin.read()
if sys.argv[1] == "store":
    entry = json.loads(text)
    known[entry["ServerURL"]] = entry
elif sys.argv[1] == "erase":
    known.pop(text.strip(), None)
elif text.strip() in known:
    print(json.dumps(known[text.strip()]))
else:
    sys.exit("credentials not found in native keychain")
kept.write_text(json.dumps(known))
"""


@pytest.fixture
def registry():
    with Registry() as made:
        made.add(docker_artifact(b"GGUF weights"), "team/model", tags=["1"])
        made.demand_token(users={"ann": SECRET}, private={"team/model"})
        yield made


@pytest.fixture
def docker_config(tmp_path):
    folder = tmp_path / "docker"
    folder.mkdir()
    return folder


def log_in(cli, registry, folder, password=SECRET, **environ):
    return cli(
        "login",
        registry.host,
        "-u",
        "ann",
        "--password-stdin",
        stdin=f"{password}\n".encode(),
        DOCKER_CONFIG=str(folder),
        **environ,
    )


def test_login_opens_a_private_repository_and_logout_closes_it(cli, registry, docker_config):
    reference = f"{registry.host}/team/model:1"
    environ = {"DOCKER_CONFIG": str(docker_config)}
    assert cli("pull", reference, **environ).returncode == 4

    done = log_in(cli, registry, docker_config)

    assert (done.returncode, done.stdout) == (0, "")
    assert cli("pull", reference, **environ).returncode == 0
    assert cli("logout", registry.host, **environ).returncode == 0
    assert cli("tags", reference, **environ).returncode == 4


def test_stored_login_is_for_its_owner_only_and_never_printed(cli, registry, docker_config):
    done = log_in(cli, registry, docker_config)

    config = docker_config / "config.json"
    assert stat.S_IMODE(config.stat().st_mode) == 0o600
    pair = base64.b64encode(f"ann:{SECRET}".encode()).decode()
    assert json.loads(config.read_text()) == {"auths": {registry.host: {"auth": pair}}}
    assert SECRET not in done.stdout + done.stderr


def test_wrong_password_is_refused_and_not_stored(cli, registry, docker_config):
    done = log_in(cli, registry, docker_config, password="wrong")

    assert done.returncode == 4
    assert "wrong" not in done.stderr
    assert not (docker_config / "config.json").exists()


def test_helper_keeps_the_login_where_one_is_configured(cli, registry, docker_config, tmp_path):
    folder = tmp_path / "bin"
    folder.mkdir()
    helper = folder / "docker-credential-fake"
    helper.write_text(HELPER.format(python=sys.executable))
    helper.chmod(0o755)
    (docker_config / "config.json").write_text(json.dumps({"credsStore": "fake", "other": 1}))
    path = f"{folder}:{cli.environ['PATH']}"

    done = log_in(cli, registry, docker_config, PATH=path)

    assert done.returncode == 0, done.stderr
    written = json.loads((docker_config / "config.json").read_text())
    assert written == {"credsStore": "fake", "other": 1, "auths": {registry.host: {}}}
    environ = {"DOCKER_CONFIG": str(docker_config), "PATH": path}
    assert cli("pull", f"{registry.host}/team/model:1", **environ).returncode == 0
    assert cli("logout", registry.host, **environ).returncode == 0
    assert json.loads((folder / "kept.json").read_text()) == {}


def test_helper_that_is_missing_is_an_error_with_its_name(cli, registry, docker_config):
    (docker_config / "config.json").write_text(json.dumps({"credsStore": "missing"}))

    done = log_in(cli, registry, docker_config)

    assert done.returncode == 2
    assert "docker-credential-missing" in done.stderr


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("login", "ghcr.io", "--password-stdin"), "--password-stdin needs --username"),
        (("login", "ghcr.io"), "cannot prompt for a password: stdin is not a terminal"),
        (("login", "word", "-u", "x"), "'word' is not a valid registry"),
    ],
)
def test_login_that_cannot_work_is_a_usage_error(cli, arguments, said):
    done = cli(*arguments)

    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {said}")
