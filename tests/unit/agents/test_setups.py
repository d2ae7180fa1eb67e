"""What each app is told of a model: its command, its variables, its files."""

import json
import tomllib
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.agents.app import App, Endpoint, Place, Setup
from modelrunner.agents.known import APPS

ENDPOINT = Endpoint(
    url="http://127.0.0.1:4000", key="secret", model="ai/qwen3:8B-Q4_K_M", context=65536
)
PLACE = Place(Path("/private"), Path("/data"))


def setup(name: str, *arguments: str, endpoint: Endpoint = ENDPOINT) -> Setup:
    return APPS[name].setup(endpoint, replace(PLACE, arguments=arguments))


def test_claude_gets_the_window_and_every_tier_by_variables_and_by_a_file_of_settings() -> None:
    found = setup("claude", "-p", "hi")
    wanted = {
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:4000",
        "ANTHROPIC_AUTH_TOKEN": "secret",
        "ANTHROPIC_MODEL": "ai/qwen3:8B-Q4_K_M",
        "ANTHROPIC_DEFAULT_OPUS_MODEL": "ai/qwen3:8B-Q4_K_M",
        "ANTHROPIC_DEFAULT_SONNET_MODEL": "ai/qwen3:8B-Q4_K_M",
        "ANTHROPIC_DEFAULT_HAIKU_MODEL": "ai/qwen3:8B-Q4_K_M",
        "ANTHROPIC_DEFAULT_FABLE_MODEL": "ai/qwen3:8B-Q4_K_M",
        "CLAUDE_CODE_SUBAGENT_MODEL": "ai/qwen3:8B-Q4_K_M",
        "CLAUDE_CODE_MAX_CONTEXT_TOKENS": "65536",
        "CLAUDE_CODE_AUTO_COMPACT_WINDOW": "65536",
        "CLAUDE_CODE_MAX_OUTPUT_TOKENS": "8192",
        "CLAUDE_CODE_ATTRIBUTION_HEADER": "0",
        "CLAUDE_CODE_TOTAL_TOKENS_REMINDER": "off",
        "CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC": "1",
        "API_TIMEOUT_MS": "3600000",
        "CLAUDE_STREAM_IDLE_TIMEOUT_MS": "3600000",
        "API_FORCE_IDLE_TIMEOUT": "0",
    }
    assert found.environment == wanted
    assert found.command == ("claude", "--settings", "/private/settings.json", "-p", "hi")
    assert {name: json.loads(text) for name, text in found.files.items()} == {
        "settings.json": {"env": wanted}
    }
    assert "ANTHROPIC_API_KEY" in found.removed


def test_claude_does_not_summarize_where_its_first_prompt_leaves_no_room_for_that() -> None:
    assert "DISABLE_AUTO_COMPACT" not in setup("claude").environment
    short = replace(ENDPOINT, context=32768)
    assert setup("claude", endpoint=short).environment["DISABLE_AUTO_COMPACT"] == "1"


def test_settings_of_the_user_take_the_place_of_ours() -> None:
    for said in (("--settings", "own.json"), ("--settings=own.json",)):
        found = setup("claude", *said)
        assert found.command == ("claude", "--model", "ai/qwen3:8B-Q4_K_M", *said)
        assert found.files == {}


SERVERS = {
    "files": {"command": "npx", "args": ["server", "."], "env": {"TOKEN": "t"}},
    "docs": {"type": "http", "url": "https://docs.example.com/mcp", "headers": {"A": "b"}},
}


def test_claude_gets_mcp_servers_by_a_file_whose_option_ends_before_a_prompt() -> None:
    place = replace(PLACE, servers=SERVERS, arguments=("hi",))
    found = APPS["claude"].setup(ENDPOINT, place)
    assert found.command == (
        *("claude", "--mcp-config", "/private/mcp.json"),
        *("--settings", "/private/settings.json", "hi"),
    )
    assert json.loads(found.files["mcp.json"]) == {"mcpServers": SERVERS}


def test_opencode_gets_mcp_servers_in_its_own_words() -> None:
    found = APPS["opencode"].setup(ENDPOINT, replace(PLACE, servers=SERVERS))
    assert json.loads(found.environment["OPENCODE_CONFIG_CONTENT"])["mcp"] == {
        "files": {
            "type": "local",
            "command": ["npx", "server", "."],
            "environment": {"TOKEN": "t"},
        },
        "docs": {
            "type": "remote",
            "url": "https://docs.example.com/mcp",
            "headers": {"A": "b"},
        },
    }


def test_codex_gets_a_provider_and_a_catalog_with_the_window() -> None:
    found = setup("codex", "exec", "hi")
    options = [
        value
        for flag, value in zip(found.command[1:], found.command[2:], strict=False)
        if flag == "-c"
    ]
    config = tomllib.loads("\n".join(options))
    assert config == {
        "model": "ai/qwen3:8B-Q4_K_M",
        "model_provider": "modelrunner",
        "model_providers": {
            "modelrunner": {
                "name": "modelrunner",
                "base_url": "http://127.0.0.1:4000/v1",
                "env_key": "MODELRUNNER_LAUNCH_KEY",
                "wire_api": "responses",
                "stream_idle_timeout_ms": 3600000,
            }
        },
        "model_catalog_json": "/private/models.json",
        "model_context_window": 65536,
        "model_auto_compact_token_limit": 49152,
        "web_search": "disabled",
        "check_for_update_on_startup": False,
        "analytics": {"enabled": False},
    }
    assert found.command[-2:] == ("exec", "hi")
    assert found.environment == {"MODELRUNNER_LAUNCH_KEY": "secret"}
    (entry,) = json.loads(found.files["models.json"])["models"]
    assert (entry["slug"], entry["context_window"]) == ("ai/qwen3:8B-Q4_K_M", 65536)
    assert entry["input_modalities"] == ["text"]


def test_opencode_gets_a_provider_laid_over_its_own_configuration() -> None:
    found = setup("opencode", "run", "hi", endpoint=replace(ENDPOINT, images=True, thinks=True))
    assert found.command == ("opencode", "run", "hi")
    assert json.loads(found.environment["OPENCODE_CONFIG_CONTENT"]) == {
        "$schema": "https://opencode.ai/config.json",
        "provider": {
            "modelrunner": {
                "npm": "@ai-sdk/openai-compatible",
                "name": "modelrunner",
                "options": {
                    "baseURL": "http://127.0.0.1:4000/v1",
                    "apiKey": "secret",
                    "timeout": 3600000,
                },
                "models": {
                    "ai/qwen3:8B-Q4_K_M": {
                        "name": "ai/qwen3:8B-Q4_K_M",
                        "tool_call": True,
                        "reasoning": True,
                        "attachment": True,
                        "limit": {"context": 65536, "output": 8192},
                    }
                },
            }
        },
        "model": "modelrunner/ai/qwen3:8B-Q4_K_M",
        "small_model": "modelrunner/ai/qwen3:8B-Q4_K_M",
        "share": "disabled",
        "autoupdate": False,
    }


def test_goose_gets_variables_alone_and_a_session_where_nothing_is_said() -> None:
    found = setup("goose")
    assert found.command == ("goose", "session")
    assert setup("goose", "run", "-t", "hi").command == ("goose", "run", "-t", "hi")
    assert found.environment == {
        "GOOSE_PROVIDER": "openai",
        "GOOSE_MODEL": "ai/qwen3:8B-Q4_K_M",
        "GOOSE_CONTEXT_LIMIT": "65536",
        "GOOSE_MAX_TOKENS": "8192",
        "OPENAI_HOST": "http://127.0.0.1:4000",
        "OPENAI_BASE_PATH": "v1/chat/completions",
        "OPENAI_API_KEY": "secret",
        "OPENAI_TIMEOUT": "3600",
    }
    assert "OPENAI_BASE_URL" in found.removed


def test_aider_gets_the_window_by_a_file_and_the_key_by_another() -> None:
    found = setup("aider", "--message", "hi")
    model = "openai/ai/qwen3:8B-Q4_K_M"
    assert found.command == (
        "aider",
        *("--model", model, "--weak-model", model, "--editor-model", model),
        *("--model-metadata-file", "/private/models.json"),
        *("--env-file", "/private/aider.env"),
        *("--timeout", "3600"),
        *("--no-check-update", "--no-show-model-warnings", "--no-analytics"),
        *("--message", "hi"),
    )
    facts = json.loads(found.files["models.json"])[model]
    assert (facts["max_input_tokens"], facts["max_output_tokens"]) == (57344, 8192)
    assert found.files["aider.env"] == (
        "OPENAI_API_BASE=http://127.0.0.1:4000/v1\n"
        "OPENAI_API_KEY=secret\n"
        "LITELLM_LOCAL_MODEL_COST_MAP=True\n"
    )


def test_open_webui_listens_on_loopback_and_keeps_its_data_apart() -> None:
    found = setup("open-webui", "--port", "3000")
    assert found.command == (
        *("open-webui", "serve", "--host", "127.0.0.1", "--port", "8080"),
        *("--port", "3000"),
    )
    environment = dict(found.environment)
    assert len(environment.pop("WEBUI_SECRET_KEY")) == 64
    assert environment == {
        "OPENAI_API_BASE_URL": "http://127.0.0.1:4000/v1",
        "OPENAI_API_BASE_URLS": "http://127.0.0.1:4000/v1",
        "OPENAI_API_KEY": "secret",
        "OPENAI_API_KEYS": "secret",
        "DEFAULT_MODELS": "ai/qwen3:8B-Q4_K_M",
        "TASK_MODEL_EXTERNAL": "ai/qwen3:8B-Q4_K_M",
        "ENABLE_OPENAI_API": "True",
        "ENABLE_OLLAMA_API": "False",
        "ENABLE_PERSISTENT_CONFIG": "False",
        "WEBUI_AUTH": "False",
        "DATA_DIR": "/data",
        "ANONYMIZED_TELEMETRY": "False",
        "DO_NOT_TRACK": "True",
    }
    own = replace(PLACE, environ={"DATA_DIR": "/mine"})
    assert APPS["open-webui"].setup(ENDPOINT, own).environment["DATA_DIR"] == "/mine"


def test_any_program_gets_the_variables_of_three_libraries() -> None:
    found = setup("env", "python", "agent.py")
    assert found.command == ("python", "agent.py")
    assert found.environment == {
        "OPENAI_BASE_URL": "http://127.0.0.1:4000/v1",
        "OPENAI_API_BASE": "http://127.0.0.1:4000/v1",
        "OPENAI_API_KEY": "secret",
        "OPENAI_MODEL": "ai/qwen3:8B-Q4_K_M",
        "ANTHROPIC_BASE_URL": "http://127.0.0.1:4000",
        "ANTHROPIC_AUTH_TOKEN": "secret",
        "ANTHROPIC_MODEL": "ai/qwen3:8B-Q4_K_M",
        "OLLAMA_HOST": "http://127.0.0.1:4000",
        "OLLAMA_API_KEY": "secret",
        "OLLAMA_MODEL": "ai/qwen3:8B-Q4_K_M",
        "OLLAMA_CONTEXT_LENGTH": "65536",
    }


@pytest.mark.parametrize(
    ("context", "answer"), [(2048, 1024), (8192, 1024), (65536, 8192), (1 << 20, 16384)]
)
def test_an_eighth_of_the_window_is_kept_for_an_answer(context: int, answer: int) -> None:
    assert replace(ENDPOINT, context=context).answer == answer


@pytest.mark.parametrize("app", APPS.values(), ids=APPS)
def test_no_command_line_has_the_key(app: App) -> None:
    assert not any("secret" in word for word in app.setup(ENDPOINT, PLACE).command)


def test_an_endpoint_does_not_show_its_key() -> None:
    shown: Mapping[str, str] = {"it": repr(ENDPOINT)}
    assert "secret" not in shown["it"]
