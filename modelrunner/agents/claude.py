"""Claude Code, by Anthropic's API: `/v1/messages`.

It takes every model that is not called `claude-…` for one of 200,000 tokens, unless a variable says
otherwise. Of that window it keeps one answer free, and 13,000 tokens to summarize the conversation
in; where its first prompt does not fit into the rest, it would summarize before every turn.
"""

import json

from modelrunner.agents.app import PATIENCE_S, App, Endpoint, Place, Setup

_SUMMARY = 13_000
_PROMPT = 24_000
"""Version 2.1.197 sends 23,440 tokens in a new repository, as SmolLM2 counts, most for tools."""

_SETTINGS, _SERVERS = "settings.json", "mcp.json"
_TIERS = ("OPUS", "SONNET", "HAIKU", "FABLE")

_REMOVED = (
    # a second key is asked about, and other clouds come before an address
    "ANTHROPIC_API_KEY",
    "ANTHROPIC_CUSTOM_HEADERS",
    "ANTHROPIC_SMALL_FAST_MODEL",
    "ANTHROPIC_UNIX_SOCKET",
    "CLAUDE_CODE_OAUTH_TOKEN",
    "CLAUDE_CODE_USE_ANTHROPIC_AWS",
    "CLAUDE_CODE_USE_BEDROCK",
    "CLAUDE_CODE_USE_FOUNDRY",
    "CLAUDE_CODE_USE_GATEWAY",
    "CLAUDE_CODE_USE_MANTLE",
    "CLAUDE_CODE_USE_VERTEX",
)


def _setup(endpoint: Endpoint, place: Place) -> Setup:
    environment = {
        "ANTHROPIC_BASE_URL": endpoint.url,
        "ANTHROPIC_AUTH_TOKEN": endpoint.key,
        "ANTHROPIC_MODEL": endpoint.model,
        **{f"ANTHROPIC_DEFAULT_{tier}_MODEL": endpoint.model for tier in _TIERS},
        "CLAUDE_CODE_SUBAGENT_MODEL": endpoint.model,
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": str(endpoint.context),
        "CLAUDE_CODE_AUTO_COMPACT_WINDOW": str(endpoint.context),
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": str(endpoint.answer),
        # it differs in every request, and would have the whole prompt read again
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_TOTAL_TOKENS_REMINDER": "off",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "API_TIMEOUT_MS": str(PATIENCE_S * 1000),
        # while a long prompt is read nothing comes: it gives up after five minutes of that, or
        # its HTTP library does
        "CLAUDE_STREAM_IDLE_TIMEOUT_MS": str(PATIENCE_S * 1000),
        "API_FORCE_IDLE_TIMEOUT": "0",
    }
    if endpoint.context - endpoint.answer - _SUMMARY < _PROMPT:
        environment["DISABLE_AUTO_COMPACT"] = "1"
    # what a user's own settings.json says of the environment counts more than the environment
    settings = json.dumps({"env": environment}, indent=2) + "\n"
    own = any(word.partition("=")[0] == "--settings" for word in place.arguments)
    # the option before takes every word up to the next option
    said: tuple[str, ...] = (
        ("--model", endpoint.model) if own else ("--settings", str(place.folder / _SETTINGS))
    )
    files = {} if own else {_SETTINGS: settings}
    if place.servers:
        said = ("--mcp-config", str(place.folder / _SERVERS), *said)
        files[_SERVERS] = json.dumps({"mcpServers": place.servers}, indent=2) + "\n"
    return Setup(("claude", *said, *place.arguments), environment, _REMOVED, files)


CLAUDE = App(
    name="claude",
    title="Claude Code",
    program="claude",
    install="npm install -g @anthropic-ai/claude-code",
    setup=_setup,
    prompt=_PROMPT,
    mcp=True,
    elsewhere=(".local/bin/claude", ".claude/local/claude"),
)
