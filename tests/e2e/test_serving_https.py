"""`serve --tls-cert`: what is printed, and how the other commands reach the server."""

import json
import ssl
import subprocess
import urllib.request
from collections.abc import Iterator

import pytest

from tests.conftest import CommandLine
from tests.support.registry_tls import Certificate, can_make_certificates

pytestmark = [
    pytest.mark.model,
    pytest.mark.skipif(not can_make_certificates(), reason="no openssl command"),
]

TALKER = "fixtures/tiny-llama"


@pytest.fixture(scope="module")
def files() -> Iterator[Certificate]:
    made = Certificate.make()
    yield made
    made.remove()


def options(files: Certificate) -> tuple[str, ...]:
    return ("--tls-cert", str(files.file), "--tls-key", str(files.key))


def test_a_server_with_a_certificate_is_shown_asked_and_stopped_like_any_other(
    models: CommandLine, files: Certificate
) -> None:
    started = models("serve", TALKER, *options(files), "--port", "0", "--detach", "--json")
    try:
        assert started.returncode == 0, started.stderr
        said = json.loads(started.stdout)
        url = said["url"]
        assert url.startswith("https://127.0.0.1:")
        assert said["openai_url"] == f"{url}/v1"
        (shown,) = json.loads(models("ps", "--json").stdout)
        assert (shown["url"], shown["state"]) == (url, "idle")
        trusting = ssl.create_default_context(cafile=str(files.file))
        body = json.dumps({"messages": [{"role": "user", "content": "hi"}]}).encode()
        asked = urllib.request.Request(
            f"{url}/v1/chat/completions", body, {"Content-Type": "application/json"}
        )
        with urllib.request.urlopen(asked, timeout=60, context=trusting) as reply:
            assert json.load(reply)["choices"][0]["finish_reason"] == "stop"
        (shown,) = json.loads(models("ps", "--json").stdout)
        assert shown["state"] == "loaded"
        log = models("logs")
        assert "200 chat/completions" in log.stdout, log.stderr
        stopped = models("stop", TALKER, "--json")
        assert stopped.returncode == 0, stopped.stderr
        assert models("ps", "--json").stdout == "[]\n"
    finally:
        models("stop", "--all")


def test_in_the_foreground_the_addresses_to_copy_are_https(
    models: CommandLine, files: Certificate
) -> None:
    with subprocess.Popen(
        models.argv("serve", TALKER, *options(files), "--port", "0"),
        env=models.environ,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    ) as process:
        url = process.stdout.readline().rstrip("\n")
        lines = iter(process.stderr.readline, "")
        address = next(line for line in lines if "OPENAI_BASE_URL" in line)
        process.terminate()
        process.communicate(timeout=30)
    assert url.startswith("https://127.0.0.1:")
    assert address == f"OPENAI_BASE_URL={url}/v1 OPENAI_API_KEY=none\n"


@pytest.mark.parametrize("there", ["--tls-cert", "--tls-key"])
def test_one_file_needs_the_other(models: CommandLine, files: Certificate, there: str) -> None:
    missing = "--tls-key" if there == "--tls-cert" else "--tls-cert"
    result = models("serve", TALKER, there, str(files.file))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == f"error: {there} needs {missing}\nhint: add `{missing} FILE`\n"


def test_files_that_do_not_belong_together_end_it_before_anything_is_started(
    models: CommandLine, files: Certificate
) -> None:
    result = models("serve", TALKER, "--tls-cert", str(files.file), "--tls-key", str(files.file))
    assert (result.returncode, result.stdout) == (2, "")
    assert result.stderr == (
        f"error: --tls-key: {files.file} has no private key in PEM form\n"
        f"hint: convert it: `openssl pkey -in {files.file} -out FILE.pem`\n"
    )
