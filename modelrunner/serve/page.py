"""The page at `/`: what is served and how to ask it, for people who open the address."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from starlette.requests import Request

from modelrunner.serve.models import Kind
from modelrunner.serve.pool import Slot
from modelrunner.version import __version__

_ENDPOINTS: dict[Kind, str] = {
    "chat": "chat/completions",
    "embedding": "embeddings",
    "ranking": "rerank",
}
_STYLE = (
    "body{font:16px/1.5 system-ui,sans-serif;max-width:50rem;margin:3rem auto;padding:0 1rem;"
    "color:#222;background:#fff}code,pre{font:14px/1.5 ui-monospace,monospace}pre{padding:1rem;"
    "overflow:auto;background:#f3f3f3;border-radius:6px}table{border-collapse:collapse}th,td{"
    "text-align:left;padding:.2rem 1.5rem .2rem 0}@media(prefers-color-scheme:dark){body{"
    "color:#ddd;background:#1b1b1b}pre{background:#2a2a2a}a{color:#8ab4f8}}"
)


@dataclass(frozen=True, slots=True)
class Page:
    """What the page says.

    Attributes:
        url: The address of the server, as the client writes it.
        needs_key: Whether requests have to carry a key.
        slots: What is served.
    """

    url: str
    needs_key: bool
    slots: Sequence[Slot]

    @classmethod
    def of(cls, request: Request, slots: Sequence[Slot]) -> "Page":
        """The page for a client; a key is asked for where it has sent one."""
        headers = request.headers
        # told by a proxy that speaks TLS for us; wrong or forged, it changes these words only
        scheme = "https" if headers.get("x-forwarded-proto") == "https" else "http"
        keyed = "authorization" in headers or "x-api-key" in headers
        return cls(f"{scheme}://{headers.get('host', 'localhost')}", keyed, slots)

    def text(self) -> str:
        """The page for a terminal."""
        width = max((len(slot.model.name) for slot in self.slots), default=0)
        models = [
            f"  {slot.model.name:{width}}  {slot.model.kind:9}  context {slot.context}"
            for slot in self.slots
        ]
        return "\n".join(
            [
                f"modelrunner {__version__}",
                "The service is running.",
                "",
                f"OPENAI_BASE_URL={self.url}/v1",
                "",
                *models,
                "",
                self._example(),
                "",
            ]
        )

    def html(self) -> str:
        """The page for a browser."""
        rows = "".join(
            f"<tr><td><code>{escape(slot.model.name)}</code><td>{slot.model.kind}"
            f"<td>{slot.context}<td>{slot.state}"
            for slot in self.slots
        )
        return (
            f'<!doctype html><html lang="en"><meta charset="utf-8"><title>modelrunner</title>'
            f'<meta name="viewport" content="width=device-width"><style>{_STYLE}</style>'
            f"<h1>modelrunner {escape(__version__)}</h1><p>The service is running.</p>"
            f"<h2>Models</h2><table><tr><th>model<th>kind<th>context<th>state{rows}</table>"
            f"<h2>Address</h2><p>Base URL for OpenAI-compatible clients:</p>"
            f"<pre>{escape(self.url)}/v1</pre>"
            f"<h2>Example</h2><pre>{escape(self._example())}</pre>"
            f'<p><a href="/v1/models">/v1/models</a> · <a href="/metrics">/metrics</a> ·'
            f' <a href="/health">/health</a></p></html>\n'
        )

    def _example(self) -> str:
        if not self.slots:
            return "no models are served"
        model = self.slots[0].model
        asked: dict[str, object] = {"model": model.name}
        match model.kind:
            case "chat":
                asked["messages"] = [{"role": "user", "content": "Hello"}]
            case "embedding":
                asked["input"] = "Hello"
            case "ranking":
                asked |= {"query": "greeting", "documents": ["Hello", "Goodbye"]}
        key = " -H 'Authorization: Bearer KEY'" if self.needs_key else ""
        return (
            f"curl {self.url}/v1/{_ENDPOINTS[model.kind]}{key}"
            f" -H 'Content-Type: application/json' \\\n  -d '{json.dumps(asked)}'"
        )
