"""OpenCode, by OpenAI's chat completions: a provider in a configuration laid over its own."""

import json
from collections.abc import Mapping
from typing import Any

from modelrunner.agents.app import PATIENCE_S, App, Endpoint, Place, Setup

_PROVIDER = "modelrunner"


def _setup(endpoint: Endpoint, place: Place) -> Setup:
    model = {
        "name": endpoint.model,
        "tool_call": True,
        "reasoning": endpoint.thinks,
        "attachment": endpoint.images,
        "limit": {"context": endpoint.context, "output": endpoint.answer},
    }
    provider = {
        "npm": "@ai-sdk/openai-compatible",
        "name": _PROVIDER,
        "options": {
            "baseURL": endpoint.openai,
            "apiKey": endpoint.key,
            "timeout": PATIENCE_S * 1000,
        },
        "models": {endpoint.model: model},
    }
    name = f"{_PROVIDER}/{endpoint.model}"
    config: dict[str, object] = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {_PROVIDER: provider},
        "model": name,
        "small_model": name,
        "share": "disabled",
        "autoupdate": False,
    }
    if place.servers:
        config["mcp"] = {name: _server(entry) for name, entry in place.servers.items()}
    return Setup(
        ("opencode", *place.arguments),
        {"OPENCODE_CONFIG_CONTENT": json.dumps(config)},
    )


def _server(entry: Mapping[str, Any]) -> dict[str, object]:
    """An MCP server as OpenCode's configuration has one."""
    if "url" in entry:
        return {"type": "remote", "url": entry["url"], "headers": entry["headers"]}
    command = [entry["command"], *entry["args"]]
    return {"type": "local", "command": command, "environment": entry["env"]}


OPENCODE = App(
    name="opencode",
    title="OpenCode",
    program="opencode",
    install="npm install -g opencode-ai",
    setup=_setup,
    # version 1.18.33 in a new repository: 8,108
    prompt=8_500,
    mcp=True,
    elsewhere=(".opencode/bin/opencode",),
)
