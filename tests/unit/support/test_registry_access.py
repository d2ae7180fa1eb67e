"""The support registry lets in whom it should, and sends blob requests elsewhere."""

import contextlib
import http.client
import socket
import ssl
from urllib.parse import urlencode, urlsplit

import pytest

from tests.support.artifacts import (
    Artifact,
    docker_artifact,
)
from tests.support.registry import Cdn, Registry, TokenServer, can_make_certificates, sha256
from tests.support.registry_client import WEIGHTS, Answer, ask, basic


def token(url: str, scope: str, authorization: str | None = None) -> Answer:
    query = urlencode({"service": "registry.docker.io", "scope": scope})
    address = f"{url}/token?{query}"
    return ask(address, Authorization=authorization) if authorization else ask(address)


def test_anonymous_token_opens_what_is_public(registry: Registry, manifest: str) -> None:
    registry.demand_token()
    refusal = ask(manifest)
    assert (refusal.status, refusal.code) == (401, "UNAUTHORIZED")
    assert refusal.headers["WWW-Authenticate"] == (
        f'Bearer realm="{registry.url}/token",service="registry.docker.io",'
        'scope="repository:ai/smollm2:pull"'
    )

    issued = token(registry.url, "repository:ai/smollm2:pull").json

    assert issued["token"] == issued["access_token"]
    assert ask(manifest, Authorization=f"Bearer {issued['token']}").status == 200
    assert ask(f"{registry.url}/v2/", Authorization=f"Bearer {issued['token']}").status == 200


@pytest.mark.parametrize("name", ["ai/nothing", "ai/smollm2"])
def test_unknown_and_private_are_refused_alike_after_the_token(
    registry: Registry, model: Artifact, name: str
) -> None:
    registry.demand_token(private={"ai/smollm2"})
    issued = token(registry.url, f"repository:{name}:pull").json
    answer = ask(
        f"{registry.url}/v2/{name}/manifests/latest", Authorization=f"Bearer {issued['token']}"
    )
    assert (answer.status, answer.code) == (401, "UNAUTHORIZED")
    assert 'error="insufficient_scope"' in answer.headers["WWW-Authenticate"]


def test_user_gets_in_with_password_or_identity_token(registry: Registry, manifest: str) -> None:
    registry.demand_token(
        {"ann": "secret"}, private={"ai/smollm2"}, identity_tokens={"refresh-me": "ann"}
    )
    scope = "repository:ai/smollm2:pull,push"
    by_password = token(registry.url, scope, basic("ann", "secret"))
    form = urlencode({"grant_type": "refresh_token", "refresh_token": "refresh-me", "scope": scope})
    by_identity = ask(f"{registry.url}/token", "POST", form.encode())

    for issued in (by_password, by_identity):
        bearer = f"Bearer {issued.json['token']}"
        assert ask(manifest, Authorization=bearer).status == 200
        uploads = f"{registry.url}/v2/ai/smollm2/blobs/uploads/"
        assert ask(uploads, "POST", b"", Authorization=bearer).status == 202
    assert token(registry.url, scope, basic("ann", "wrong")).status == 401


def test_tokens_expire_in_time_and_on_demand(registry: Registry, manifest: str) -> None:
    auth = registry.demand_token(expires_in=300)
    scope = "repository:ai/smollm2:pull"
    bearer = f"Bearer {token(registry.url, scope).json['token']}"
    assert ask(manifest, Authorization=bearer).status == 200
    auth.expire()
    assert (
        'error="invalid_token"' in ask(manifest, Authorization=bearer).headers["WWW-Authenticate"]
    )

    registry.demand_token(expires_in=0)
    stale = f"Bearer {token(registry.url, scope).json['token']}"
    assert ask(manifest, Authorization=stale).status == 401


def test_token_is_good_for_its_own_scope_only(registry: Registry, manifest: str) -> None:
    registry.add(docker_artifact(b"other"), "ai/other")
    registry.demand_token()
    issued = token(registry.url, "repository:ai/other:pull").json
    assert ask(manifest, Authorization=f"Bearer {issued['token']}").status == 401


def test_token_server_may_be_another_host(registry: Registry, manifest: str) -> None:
    with TokenServer() as server:
        registry.demand_token(realm=server)
        assert f'realm="{server.url}/token"' in ask(manifest).headers["WWW-Authenticate"]
        issued = token(server.url, "repository:ai/smollm2:pull").json
        assert ask(manifest, Authorization=f"Bearer {issued['token']}").status == 200
        assert server.count("GET", "token") == 1


def test_basic_is_demanded(registry: Registry, manifest: str) -> None:
    registry.demand_basic("ann", "secret")
    assert ask(manifest).headers["WWW-Authenticate"] == 'Basic realm="support registry"'
    assert ask(manifest, Authorization=basic("ann", "wrong")).status == 401
    assert ask(manifest, Authorization=basic("ann", "secret")).status == 200
    registry.demand_nothing()
    assert ask(manifest).status == 200


def test_blobs_come_from_another_host_with_ranges(registry: Registry, cdn: Cdn, blob: str) -> None:
    registry.redirect_blobs(to=cdn)
    redirect = ask(blob)
    location = redirect.headers["Location"]

    assert (redirect.status, urlsplit(location).hostname) == (307, "localhost")
    assert ask(location, Range="bytes=1-3").body == WEIGHTS[1:4]
    assert (cdn.requests[0].range, cdn.requests[0].host) == ("bytes=1-3", cdn.host)
    assert (registry.bytes_sent(sha256(WEIGHTS)), cdn.bytes_sent(sha256(WEIGHTS))) == (0, 3)


def test_links_expire_and_cannot_be_forged(registry: Registry, cdn: Cdn, blob: str) -> None:
    registry.redirect_blobs(to=cdn, status=302, expires_in=-1)
    late = ask(blob)
    assert late.status == 302
    assert ask(late.headers["Location"]).status == 403

    registry.redirect_blobs(to=cdn)
    location = ask(blob).headers["Location"]
    assert ask(location).body == WEIGHTS
    assert ask(location.replace("expires=", "expires=9")).status == 403
    cdn.expire_links()
    expired = ask(location)
    assert (expired.status, b"<Code>AccessDenied</Code>" in expired.body) == (403, True)


def test_cdn_refuses_and_records_credentials(registry: Registry, cdn: Cdn, blob: str) -> None:
    registry.redirect_blobs(to=cdn)
    location = ask(blob).headers["Location"]
    assert ask(location, Authorization="Bearer leaked").status == 400
    assert cdn.requests[-1].authorization == "Bearer leaked"


needs_openssl = pytest.mark.skipif(
    not can_make_certificates(), reason="needs the openssl command on PATH"
)


@needs_openssl
def test_tls_is_trusted_by_who_knows_the_certificate() -> None:
    with Registry(host="localhost", tls=True) as registry:
        registry.add(docker_artifact(WEIGHTS), "ai/m", tags=["latest"])
        trusting = ssl.create_default_context(cafile=registry.ca_file)
        for context, trusted in ((trusting, True), (ssl.create_default_context(), False)):
            connection = http.client.HTTPSConnection(registry.host, context=context, timeout=60)
            with contextlib.closing(connection):
                if trusted:
                    connection.request("GET", f"/v2/ai/m/blobs/{sha256(WEIGHTS)}")
                    assert connection.getresponse().read() == WEIGHTS
                else:
                    with pytest.raises(ssl.SSLCertVerificationError):
                        connection.connect()
        assert registry.url.startswith("https://localhost:")
    assert not registry.ca_file.exists()


@needs_openssl
def test_tls_and_plain_do_not_meet() -> None:
    with Registry(tls=True) as secret, Registry() as plain:
        with pytest.raises((http.client.BadStatusLine, ConnectionError)):
            ask(f"http://{secret.host}/v2/")
        connection = http.client.HTTPSConnection(plain.host, timeout=60)
        with contextlib.closing(connection), pytest.raises(ssl.SSLError):
            connection.connect()


@needs_openssl
def test_silent_tls_client_blocks_no_other() -> None:
    with Registry(tls=True) as registry, socket.create_connection(("127.0.0.1", registry.port)):
        context = ssl.create_default_context(cafile=registry.ca_file)
        connection = http.client.HTTPSConnection(registry.host, context=context, timeout=60)
        with contextlib.closing(connection):
            connection.request("GET", "/v2/")
            assert connection.getresponse().read() == b"{}"
