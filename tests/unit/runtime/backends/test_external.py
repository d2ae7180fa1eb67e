"""Servers that are somebody else's."""

import json
import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest

from modelrunner.errors import RuntimeFailedError, UsageError
from modelrunner.runtime.backends.external import ExternalRuntime
from modelrunner.runtime.base import LaunchSpec
from modelrunner.runtime.child.ports import free_port
from modelrunner.system.packages import certificates_advice
from tests.support.registry_tls import Certificate, can_make_certificates

SPEC = LaunchSpec(model=Path("/m.gguf"), name="m", context=512, threads=1, api_key="of-a-child")


class Endpoint(str):
    """The URL of a server, and the server."""

    def __new__(cls, url, server):
        made = super().__new__(cls, url)
        made.server = server
        return made


@pytest.fixture
def endpoint():
    """An OpenAI-compatible server that wants the key `right`; its URL."""

    class Models(BaseHTTPRequestHandler):
        def do_GET(self):
            right = self.headers["Authorization"] == "Bearer right"
            known = {"/v1/models": {"data": []}, "/props": self.server.props}.get(self.path)
            status = 404 if known is None else 200 if right else 401
            self.send_response(status)
            self.end_headers()
            self.wfile.write(json.dumps(known).encode())

        def log_message(self, *args):
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Models) as server:
        server.props = None
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        yield Endpoint(f"http://127.0.0.1:{server.server_port}", server)
        server.shutdown()
        thread.join()


def start(url, key="", log=Path("/nowhere/at/all.log")):
    return ExternalRuntime(url, key).start(SPEC, log)


def test_server_behind_a_url_is_used_with_its_own_key_and_left_running(endpoint):
    with start(endpoint, "right") as server:
        server.wait_until_ready(deadline_s=5)
        assert server.base_url == f"{endpoint}/v1"
        assert (server.api_key, server.pid, server.log, server.context) == (
            "right",
            None,
            None,
            None,
        )
    assert server.alive()


@pytest.mark.parametrize(
    ("props", "template"),
    [
        ({"chat_template": "{{ messages }}", "total_slots": 1}, "{{ messages }}"),
        ({"chat_template": ""}, None),
        ({"chat_template": 1}, None),
        ([], None),
        (None, None),
    ],
)
def test_the_chat_template_is_the_one_that_the_server_shows(endpoint, props, template):
    endpoint.server.props = props
    assert start(endpoint, "right").chat_template() == template
    assert start(f"{endpoint}/v1", "wrong").chat_template() is None


def test_wrong_key_is_told_at_once(endpoint):
    with pytest.raises(RuntimeFailedError, match="rejected the API key"):
        start(endpoint, "wrong").wait_until_ready(deadline_s=60)


def test_server_that_is_not_there_is_named():
    url, ticks = f"http://127.0.0.1:{free_port()}", []
    server = start(url)
    assert not server.alive()
    with pytest.raises(RuntimeFailedError, match=f"{url}/v1 does not answer"):
        server.wait_until_ready(0.3, ticks.append)
    assert ticks
    assert set(ticks) == {None}


def test_path_without_the_api_is_told_with_what_it_answers(endpoint):
    with pytest.raises(RuntimeFailedError, match="/elsewhere returned HTTP 404") as caught:
        start(f"{endpoint}/elsewhere", "right").wait_until_ready(deadline_s=0)
    assert "ends in /v1" in caught.value.hint


@pytest.mark.parametrize(
    ("url", "base_url"),
    [
        ("http://127.0.0.1:8080", "http://127.0.0.1:8080/v1"),
        ("http://127.0.0.1:8080/", "http://127.0.0.1:8080/v1"),
        ("http://localhost:1234/v1/", "http://localhost:1234/v1"),
        ("https://[::1]:9/openai/v1", "https://[::1]:9/openai/v1"),
    ],
)
def test_api_is_under_v1_unless_the_url_says_otherwise(url, base_url):
    assert ExternalRuntime(url).availability().detail == base_url


@pytest.mark.parametrize(
    "url", ["http://", "ftp://a/v1", "http://a:port/", "http://a:0/", "http://[::1/", "a/v1"]
)
def test_other_text_is_no_url_of_a_server(url):
    with pytest.raises(UsageError, match="invalid server URL"):
        ExternalRuntime(url)


@pytest.mark.parametrize("url", ["http://me:hush@a/v1", "http://a/v1?key=x", "http://a/v1#x"])
def test_url_with_a_secret_in_it_is_refused_without_repeating_the_password(url):
    with pytest.raises(UsageError, match="must not have a user, query or fragment") as caught:
        ExternalRuntime(url)
    assert "hush" not in caught.value.message


@pytest.mark.skipif(not can_make_certificates(), reason="needs openssl")
def test_a_certificate_that_is_not_trusted_is_said_at_once():
    certificate = Certificate.make()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate.file, certificate.key)
    with ThreadingHTTPServer(("127.0.0.1", 0), BaseHTTPRequestHandler) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.05,))
        thread.start()
        try:
            with pytest.raises(RuntimeFailedError) as caught:
                start(f"https://127.0.0.1:{server.server_port}").wait_until_ready(deadline_s=60)
        finally:
            server.shutdown()
            thread.join()
    assert caught.value.message == (
        f"https://127.0.0.1:{server.server_port}: certificate not trusted: self-signed certificate"
    )
    assert caught.value.hint == certificates_advice()
