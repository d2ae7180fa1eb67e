"""The file that names MCP servers."""

import json
from pathlib import Path

import pytest

from modelrunner.errors import UsageError
from modelrunner.tools import mcp
from modelrunner.tools.mcp_file import McpServer, read_servers

LIKE = 'write it like {"mcpServers": {"files": {"command": "npx", "args": ["..."]}}}'


def servers(folder: Path, value: object, **environ: str) -> tuple[McpServer, ...]:
    file = folder / "mcp.json"
    file.write_text(value if isinstance(value, str) else json.dumps(value))
    return read_servers(file, environ)


@pytest.mark.parametrize("key", ["mcpServers", "servers"])
def test_programs_and_addresses_are_read_with_the_values_of_variables(
    tmp_path: Path, key: str
) -> None:
    found = servers(
        tmp_path,
        {
            key: {
                "files": {
                    "command": "npx",
                    "args": ["-y", "${PACKAGE:-server}"],
                    "env": {"TOKEN": "${TOKEN}"},
                    "cwd": "/work",
                },
                "docs": {
                    "type": "http",
                    "url": "https://${HOST}/mcp",
                    "headers": {"Authorization": "Bearer ${TOKEN}"},
                },
                "off": {"command": "x", "disabled": True},
            }
        },
        TOKEN="t",
        HOST="docs.example.com",
    )
    assert found == (
        McpServer(
            name="files",
            command=("npx", "-y", "server"),
            environment={"TOKEN": "t"},
            directory="/work",
        ),
        McpServer(
            name="docs",
            url="https://docs.example.com/mcp",
            headers={"Authorization": "Bearer t"},
        ),
    )
    assert "t'" not in repr(found[0])


@pytest.mark.parametrize(
    ("value", "message", "hint"),
    [
        ("{", "mcp.json: expected JSON at line 1", LIKE),
        ("[]", "mcp.json: `mcpServers` must be an object", LIKE),
        ({"mcpServers": {}}, "mcp.json: no MCP servers found", LIKE),
        ({"mcpServers": {"a": 1}}, "mcp.json: server a must be an object", LIKE),
        (
            {"mcpServers": {"a": {}}},
            "mcp.json: server a needs either `command` or `url`, as text",
            LIKE,
        ),
        (
            {"mcpServers": {"a": {"command": "x", "url": "http://x/"}}},
            "mcp.json: server a needs either `command` or `url`, as text",
            LIKE,
        ),
        (
            {"mcpServers": {"a": {"command": "x", "args": [1]}}},
            "mcp.json: server a: `args` must be a list of strings",
            LIKE,
        ),
        (
            {"mcpServers": {"a": {"command": "x", "env": {"A": 1}}}},
            "mcp.json: server a: `env` must be an object of strings",
            LIKE,
        ),
        (
            {"mcpServers": {"a": {"command": "${NOWHERE}"}}},
            "mcp.json: server a: the variable NOWHERE is not set",
            "set it, or write ${NOWHERE:-default}",
        ),
        (
            {"mcpServers": {"a": {"type": "sse", "url": "http://x/sse"}}},
            "mcp.json: server a: the transport sse is not supported",
            "use the server's address for streamable HTTP, often /mcp instead of /sse",
        ),
        (
            {"mcpServers": {"a\x1b[31m": {"url": "file:///etc/passwd"}}},
            "mcp.json: server a: invalid `url` file:///etc/passwd",
            "write it like https://example.com/mcp",
        ),
        (
            {"mcpServers": {str(n): {"command": "x"} for n in range(33)}},
            "mcp.json: 33 MCP servers, the limit is 32",
            'remove some, or set "disabled": true',
        ),
    ],
    ids=lambda value: str(value)[:40],
)
def test_a_bad_file_is_said_with_what_helps(
    tmp_path: Path, value: object, message: str, hint: str
) -> None:
    with pytest.raises(UsageError) as error:
        servers(tmp_path, value)
    shown = error.value.message.replace(f"{tmp_path}/", "")
    assert shown.startswith(message)
    assert error.value.hint == hint


def test_a_file_that_is_missing_or_too_large_is_said(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="file not found"):
        read_servers(tmp_path / "none.json", {})
    with pytest.raises(UsageError, match="cannot read"):
        read_servers(tmp_path, {})
    with pytest.raises(UsageError, match="exceeds 1048576 bytes"):
        servers(tmp_path, " " * (1024 * 1024 + 1))


def test_without_the_extra_the_command_that_installs_it_is_named(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda _name: None)
    with pytest.raises(UsageError) as error:
        mcp.require_mcp()
    assert error.value.message == "MCP servers need the Python module mcp"
    assert "mcp>=2.3" in (error.value.hint or "")
