"""Registries on this machine, over TLS or plain http: what they speak is found out."""

import pytest

from modelrunner.errors import RegistryAnswerError, TransferError
from modelrunner.registry.http.connections import Connections
from modelrunner.registry.settings import RegistrySettings
from tests.support.artifacts import docker_artifact
from tests.support.pulling import Pulling, docker_config
from tests.support.registry import Registry
from tests.support.registry_messages import Reply
from tests.support.registry_server import Origin

MODEL = docker_artifact(b"GGUF" + bytes(range(256)) * 100)


@pytest.fixture(params=["localhost", "127.0.0.1"])
def secure(request):
    with Registry(tls=True, host=request.param) as registry:
        registry.add(MODEL, "team/m", ["1"])
        yield registry


@pytest.fixture
def plain():
    with Registry() as registry:
        registry.add(MODEL, "team/m", ["1"])
        yield registry


def test_registry_of_tls_is_pulled_from_where_its_authority_is_trusted(store, secure):
    pulling = Pulling(store, ca_file=str(secure.ca_file))
    assert str(pulling.pull(secure.reference("team/m:1")).model.digest) == MODEL.digest
    own = {secure.host: RegistrySettings(ca_file=str(secure.ca_file))}
    assert Pulling(store, registries=own).pull(secure.reference("team/m:1")).status == "up-to-date"


def test_tags_in_pages_and_pushes_go_over_tls_too(store, secure):
    pulling = Pulling(store, ca_file=str(secure.ca_file))
    model = pulling.pull(secure.reference("team/m:1")).model
    pushed = Pulling(store, ca_file=str(secure.ca_file)).push(model, secure.reference("other/m:2"))
    assert pushed.digest == MODEL.digest
    secure.add(MODEL, "team/m", ["2", "3"])
    secure.page_size = 1
    places = pulling.places
    reference = model.references[0]
    assert places.source_for(reference).tags(reference) == ("1", "2", "3")


def test_authority_that_nobody_trusts_is_told_with_what_to_set(store, secure):
    with pytest.raises(RegistryAnswerError, match="certificate not trusted") as caught:
        Pulling(store).pull(secure.reference("team/m:1"))
    assert "set SSL_CERT_FILE, or ca_file of this registry" in (caught.value.hint or "")


def test_no_login_goes_over_plain_http_to_a_server_of_tls(store, secure, tmp_path, monkeypatch):
    secure.demand_token(users={"ann": "secret"}, private={"team/m"})
    config = docker_config(tmp_path / "docker", {secure.host: ("ann", "secret")})
    sent = []
    real_request = Connections.request

    def request(connections, method, url, *, headers, **more):
        sent.append((url, "Authorization" in headers))
        return real_request(connections, method, url, headers=headers, **more)

    monkeypatch.setattr(Connections, "request", request)
    pulling = Pulling(store, config=config, ca_file=str(secure.ca_file))
    assert pulling.pull(secure.reference("team/m:1")).status == "pulled"
    in_plain = [(url, carries) for url, carries in sent if url.startswith("http://")]
    assert [carries for _, carries in in_plain] == [False]
    assert any(carries for url, carries in sent if url.startswith("https://"))


def test_plain_registry_sees_no_request_more(store, plain):
    pulling = Pulling(store)
    pulling.pull(plain.reference("team/m:1"))
    asked = [(request.method, request.kind) for request in plain.requests]
    assert asked == [("GET", "manifest"), ("GET", "blob"), ("GET", "blob")]


def test_what_a_server_speaks_is_found_out_once(store, secure):
    pulling = Pulling(store, ca_file=str(secure.ca_file))
    places = pulling.places
    guess = places.endpoint_of(secure.host).guess
    reference = pulling.pull(secure.reference("team/m:1")).reference
    with_memory = places.source_for(reference)
    with_memory.resolve(reference)
    assert (guess.scheme, guess.settled) == ("https", True)
    assert places.endpoint_of(secure.host).base == secure.url


@pytest.mark.parametrize("insecure", [True, False])
def test_configuration_forces_what_is_spoken(store, secure, plain, insecure):
    for registry in (secure, plain):
        said = RegistrySettings(
            insecure=insecure, ca_file=str(secure.ca_file) if registry is secure else None
        )
        pulling = Pulling(store, registries={registry.host: said})
        if insecure == (registry is plain):
            assert pulling.pull(registry.reference("team/m:1")).status in {"pulled", "up-to-date"}
        else:
            with pytest.raises(TransferError):
                pulling.pull(registry.reference("team/m:1"))
    assert plain.requests == [] if not insecure else secure.requests == []


class Gos(Origin):
    """What Go's servers of TLS answer to plain http; there is no TLS behind it here."""

    def respond(self, request):
        return Reply(400, {}, b"Client sent an HTTP request to an HTTPS server.\n")


def test_server_that_says_what_it_wants_is_quoted(store):
    with Gos() as server:
        said = {server.host: RegistrySettings(insecure=True)}
        with pytest.raises(RegistryAnswerError) as caught:
            Pulling(store, registries=said).pull(f"{server.host}/team/m:1")
    assert caught.value.message == (
        f"{server.host}/team/m:1: {server.host} returned HTTP 400: it expects TLS, but was "
        "asked over plain http"
    )
    assert "insecure = true" in (caught.value.hint or "")


def test_bad_request_of_a_plain_server_is_its_answer(store, plain):
    plain.answer(400, times=None)
    with pytest.raises(RegistryAnswerError, match="returned HTTP 400"):
        Pulling(store).pull(plain.reference("team/m:1"))
