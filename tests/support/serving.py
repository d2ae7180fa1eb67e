"""A gateway over runtimes that say what a test wants, all over real HTTP on loopback.

```
with gateway(scripted := Scripted(), model("ai/one")) as running:
    scripted.server("ai/one").next(says("Hello"))
    running.post("/v1/chat/completions", {"model": "one", "messages": [...]})
```
"""

import http.client
import json
import ssl
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any
from urllib.parse import urlsplit

from modelrunner.errors import RuntimeFailedError
from modelrunner.oci.digest import Digest
from modelrunner.oci.reference import Reference
from modelrunner.runtime.base import Ability, Availability, LaunchSpec, Progress, Server, unheard
from modelrunner.serve.client.access import AccessPolicy
from modelrunner.serve.client.keys import ApiKeys
from modelrunner.serve.client.limits import Limits
from modelrunner.serve.gateway import Gateway, listen, url_of
from modelrunner.serve.library import Library
from modelrunner.serve.models import Kind, Served
from modelrunner.serve.pool import ModelPool, StartHistory
from modelrunner.serve.process.certificate import Certificate
from tests.support import haste
from tests.support.openai_server import OpenAIServer

CONTROL_KEY = "control"


def model(
    name: str,
    *,
    kind: Kind = "chat",
    memory: int | None = 1,
    on_gpus: tuple[tuple[str, int], ...] = (),
) -> Served:
    """A model to serve; its ID is made of its name."""
    reference = Reference.parse(name)
    spec = LaunchSpec(model=Path("/m.gguf"), name=reference.short, context=8, threads=1, api_key="")
    return Served(
        name=reference.short,
        digest=Digest.of(name.encode()),
        references=(reference,),
        kind=kind,
        spec=spec,
        memory=memory,
        on_gpus=on_gpus,
    )


class ScriptedServer(Server):
    """One start of a model: an OpenAI server that can die."""

    name = "scripted"

    def __init__(self, spec: LaunchSpec, load_s: float, *, mortal: bool) -> None:
        self.api_key = spec.api_key
        self.context = spec.context
        self.answers = OpenAIServer(api_key=spec.api_key)
        self.answers.__enter__()
        self.running = True
        self._load_s = load_s
        self._mortal = mortal

    @property
    def base_url(self) -> str:
        return f"{self.answers.url}/v1"

    @property
    def pid(self) -> int:
        return 1

    def wait_until_ready(self, deadline_s: float, on_progress: Progress = unheard) -> None:
        end = time.monotonic() + self._load_s
        while time.monotonic() < end:
            time.sleep(0.01)
            try:
                on_progress(None)
            except BaseException:
                self.stop()
                raise

    def alive(self) -> bool:
        return self.running and not (self._mortal and self.answers.requests)

    def stop(self) -> None:
        self.running = False
        if self.answers is not None:
            self.answers.__exit__()
            self.answers = None


@dataclass
class Scripted:
    """A runtime that starts such servers, and remembers them."""

    load_s: float = 0.0
    mortals: int = 0
    """So many of the next servers end when they are asked something."""
    refuses: bool = False
    unsupported: bool = False
    """Whether it refuses because it does not know the model."""
    tries: int = 0
    starts: list[tuple[str, ScriptedServer]] = field(default_factory=list)
    scripts: dict[str, list[Any]] = field(default_factory=dict)
    again: dict[str, list[Any]] = field(default_factory=dict)
    """The scripts of the servers after the first."""

    name = "scripted"
    abilities = frozenset(Ability)
    external = False

    def availability(self) -> Availability:
        return Availability(self.name, available=True)

    def version(self) -> None:
        return None

    def build(self) -> None:
        return None

    def start(self, spec: LaunchSpec, log: Path) -> ScriptedServer:
        self.tries += 1
        if self.refuses:
            raise RuntimeFailedError(
                "it does not start", hint="update it", unsupported=self.unsupported
            )
        server = ScriptedServer(spec, self.load_s, mortal=self.mortals > 0)
        self.mortals -= 1
        server.answers.next(*self.scripts.pop(spec.name, ()))
        self.scripts |= self.again
        self.again = {}
        self.starts.append((spec.name, server))
        return server

    @property
    def started(self) -> list[str]:
        """The names of what was started, in order."""
        return [name for name, _ in self.starts]

    @property
    def last(self) -> ScriptedServer:
        return self.starts[-1][1]


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> str:
        return self.json["error"]["message"]


@dataclass(frozen=True)
class Running:
    """A gateway that runs."""

    url: str
    pool: ModelPool
    gateway: Gateway

    def connect(self) -> http.client.HTTPConnection:
        parts = urlsplit(self.url)
        if parts.scheme == "http":
            return http.client.HTTPConnection(parts.netloc, timeout=20)
        trusting = ssl.create_default_context()
        trusting.check_hostname = False
        trusting.verify_mode = ssl.CERT_NONE
        return http.client.HTTPSConnection(parts.netloc, timeout=20, context=trusting)

    def ask(self, method: str, path: str, body: bytes | None = None, **headers: str) -> Answer:
        connection = self.connect()
        try:
            sent = {name.replace("_", "-"): value for name, value in headers.items()}
            connection.request(method, path, body, sent)
            reply = connection.getresponse()
            headers = {name.lower(): value for name, value in reply.headers.items()}
            return Answer(reply.status, headers, reply.read())
        finally:
            connection.close()

    def get(self, path: str, **headers: str) -> Answer:
        return self.ask("GET", path, **headers)

    def post(self, path: str, value: object, **headers: str) -> Answer:
        return self.ask("POST", path, json.dumps(value).encode(), **headers)

    def chat(self, name: str | None, text: str = "hi", **headers: str) -> Answer:
        named = {} if name is None else {"model": name}
        asked = {**named, "messages": [{"role": "user", "content": text}]}
        return self.post("/v1/chat/completions", asked, **headers)

    def control(self, method: str, what: str, value: object = None) -> Answer:
        body = json.dumps(value).encode()
        return self.ask(method, f"/_modelrunner/{what}", body, Authorization="Bearer control")

    def states(self) -> dict[str, str]:
        return {each["model"]: each["state"] for each in self.control("GET", "models").json}


@contextmanager
def gateway(
    runtime: Scripted,
    *models: Served,
    api_key: str | ApiKeys | None = None,
    host: str = "127.0.0.1",
    origins: frozenset[str] = frozenset(),
    budget: int | None = None,
    gpus: tuple[tuple[str, int], ...] = (),
    strict: bool = False,
    keep_alive: float | None = None,
    hosts: frozenset[str] = frozenset(),
    limits: Limits | None = None,
    history: StartHistory | None = None,
    library: Library | None = None,
    everything: bool = False,
    certificate: Certificate | None = None,
) -> Iterator[Running]:
    """The block in which models are served, by a thread of this process."""
    with (
        haste.gateways(),
        TemporaryDirectory() as folder,
        listen("127.0.0.1", 0) as listener,
    ):
        logs = Path(folder) / "0"
        pool = ModelPool(
            runtime, models, logs, budget, keep_alive, strict=strict, history=history, gpus=gpus
        )
        keys = api_key if isinstance(api_key, ApiKeys) else ApiKeys.only(api_key)
        policy = AccessPolicy(host, keys, CONTROL_KEY, origins, hosts)
        running = Gateway(
            listener,
            pool,
            policy,
            limits or Limits(),
            library=library,
            everything=everything,
            certificate=certificate,
        )
        thread = threading.Thread(target=running.run)
        thread.start()
        url = url_of(listener, secure=certificate is not None)
        client = Running(url, pool, running)
        try:
            client.get("/health")
            yield client
        finally:
            running.end()
            thread.join(30)
        assert not any(server.running for _, server in runtime.starts)
