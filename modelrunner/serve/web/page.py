"""The page at `/`: what is served and how to ask it, for people who open the address."""

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from html import escape

from starlette.requests import Request

from modelrunner.serve.pool import ModelPool, Slot
from modelrunner.serve.web.chat_files import address
from modelrunner.serve.web.clients import Client, Target
from modelrunner.serve.web.markup import document
from modelrunner.units import counted, format_size
from modelrunner.version import __version__

_LINKS = ("/v1/models", "/metrics", "/health")


@dataclass(frozen=True, slots=True)
class Page:
    """What the page says.

    Attributes:
        target: The server, as the client sees it.
        slots: What is served.
        budget: Bytes that all models may take together; None for no limit.
    """

    target: Target
    slots: Sequence[Slot]
    budget: int | None = None

    @classmethod
    def of(cls, request: Request, pool: ModelPool, paths: Collection[str]) -> "Page":
        """The page for a client; a key is asked for where it has sent one."""
        headers = request.headers
        # told by a proxy that speaks TLS for us; wrong or forged, it changes these words only
        scheme = "https" if headers.get("x-forwarded-proto") == "https" else request.url.scheme
        keyed = "authorization" in headers or "x-api-key" in headers
        url = f"{scheme}://{headers.get('host', 'localhost')}"
        slots = list(pool.slots.values())
        target = Target(url, keyed, paths, [slot.model for slot in slots])
        return cls(target, slots, pool.budget)

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
                f"OPENAI_BASE_URL={self.target.url}/v1",
                "",
                *models,
                "",
                self.target.example() or "no models are served",
                "",
            ]
        )

    def html(self) -> str:
        """The page for a browser."""
        clients = [_client(number, client) for number, client in enumerate(self.target.clients())]
        links = " ".join(f'<a href="{path}">{path}</a>' for path in _LINKS)
        # these need the key, which a link does not carry
        others = "" if self.target.needs_key else f"<h2>More</h2><nav>{links}</nav>"
        return document(
            f"<header><h1>modelrunner</h1>"
            f'<p class="quiet">{escape(__version__)} · The service is running</p></header>'
            f'<p id="problem" role="alert"></p>'
            f'<section id="models"><h2>Models</h2>{self._models()}</section>'
            f'<h2>Connect</h2><ul class="clients">{"".join(clients)}</ul>'
            f'<p id="said" class="quiet" role="status"></p>{others}'
        )

    def _models(self) -> str:
        if not self.slots:
            return "<p>No models are served.</p>"
        loaded = [slot for slot in self.slots if slot.state == "loaded"]
        used = format_size(sum(slot.model.memory or 0 for slot in loaded))
        limit = "" if self.budget is None else f" of {format_size(self.budget)}"
        what = counted(len(loaded), "model")
        rows = "".join(map(_model, self.slots))
        return (
            f'<ul class="models">{rows}</ul>'
            f'<p class="quiet">{what} in memory: {used}{limit}. A model is loaded by the first'
            " request for it.</p>"
        )


def _model(slot: Slot) -> str:
    model = slot.model
    state: str = slot.state
    if slot.users:
        state += f", {counted(slot.users, 'request')}"
    facts = [("State", state), ("Kind", model.kind), ("Context", f"{slot.context} tokens")]
    if model.memory is not None:
        facts.append(("Memory", format_size(model.memory)))
    known = model.facts
    facts += [
        (name, value)
        for name, value in (("Parameters", known.parameters), ("Quantization", known.quantization))
        if value
    ]
    rest = "".join(
        f"<div><dt>{name}</dt><dd{_class(name, slot)}>{escape(str(value))}</dd></div>"
        for name, value in facts
    )
    chat = ""
    if model.spec.ui:
        to = escape(address(model.name))
        chat = f'<a class="chat" href="{to}" aria-label="Chat with {escape(model.name)}">Chat</a>'
    return f"<li><div><code>{escape(model.name)}</code>{chat}</div><dl>{rest}</dl></li>"


def _class(name: str, slot: Slot) -> str:
    return f' class="{slot.state}"' if name == "State" else ""


def _client(number: int, client: Client) -> str:
    return f'<li><h3>{client.name}</h3><pre id="client-{number}">{escape(client.lines)}</pre></li>'
