"""A stand-in for `llama-server` whose model works as an agent: it calls tools, one after another.

`--script FILE` comes before the options of the real one. It is a JSON list of steps; a step is what
tools are to get, by name, and the first that the request offers is called:

```
[{"Read": {"file_path": "/note.txt"}, "read": {"filePath": "/note.txt"}}, {"Bash": {...}}]
```

Which step comes next is how many results of tools the conversation has; after the last one the
model says what it got. Where a request has no tools, it says "ok".
"""

import argparse
import json
import os
import threading
from pathlib import Path
from typing import Any

from tests.support.openai_server import OpenAIServer, Reply, Request, calls, says

CHECK = "save_note"
"""What `launch` has the model call at its start."""


class CallingServer(OpenAIServer):
    """The server, as long as the process lives."""

    steps: list[dict[str, dict[str, Any]]]

    def shown_at(self, path: str) -> object:
        return {"status": "ok"} if path == "/health" else {"default_generation_settings": {}}

    def reply_to(self, request: Request) -> Reply:
        if request.path.endswith("/input_tokens"):
            return _whole({"input_tokens": 100})
        reply = self._answer(request.body)
        return reply if request.body.get("stream") else _at_once(reply)

    def _answer(self, body: dict[str, Any]) -> Reply:
        tools = body.get("tools") or []
        offered = [tool["function"]["name"] for tool in tools if "function" in tool]
        if CHECK in offered:
            return calls((CHECK, '{"text": "ready"}'))
        results = [each["content"] for each in body["messages"] if each["role"] == "tool"]
        if not offered:
            return says("ok")
        if len(results) >= len(self.steps):
            return says("The tools said: ", " ".join(_text(each) for each in results), ".")
        step = self.steps[len(results)]
        name = next((name for name in step if name in offered), None)
        if name is None:
            return says(f"expected a tool of {[*step]}, got {offered}")
        # apps drop a second result for an ID that they know
        return calls((name, json.dumps(step[name])), text="One moment.", before=len(results))


def _text(content: object) -> str:
    parts = content if isinstance(content, list) else [{"text": content}]
    return " ".join(" ".join(str(part.get("text", "")) for part in parts).split())


def _whole(value: object) -> Reply:
    return Reply((json.dumps(value).encode(),), kind="application/json")


def _at_once(reply: Reply) -> Reply:
    """The same answer in one piece."""
    lines = b"".join(reply.pieces).decode().splitlines()
    events = [json.loads(line[6:]) for line in lines if line.startswith("data: {")]
    message: dict[str, Any] = {"role": "assistant", "content": ""}
    made: dict[int, dict[str, Any]] = {}
    for choice in (choice for event in events for choice in event["choices"]):
        message["content"] += choice["delta"].get("content") or ""
        for piece in choice["delta"].get("tool_calls", ()):
            call = made.setdefault(piece["index"], {"function": {"name": "", "arguments": ""}})
            function = piece["function"]
            call |= {name: piece[name] for name in ("id", "type") if name in piece}
            call["function"]["name"] += function.get("name", "")
            call["function"]["arguments"] += function.get("arguments", "")
    if made:
        message["tool_calls"] = [*made.values()]
    finish = "tool_calls" if made else "stop"
    choice = {"index": 0, "finish_reason": finish, "message": message}
    return _whole({"choices": [choice], "usage": events[-1]["usage"]})


def main() -> None:
    parser = argparse.ArgumentParser(prog="llama-server", allow_abbrev=False)
    parser.add_argument("--script", type=Path, required=True)
    parser.add_argument("--port", type=int)
    options, _ = parser.parse_known_args()
    server = CallingServer(api_key=os.environ.get("LLAMA_API_KEY"), port=options.port)
    server.steps = json.loads(options.script.read_text())
    with server:
        threading.Event().wait()


if __name__ == "__main__":
    main()
