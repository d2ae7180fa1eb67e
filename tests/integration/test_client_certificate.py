"""A registry that wants to see a certificate of ours."""

import ssl
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest

from modelrunner.errors import TransferError
from modelrunner.registry.credentials import DockerCredentials
from modelrunner.registry.http.endpoint import Endpoint
from modelrunner.registry.http.retry import NO_RETRY
from modelrunner.registry.oci.source import OciRegistry
from modelrunner.registry.settings import RegistrySettings
from tests.support.registry_tls import Certificate, can_make_certificates

pytestmark = pytest.mark.skipif(not can_make_certificates(), reason="openssl is not on PATH")


class Greeting(BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, *_args):
        pass


class Quiet(ThreadingHTTPServer):
    def handle_error(self, *_args):
        """A client without a certificate is turned away: that is what is tested."""


@pytest.fixture
def certificate():
    """A certificate and its key, signed by itself, for both sides."""
    made = Certificate.make()
    yield made.file, made.key
    made.remove()


@pytest.fixture
def address(certificate):
    made, key = certificate
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(made, key)
    context.load_verify_locations(made)
    context.verify_mode = ssl.CERT_REQUIRED
    with Quiet(("127.0.0.1", 0), Greeting) as server:
        server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield f"localhost:{server.server_address[1]}"
        server.shutdown()
        thread.join()


def greeted(address, settings):
    endpoint = Endpoint.of_mirror("docker.io", f"https://{address}", registries={address: settings})
    registry = OciRegistry(endpoint, DockerCredentials(None), backoff=NO_RETRY)
    try:
        return registry.ping()
    finally:
        registry.close()


def test_certificate_of_ours_is_shown_to_the_registry_that_it_is_for(address, certificate):
    made, key = map(str, certificate)

    shown = RegistrySettings(ca_file=made, client_cert=made, client_key=key)
    asked_for_a_login = greeted(address, shown)
    assert asked_for_a_login is False


def test_without_it_the_registry_turns_us_away(address, certificate):
    with pytest.raises(TransferError):
        greeted(address, RegistrySettings(ca_file=str(certificate[0])))
