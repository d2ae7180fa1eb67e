"""What to set or type so that a client asks this server, to be copied."""

import json
from collections.abc import Collection, Iterator
from dataclasses import dataclass

from modelrunner.serve.models import Kind, Served

_ENDPOINTS: dict[Kind, str] = {
    "chat": "chat/completions",
    "embedding": "embeddings",
    "ranking": "rerank",
}


@dataclass(frozen=True, slots=True)
class Client:
    """One client, and the lines that it needs."""

    name: str
    lines: str


@dataclass(frozen=True, slots=True)
class Target:
    """The server, as a client sees it.

    Attributes:
        url: Its address.
        needs_key: Whether requests have to carry a key.
        paths: The addresses that it answers.
        models: What it serves.
    """

    url: str
    needs_key: bool
    paths: Collection[str]
    models: Collection[Served]

    def clients(self) -> Iterator[Client]:
        """Clients whose API is answered, and has a model."""
        key = "YOUR_KEY" if self.needs_key else "none"
        yield Client("OpenAI", f"OPENAI_BASE_URL={self.url}/v1\nOPENAI_API_KEY={key}")
        if "/v1/messages" in self.paths and any(each.kind == "chat" for each in self.models):
            yield Client("Anthropic", f"ANTHROPIC_BASE_URL={self.url}\nANTHROPIC_API_KEY={key}")
        if "/api/chat" in self.paths:
            yield Client("Ollama", f"OLLAMA_HOST={self.url}")
        if "/engines/ps" in self.paths:
            yield Client("Docker", f"MODEL_RUNNER_HOST={self.url}")
        example = self.example()
        if example is not None:
            yield Client("curl", example)

    def example(self) -> str | None:
        """A command that asks the first model; None where nothing is served."""
        model = next(iter(self.models), None)
        if model is None:
            return None
        asked: dict[str, object] = {"model": model.name}
        match model.kind:
            case "chat":
                asked["messages"] = [{"role": "user", "content": "Hello"}]
            case "embedding":
                asked["input"] = "Hello"
            case "ranking":
                asked |= {"query": "greeting", "documents": ["Hello", "Goodbye"]}
        key = " -H 'Authorization: Bearer YOUR_KEY'" if self.needs_key else ""
        return (
            f"curl {self.url}/v1/{_ENDPOINTS[model.kind]}{key}"
            f" -H 'Content-Type: application/json' \\\n  -d '{json.dumps(asked)}'"
        )
