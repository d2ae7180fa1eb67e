"""This program as Docker's plugin, asking servers that show certificates and want keys."""

import json
import os
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from modelrunner.serve.process.certificate import Certificate
from modelrunner.serve.process.records import Record, recorded
from modelrunner.system.processes import process_start
from tests.conftest import CommandLine
from tests.support.registry_tls import Certificate as Files
from tests.support.registry_tls import can_make_certificates
from tests.support.serving import CONTROL_KEY, Running, Scripted, gateway, model

ONE = model("ai/one")


@contextmanager
def known(cli: CommandLine, running: Running, certificate: Certificate) -> Iterator[None]:
    """The block in which the command line knows a server of this process."""
    record = Record(
        name="test",
        pid=os.getpid(),
        started=process_start(os.getpid()) or "",
        url=running.url,
        models=(ONE.name,),
        control_key=CONTROL_KEY,
        fingerprint=certificate.fingerprint,
    )
    with recorded(cli.home / "state" / "serve", record):
        yield


@pytest.mark.skipif(not can_make_certificates(), reason="no openssl command")
def test_a_server_with_a_certificate_of_its_own_is_asked(cli: CommandLine) -> None:
    files = Files.make()
    try:
        certificate = Certificate.load(files.file, files.key)
        with (
            gateway(Scripted(), ONE, certificate=certificate) as running,
            known(cli, running, certificate),
        ):
            listed = cli("docker-model", "ls", "--json")
            pulled = cli("docker-model", "pull", "ai/two")
    finally:
        files.remove()
    assert listed.returncode == 0, listed.stderr
    assert json.loads(listed.stdout)[0]["tags"][0] == "docker.io/ai/one:latest"
    # what the server says: it has been reached
    assert pulled.returncode == 8
    assert pulled.stderr.startswith("error: this server has no local store\n")


def test_a_server_that_wants_a_key_says_so(cli: CommandLine) -> None:
    with gateway(Scripted(), ONE, api_key="secret") as running:
        asked = {"MODEL_RUNNER_HOST": running.url}
        refused = cli("docker-model", "status", **asked)
        listed = cli("docker-model", "ls", "--json", MODELRUNNER_API_KEY="secret", **asked)
    assert refused.returncode == 8
    assert refused.stderr == (
        f"error: the server at {running.url} needs an API key\n"
        "hint: put it into the environment variable MODELRUNNER_API_KEY\n"
    )
    assert listed.returncode == 0
