"""Libraries for Node that speak one of the APIs, unchanged, against real small models."""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.test_clients import KEY, clients_server
from tests.e2e.test_serving import CALLER, QUESTION, SMOLLM2, VECTORS, Endpoint

pytestmark = [pytest.mark.model, pytest.mark.xdist_group("clients")]

NODE = Path(os.environ.get("MODELRUNNER_NODE_CLIENTS", "/var/cache/modelrunner-ci/node"))
"""A directory with the packages from npm in `node_modules`."""


@pytest.fixture(scope="module")
def server(fixture_home: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Endpoint]:
    with clients_server(fixture_home, tmp_path_factory.mktemp("node")) as endpoint:
        yield endpoint


OPENAI_JS = """
import OpenAI from "openai";
import { zodResponseFormat } from "openai/helpers/zod";
import { z } from "zod";
const baseURL = process.env.URL + "/v1";
const client = new OpenAI({ baseURL, apiKey: process.env.KEY, maxRetries: 0 });
const ask = { model: process.env.MODEL, temperature: 0, max_output_tokens: 30 };
const input = process.env.QUESTION;
const chat = await client.chat.completions.create({
  model: ask.model, temperature: 0, max_tokens: 30, messages: [{ role: "user", content: input }],
});
const pieces = await client.chat.completions.create({
  model: ask.model, temperature: 0, max_tokens: 30, messages: [{ role: "user", content: input }],
  stream: true, stream_options: { include_usage: true },
});
let streamed = "";
for await (const piece of pieces) streamed += piece.choices[0]?.delta?.content ?? "";
const place = z.object({ city: z.enum(["Paris", "Rome"]) });
const form = await client.chat.completions.parse({
  model: ask.model, temperature: 0, max_tokens: 60,
  messages: [{ role: "user", content: "Where is the Louvre?" }],
  response_format: zodResponseFormat(place, "place"),
});
const first = await client.responses.create({ ...ask, input });
const stream = client.responses.stream({ ...ask, input });
let text = "";
for await (const event of stream) {
  if (event.type === "response.output_text.delta") text += event.delta;
}
const last = await stream.finalResponse();
const second = await client.responses.create({
  ...ask, input: "And of Spain?", previous_response_id: first.id,
});
const items = [];
const pages = client.responses.inputItems.list(second.id, { limit: 1 });
for await (const item of pages) items.push(item.role);
await client.responses.delete(second.id);
const gone = await client.responses.retrieve(second.id).catch((error) => error.status);
const calling = client.responses.stream({
  model: process.env.CALLER, input: "hi", temperature: 0, tool_choice: "required",
  tools: [
    {
      type: "function", name: "now", strict: false,
      parameters: { type: "object", properties: {} },
    },
  ],
});
const { output } = await calling.finalResponse();
const called = output.filter((item) => item.type === "function_call");
const vectors = await client.embeddings.create({ model: process.env.VECTORS, input: ["a", "b"] });
console.log(JSON.stringify({
  chat: chat.choices[0].message.content, streamed, city: form.choices[0].message.parsed.city,
  text, last: last.output_text, second: second.output_text,
  items, gone, vectors: vectors.data.length,
  called: called.map((item) => [item.name, item.arguments]),
}));
"""
ANTHROPIC_JS = """
import Anthropic from "@anthropic-ai/sdk";
const client = new Anthropic({ baseURL: process.env.URL, apiKey: process.env.KEY, maxRetries: 0 });
const messages = [{ role: "user", content: process.env.QUESTION }];
const ask = { model: process.env.MODEL, max_tokens: 30 };
const whole = await client.messages.create({ ...ask, messages });
const stream = client.messages.stream({ ...ask, messages });
const last = await stream.finalMessage();
const called = await client.messages.stream({
  model: process.env.CALLER, max_tokens: 256, messages: [{ role: "user", content: "hi" }],
  tools: [{ name: "now", input_schema: { type: "object", properties: {} } }],
  tool_choice: { type: "any" },
}).finalMessage();
const counted = await client.messages.countTokens({ model: ask.model, messages });
const models = [];
for await (const model of client.models.list({ limit: 1 })) models.push(model.id);
console.log(JSON.stringify({
  whole: whole.content[0].type, last: last.content[0].type, counted: counted.input_tokens, models,
  called: called.content.filter((b) => b.type === "tool_use").map((b) => [b.name, b.input]),
}));
"""
VERCEL_JS = """
import { embedMany, generateText, Output, streamText, tool } from "ai";
import { createOpenAI } from "@ai-sdk/openai";
import { createOpenAICompatible } from "@ai-sdk/openai-compatible";
import { z } from "zod";
const settings = { baseURL: process.env.URL + "/v1", apiKey: process.env.KEY };
const compatible = createOpenAICompatible({
  ...settings, name: "own", supportsStructuredOutputs: true,
});
const responses = createOpenAI(settings);
const found = [];
for (const provider of [compatible, responses]) {
  const ask = { model: provider(process.env.MODEL), temperature: 0, maxRetries: 0 };
  const whole = await generateText({ ...ask, prompt: process.env.QUESTION });
  const stream = streamText({ ...ask, prompt: process.env.QUESTION });
  let text = "";
  for await (const piece of stream.textStream) text += piece;
  const form = await generateText({
    ...ask, prompt: "Where is the Louvre?",
    output: Output.object({ schema: z.object({ city: z.enum(["Paris", "Rome"]) }) }),
  });
  const called = await generateText({
    model: provider(process.env.CALLER), temperature: 0, maxRetries: 0, prompt: "hi",
    toolChoice: { type: "tool", toolName: "now" },
    tools: { now: tool({ inputSchema: z.object({}), execute: async () => "12" }) },
  });
  found.push({
    whole: whole.text, text, city: form.output.city,
    called: called.toolCalls.map((call) => call.toolName),
  });
}
const vectors = await embedMany({
  model: compatible.textEmbeddingModel(process.env.VECTORS), values: ["a", "b"], maxRetries: 0,
});
console.log(JSON.stringify({ found, vectors: vectors.embeddings.length }));
"""

LANGCHAIN_JS = """
import { ChatOpenAI, OpenAIEmbeddings } from "@langchain/openai";
import { ChatOllama, OllamaEmbeddings } from "@langchain/ollama";
import { tool } from "@langchain/core/tools";
import { z } from "zod";
const { URL, KEY: apiKey, MODEL, CALLER, VECTORS, QUESTION } = process.env;
const configuration = { baseURL: URL + "/v1" };
const headers = { Authorization: "Bearer " + apiKey };
const now = tool(async () => "12", {
  name: "now", description: "The time.", schema: z.object({}),
});
const openai = (more) => new ChatOpenAI({
  configuration, apiKey, temperature: 0, maxRetries: 0, ...more,
});
const ollama = (more) => new ChatOllama({ baseUrl: URL, headers, temperature: 0, ...more });
const found = [];
for (const [model, caller] of [
  [openai({ model: MODEL, maxTokens: 60 }), openai({ model: CALLER })],
  [
    openai({ model: MODEL, maxTokens: 60, useResponsesApi: true }),
    openai({ model: CALLER, useResponsesApi: true }),
  ],
  [ollama({ model: MODEL, numPredict: 60 }), ollama({ model: CALLER })],
]) {
  const whole = await model.invoke(QUESTION);
  let text = "";
  for await (const piece of await model.stream(QUESTION)) text += piece.text;
  const schema = z.object({ city: z.enum(["Paris", "Rome"]) });
  const formed = model.withStructuredOutput(schema, { method: "jsonSchema" });
  const form = await formed.invoke("Where is the Louvre?");
  const called = await caller.bindTools([now], { tool_choice: "now" }).invoke("hi");
  found.push({
    whole: whole.text, text, city: form.city,
    called: called.tool_calls.map((call) => call.name),
  });
}
const vectors = [
  new OpenAIEmbeddings({ configuration, apiKey, model: VECTORS }),
  new OllamaEmbeddings({ baseUrl: URL, headers, model: VECTORS }),
];
const sizes = [];
for (const each of vectors) {
  const rows = await each.embedDocuments(["a", "b"]);
  sizes.push(rows.map((row) => row.length));
}
console.log(JSON.stringify({ found, sizes }));
"""
OTHER_PROVIDERS_JS = """
import { embedMany, generateText, Output, streamText, tool } from "ai";
import { createAnthropic } from "@ai-sdk/anthropic";
import { createOllama } from "ollama-ai-provider-v2";
import { z } from "zod";
const { URL, KEY, MODEL, CALLER, VECTORS, QUESTION } = process.env;
const ollama = createOllama({
  baseURL: URL + "/api", headers: { Authorization: "Bearer " + KEY },
});
const anthropic = createAnthropic({ baseURL: URL + "/v1", apiKey: KEY });
// Ollama's provider writes the temperature outside of `options`, where its API looks for it
const settings = { ollama: { options: { temperature: 0, seed: 1, num_predict: 60 } } };
const common = { temperature: 0, maxRetries: 0, providerOptions: settings };
const found = {};
for (const [name, provider] of Object.entries({ ollama, anthropic })) {
  const ask = { ...common, model: provider(MODEL), maxOutputTokens: 60, prompt: QUESTION };
  const whole = await generateText(ask);
  let text = "";
  for await (const piece of streamText(ask).textStream) text += piece;
  found[name] = { whole: whole.text, text };
}
const form = await generateText({
  ...common, model: ollama(MODEL), prompt: "Where is the Louvre?",
  output: Output.object({ schema: z.object({ city: z.enum(["Paris", "Rome"]) }) }),
});
found.ollama.city = form.output.city;
const called = await generateText({
  ...common, model: anthropic(CALLER), prompt: "hi", maxOutputTokens: 256,
  toolChoice: { type: "tool", toolName: "now" },
  tools: { now: tool({ inputSchema: z.object({}), execute: async () => "12" }) },
});
found.anthropic.called = called.toolCalls.map((call) => call.toolName);
const vectors = await embedMany({
  ...common, model: ollama.textEmbeddingModel(VECTORS), values: ["a", "b"],
});
found.ollama.vectors = vectors.embeddings.length;
console.log(JSON.stringify(found));
"""


def run_node(server: Endpoint, script: str, *packages: str) -> Any:
    """What a script prints last, as JSON."""
    node = shutil.which("node")
    if node is None:
        pytest.skip("node is not installed")
    missing = [name for name in packages if not (NODE / "node_modules" / name).is_dir()]
    if missing:
        pytest.skip(f"{', '.join(missing)} of npm is not installed")
    done = subprocess.run(
        [node, "--input-type=module", "--eval", script],
        cwd=NODE,
        env={
            "PATH": os.environ["PATH"],
            "URL": server.url,
            "KEY": KEY,
            "MODEL": SMOLLM2,
            "CALLER": CALLER,
            "VECTORS": VECTORS,
            "QUESTION": QUESTION,
        },
        capture_output=True,
        text=True,
        timeout=280,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout.splitlines()[-1])


def test_openais_library_for_node(server: Endpoint) -> None:
    found = run_node(server, OPENAI_JS, "openai", "zod")
    assert found["text"] == found["last"] == found["chat"] == found["streamed"]
    assert found["city"] in {"Paris", "Rome"}
    assert ("Paris" in found["chat"], "Madrid" in found["second"]) == (True, True)
    assert found["items"] == ["user", "assistant", "user"]
    assert (found["gone"], found["called"], found["vectors"]) == (404, [["now", "{}"]], 2)


def test_anthropics_library_for_node(server: Endpoint) -> None:
    found = run_node(server, ANTHROPIC_JS, "@anthropic-ai/sdk")
    assert (found["whole"], found["last"], found["called"]) == ("text", "text", [["now", {}]])
    assert found["counted"] > 10
    assert found["models"] == [SMOLLM2, f"{CALLER}:latest", f"{VECTORS}:latest"]


def test_vercels_library(server: Endpoint) -> None:
    packages = ("ai", "@ai-sdk/openai-compatible", "@ai-sdk/openai", "zod")
    found = run_node(server, VERCEL_JS, *packages)
    for each in found["found"]:
        assert "Paris" in each["whole"]
        assert each["text"] == each["whole"]
        assert each["city"] in {"Paris", "Rome"}
        assert each["called"] == ["now"]
    assert found["vectors"] == 2


def test_langchain_for_node_over_openais_and_ollamas_api(server: Endpoint) -> None:
    packages = ("@langchain/core", "@langchain/openai", "@langchain/ollama", "zod")
    found = run_node(server, LANGCHAIN_JS, *packages)
    assert len(found["found"]) == 3
    for each in found["found"]:
        assert "Paris" in each["whole"]
        assert each["text"] == each["whole"]
        assert each["city"] in {"Paris", "Rome"}
    # Ollama's API cannot demand a call
    assert [each["called"] for each in found["found"]] == [["now"], ["now"], []]
    assert found["sizes"] == [[64, 64], [64, 64]]


def test_vercels_library_over_anthropics_and_ollamas_api(server: Endpoint) -> None:
    packages = ("ai", "@ai-sdk/anthropic", "ollama-ai-provider-v2", "zod")
    found = run_node(server, OTHER_PROVIDERS_JS, *packages)
    for each in found.values():
        assert "Paris" in each["whole"]
        assert each["text"] == each["whole"]
    assert found["ollama"]["city"] in {"Paris", "Rome"}
    assert found["ollama"]["vectors"] == 2
    assert found["anthropic"]["called"] == ["now"]
