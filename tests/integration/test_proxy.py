"""A pull from behind a proxy."""

import http.client
import threading
from contextlib import closing, suppress
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlsplit

import pytest

from tests.support.artifacts import docker_artifact
from tests.support.registry import Registry

NOWHERE = "http://127.0.0.1:1"


class Forward(BaseHTTPRequestHandler):
    """Passes requests for any host on to one registry."""

    def do_GET(self):
        self.server.asked.append(self.path)
        url = urlsplit(self.path)
        path = f"{url.path}?{url.query}" if url.query else url.path
        kept = {name: self.headers[name] for name in ("Accept", "Range") if name in self.headers}
        # a client may leave when another of its requests was refused
        with (
            suppress(ConnectionError),
            closing(http.client.HTTPConnection(self.server.registry, timeout=30)) as connection,
        ):
            connection.request(self.command, path, headers=kept)
            reply = connection.getresponse()
            self.send_response(reply.status)
            for name, value in reply.getheaders():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(reply.read())

    do_HEAD = do_GET  # noqa: N815 - the library's name

    def log_message(self, *_args):
        pass


@pytest.fixture
def registry():
    with Registry() as made:
        made.add(docker_artifact(b"GGUF weights" * 1000), "team/model", tags=["1"])
        yield made


@pytest.fixture
def proxy(registry):
    with ThreadingHTTPServer(("127.0.0.1", 0), Forward) as server:
        server.registry, server.asked = registry.host, []
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


def test_proxy_is_asked_for_what_is_elsewhere(cli, proxy):
    cli.home.mkdir(parents=True)
    (cli.home / "config.toml").write_text('[registries."registry.test"]\ninsecure = true\n')
    address = f"http://127.0.0.1:{proxy.server_address[1]}"

    done = cli("pull", "registry.test/team/model:1", http_proxy=address)

    assert done.returncode == 0, done.stderr
    assert proxy.asked[0] == "http://registry.test/v2/team/model/manifests/1"


def test_this_machine_is_spoken_to_directly(cli, registry):
    done = cli("pull", f"{registry.host}/team/model:1", http_proxy=NOWHERE, https_proxy=NOWHERE)

    assert done.returncode == 0, done.stderr


def test_proxy_that_is_down_is_named_in_the_error(cli):
    done = cli("pull", "registry.example/team/model:1", https_proxy=NOWHERE, timeout=60)

    assert done.returncode == 5
    assert "proxy" in done.stderr


def test_address_of_a_proxy_that_is_none_is_said_in_words(cli):
    done = cli("pull", "registry.example/team/model:1", https_proxy="::bad::", timeout=60)

    assert (done.returncode, done.stderr.splitlines()) == (
        5,
        [
            "error: registry.example: invalid address of the server or its proxy",
            "hint: check the name, HTTPS_PROXY and HTTP_PROXY: write a proxy as http://HOST:PORT",
        ],
    )


class Asking(BaseHTTPRequestHandler):
    """A proxy that wants to know who asks."""

    def do_GET(self):
        self.send_response(407)
        self.send_header("Proxy-Authenticate", 'Basic realm="proxy"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_CONNECT = do_GET  # noqa: N815 - the library's names

    def log_message(self, *_args):
        pass


@pytest.mark.parametrize("plain", [True, False], ids=["plain", "tunnel"])
def test_proxy_that_requires_a_login_is_told_as_such(cli, plain):
    cli.home.mkdir(parents=True)
    if plain:
        (cli.home / "config.toml").write_text('[registries."registry.test"]\ninsecure = true\n')
    with ThreadingHTTPServer(("127.0.0.1", 0), Asking) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        address = f"http://127.0.0.1:{server.server_address[1]}"
        done = cli("pull", "registry.test/team/model:1", http_proxy=address, https_proxy=address)
        server.shutdown()
        thread.join()

    assert done.returncode == 5
    what = "registry.test/team/model:1" if plain else "registry.test"
    told, hint = done.stderr.splitlines()[-2:]
    assert told == f"error: {what}: the proxy requires a login (HTTP 407)"
    assert hint == (
        "hint: set HTTPS_PROXY and HTTP_PROXY to http://USER:PASSWORD@HOST:PORT, or list the host"
        " in NO_PROXY"
    )


@pytest.fixture
def behind(cli, proxy):
    cli.home.mkdir(parents=True)
    (cli.home / "config.toml").write_text('[registries."registry.test"]\ninsecure = true\n')
    address = f"http://127.0.0.1:{proxy.server_address[1]}"
    return lambda: cli("pull", "registry.test/team/model:1", http_proxy=address)


@pytest.mark.parametrize("host", ["169.254.169.254", "10.0.0.1", "127.1", "0x7f000001", "[::1]"])
def test_redirect_to_an_address_of_a_network_within_is_not_handed_to_the_proxy(
    behind, proxy, registry, host
):
    registry.redirect_to(f"http://{host}/latest", on="blob", times=None)

    done = behind()

    assert done.returncode == 5, done.stderr
    assert f"registry.test redirects to {host.strip('[]')}, a" in done.stderr
    assert {urlsplit(asked).hostname for asked in proxy.asked} == {"registry.test"}


def test_redirect_to_a_name_is_for_the_proxy_to_follow(behind, proxy, registry):
    registry.redirect_to("http://cdn.test/v2/team/model/blobs/nothing", on="blob", times=1)

    behind()

    assert "http://cdn.test/v2/team/model/blobs/nothing" in proxy.asked
