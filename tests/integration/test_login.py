"""`login` and `logout` against a registry that asks, and with a credential helper."""

import base64
import errno
import json
import stat
import sys

import pytest

from tests.support.artifacts import docker_artifact
from tests.support.faults.calls import always, build
from tests.support.processes import child, run_together
from tests.support.registry import Registry
from tests.support.registry_messages import Reply
from tests.support.registry_server import Origin

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


def test_login_through_a_link_is_written_where_the_link_leads(
    cli, registry, docker_config, tmp_path
):
    kept = tmp_path / "dotfiles" / "docker.json"
    kept.parent.mkdir()
    kept.write_text('{"other": 1}')
    config = docker_config / "config.json"
    config.symlink_to(kept)

    assert log_in(cli, registry, docker_config).returncode == 0

    assert config.is_symlink()
    assert json.loads(kept.read_text())["auths"].keys() == {registry.host}
    assert cli("logout", registry.host, DOCKER_CONFIG=str(docker_config)).returncode == 0
    assert config.is_symlink()
    assert json.loads(kept.read_text()) == {"other": 1, "auths": {}}


def test_what_a_killed_login_has_left_is_removed_by_the_next(cli, registry, docker_config):
    code = """
from pathlib import Path
from modelrunner.disk.files import temporary_beside
temporary_beside(Path(sys.argv[1])).write_bytes(b"{")
print("written", flush=True)
sys.stdin.read()
"""
    with child(code, docker_config / "config.json") as killed:
        killed.hear("written")
        killed.kill()
    assert len(list(docker_config.iterdir())) == 1
    assert log_in(cli, registry, docker_config).returncode == 0
    assert sorted(path.name for path in docker_config.iterdir()) == [
        ".config.json.modelrunner-lock",
        "config.json",
    ]


def test_a_login_that_a_full_disk_does_not_take_is_a_matter_of_capacity(
    cli, registry, docker_config, tmp_path
):
    full = always(build(tmp_path), docker_config, errno.ENOSPC, "write")
    done = log_in(cli, registry, docker_config, **full)
    assert (done.returncode, done.stderr) == (
        7,
        (
            f"error: cannot write {docker_config}/config.json: no space left on device\n"
            "hint: free some space on its disk, or set DOCKER_CONFIG to another directory\n"
        ),
    )
    assert sorted(path.name for path in docker_config.iterdir()) == [
        ".config.json.modelrunner-lock"
    ]


def test_logins_at_once_lose_none(tmp_path):
    code = (
        "import sys; from pathlib import Path;"
        "from modelrunner.registry.login import LoginStore;"
        "from modelrunner.registry.credentials import Credential;"
        "store = LoginStore(Path(sys.argv[1]));"
        "[store.save(f'r{sys.argv[2]}-{n}.example', Credential('me', 'word')) for n in range(25)]"
    )
    config = tmp_path / "config.json"

    run_together(code, [(config, number) for number in range(4)])

    assert len(json.loads(config.read_text())["auths"]) == 100


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


class Answering(Origin):
    """A server that answers everything in one way."""

    def __init__(self, status, headers, content):
        super().__init__()
        self.reply = (status, headers, content)

    def respond(self, request):
        status, headers, content = self.reply
        if headers.get("Location") == "/page" and request.path == "/page":
            return Reply(200, {"Content-Type": "text/html"}, b"<html>log in here</html>")
        return Reply(status, headers, content)


HTML = {"Content-Type": "text/html; charset=utf-8"}
JSON = {"Content-Type": "application/json"}
V2 = {"Docker-Distribution-Api-Version": "registry/2.0"}
BEARER = {"WWW-Authenticate": 'Bearer realm="http://127.0.0.1:1/token",service="x"'}


@pytest.mark.parametrize(
    ("status", "headers", "content", "code"),
    [
        (200, HTML, b"<html>welcome</html>", 5),
        (200, HTML, b"welcome", 5),
        (200, {}, b"  <!doctype html><p>welcome", 5),
        (200, {**V2, **HTML}, b"<html>welcome</html>", 5),
        (302, {"Location": "/page"}, b"", 5),
        (302, {"Location": "http://localhost:9/v2/"}, b"", 5),
        (301, {}, b"", 5),
        (400, JSON, b"{}", 5),
        (404, HTML, b"<html>no such page</html>", 5),
        (404, {**V2, **JSON}, b'{"errors": []}', 5),
        (405, {}, b"", 5),
        (418, {}, b"", 5),
        (429, {}, b"", 5),
        (500, {}, b"", 5),
        (503, HTML, b"<html>try later</html>", 5),
        (401, {}, b"", 4),
        (401, {"WWW-Authenticate": 'Basic realm="x"'}, b"", 4),
        (401, BEARER, b"", 5),
        (403, {}, b"", 4),
    ],
)
def test_only_a_registrys_own_success_is_a_login(
    cli, docker_config, status, headers, content, code
):
    with Answering(status, headers, content) as server:
        done = log_in(cli, server, docker_config)
    assert (done.returncode, done.stdout) == (code, "")
    assert done.stderr.startswith("error: ")
    assert "\nhint: " in done.stderr
    assert "logged in" not in done.stderr
    # no model was asked for
    assert "modelrunner search" not in done.stderr
    assert not (docker_config / "config.json").exists()


@pytest.mark.parametrize(
    ("headers", "content"),
    [
        (JSON, b"{}"),
        (V2, b""),
        ({}, b""),
        # as Quay answers
        ({**V2, **HTML}, b"true"),
    ],
)
def test_registry_that_asks_nobody_is_told_of(cli, docker_config, headers, content):
    with Answering(200, headers, content) as server:
        done = log_in(cli, server, docker_config)
    assert done.returncode == 0
    assert f"{server.host} does not ask for a login" in done.stderr


def test_what_is_no_registry_is_told_so(cli, docker_config):
    with Answering(200, HTML, b"<html>welcome</html>") as server:
        done = log_in(cli, server, docker_config)
    assert done.stderr.splitlines()[0] == (
        f"error: {server.host} is not a registry: /v2/ is a web page"
    )


@pytest.mark.parametrize("basic", [True, False])
@pytest.mark.parametrize("password", [SECRET, "wrong"])
def test_login_over_tls_on_this_machine(cli, docker_config, basic, password):
    with Registry(tls=True, host="localhost") as secure:
        secure.add(docker_artifact(b"GGUF weights"), "team/model", tags=["1"])
        if basic:
            secure.demand_basic("ann", SECRET)
        else:
            secure.demand_token(users={"ann": SECRET}, private={"team/model"})
        trusted = {"SSL_CERT_FILE": str(secure.ca_file)}
        done = log_in(cli, secure, docker_config, password, **trusted)
        assert done.returncode == (0 if password == SECRET else 4), done.stderr
        assert (docker_config / "config.json").exists() == (password == SECRET)
        environ = {"DOCKER_CONFIG": str(docker_config), **trusted}
        pulled = cli("pull", f"{secure.host}/team/model:1", **environ)
        assert pulled.returncode == (0 if password == SECRET else 4), pulled.stderr


def test_logout_forgets_every_spelling_of_docker_hub(cli, docker_config):
    keys = ("https://index.docker.io/v1/", "registry-1.docker.io", "docker.io", "ghcr.io")
    auths = {key: {"auth": "YW5uOng="} for key in keys}
    config = docker_config / "config.json"
    config.write_text(json.dumps({"auths": auths}))
    assert cli("logout", DOCKER_CONFIG=str(docker_config)).returncode == 0
    assert list(json.loads(config.read_text())["auths"]) == ["ghcr.io"]
