"""A container that serves: what it may do, and that none stays behind."""

import json
import os
import signal
import subprocess
import time
from contextlib import closing
from pathlib import Path

import pytest

from modelrunner.errors import RuntimeFailedError, RuntimeUnavailableError
from modelrunner.runtime.backends.docker.runtime import LABEL, ContainerRuntime
from modelrunner.runtime.base import LaunchSpec
from modelrunner.system.processes import process_start
from tests.support.llama_image import IMAGE
from tests.support.waiting import wait_until

pytestmark = pytest.mark.docker
LOAD_S = 120


@pytest.fixture
def docker(docker_with_llama):
    """The `docker` command, for the tests' own daemon: returns what it prints."""

    def run(*arguments):
        argv = ["docker", "-H", docker_with_llama.host, *arguments]
        return subprocess.run(argv, capture_output=True, text=True, check=True).stdout.strip()

    return run


@pytest.fixture
def runtime(docker_with_llama):
    return ContainerRuntime({**os.environ, "DOCKER_HOST": docker_with_llama.host}, IMAGE)


def spec_for(model):
    return LaunchSpec(model=model, name="m", context=256, threads=1, api_key="the-key", port=0)


def containers(docker):
    return docker("ps", "--all", "--quiet", "--filter", f"label={LABEL}").split()


def none_stays(docker, seconds=10.0):
    """Whether no container is there in time."""
    end = time.monotonic() + seconds
    while containers(docker):
        if time.monotonic() > end:
            return False
        time.sleep(0.1)
    return True


@pytest.fixture(scope="module")
def inspected(docker_with_llama, smollm2_gguf, tmp_path_factory):
    """What the daemon says of a container that serves, and the kernel of the program in it."""
    environ = {**os.environ, "DOCKER_HOST": docker_with_llama.host}
    log = tmp_path_factory.mktemp("log") / "log"
    with ContainerRuntime(environ, IMAGE).start(spec_for(smollm2_gguf), log) as server:
        server.wait_until_ready(LOAD_S)
        host = ["docker", "-H", docker_with_llama.host]
        ps = [*host, "ps", "--quiet", "--filter", f"label={LABEL}"]
        names = subprocess.run(ps, capture_output=True, text=True, check=True).stdout.split()
        found = subprocess.run(
            [*host, "inspect", *names], capture_output=True, text=True, check=True
        )
        (container,) = json.loads(found.stdout)
        container["status"] = Path(f"/proc/{container['State']['Pid']}/status").read_text()
    return container


@pytest.mark.model
class TestRunningContainer:
    """What `docker inspect` says of it."""

    def test_has_no_capabilities_and_gains_none(self, inspected):
        assert inspected["HostConfig"]["CapDrop"] == ["ALL"]
        assert inspected["HostConfig"]["SecurityOpt"] == ["no-new-privileges:true"]
        assert not inspected["HostConfig"]["Privileged"]
        status = dict(line.split(":\t") for line in inspected["status"].splitlines())
        assert {status[name] for name in ("CapEff", "CapPrm", "CapBnd")} == {"0" * 16}
        assert status["NoNewPrivs"] == "1"
        assert "0" not in status["Uid"].split()

    def test_writes_nowhere_but_to_its_own_tmp(self, inspected):
        assert inspected["HostConfig"]["ReadonlyRootfs"]
        assert list(inspected["HostConfig"]["Tmpfs"]) == ["/tmp"]
        assert [mount["RW"] for mount in inspected["Mounts"]] == [False]

    def test_sees_the_models_folder_alone(self, inspected, smollm2_gguf):
        assert [mount["Source"] for mount in inspected["Mounts"]] == [str(smollm2_gguf.parent)]

    def test_is_reached_by_one_port_on_loopback(self, inspected):
        ports = dict(inspected["NetworkSettings"]["Ports"])
        assert [bound["HostIp"] for bound in ports.pop("8080/tcp")] == ["127.0.0.1"]
        assert not any(ports.values())
        assert list(inspected["NetworkSettings"]["Networks"]) == ["modelrunner"]

    def test_reaches_nothing_by_itself(self, inspected, docker_with_llama):
        host = ["docker", "-H", docker_with_llama.host]
        network = subprocess.run(
            [*host, "network", "inspect", "modelrunner"], capture_output=True, check=True
        )
        options = json.loads(network.stdout)[0]["Options"]
        assert options["com.docker.network.bridge.enable_ip_masquerade"] == "false"
        assert options["com.docker.network.bridge.enable_icc"] == "false"
        assert inspected["HostConfig"]["Dns"] == ["127.0.0.1"]

    def test_key_is_not_among_its_arguments(self, inspected):
        assert "the-key" not in json.dumps([inspected["Args"], inspected["Config"]["Cmd"]])

    def test_its_processes_are_limited_and_its_log_is_ours_alone(self, inspected):
        assert inspected["HostConfig"]["PidsLimit"] == 1024
        assert inspected["HostConfig"]["LogConfig"]["Type"] == "none"
        assert inspected["HostConfig"]["AutoRemove"]


@pytest.mark.model
def test_nothing_stays_of_a_server_that_was_stopped(runtime, docker, smollm2_gguf, tmp_path):
    with runtime.start(spec_for(smollm2_gguf), tmp_path / "log") as server:
        server.wait_until_ready(LOAD_S)
        assert len(containers(docker)) == 1
    assert containers(docker) == []


def test_nothing_stays_of_a_server_that_refused_the_model(runtime, docker, tmp_path):
    model = tmp_path / "view" / "bad.gguf"
    model.parent.mkdir()
    model.write_bytes(b"no model at all")
    server = runtime.start(spec_for(model), tmp_path / "log")
    with pytest.raises(RuntimeFailedError, match="docker cannot serve m: gguf_init"):
        server.wait_until_ready(LOAD_S)
    assert none_stays(docker)


@pytest.mark.model
@pytest.mark.parametrize("victims", ["guard", "all"])
def test_killing_whoever_owns_it_removes_it(runtime, docker, smollm2_gguf, tmp_path, victims):
    with runtime.start(spec_for(smollm2_gguf), tmp_path / "log") as server:
        server.wait_until_ready(LOAD_S)
        (container,) = containers(docker)
        owner = docker("inspect", "--format", f'{{{{index .Config.Labels "{LABEL}"}}}}', container)
        if victims == "all":
            os.kill(int(owner.split()[1]), signal.SIGKILL)
        os.kill(server.pid, signal.SIGKILL)
        assert none_stays(docker)


def test_container_whose_owner_and_remover_are_gone_is_swept_by_the_next(runtime, docker, tmp_path):
    from modelrunner.runtime.backends.docker.runtime import _place

    # our own ID, as of a process that had it before us
    *_orphans, stranger, ours = (
        docker("create", "--label", f"{LABEL}={place} {os.getpid()} {start}", IMAGE)
        for place, start in (
            (_place(), "1"),
            (_place(), ""),
            ("another-machine/1", "1"),
            (_place(), process_start(os.getpid())),
        )
    )
    model = tmp_path / "view" / "bad.gguf"
    model.parent.mkdir()
    model.write_bytes(b"no model at all")
    with pytest.raises(RuntimeFailedError):
        runtime.start(spec_for(model), tmp_path / "log").wait_until_ready(LOAD_S)
    # the one that refused the model takes a moment to go; other tests' containers are not ours
    ps = ("ps", "-a", "-q", "--no-trunc", "--filter", f"label={LABEL}")
    try:
        wait_until(lambda: {*docker(*ps).split()} == {stranger, ours})
    finally:
        docker("rm", stranger, ours)


class TestWhatIsMissing:
    """Each is said before anything starts, with the command that helps."""

    def test_image(self, docker_with_llama, tmp_path):
        runtime = ContainerRuntime({"DOCKER_HOST": docker_with_llama.host}, "nobody/has-it:1")
        with pytest.raises(RuntimeUnavailableError) as caught:
            runtime.start(spec_for(tmp_path / "m.gguf"), tmp_path / "log")
        assert caught.value.message == "docker: image not found: nobody/has-it:1"
        assert caught.value.hint == "pull it with `docker pull nobody/has-it:1`"
        assert runtime.availability().hint == caught.value.hint
        assert not (tmp_path / "log").exists()

    def test_daemon(self, tmp_path):
        found = ContainerRuntime({"DOCKER_HOST": f"unix://{tmp_path}/none.sock"}).availability()
        assert not found.available
        assert found.detail == f"no daemon: {tmp_path}/none.sock not found"

    def test_daemon_behind_its_socket(self, tmp_path):
        import socket

        path = tmp_path / "s"
        with closing(socket.socket(socket.AF_UNIX)) as dead:
            dead.bind(str(path))
        found = ContainerRuntime({"DOCKER_HOST": f"unix://{path}"}).availability()
        assert found.detail == f"no response from the daemon at {path}"

    def test_daemon_of_this_machine(self):
        found = ContainerRuntime({"DOCKER_HOST": "ssh://there"}).availability()
        assert (
            found.detail
            == "DOCKER_HOST is another machine, which does not have the models: ssh://there"
        )
        assert "unset DOCKER_HOST" in found.hint
