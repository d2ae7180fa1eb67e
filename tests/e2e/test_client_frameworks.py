"""Frameworks for agents and pipelines, unchanged, against real small models."""

import asyncio
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_clients import ASKED, CHAT_TOOL, KEY, Place, clients_server
from tests.e2e.test_serving import CALLER, QUESTION, SMOLLM2, VECTORS, Endpoint

pytestmark = [
    pytest.mark.model,
    pytest.mark.xdist_group("clients"),
    # libraries whose own code warns, and leaves sockets open
    pytest.mark.filterwarnings("ignore"),
    pytest.mark.usefixtures("leaving_nothing_open"),
]

WHERE = "Where is the Louvre?"
SETTINGS: dict[str, Any] = {"temperature": 0, "max_tokens": 60}
LONG = SETTINGS | {"max_tokens": 256}


@pytest.fixture(scope="module")
def server(fixture_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with clients_server(fixture_home, tmp_path_factory.mktemp("frameworks")) as endpoint:
        yield endpoint


@pytest.fixture
def url(server: Endpoint, monkeypatch: pytest.MonkeyPatch) -> str:
    # what they would ask of their makers
    for name, value in (
        ("HAYSTACK_TELEMETRY_ENABLED", "False"),
        ("LITELLM_LOCAL_MODEL_COST_MAP", "True"),
        ("OPENAI_AGENTS_DISABLE_TRACING", "1"),
    ):
        monkeypatch.setenv(name, value)
    return f"{server.url}/v1"


def now() -> str:
    """Return the time."""
    return "12"


def test_openai_agents(url: str) -> None:
    agents = pytest.importorskip("agents", reason="openai-agents is not installed")
    openai = pytest.importorskip("openai")

    async def ask(kind: Any, client: Any) -> None:
        model = kind(model=SMOLLM2, openai_client=client)
        settings = agents.ModelSettings(**SETTINGS)
        agent = agents.Agent(name="guide", model=model, model_settings=settings)
        whole = (await agents.Runner.run(agent, QUESTION)).final_output
        assert "Paris" in whole
        stream = agents.Runner.run_streamed(agent, QUESTION)
        events = [event async for event in stream.stream_events()]
        pieces = [event.data for event in events if event.type == "raw_response_event"]
        text = [piece.delta for piece in pieces if piece.type == "response.output_text.delta"]
        assert "".join(text) == stream.final_output == whole
        formed = agent.clone(output_type=Place)
        assert (await agents.Runner.run(formed, WHERE)).final_output.city
        caller = agents.Agent(
            name="caller",
            model=kind(model=CALLER, openai_client=client),
            model_settings=agents.ModelSettings(**LONG, tool_choice="required"),
            tools=[agents.function_tool(now)],
        )
        # the tool is called, its answer is sent, and an answer in words comes back
        done = await agents.Runner.run(caller, "hi")
        items = [item.type for item in done.new_items]
        assert items[-3:] == ["tool_call_item", "tool_call_output_item", "message_output_item"]
        assert done.final_output

    async def both() -> None:
        async with openai.AsyncOpenAI(
            base_url=url, api_key=KEY, max_retries=0, timeout=120
        ) as client:
            await ask(agents.OpenAIChatCompletionsModel, client)
            await ask(agents.OpenAIResponsesModel, client)

    asyncio.run(both())


def test_pydantic_ai(url: str) -> None:
    ai = pytest.importorskip("pydantic_ai", reason="pydantic-ai is not installed")
    from pydantic_ai.direct import model_request_sync
    from pydantic_ai.embeddings.openai import OpenAIEmbeddingModel
    from pydantic_ai.models import ModelRequestParameters
    from pydantic_ai.models.openai import OpenAIChatModel, OpenAIResponsesModel
    from pydantic_ai.providers.openai import OpenAIProvider

    provider = OpenAIProvider(base_url=url, api_key=KEY)
    asked: Any = SETTINGS
    for kind in (OpenAIChatModel, OpenAIResponsesModel):
        model = kind(SMOLLM2, provider=provider)
        agent = ai.Agent(model, model_settings=asked)
        whole = agent.run_sync(QUESTION).output
        assert "Paris" in whole
        streamed = agent.run_stream_sync(QUESTION)
        assert "".join(streamed.stream_text(delta=True)) == whole
        native = ai.Agent(model, model_settings=asked, output_type=ai.NativeOutput(Place))
        assert native.run_sync(WHERE).output.city
        tool: Any = ai.Tool(now).tool_def
        called = model_request_sync(
            kind(CALLER, provider=provider),
            [ai.ModelRequest.user_text_prompt("hi")],
            model_settings={"temperature": 0, "max_tokens": 256, "tool_choice": "required"},
            model_request_parameters=ModelRequestParameters(function_tools=[tool]),
        )
        assert [part.tool_name for part in called.tool_calls] == ["now"]
    embedder = ai.Embedder(OpenAIEmbeddingModel(VECTORS, provider=provider))
    assert len(embedder.embed_documents_sync(["a", "b"]).embeddings) == 2


def test_haystack(url: str) -> None:
    pytest.importorskip("haystack", reason="haystack-ai is not installed")
    from haystack.components.embedders import OpenAIDocumentEmbedder, OpenAITextEmbedder
    from haystack.components.generators.chat import (
        OpenAIChatGenerator,
        OpenAIResponsesChatGenerator,
    )
    from haystack.dataclasses import ChatMessage, Document
    from haystack.tools import create_tool_from_function
    from haystack.utils import Secret

    place: Any = {"api_base_url": url, "api_key": Secret.from_token(KEY)}
    question = [ChatMessage.from_user(QUESTION)]
    writer = OpenAIChatGenerator(**place, model=SMOLLM2, generation_kwargs=SETTINGS)
    whole = writer.run(question)["replies"][0].text
    assert "Paris" in whole
    pieces: list[str] = []
    writer.run(question, streaming_callback=lambda chunk: pieces.append(chunk.content))
    assert "".join(pieces) == whole
    form = {"response_format": Place}
    formed = writer.run([ChatMessage.from_user(WHERE)], generation_kwargs=form)
    assert json.loads(formed["replies"][0].text)["city"]
    caller = OpenAIChatGenerator(
        **place,
        model=CALLER,
        generation_kwargs=LONG | {"tool_choice": "required"},
        tools=[create_tool_from_function(now)],
    )
    called = caller.run([ChatMessage.from_user("hi")])["replies"][0]
    assert [call.tool_name for call in called.tool_calls] == ["now"]
    responses = {"temperature": 0, "max_output_tokens": 60}
    other = OpenAIResponsesChatGenerator(**place, model=SMOLLM2, generation_kwargs=responses)
    assert "Paris" in other.run(question)["replies"][0].text
    assert len(OpenAITextEmbedder(**place, model=VECTORS).run("a")["embedding"]) == 64
    embedder = OpenAIDocumentEmbedder(**place, model=VECTORS, progress_bar=False)
    documents = embedder.run([Document(content="a"), Document(content="b")])["documents"]
    assert [len(document.embedding) for document in documents] == [64, 64]


def test_dspy(url: str) -> None:
    dspy = pytest.importorskip("dspy", reason="dspy is not installed")
    asked: dict[str, Any] = {
        **SETTINGS,
        "api_base": url,
        "api_key": KEY,
        "cache": False,
        "num_retries": 0,
    }
    for kind in ("chat", "responses"):
        model = dspy.LM(f"openai/{SMOLLM2}", **asked, model_type=kind)
        assert "Paris" in str(model(QUESTION)[0]), kind
    model = dspy.LM(f"openai/{SMOLLM2}", **asked)
    formed = model(WHERE, response_format=Place)
    assert json.loads(formed[0])["city"]
    caller = dspy.LM(f"openai/{CALLER}", **asked | LONG)
    (called,) = caller("hi", tools=[CHAT_TOOL], tool_choice="required")
    assert [call["function"]["name"] for call in called["tool_calls"]] == ["now"]
    embedder = dspy.Embedder(f"openai/{VECTORS}", api_base=url, api_key=KEY, caching=False)
    assert embedder(["a", "b"]).shape == (2, 64)


def test_smolagents(url: str) -> None:
    smolagents = pytest.importorskip("smolagents", reason="smolagents is not installed")
    place: dict[str, Any] = {"api_base": url, "api_key": KEY}
    model = smolagents.OpenAIModel(model_id=SMOLLM2, **place, **SETTINGS)
    question = [smolagents.ChatMessage(role="user", content=QUESTION)]
    whole = model.generate(question).content
    assert "Paris" in whole
    assert "".join(piece.content or "" for piece in model.generate_stream(question)) == whole
    schema = {"name": "place", "schema": Place.model_json_schema(), "strict": True}
    formed = model.generate(
        [smolagents.ChatMessage(role="user", content=WHERE)],
        response_format={"type": "json_schema", "json_schema": schema},
    )
    assert json.loads(formed.content)["city"]
    caller = smolagents.OpenAIModel(model_id=CALLER, **place, **LONG)
    tools = [smolagents.tool(now)]
    hi = [smolagents.ChatMessage(role="user", content="hi")]
    called = caller.generate(hi, tools_to_call_from=tools)
    assert [call.function.name for call in called.tool_calls] == ["now"]


def test_autogen(url: str) -> None:
    pytest.importorskip("autogen_ext.models.openai", reason="autogen-ext is not installed")
    chat = pytest.importorskip(
        "autogen_agentchat.agents", reason="autogen-agentchat is not installed"
    )
    from autogen_core.models import UserMessage
    from autogen_core.tools import FunctionTool
    from autogen_ext.models.openai import OpenAIChatCompletionClient

    abilities: Any = {
        "vision": False,
        "function_calling": True,
        "json_output": True,
        "structured_output": True,
        "family": "unknown",
    }
    place: dict[str, Any] = {"base_url": url, "api_key": KEY, "model_info": abilities}

    def said(text: str) -> list[Any]:
        return [UserMessage(content=text, source="user")]

    async def work() -> None:
        client = OpenAIChatCompletionClient(model=SMOLLM2, **place, **SETTINGS)
        whole = (await client.create(said(QUESTION))).content
        assert "Paris" in whole
        pieces = [piece async for piece in client.create_stream(said(QUESTION))]
        assert "".join(piece for piece in pieces if isinstance(piece, str)) == whole
        formed = await client.create(said(WHERE), json_output=Place)
        assert json.loads(str(formed.content))["city"]
        agent = chat.AssistantAgent("guide", model_client=client)
        done = await agent.run(task=QUESTION)
        assert "Paris" in done.messages[-1].content
        caller = OpenAIChatCompletionClient(model=CALLER, **place, **LONG)
        tool = FunctionTool(now, description="Tells the time.", name="now")
        for choice in ("required", tool):
            called = await caller.create(said("hi"), tools=[tool], tool_choice=choice)
            assert [call.name for call in called.content] == ["now"]
        await client.close()
        await caller.close()

    asyncio.run(work())


def test_outlines(url: str, server: Endpoint) -> None:
    outlines = pytest.importorskip("outlines", reason="outlines is not installed")
    openai = pytest.importorskip("openai")
    ollama = pytest.importorskip("ollama", reason="ollama is not installed")
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=120) as client:
        model = outlines.from_openai(client, SMOLLM2)
        whole = model(QUESTION, **SETTINGS)
        assert "Paris" in whole
        assert "".join(model.stream(QUESTION, **SETTINGS)) == whole
        assert json.loads(model(WHERE, Place, **SETTINGS))["city"]
    key = {"Authorization": f"Bearer {KEY}"}
    own = outlines.from_ollama(ollama.Client(server.url, headers=key), SMOLLM2)
    options = {"temperature": 0, "num_predict": 60}
    assert "Paris" in own(QUESTION, options=options)
    assert json.loads(own(WHERE, Place, options=options))["city"]


def test_instructor(url: str) -> None:
    instructor = pytest.importorskip("instructor", reason="instructor is not installed")
    openai = pytest.importorskip("openai")
    ask: dict[str, Any] = {
        "model": SMOLLM2,
        "response_model": Place,
        "messages": [{"role": "user", "content": WHERE}],
        "max_retries": 0,
        **SETTINGS,
    }
    with openai.OpenAI(base_url=url, api_key=KEY, max_retries=0, timeout=120) as own:
        client = instructor.from_openai(own, mode=instructor.Mode.JSON_SCHEMA)
        place = client.chat.completions.create(**ask)
        assert place.city
        parts = list(client.chat.completions.create_partial(**ask))
        assert parts[-1].city == place.city
        assert "Paris" in str(
            own.chat.completions.create(model=SMOLLM2, messages=ASKED, **SETTINGS)
        )


def test_llama_index_calls_tools_and_forms_answers(url: str) -> None:
    llms = pytest.importorskip(
        "llama_index.llms.openai_like", reason="llama-index-llms-openai-like is not installed"
    )
    from llama_index.core.tools import FunctionTool

    asked: dict[str, Any] = {
        "api_base": url,
        "api_key": KEY,
        "max_retries": 0,
        "temperature": 0,
        "is_chat_model": True,
        "is_function_calling_model": True,
    }
    caller = llms.OpenAILike(**asked, model=CALLER, max_tokens=256)
    tools = [FunctionTool.from_defaults(now)]
    called = caller.chat_with_tools(tools, user_msg="hi", tool_required=True)
    assert [call.tool_name for call in caller.get_tool_calls_from_response(called)] == ["now"]
    model = llms.OpenAILike(
        **asked, model=SMOLLM2, max_tokens=60, should_use_structured_outputs=True
    )
    assert model.as_structured_llm(Place).complete(WHERE).raw.city


def test_the_program_llm_forms_answers_and_calls_tools(url: str, tmp_path: Path) -> None:
    program = shutil.which("llm", path=f"{Path(sys.executable).parent}:{os.environ['PATH']}")
    if program is None:
        pytest.skip("llm is not installed")
    place = {"api_base": url, "api_key_name": "own"}
    models = [
        {"model_id": "writer", "model_name": SMOLLM2, "supports_schema": True, **place},
        {"model_id": "caller", "model_name": CALLER, "supports_tools": True, **place},
    ]
    # JSON is YAML too
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))

    def run(*arguments: str) -> str:
        done = subprocess.run(
            [program, *arguments, "--key", KEY],
            capture_output=True,
            text=True,
            env={"PATH": os.environ["PATH"], "LLM_USER_PATH": str(tmp_path), "HOME": str(tmp_path)},
            stdin=subprocess.DEVNULL,
            timeout=240,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout

    settings = ("-o", "temperature", "0", "-o", "max_tokens", "60")
    whole = run("-m", "writer", QUESTION, "--no-stream", *settings)
    assert "Paris" in whole
    assert run("-m", "writer", QUESTION, *settings) == whole
    schema = json.dumps(Place.model_json_schema())
    assert json.loads(run("-m", "writer", WHERE, "--schema", schema, *settings))["city"]
    # the model answers in words where it is free to: what is sent with tools has to be accepted
    function = 'def now():\n    "Return the time."\n    return "12"'
    assert "tiny model" in run("-m", "caller", "hi", "--functions", function)
