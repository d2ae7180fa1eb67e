"""How much of an agent's conversation is read again in each turn, through `launch`.

    python benchmarks/agent_turns.py --model ai/smollm2 [--turns 20] [--tokens 7000]
        [-- --context 8192 --chat-template gemma]

A conversation as Claude Code has it: two system prompts, tools, a reminder, and turns that answer
with what a tool has found, by Anthropic's messages as a stream. Between the turns come what an
agent asks beside: a title, and the count of tokens. Of each turn the tokens that the runtime has
read (`input_tokens`) are held against those that are new: the prompt beyond the last one and its
answer.

Aim: at most 1.2 tokens are read for a new one.
"""

import argparse
import http.client
import json
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

AIM = 1.2
_FILLER = (
    "The function reads the file line by line, keeps what matches, and returns a list of names."
    " A missing file is an error that names it. "
)
_CHARACTERS = 4
"""Of a token, roughly: prompts are made to a length by it."""


@dataclass(frozen=True)
class Turn:
    """What the runtime has read for one turn, and what of it was new."""

    whole: int
    read: int
    new: int


@contextmanager
def launched(model: str, options: list[str]) -> Iterator[Mapping[str, Any]]:
    """The block in which a model is served as for an agent; it gets what `launch env` prints."""
    command = [sys.executable, "-m", "modelrunner", "launch", "env", "--json", "--model", model]
    with subprocess.Popen([*command, *options], stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        line = process.stdout.readline()
        if not line:
            sys.exit(process.wait() or 1)
        try:
            yield json.loads(line)
        finally:
            process.terminate()


def ask(server: Mapping[str, Any], path: str, body: Mapping[str, Any]) -> list[Any]:
    """The events of a stream, or the one answer."""
    key = server["environment"]["ANTHROPIC_AUTH_TOKEN"]
    connection = http.client.HTTPConnection(urlsplit(server["url"]).netloc, timeout=3600)
    headers = {
        "Authorization": f"Bearer {key}",
        "Content-Type": "application/json",
        "anthropic-version": "2023-06-01",
    }
    connection.request("POST", path, json.dumps(body), headers)
    reply = connection.getresponse()
    text = reply.read().decode()
    connection.close()
    if reply.status != 200:
        sys.exit(f"{path}: {reply.status} {text}")
    if "event-stream" not in (reply.getheader("Content-Type") or ""):
        return [json.loads(text)]
    return [json.loads(line[6:]) for line in text.splitlines() if line.startswith("data: ")]


def text_of(length: int, seed: str) -> str:
    """Some text of about so many tokens, another one for each seed."""
    wanted = length * _CHARACTERS
    sentence = f"{seed}: {_FILLER}"
    return (sentence * (wanted // len(sentence) + 1))[:wanted]


def conversation(server: Mapping[str, Any], turns: int, tokens: int) -> Iterator[Turn]:
    """Each turn of a conversation that ends at about so many tokens."""
    each = max(tokens // (turns * 2), 16)
    model = server["model"]
    marked = {"cache_control": {"type": "ephemeral"}}
    system = [
        {"type": "text", "text": "You are a coding agent.", **marked},
        {"type": "text", "text": text_of(tokens - turns * (each + 24), "rule"), **marked},
    ]
    schema = {"type": "object", "properties": {"path": {"type": "string"}}, "required": ["path"]}
    tools = [{"name": "Read", "description": "Reads a file.", "input_schema": schema}]
    reminder = "<system-reminder>Today's date is 2026-11-29.</system-reminder>"
    messages: list[dict[str, Any]] = [
        {"role": "user", "content": [{"type": "text", "text": reminder}]}
    ]
    before = 0
    for turn in range(turns):
        found = {"type": "text", "text": f"Step {turn}. {text_of(each, f'file {turn}')}"}
        if turn:
            messages.append({"role": "user", "content": [found]})
        else:
            messages[0]["content"].append(found)
        body = {
            "model": model,
            "system": system,
            "tools": tools,
            "messages": messages,
            "max_tokens": 24,
            "temperature": 0,
            "thinking": {"type": "adaptive"},
            "stream": True,
        }
        ask(server, "/v1/messages/count_tokens", {"model": model, "messages": messages})
        events = ask(server, "/v1/messages?beta=true", body)
        usage: dict[str, int] = {}
        said = ""
        for event in events:
            usage |= event.get("message", {}).get("usage") or event.get("usage") or {}
            said += event.get("delta", {}).get("text") or ""
        whole = usage["input_tokens"] + usage.get("cache_read_input_tokens", 0)
        # what the model has written itself it need not read
        yield Turn(whole, usage["input_tokens"], whole - before)
        before = whole + usage["output_tokens"]
        messages.append({"role": "assistant", "content": [{"type": "text", "text": said or "ok"}]})
        title = [{"role": "user", "content": f"A title of five words for: {found['text']}"}]
        ask(server, "/v1/messages", {"model": model, "messages": title, "max_tokens": 8})


def main() -> None:
    """Print each turn, and how much was read for a new token."""
    parser = argparse.ArgumentParser(description=__doc__, usage=argparse.SUPPRESS)
    parser.add_argument("--model", default="ai/smollm2")
    parser.add_argument("--turns", type=int, default=20)
    parser.add_argument("--tokens", type=int, default=7000)
    arguments, options = parser.parse_known_args()
    with launched(arguments.model, [word for word in options if word != "--"]) as server:
        turns = []
        print(f"{'TURN':>4}  {'PROMPT':>7}  {'NEW':>6}  {'READ':>6}  RATIO")
        for turn in conversation(server, arguments.turns, arguments.tokens):
            turns.append(turn)
            ratio = turn.read / max(turn.new, 1)
            print(
                f"{len(turns):>4}  {turn.whole:>7}  {turn.new:>6}  {turn.read:>6}  {ratio:.2f}",
                flush=True,
            )
    # the first one is all new
    later = turns[1:]
    ratio = sum(turn.read for turn in later) / sum(turn.new for turn in later)
    verdict = "reached" if ratio <= AIM else "missed"
    print(f"read again for a new token: {ratio:.2f}, aim {AIM}: {verdict}")


if __name__ == "__main__":
    main()
