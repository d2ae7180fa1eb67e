"""OpenCode, by OpenAI's chat completions: a provider in a configuration laid over its own."""

import json

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
    config = {
        "$schema": "https://opencode.ai/config.json",
        "provider": {_PROVIDER: provider},
        "model": name,
        "small_model": name,
        "share": "disabled",
        "autoupdate": False,
    }
    return Setup(
        ("opencode", *place.arguments),
        {"OPENCODE_CONFIG_CONTENT": json.dumps(config)},
    )


OPENCODE = App(
    name="opencode",
    title="OpenCode",
    program="opencode",
    install="npm install -g opencode-ai",
    setup=_setup,
    prompt=12_000,
    elsewhere=(".opencode/bin/opencode",),
)
