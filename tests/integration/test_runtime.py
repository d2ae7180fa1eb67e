"""Every runtime that is installed here, with a real model: one contract, and how each fails."""

import http.client
import json
import os
import shlex
import shutil
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

import pytest

from modelrunner.chat.answer import Delta, Done
from modelrunner.chat.answer_form import AnswerForm
from modelrunner.chat.client import ChatClient, SamplingOptions
from modelrunner.chat.conversation import Message
from modelrunner.errors import PortInUseError, RuntimeFailedError, RuntimeUnavailableError
from modelrunner.runtime.abilities import refusal
from modelrunner.runtime.base import Ability, LaunchSpec
from modelrunner.runtime.child.ports import free_port
from modelrunner.runtime.select import select
from modelrunner.tools.tool import Tool, Toolbox
from tests.support.fixtures import script
from tests.support.llama_image import IMAGE
from tests.support.modules import folder_of
from tests.support.processes import processes
from tests.support.waiting import until

models = script("models")
SUPPORT = Path(__file__).parents[1] / "support" / "llama_server.py"
KEY = "a-key-for-this-test-only"
LOAD_S = 120


def installed(name, environ):
    """The runtime, or a skip that says what is missing."""
    try:
        return select(name, environ=environ, image=IMAGE)
    except RuntimeUnavailableError as error:
        pytest.skip(f"{error.message}; {error.hint}")


@pytest.fixture(scope="module")
def environ(tmp_path_factory):
    """Our environment; where PATH has no `llama-server`, the stand-in is put there."""
    if shutil.which("llama-server"):
        return {**os.environ, "HF_TOKEN": "hf_x"}
    folder_of("xllamacpp", "the stand-in for llama-server needs xllamacpp")
    folder = tmp_path_factory.mktemp("bin")
    program = folder / "llama-server"
    program.write_text(f'#!/bin/sh\nexec {shlex.join([sys.executable, str(SUPPORT)])} "$@"\n')
    program.chmod(0o755)
    return {**os.environ, "PATH": f"{folder}{os.pathsep}{os.environ['PATH']}", "HF_TOKEN": "hf_x"}


@pytest.fixture(
    scope="module",
    params=[
        "xllamacpp",
        "llama-server",
        "llama-cpp-python",
        pytest.param("docker", marks=pytest.mark.docker),
    ],
)
def runtime(request, environ):
    """Each runtime that is here."""
    if request.param == "docker":
        daemon = request.getfixturevalue("docker_with_llama")
        environ["DOCKER_HOST"] = daemon.host
    return installed(request.param, environ)


@pytest.fixture(scope="session")
def granite(tmp_path_factory):
    """Granite in small, with the template of the real one."""
    folder = tmp_path_factory.mktemp("granite")
    # a container reads it as nobody
    folder.chmod(0o755)
    (path,) = models.write_model("granitehybrid", folder)
    return path


@pytest.fixture(scope="session")
def looping(tmp_path_factory):
    """A chat template without an end in any time that one would wait."""
    folder = tmp_path_factory.mktemp("looping")
    folder.chmod(0o755)
    template = folder / "template.jinja"
    loops = "{% for a in range(100000) %}{% for b in range(100000) %}"
    template.write_text(f"{loops}{{% endfor %}}{{% endfor %}}x")
    return template


@pytest.fixture
def spec(smollm2_gguf):
    """A spec that loads fast: one thread, a short context."""
    return spec_for(smollm2_gguf)


def spec_for(model):
    return LaunchSpec(
        model=model, name="ai/smollm2:135M", context=512, threads=1, batch=64, micro_batch=64,
        api_key=KEY,
    )  # fmt: skip


@pytest.fixture(scope="module")
def server(runtime, smollm2_gguf, tmp_path_factory):
    """A server that is ready, shared by the tests that only talk to it."""
    log = tmp_path_factory.mktemp("log") / "server.log"
    with runtime.start(spec_for(smollm2_gguf), log) as server:
        server.wait_until_ready(LOAD_S)
        yield server


def ask(server, method, path, body=None, key=KEY):
    """Status and JSON of one request to a server."""
    url = urlsplit(server.base_url)
    connection = http.client.HTTPConnection(url.hostname, url.port, timeout=60)
    try:
        connection.request(
            method,
            url.path + path,
            None if body is None else json.dumps(body),
            {"Authorization": f"Bearer {key}", "Content-Type": "application/json"},
        )
        answer = connection.getresponse()
        return answer.status, json.loads(answer.read())
    finally:
        connection.close()


WEATHER = Toolbox(
    (
        Tool(
            "get_weather",
            "Tells the weather of a city.",
            {
                "type": "object",
                "properties": {"city": {"type": "string", "enum": ["Paris", "London"]}},
                "required": ["city"],
            },
        ),
    )
)


def stream(server, options, tools=None):
    """The pieces of an answer."""
    client = ChatClient(server.base_url, server.api_key, "ai/smollm2:135M", 100)
    messages = [Message("user", "How is the weather in Paris?")]
    return list(client.stream(messages, options, tools or {}))


def answers_at(address, port):
    """Whether anybody accepts a connection there."""
    try:
        socket.create_connection((address, port), timeout=2).close()
    except OSError:
        return False
    return True


@pytest.mark.model
class TestServer:
    """What holds for every runtime."""

    def test_answers_a_chat_completion(self, server):
        status, answer = ask(
            server,
            "POST",
            "/chat/completions",
            {
                "model": "ai/smollm2:135M",
                "messages": [
                    {
                        "role": "user",
                        "content": "What is the capital of France? Answer in one sentence.",
                    }
                ],
                "max_tokens": 8,
                "temperature": 0,
            },
        )
        assert status == 200
        assert answer["model"] == "ai/smollm2:135M"
        assert answer["choices"][0]["message"]["content"].strip()
        assert 1 <= answer["usage"]["completion_tokens"] <= 8

    def test_calls_a_function_by_granites_template(self, runtime, granite, tmp_path):
        if refusal(runtime, Ability.TOOLS):
            assert runtime.name == "llama-cpp-python"
            return
        spec = replace(spec_for(granite), context=2048)
        with runtime.start(spec, tmp_path / "log") as server:
            server.wait_until_ready(LOAD_S)
            tools = WEATHER.fields() | {"tool_choice": "required"}
            *_, done = stream(server, SamplingOptions(temperature=0, max_tokens=400), tools)
        assert isinstance(done, Done)
        (wanted,) = done.calls
        assert (wanted.name, wanted.id != "") == ("get_weather", True)
        assert json.loads(wanted.arguments)["city"] in {"Paris", "London"}

    def test_follows_a_schema_where_it_says_that_it_does(self, runtime, server):
        if refusal(runtime, Ability.SCHEMA):
            assert runtime.name == "llama-cpp-python"
            return
        schema = {"type": "object", "properties": {"sky": {"enum": ["blue", "grey"]}},
                  "required": ["sky"], "additionalProperties": False}  # fmt: skip
        form = AnswerForm(schema).to_dict()
        pieces = stream(server, SamplingOptions(max_tokens=40, response_format=form))
        text = "".join(piece.text for piece in pieces if isinstance(piece, Delta))
        assert json.loads(text)["sky"] in {"blue", "grey"}

    def test_lists_the_model_under_the_name_it_was_given(self, server):
        status, models = ask(server, "GET", "/models")
        assert status == 200
        assert [model["id"] for model in models["data"]] == ["ai/smollm2:135M"]

    @pytest.mark.parametrize("key", ["wrong", ""])
    def test_refuses_who_does_not_know_the_key(self, server, key):
        request = {"messages": [{"role": "user", "content": "hi"}], "max_tokens": 1}
        assert ask(server, "POST", "/chat/completions", request, key)[0] == 401

    def test_has_the_context_that_was_asked_for(self, server):
        assert server.context == 512

    def test_listens_on_loopback_only(self, server):
        url = urlsplit(server.base_url)
        assert url.hostname == "127.0.0.1"
        assert answers_at("127.0.0.1", url.port)
        assert not answers_at("127.0.0.2", url.port)
        assert not answers_at("::1", url.port)

    @pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
    def test_kernel_knows_no_other_listener_on_the_port(self, server):
        port = f"{urlsplit(server.base_url).port:04X}"
        listening = [
            local
            for table in ("tcp", "tcp6")
            for _, local, _, state, *_ in map(
                str.split, Path("/proc/net", table).read_text().splitlines()[1:]
            )
            if state == "0A" and local.endswith(f":{port}")
        ]
        assert listening == [f"0100007F:{port}"]

    def test_does_not_show_its_key(self, server):
        assert KEY not in server.log.read_text(errors="replace")
        assert not any(KEY.encode() in process.arguments for process in processes())

    def test_no_web_page_may_talk_to_it(self, server):
        url = urlsplit(server.base_url)
        connection = http.client.HTTPConnection(url.hostname, url.port, timeout=10)
        connection.request("GET", "/v1/models", headers={"Origin": "https://evil.example"})
        allowed = connection.getresponse().getheader("Access-Control-Allow-Origin")
        connection.close()
        assert allowed not in {"*", "https://evil.example"}

    def test_is_alive_with_a_log_of_its_own(self, server):
        assert server.alive()
        assert server.pid is not None
        assert server.log.stat().st_mode & 0o777 == 0o600


@pytest.mark.model
def test_stop_ends_it_and_frees_the_port(runtime, spec, tmp_path):
    port, ticks = free_port(), []
    with runtime.start(replace(spec, port=port), tmp_path / "log") as server:
        server.wait_until_ready(LOAD_S, ticks.append)
        assert server.base_url == f"http://127.0.0.1:{port}/v1"
        assert set(ticks) == {None}
        server.stop()
        assert not server.alive()
        assert not answers_at("127.0.0.1", port)
    with runtime.start(replace(spec, port=port), tmp_path / "log") as server:
        server.wait_until_ready(LOAD_S)
        assert answers_at("127.0.0.1", port)


@pytest.mark.parametrize("content", [b"no model at all", b"GGUF\x03\x00\x00\x00" + b"\xff" * 64])
def test_file_that_is_no_model_is_told_within_seconds_and_leaves_nothing(
    runtime, tmp_path, content
):
    model, log = tmp_path / "bad.gguf", tmp_path / "server.log"
    model.write_bytes(content)
    server = runtime.start(spec_for(model), log)
    with pytest.raises(RuntimeFailedError) as caught:
        server.wait_until_ready(30)
    assert caught.value.message.startswith(f"{runtime.name} cannot serve ai/smollm2:135M: gguf_")
    assert caught.value.facts["log"] == str(log)
    assert caught.value.hint
    assert not server.alive()
    with pytest.raises(RuntimeFailedError, match="is not ready yet"):
        _ = server.base_url


def test_taken_port_is_named_before_anything_starts(runtime, tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as other:
        port = other.getsockname()[1]
        with pytest.raises(PortInUseError, match=f"port {port} on 127.0.0.1 is already in use"):
            runtime.start(replace(spec_for(tmp_path / "m.gguf"), port=port), tmp_path / "log")
    assert not (tmp_path / "log").exists()


@pytest.mark.model
def test_server_that_takes_too_long_is_ended(runtime, spec, tmp_path):
    server = runtime.start(spec, tmp_path / "log")
    with pytest.raises(RuntimeFailedError, match="did not load ai/smollm2:135M within 0 s"):
        server.wait_until_ready(0)
    assert not server.alive()


@pytest.mark.model
def test_context_beyond_the_models_training_is_told(environ, spec, tmp_path):
    runtime = installed("xllamacpp", environ)
    with runtime.start(replace(spec, context=10_000, parallel=2), tmp_path / "log") as server:
        server.wait_until_ready(LOAD_S)
        assert server.context == 8192


@pytest.mark.model
@pytest.mark.parametrize("template", ["xllamacpp", "llama-cpp-python"])
def test_given_chat_template_takes_the_place_of_the_models_own(environ, spec, tmp_path, template):
    file = tmp_path / "template.jinja"
    file.write_text("{{ bos_token }}count: one two three four")
    runtime = installed(template, environ)
    with runtime.start(replace(spec, chat_template=file), tmp_path / "log") as server:
        server.wait_until_ready(LOAD_S)
        _, answer = ask(
            server,
            "POST",
            "/chat/completions",
            {
                "messages": [{"role": "user", "content": "Tell me about Paris"}],
                "max_tokens": 8,
                "temperature": 0,
            },
        )
    assert "five" in answer["choices"][0]["message"]["content"]


PARENT = """
import os, sys
from pathlib import Path
from modelrunner.runtime.base import LaunchSpec
from modelrunner.runtime.select import select

name, model, log, path, host, wait = sys.argv[1:]
spec = LaunchSpec(model=Path(model), name="m", context=512, threads=1, api_key="k")
environ = {**os.environ, "PATH": path, "DOCKER_HOST": host}
server = select(name, environ=environ, image="stand-in:1").start(spec, Path(log))
if wait == "ready":
    server.wait_until_ready(120)
    print(server.base_url, flush=True)
else:
    server._child.listen(float(wait))
    print(server.pid, flush=True)
os.kill(os.getpid(), 9)
"""


@pytest.mark.model
def test_killing_the_parent_ends_a_server_that_is_ready(runtime, environ, smollm2_gguf, tmp_path):
    said = killed_parent(runtime.name, environ, smollm2_gguf, tmp_path, "ready")
    port = urlsplit(said).port
    assert until(lambda: not answers_at("127.0.0.1", port))


@pytest.mark.model
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_killing_the_parent_ends_a_server_that_is_loading(runtime, environ, smollm2_gguf, tmp_path):
    said = killed_parent(runtime.name, environ, smollm2_gguf, tmp_path, "0.2")
    assert until(lambda: not group_of(int(said)))


def killed_parent(name, environ, model, tmp_path, wait):
    """What a program says that starts a server and then dies of SIGKILL."""
    host = environ.get("DOCKER_HOST", "")
    arguments = [name, str(model), str(tmp_path / "log"), environ["PATH"], host, wait]
    done = subprocess.run(
        [sys.executable, "-c", PARENT, *arguments], capture_output=True, text=True, check=False
    )
    assert done.returncode == -9, done.stderr
    return done.stdout.strip()


def group_of(leader):
    """The processes of a group that run: what waits to be reaped does not count."""
    return [each.pid for each in processes() if each.group == leader and each.state not in "ZX"]


class TestPortThatIsTakenMeanwhile:
    """llama-server cannot choose its port, so one is chosen for it, and may be gone by then."""

    @pytest.fixture
    def llama_server(self, tmp_path):
        """A `llama-server` on PATH that runs a shell script: returns the runtime."""

        def install(script):
            program = tmp_path / "bin" / "llama-server"
            program.parent.mkdir()
            program.write_text(f"#!/bin/sh\n{script}\n")
            program.chmod(0o755)
            path = f"{program.parent}{os.pathsep}{os.environ['PATH']}"
            return select("llama-server", environ={"PATH": path})

        return install

    BIND = 'echo "couldn\'t bind HTTP server socket, hostname: 127.0.0.1, port: $8" >&2; exit 1'

    @pytest.mark.model
    def test_any_port_means_another_is_tried(self, llama_server, environ, spec, tmp_path):
        stand_in = shlex.join([sys.executable, str(SUPPORT)])
        seen = shlex.quote(str(tmp_path / "seen"))
        runtime = llama_server(
            f'if mkdir {seen} 2>/dev/null; then {self.BIND}; fi\nexec {stand_in} "$@"'
        )
        with runtime.start(spec, tmp_path / "log") as server:
            server.wait_until_ready(LOAD_S)
            assert ask(server, "GET", "/models")[0] == 200
        assert (tmp_path / "seen").exists()

    def test_the_port_asked_for_is_named(self, llama_server, tmp_path):
        port = free_port()
        server = llama_server(self.BIND).start(
            replace(spec_for(tmp_path / "m.gguf"), port=port), tmp_path / "log"
        )
        with pytest.raises(PortInUseError, match=f"port {port} on 127.0.0.1 is already in use"):
            server.wait_until_ready(30)

    def test_it_is_not_tried_forever(self, llama_server, tmp_path):
        tries = tmp_path / "tries"
        runtime = llama_server(f"echo x >> {shlex.quote(str(tries))}; {self.BIND}")
        with pytest.raises(PortInUseError):
            runtime.start(spec_for(tmp_path / "m.gguf"), tmp_path / "log").wait_until_ready(30)
        assert tries.read_text() == "x\n" * 3

    def test_stranger_on_the_port_is_not_taken_for_ours(self, llama_server, tmp_path):
        stranger = tmp_path / "stranger.py"
        stranger.write_text("""if True:
            import sys
            from http.server import BaseHTTPRequestHandler, HTTPServer

            class Stranger(BaseHTTPRequestHandler):
                def do_GET(self):
                    self.send_response(200 if self.path == "/health" else 401)
                    self.end_headers()

            port = int(sys.argv[sys.argv.index("--port") + 1])
            HTTPServer(("127.0.0.1", port), Stranger).serve_forever()
            """)
        runtime = llama_server(f'exec {shlex.join([sys.executable, str(stranger)])} "$@"')
        server = runtime.start(spec_for(tmp_path / "m.gguf"), tmp_path / "log")
        with pytest.raises(PortInUseError):
            server.wait_until_ready(30)
        assert not server.alive()


@pytest.mark.model
def test_a_template_without_an_end_is_given_up(environ, smollm2_gguf, looping, tmp_path):
    runtime = installed("xllamacpp", environ)
    spec = replace(spec_for(smollm2_gguf), chat_template=looping)
    with runtime.start(spec, tmp_path / "log") as server:
        with pytest.raises(RuntimeFailedError, match=r"did not load .* within 4 s"):
            server.wait_until_ready(4)
        assert not Path(f"/proc/{server.pid}").exists()
