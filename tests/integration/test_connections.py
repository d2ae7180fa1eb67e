"""One request on the wire: what all of them say, whom they trust, which way they go."""

import base64
import socket
import ssl
import subprocess
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import urllib3

from modelrunner.registry.http.connections import Connections
from modelrunner.registry.http.direct import trust
from tests.support.registry import Registry
from tests.support.registry_tls import can_make_certificates


class Answering(BaseHTTPRequestHandler):
    """Keeps what it is asked, and answers with two headers of one name."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.asked.append((self.requestline, dict(self.headers), body))
        self.server.ports.add(self.client_address[1])
        self.send_response(200)
        self.send_header("Link", '</a>; rel="prev"')
        self.send_header("Link", '</b>; rel="next"')
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST = do_PUT = answer  # noqa: N815 - the library's names

    def do_CONNECT(self):
        self.server.asked.append((self.requestline, dict(self.headers), b""))
        self.send_error(502, "Nowhere")

    def log_message(self, *_args):
        pass


@pytest.fixture
def server():
    with ThreadingHTTPServer(("127.0.0.1", 0), Answering) as server:
        server.asked, server.ports = [], set()
        server.place = f"127.0.0.1:{server.server_address[1]}"
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def made():
    connections = Connections(lambda _host, _addresses: None, None)
    yield connections
    connections.close()


@pytest.fixture
def names(monkeypatch):
    """Makes `registry.test` known, once: whoever asks for the name again gets no answer."""
    real = socket.getaddrinfo

    def make(address):
        port = int(address.rpartition(":")[2])
        answers = [[(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port))]]
        monkeypatch.setattr(
            socket,
            "getaddrinfo",
            lambda host, *more: answers.pop() if host == "registry.test" else real(host, *more),
        )
        return port

    return make


def ask(connections, url, method="GET", *, headers=None, content=None):
    with connections.request(
        method, url, headers=headers or {}, content=content, timeouts=(5, 5)
    ) as response:
        response.raw.drain_conn()
        return response


def test_a_request_says_no_more_than_it_has_to(made, server):
    ask(made, f"http://{server.place}/v2/")
    ask(made, f"http://{server.place}/v2/", headers={"Accept": "application/json"})
    (line, headers, _), (_, others, _) = server.asked
    assert line == "GET /v2/ HTTP/1.1"
    assert headers == {
        "Host": server.place,
        "Accept-Encoding": "identity",
        "Accept": "*/*",
        "Connection": "keep-alive",
        "User-Agent": "modelrunner",
    }
    assert others == {**headers, "Accept": "application/json"}
    assert len(server.ports) == 1


@pytest.mark.parametrize("content", [None, b"", b"abc"])
@pytest.mark.parametrize("method", ["POST", "PUT"])
def test_a_body_has_its_length_be_it_empty(made, server, method, content):
    ask(made, f"http://{server.place}/", method, content=content)
    ((_, headers, body),) = server.asked
    assert (headers["Content-Length"], body) == (str(len(content or b"")), content or b"")
    assert "Transfer-Encoding" not in headers


def test_cookies_are_not_sent_back_and_redirects_not_followed(made):
    with Registry() as registry:
        registry.redirect_to("http://127.0.0.1:1/", on="ping", times=None)
        response = ask(made, f"{registry.url}/v2/")
    assert (response.status, response.headers["location"]) == (307, "http://127.0.0.1:1/")


def test_headers_of_one_name_are_joined(made, server):
    response = ask(made, f"http://{server.place}/")
    assert response.headers.get("link") == '</a>; rel="prev", </b>; rel="next"'


def test_the_path_of_an_address_is_sent_as_it_is_meant(made, server):
    ask(made, f"http://{server.place}/a%2Fb/c d?sig=%2B+/=é#part")
    assert server.asked[0][0] == "GET /a%2Fb/c%20d?sig=%2B+/=%C3%A9 HTTP/1.1"


def test_a_proxy_gets_the_whole_address_and_its_login(made, server, monkeypatch):
    monkeypatch.setenv("http_proxy", f"http://ann:p%40ss@{server.place}")
    ask(made, "http://registry.test/v2/?a=b")
    ((line, headers, _),) = server.asked
    assert line == "GET http://registry.test/v2/?a=b HTTP/1.1"
    assert headers["Host"] == "registry.test"
    assert base64.b64decode(headers["Proxy-Authorization"].split()[1]) == b"ann:p@ss"


def test_a_tunnel_is_asked_for_with_the_login_and_without_the_request(made, server, monkeypatch):
    monkeypatch.setenv("https_proxy", f"ann:pass@{server.place}")
    with pytest.raises(urllib3.exceptions.ProxyError):
        ask(made, "https://registry.test/v2/", headers={"Authorization": "Bearer secret"})
    ((line, headers, _),) = server.asked
    assert line.startswith("CONNECT registry.test:443 ")
    assert "Authorization" not in headers
    assert headers["Proxy-Authorization"] == f"Basic {base64.b64encode(b'ann:pass').decode()}"


@pytest.mark.parametrize("proxy", ["ftp://127.0.0.1:1", "http://", "socks5://127.0.0.1:1"])
def test_a_proxy_that_is_none_is_an_address_that_is_wrong(made, proxy, monkeypatch):
    monkeypatch.setenv("http_proxy", proxy)
    monkeypatch.setitem(sys.modules, "socks", None)
    with pytest.raises(urllib3.exceptions.LocationValueError):
        ask(made, "http://registry.test/v2/")


# Whom a connection trusts.

tls = pytest.mark.skipif(not can_make_certificates(), reason="openssl is not on PATH")


@pytest.fixture
def secure():
    with Registry(tls=True, host="localhost") as registry:
        yield registry


@tls
@pytest.mark.parametrize("name", ["REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_the_bundle_of_the_environment_is_trusted(secure, name, monkeypatch, made):
    with pytest.raises(ssl.SSLError):
        ask(made, f"{secure.url}/v2/")
    monkeypatch.setenv(name, str(secure.ca_file))
    assert ask(made, f"{secure.url}/v2/").status == 200


@pytest.fixture
def no_bundle(monkeypatch):
    """A system of which this program has to find out what it trusts."""
    for name in ("REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE", "SSL_CERT_FILE", "SSL_CERT_DIR"):
        monkeypatch.delenv(name, raising=False)
    trust._context.cache_clear()
    yield monkeypatch
    trust._context.cache_clear()


@tls
def test_authorities_of_the_system_are_trusted_by_the_hash_of_their_names(
    secure, no_bundle, made, tmp_path
):
    command = ["openssl", "x509", "-noout", "-subject_hash", "-in", str(secure.ca_file)]
    hashed = subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    (tmp_path / f"{hashed}.0").write_bytes(secure.ca_file.read_bytes())
    with pytest.raises(ssl.SSLError):
        ask(made, f"{secure.url}/v2/")
    trust._context.cache_clear()
    no_bundle.setenv("SSL_CERT_DIR", str(tmp_path))
    assert ask(made, f"{secure.url}/v2/").status == 200


@tls
def test_bundle_of_the_system_is_trusted_where_openssl_does_not_know_it(
    secure, no_bundle, made, tmp_path
):
    no_bundle.setenv("SSL_CERT_DIR", str(tmp_path))
    no_bundle.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    damaged = tmp_path / "damaged.pem"
    damaged.write_text("none")
    files = (str(tmp_path / "nothing"), str(damaged), str(secure.ca_file))
    no_bundle.setattr(trust, "_SYSTEM_BUNDLES", files)
    assert ask(made, f"{secure.url}/v2/").status == 200


@tls
def test_system_without_authorities_trusts_the_usual_ones(no_bundle, tmp_path):
    no_bundle.setenv("SSL_CERT_DIR", str(tmp_path))
    no_bundle.setenv("SSL_CERT_FILE", str(tmp_path / "missing.pem"))
    no_bundle.setattr(trust, "_SYSTEM_BUNDLES", ())
    assert len(trust.context_of(None).get_ca_certs()) > 100


@tls
def test_the_file_that_is_configured_comes_before_the_environment(secure, monkeypatch, tmp_path):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(tmp_path / "missing.pem"))
    made = Connections(lambda _host, _addresses: None, str(secure.ca_file))
    assert ask(made, f"{secure.url}/v2/").status == 200
    made.close()
    other = Connections(lambda _host, _addresses: None, None)
    with pytest.raises(OSError, match=r"CA certificate bundle, invalid path: .*missing\.pem"):
        ask(other, f"{secure.url}/v2/")


@tls
def test_a_certificate_of_another_name_is_not_trusted(secure, names):
    made = Connections(lambda _host, _addresses: None, str(secure.ca_file))
    with pytest.raises(ssl.SSLError, match=r"not valid for 'registry\.test'"):
        ask(made, f"https://registry.test:{names(secure.url)}/v2/")


@tls
def test_a_bundle_is_read_once_for_all_connections_and_again_when_it_has_changed(
    secure, tmp_path, monkeypatch
):
    read = []
    real = ssl.SSLContext.load_verify_locations
    monkeypatch.setattr(
        ssl.SSLContext,
        "load_verify_locations",
        lambda context, *files: (read.append(files), real(context, *files)),
    )
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(secure.ca_file.read_bytes())
    for _time in range(3):
        made = Connections(lambda _host, _addresses: None, str(bundle))
        assert ask(made, f"{secure.url}/v2/").status == 200
        made.close()
    assert read == [(str(bundle), None)]
    bundle.write_bytes(b"not a certificate")
    with pytest.raises(ssl.SSLError):
        ask(Connections(lambda _host, _addresses: None, str(bundle)), f"{secure.url}/v2/")


def test_a_connection_goes_to_the_addresses_that_were_judged(server, names):
    judged = []
    made = Connections(lambda host, found: judged.append((host, [*map(str, found)])), None)
    port = names(server.place)
    assert ask(made, f"http://registry.test:{port}/").status == 200
    made.close()
    assert judged == [("registry.test", ["127.0.0.1"])]
    assert server.asked[0][1]["Host"] == f"registry.test:{port}"
