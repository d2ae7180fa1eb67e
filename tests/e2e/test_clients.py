"""Programs that speak OpenAI's and Anthropic's APIs, unchanged, against real small models."""

import json
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
from pydantic import BaseModel

from tests.conftest import CommandLine
from tests.e2e.test_serving import CALLER, QUESTION, SMOLLM2, VECTORS, Endpoint, serving

pytestmark = [
    pytest.mark.model,
    pytest.mark.xdist_group("clients"),
    # libraries whose own code warns, and leaves sockets open
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("leaving_nothing_open"),
]

KEY = "secret"
ASKED: list[Any] = [{"role": "user", "content": QUESTION}]
HI: list[Any] = [{"role": "user", "content": "hi"}]
TOOL: Any = {"type": "function", "name": "now", "parameters": {"type": "object", "properties": {}}}
CHAT_TOOL: Any = {"type": "function", "function": {k: TOOL[k] for k in ("name", "parameters")}}
CLAUDE_TOOL: Any = {"name": "now", "input_schema": TOOL["parameters"]}


class Place(BaseModel):
    """Where something is."""

    city: str


@contextmanager
def clients_server(fixture_home: Path, folder: Path) -> Iterator[Endpoint]:
    """One server for all clients: a model that answers, one that calls tools, one for vectors."""
    home = folder / "home"
    shutil.copytree(fixture_home / "store", home / "store", copy_function=os.link)
    environ = {
        "PATH": os.environ["PATH"],
        "HOME": str(folder / "user"),
        "MODELRUNNER_HOME": str(home),
        "MODELRUNNER_RUNTIME": "xllamacpp",
    }
    models = (SMOLLM2, CALLER, VECTORS)
    options = ("--api-key", KEY, "--context", "1024", "--parallel", "2")
    with serving(CommandLine(home, environ), *models, *options) as endpoint:
        yield endpoint


@pytest.fixture(scope="module")
def server(fixture_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with clients_server(fixture_home, tmp_path_factory.mktemp("clients")) as endpoint:
        yield endpoint


@pytest.fixture
def url(server: Endpoint) -> str:
    return f"{server.url}/v1"


# OpenAI's own library, with the API that only it has whole.


def test_openais_library_continues_streams_parses_calls_and_forgets_responses(url: str) -> None:
    openai = pytest.importorskip("openai")
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=120) as client:
        ask: dict[str, Any] = {"model": SMOLLM2, "temperature": 0, "max_output_tokens": 30}
        first = client.responses.create(**ask, input=QUESTION, metadata={"a": "b"})
        assert "Paris" in first.output_text
        assert (first.status, first.metadata) == ("completed", {"a": "b"})
        assert first.usage.total_tokens > first.usage.output_tokens > 0
        more = {"input": "And of Spain?", "previous_response_id": first.id}
        second = client.responses.create(**ask, **more)
        assert "Madrid" in second.output_text
        assert client.responses.retrieve(second.id).output_text == second.output_text
        items = client.responses.input_items.list(second.id, order="asc", limit=1)
        assert [item.role for item in items] == ["user", "assistant", "user"]
        counted = client.responses.input_tokens.count(model=SMOLLM2, **more)
        assert counted.input_tokens == second.usage.input_tokens
        with client.responses.stream(**ask, input=QUESTION) as stream:
            text = "".join(e.delta for e in stream if e.type == "response.output_text.delta")
            assert stream.get_final_response().output_text == text == first.output_text
        where = {"input": "Where is the Louvre?", "text_format": Place}
        parsed = client.responses.parse(**ask | {"max_output_tokens": 60}, **where)
        assert parsed.output_parsed.city
        cut = client.responses.create(**ask | {"max_output_tokens": 2}, input=QUESTION)
        assert (cut.status, cut.incomplete_details.reason) == ("incomplete", "max_output_tokens")
        client.responses.delete(second.id)
        with pytest.raises(openai.NotFoundError):
            client.responses.retrieve(second.id)
        with client.responses.stream(
            model=CALLER, input="hi", tools=[TOOL], tool_choice="required", temperature=0
        ) as stream:
            called = stream.get_final_response()
        (call,) = [item for item in called.output if item.type == "function_call"]
        assert (call.name, call.arguments) == ("now", "{}")
        output: Any = {"type": "function_call_output", "call_id": call.call_id, "output": "12"}
        for given in (
            {"input": [output], "previous_response_id": called.id},
            {"input": [*HI, {"type": "item_reference", "id": call.id}, output]},
        ):
            answer = client.responses.create(model=CALLER, max_output_tokens=5, **given)
            assert answer.output_text


# Anthropic's own.


def test_anthropics_library_chats_streams_calls_counts_and_lists(server: Endpoint) -> None:
    anthropic = pytest.importorskip("anthropic")
    ask: dict[str, Any] = {"model": SMOLLM2, "max_tokens": 30, "extra_body": {"temperature": 0}}
    for prefix in ("", "/anthropic"):
        with anthropic.Anthropic(
            base_url=server.url + prefix, api_key=KEY, max_retries=0, timeout=120
        ) as client:
            whole = client.messages.create(**ask, messages=ASKED, system="Be kind.")
            assert "Paris" in whole.content[0].text
            assert whole.stop_reason == "end_turn"
            with client.messages.stream(**ask, messages=ASKED, stop_sequences=["Paris"]) as stream:
                text = "".join(stream.text_stream)
                last = stream.get_final_message()
            assert (last.stop_reason, last.stop_sequence) == ("stop_sequence", "Paris")
            assert "Paris" not in text
            counted = client.messages.count_tokens(model=SMOLLM2, messages=ASKED).input_tokens
            usage = last.usage
            assert usage.input_tokens + usage.cache_read_input_tokens == counted
            names = [each.id for each in client.models.list(limit=2)]
            assert names == [SMOLLM2, f"{CALLER}:latest", f"{VECTORS}:latest"]
    with anthropic.Anthropic(base_url=server.url, api_key=KEY, max_retries=0) as client:
        with client.messages.stream(
            model=CALLER,
            max_tokens=256,
            messages=HI,
            tools=[CLAUDE_TOOL],
            tool_choice={"type": "tool", "name": "now"},
            extra_body={"temperature": 0},
        ) as stream:
            called = stream.get_final_message()
        (use,) = [block for block in called.content if block.type == "tool_use"]
        assert (use.name, use.input, called.stop_reason) == ("now", {}, "tool_use")
        result: Any = {"type": "tool_result", "tool_use_id": use.id, "content": "12"}
        turns = [*HI, {"role": "assistant", "content": called.content}]
        again = client.messages.create(
            model=CALLER, max_tokens=5, messages=[*turns, {"role": "user", "content": [result]}]
        )
        assert again.content[0].text
        search: Any = {"type": "web_search_20250305", "name": "web_search"}
        with pytest.raises(anthropic.BadRequestError, match="web_search_20250305"):
            client.messages.create(**ask, messages=ASKED, tools=[search])


# Others' libraries.


def test_litellm(url: str, server: Endpoint) -> None:
    litellm = pytest.importorskip("litellm", reason="litellm is not installed")
    asked: dict[str, Any] = {
        "model": f"openai/{SMOLLM2}",
        "api_base": url,
        "api_key": KEY,
        "temperature": 0,
        "max_tokens": 30,
    }
    whole = litellm.completion(**asked, messages=ASKED).choices[0].message.content
    assert "Paris" in whole
    pieces = litellm.completion(**asked, messages=ASKED, stream=True)
    assert "".join(piece.choices[0].delta.content or "" for piece in pieces) == whole
    found = litellm.completion(**asked, messages=ASKED, response_format=Place)
    assert json.loads(found.choices[0].message.content)["city"]
    caller = asked | {"model": f"openai/{CALLER}", "max_tokens": 256}
    called = litellm.completion(**caller, messages=HI, tools=[CHAT_TOOL], tool_choice="required")
    assert called.choices[0].message.tool_calls[0].function.name == "now"
    claude = asked | {"model": f"anthropic/{SMOLLM2}", "api_base": server.url}
    assert "Paris" in litellm.completion(**claude, messages=ASKED).choices[0].message.content
    responses = asked | {"max_output_tokens": 30}
    del responses["max_tokens"]
    said = litellm.responses(**responses, input=QUESTION).output[0].content[0].text
    assert "Paris" in said
    vectors = {"model": f"openai/{VECTORS}", "api_base": url, "api_key": KEY}
    assert len(litellm.embedding(**vectors, input=["a", "b"]).data) == 2


def test_langchain_over_openais_api(url: str) -> None:
    langchain = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    asked: dict[str, Any] = {"base_url": url, "api_key": KEY, "max_retries": 0, "temperature": 0}
    for responses in (False, True):
        model = langchain.ChatOpenAI(
            **asked, model=SMOLLM2, max_tokens=60, use_responses_api=responses
        )
        whole = model.invoke(QUESTION)
        assert "Paris" in whole.text
        assert "".join(chunk.text for chunk in model.stream(QUESTION)) == whole.text
        form = model.with_structured_output(Place, method="json_schema")
        assert form.invoke("Where is the Louvre?").city
        caller = langchain.ChatOpenAI(
            **asked, model=CALLER, max_tokens=256, use_responses_api=responses
        )
        called = caller.bind_tools([CHAT_TOOL], tool_choice="now").invoke("hi")
        assert [call["name"] for call in called.tool_calls] == ["now"]
    vectors = langchain.OpenAIEmbeddings(
        base_url=url, api_key=KEY, model=VECTORS, check_embedding_ctx_length=False
    )
    assert len(vectors.embed_documents(["a", "b"])) == 2


def test_langchain_over_anthropics_api(server: Endpoint) -> None:
    langchain = pytest.importorskip(
        "langchain_anthropic", reason="langchain-anthropic is not installed"
    )
    asked: dict[str, Any] = {"base_url": server.url, "api_key": KEY, "max_retries": 0}
    model = langchain.ChatAnthropic(**asked, model=SMOLLM2, max_tokens=30)
    assert model.invoke(QUESTION).text
    assert "".join(chunk.text for chunk in model.stream(QUESTION))
    caller = langchain.ChatAnthropic(**asked, model=CALLER, max_tokens=256)
    called = caller.bind_tools([CLAUDE_TOOL], tool_choice="now").invoke("hi")
    assert [call["name"] for call in called.tool_calls] == ["now"]


def test_llama_index(url: str) -> None:
    llms = pytest.importorskip(
        "llama_index.llms.openai_like", reason="llama-index-llms-openai-like is not installed"
    )
    embeddings = pytest.importorskip(
        "llama_index.embeddings.openai_like",
        reason="llama-index-embeddings-openai-like is not installed",
    )
    asked: dict[str, Any] = {"api_base": url, "api_key": KEY, "max_retries": 0, "temperature": 0}
    model = llms.OpenAILike(**asked, model=SMOLLM2, is_chat_model=True, max_tokens=30)
    whole = model.complete(QUESTION).text
    assert "Paris" in whole
    assert "".join(piece.delta for piece in model.stream_complete(QUESTION)) == whole
    plain = llms.OpenAILike(**asked, model=SMOLLM2, is_chat_model=False, max_tokens=5)
    assert "Paris" in plain.complete("The capital of France is").text
    vectors = embeddings.OpenAILikeEmbedding(model_name=VECTORS, api_base=url, api_key=KEY)
    assert len(vectors.get_text_embedding_batch(["a", "b"])) == 2
