"""Tools of real MCP servers: what they answer, and what is left where they do not."""

import json
import os
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path

import pytest

from modelrunner.errors import UsageError
from modelrunner.tools.mcp import mcp_tools
from modelrunner.tools.mcp_file import McpServer
from modelrunner.tools.tool import Result, Tool
from tests.conftest import CommandLine
from tests.support.gguf import tiny_gguf
from tests.support.openai_server import OpenAIServer, calls, says
from tests.support.waiting import alive, wait_until

# the servers and the bridge import it: that takes seconds
pytestmark = pytest.mark.skipif(find_spec("mcp") is None, reason="MCP servers need the package mcp")

SERVER = """
import os, subprocess, sys, time
import anyio
from mcp.server import MCPServer

server = MCPServer("test")

@server.tool()
def add(a: int, b: int) -> int:
    "Adds two numbers."
    return a + b

@server.tool()
def whoami() -> str:
    "The process."
    return str(os.getpid())

@server.tool()
def parent() -> str:
    return str(os.getppid())

@server.tool()
def daemon() -> str:
    return str(subprocess.Popen(["sleep", "600"], start_new_session=True).pid)

@server.tool()
async def wait_for_end() -> str:
    open(os.environ["WAITING"], "w").close()
    try:
        await anyio.sleep(600)
    finally:
        open(os.environ["WAITING"] + ".ended", "w").close()

@server.tool()
def large() -> str:
    return "x" * 100_000

@server.tool()
def wait() -> str:
    open(os.environ["WAITING"], "w").close()
    time.sleep(600)
    return "late"

@server.tool()
def die() -> str:
    os._exit(3)

@server.tool(name="odd name/with*signs")
def odd() -> str:
    return "odd \\x1b[31m"

server.run(**eval(sys.argv[1]) if len(sys.argv) > 1 else {})
"""


@pytest.fixture
def server(tmp_path: Path) -> Callable[..., McpServer]:
    file = tmp_path / "server.py"
    file.write_text(SERVER)

    def named(name: str = "test", *arguments: str) -> McpServer:
        command = (sys.executable, str(file), *arguments)
        return McpServer(
            name=name, command=command, environment={"WAITING": str(tmp_path / "waiting")}
        )

    return named


def by_name(tools: tuple[Tool, ...]) -> dict[str, Callable[[str], Result]]:
    return {tool.name: tool.run for tool in tools if tool.run is not None}


def test_tools_are_described_called_and_ended(server: Callable[..., McpServer]) -> None:
    with mcp_tools([server()]) as tools:
        call = by_name(tools)
        assert [*call] == [
            *("add", "whoami", "parent", "daemon", "wait_for_end", "large", "wait", "die"),
            "odd_name_with_signs",
        ]
        assert tools[0].description == "Adds two numbers."
        assert tools[0].parameters["required"] == ["a", "b"]
        assert call["add"]('{"a": 1, "b": 2}') == Result("3")
        failed = call["add"]('{"a": "x"}')
        assert not failed.succeeded
        assert "Error executing tool add" in failed.text
        assert call["odd_name_with_signs"]("{}") == Result("odd \x1b[31m")
        cut = call["large"]("{}").text
        assert len(cut) < 33_000
        assert cut.endswith("\n[cut: only 32768 characters of the result are kept]")
        pid = int(call["whoami"]("{}").text)
        assert alive(pid)
        assert call["die"]("{}").succeeded is False
        assert call["add"]('{"a": 1, "b": 2}').text == '{"error": "the MCP server has ended"}'
    wait_until(lambda: not alive(pid))


def test_names_that_clash_are_told_apart_by_their_servers(server: Callable[..., McpServer]) -> None:
    with mcp_tools([server("one"), server("two")], {"add", "one_add"}) as tools:
        call = by_name(tools)
        assert [name for name in call if name.endswith(("add", "2"))] == ["one_add_2", "two_add"]
        assert call["one_add_2"]('{"a": 2, "b": 2}') == Result("4")
        pids = {int(call[f"{name}_whoami"]("{}").text) for name in ("one", "two")}
        assert len(pids) == 2
    wait_until(lambda: not any(map(alive, pids)))


def test_a_call_that_hangs_ends_by_itself_and_the_next_one_is_answered(
    server: Callable[..., McpServer],
) -> None:
    with mcp_tools([server()], answers_within_s=1.0) as tools:
        assert by_name(tools)["wait"]("{}").text == '{"error": "timed out after 1 s"}'


def test_ctrl_c_ends_a_call_and_nothing_else(
    server: Callable[..., McpServer], tmp_path: Path
) -> None:
    def interrupt() -> None:
        wait_until((tmp_path / "waiting").exists)
        os.kill(os.getpid(), signal.SIGINT)

    with mcp_tools([server()]) as tools:
        call = by_name(tools)
        # a terminal's Ctrl-C reaches none of the processes
        assert os.getpgrp() not in {
            os.getpgid(int(call[name]("{}").text)) for name in ("whoami", "parent")
        }
        thread = threading.Thread(target=interrupt)
        thread.start()
        with pytest.raises(KeyboardInterrupt):
            call["wait_for_end"]("{}")
        thread.join()
        wait_until((tmp_path / "waiting.ended").exists)
        assert call["add"]('{"a": 1, "b": 2}') == Result("3")


@pytest.mark.skipif(sys.platform != "linux", reason="found by the environment in /proc")
def test_what_a_server_has_put_into_the_background_ends_too(
    server: Callable[..., McpServer],
) -> None:
    with mcp_tools([server()]) as tools:
        pid = int(by_name(tools)["daemon"]("{}").text)
        assert alive(pid)
    wait_until(lambda: not alive(pid))


@pytest.mark.parametrize(
    ("program", "within", "problem"),
    [
        ("import sys; sys.exit('no token')", 60.0, "the MCP server has ended: no token"),
        ("print('garbage' * 10, flush=True)\nwhile True: input()", 2.0, "no response for 2 s"),
        ("import time; time.sleep(600)", 2.0, "no response for 2 s"),
        ("import os; os.kill(os.getpid(), 9)", 60.0, "the MCP server has ended"),
    ],
    ids=["exits", "garbage", "hangs", "killed"],
)
def test_a_server_that_does_not_start_is_an_error(
    program: str, within: float, problem: str
) -> None:
    wrong = McpServer(name="test", command=(sys.executable, "-c", program))
    with pytest.raises(UsageError) as error, mcp_tools([wrong], starts_within_s=within):
        pass
    assert error.value.message == f"MCP server test: {problem}"
    assert (error.value.hint or "").startswith("try it alone: `")


def test_a_program_that_is_missing_is_an_error(tmp_path: Path) -> None:
    wrong = McpServer(name="test", command=(str(tmp_path / "none"),))
    with pytest.raises(UsageError, match="No such file"), mcp_tools([wrong]):
        pass


def test_a_server_behind_an_address_is_called(
    server: Callable[..., McpServer], tmp_path: Path
) -> None:
    import socket
    import subprocess

    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    words = server("web", f"dict(transport='streamable-http', port={port})").command
    with subprocess.Popen(words, stderr=subprocess.DEVNULL) as process:

        def listens() -> bool:
            with suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
                return True
            return False

        try:
            wait_until(listens, 60)
            web = McpServer(name="web", url=f"http://127.0.0.1:{port}/mcp")
            with mcp_tools([web]) as tools:
                assert by_name(tools)["add"]('{"a": 1, "b": 2}') == Result("3")
        finally:
            process.kill()
    with pytest.raises(UsageError) as error, mcp_tools([web]):
        pass
    assert error.value.hint == f"check the address http://127.0.0.1:{port}/mcp and its headers"


def test_a_server_without_tools_is_an_error(tmp_path: Path) -> None:
    program = "from mcp.server import MCPServer; MCPServer('empty').run()"
    empty = McpServer(name="empty", command=(sys.executable, "-c", program))
    with pytest.raises(UsageError, match="no tools: empty offers none"), mcp_tools([empty]):
        pass


def config(folder: Path, server: McpServer) -> str:
    file = folder / "mcp.json"
    entry = {"command": server.command[0], "args": [*server.command[1:]]}
    file.write_text(json.dumps({"mcpServers": {"test": entry}}))
    return str(file)


def test_a_bad_file_is_said_before_a_model_is_looked_for(cli: CommandLine, tmp_path: Path) -> None:
    done = cli("run", "ai/none", "hi", "--mcp", str(tmp_path / "none.json"), "--yes-tools")
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path}/none.json: file not found\nhint: write it")


def test_without_a_terminal_calls_have_to_be_allowed(
    cli: CommandLine, server: Callable[..., McpServer], tmp_path: Path
) -> None:
    done = cli("run", "ai/none", "hi", "--mcp", config(tmp_path, server()))
    assert done.returncode == 2
    assert "tools need confirmation, and stdin is not a terminal" in done.stderr


def test_a_model_calls_a_tool_of_a_server_and_answers(
    cli: CommandLine, server: Callable[..., McpServer], tmp_path: Path
) -> None:
    file = tiny_gguf(tmp_path / "m.gguf", metadata={"tokenizer.chat_template": "{{ tools }}"})
    own = tmp_path / "own.py"
    own.write_text('def add(a: int) -> int:\n    """Adds nothing."""\n    return a\n')
    with OpenAIServer() as model:
        model.next(calls(("test_add", '{"a": 1, "b": 2}'), ("add", '{"a": 5}')), says("3."))
        done = cli(
            *("run", str(file), "1 + 2?", "--runtime", model.url),
            *("--mcp", config(tmp_path, server()), "--tools", str(own), "--yes-tools"),
        )
    assert (done.returncode, done.stdout) == (0, "3.\n")
    assert done.stderr.splitlines()[-4:] == [
        "calling test_add(a=1, b=2)",
        "test_add answers: 3",
        "calling add(a=5)",
        "add answers: 5",
    ]
    offered = [tool["function"]["name"] for tool in model.requests[0].body["tools"]]
    assert offered[:2] == ["add", "test_add"]
    assert [message["content"] for message in model.requests[1].body["messages"][-2:]] == ["3", "5"]
