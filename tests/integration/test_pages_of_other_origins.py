"""A real browser with a page of another origin: what it may ask, and what it can read."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from modelrunner.serve.client.keys import ApiKeys
from modelrunner.serve.process.certificate import Certificate
from tests.support.browser import Page, browser
from tests.support.openai_server import says
from tests.support.registry_tls import Certificate as Files
from tests.support.registry_tls import can_make_certificates
from tests.support.serving import Scripted, gateway, model

pytestmark = [pytest.mark.real, pytest.mark.xdist_group("browser")]

ONE = model("ai/one")
ASK = """
(async () => {
  const answer = await fetch(%r + "/v1/chat/completions", {
    method: "POST",
    headers: {"content-type": "application/json", "x-stainless-lang": "js", %s},
    body: JSON.stringify({stream: true, messages: [{role: "user", content: "hi"}]}),
  });
  let text = "";
  const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
  for (let step; !(step = await reader.read()).done;) text += step.value;
  return [answer.status, text, answer.headers.get("x-request-id") !== null];
})().catch(problem => [0, String(problem), false])
"""


class _Page(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        body = b"<!doctype html><title>page</title>"
        self.send_response(200)
        self.send_header("content-type", "text/html")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, *_: object) -> None:
        pass


@contextmanager
def page_of(name: str) -> Iterator[tuple[Page, str]]:
    """A page under a name that is not this machine's, and its origin."""
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Page)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    flags = (f"--host-resolver-rules=MAP {name} 127.0.0.1", "--ignore-certificate-errors")
    try:
        with browser(*flags) as chromium:
            page = chromium.page()
            origin = f"http://{name}:{server.server_port}"
            page.open(f"{origin}/")
            yield page, origin
    finally:
        server.shutdown()
        server.server_close()
        thread.join()


def ask(page: Page, url: str, header: str = "") -> tuple[int, str, bool]:
    status, text, has_id = page.value(ASK % (url, header))
    return status, text, has_id


@pytest.fixture(scope="module")
def certificate() -> Iterator[Certificate]:
    if not can_make_certificates():
        pytest.skip("no openssl command")
    files = Files.make()
    yield Certificate.load(files.file, files.key)
    files.remove()


@pytest.mark.parametrize("secure", [False, True])
def test_a_page_gets_a_stream_where_its_origin_is_allowed_and_nothing_elsewhere(
    certificate: Certificate, secure: bool
) -> None:
    shown = certificate if secure else None
    with page_of("chat.example") as (page, origin):
        runtime = Scripted()
        with gateway(runtime, ONE, certificate=shown) as running:
            status, text, _ = ask(page, running.url)
            assert (status, text) == (0, "TypeError: Failed to fetch")
        assert runtime.started == []
        for allowed in (origin, "*"):
            runtime = Scripted(scripts={"ai/one:latest": [says("Hello", "there")]})
            origins = frozenset({allowed})
            with gateway(runtime, ONE, origins=origins, certificate=shown) as running:
                status, text, has_id = ask(page, running.url)
            assert (status, has_id) == (200, True)
            assert "Hello" in text
            assert text.endswith("data: [DONE]\n\n")


def test_a_page_can_read_why_it_is_refused() -> None:
    with page_of("chat.example") as (page, origin):
        keys = ApiKeys.only("secret")
        with gateway(Scripted(), ONE, api_key=keys, origins=frozenset({origin})) as running:
            status, text, _ = ask(page, running.url)
            assert status == 401
            assert "the API key is missing or wrong" in text
            assert ask(page, running.url, 'authorization: "Bearer secret"')[0] == 200
