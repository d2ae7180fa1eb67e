"""Codex CLI, by OpenAI's Responses: a provider of its own, given by `-c`.

For a model that it does not know it takes 272,000 tokens and a long prompt of its own; a catalog of
models says otherwise.
"""

import json

from modelrunner.agents.app import KEY_VARIABLE, PATIENCE_S, App, Endpoint, Place, Setup

_CATALOG = "models.json"
_PROVIDER = "modelrunner"
_INSTRUCTIONS = """\
You are a coding agent in the user's terminal. You work in the current directory, with the tools \
that you are given.

- Read files before you change them. Use `rg` to search where it is installed.
- Change as little as the task needs, in the style of the code around it.
- Use a tool when you need one; call it instead of describing the call. One step at a time.
- Run the project's tests where there are some, and correct what fails.
- Do not commit, push, or delete what you did not make unless the user asks for it.
- When you are done, say in a few lines what you changed and what you did not check.
"""


def _setup(endpoint: Endpoint, place: Place) -> Setup:
    provider = {
        "name": _PROVIDER,
        "base_url": endpoint.openai,
        "env_key": KEY_VARIABLE,
        "wire_api": "responses",
        "stream_idle_timeout_ms": PATIENCE_S * 1000,
    }
    options = {
        "model": endpoint.model,
        "model_provider": _PROVIDER,
        **{f"model_providers.{_PROVIDER}.{key}": value for key, value in provider.items()},
        "model_catalog_json": str(place.folder / _CATALOG),
        "model_context_window": endpoint.context,
        "model_auto_compact_token_limit": endpoint.context * 3 // 4,
        "web_search": "disabled",
        "check_for_update_on_startup": False,
        "analytics.enabled": False,
    }
    # the values are TOML, of which these are written as in JSON
    said = [word for key, value in options.items() for word in ("-c", f"{key}={json.dumps(value)}")]
    return Setup(
        ("codex", *said, *place.arguments),
        {KEY_VARIABLE: endpoint.key},
        (),
        {_CATALOG: json.dumps({"models": [_entry(endpoint)]}, indent=2) + "\n"},
    )


def _entry(endpoint: Endpoint) -> dict[str, object]:
    """The model as Codex's catalogs describe one."""
    return {
        "slug": endpoint.model,
        "display_name": endpoint.model,
        "description": "served on this machine",
        "base_instructions": _INSTRUCTIONS,
        "context_window": endpoint.context,
        "max_context_window": endpoint.context,
        "auto_compact_token_limit": endpoint.context * 3 // 4,
        "truncation_policy": {"mode": "tokens", "limit": min(10_000, endpoint.context // 8)},
        "shell_type": "default",
        "input_modalities": ["text", "image"] if endpoint.images else ["text"],
        "supported_reasoning_levels": [],
        "supports_reasoning_summaries": False,
        "supports_parallel_tool_calls": False,
        "support_verbosity": False,
        "experimental_supported_tools": [],
        "visibility": "list",
        "supported_in_api": True,
        "priority": 0,
    }


CODEX = App(
    name="codex",
    title="Codex CLI",
    program="codex",
    install="npm install -g @openai/codex",
    setup=_setup,
    # version 0.171.0, with the instructions above: 5,257
    prompt=6_000,
)
