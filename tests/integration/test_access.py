"""Logins over real HTTP: each is shown to its registry and to nobody else, and never told."""

import json
import logging
import os
import stat

import pytest

from modelrunner.errors import (
    DeniedError,
    RegistryAnswerError,
    TransferError,
    UnauthorizedError,
)
from modelrunner.registry.settings import RegistrySettings
from tests.support.artifacts import docker_artifact
from tests.support.pulling import Pulling, docker_config
from tests.support.registry import Cdn, Registry, TokenServer, sha256

WEIGHTS = b"GGUF" + (bytes(range(256)) * 800)[4:]
MODEL = docker_artifact(WEIGHTS, license=b"do as you like")
USER, PASSWORD = "reader", "p4ssw0rd-of-reader"
NAME = "team/model:1"


@pytest.fixture
def registry():
    with Registry() as registry:
        registry.add(MODEL, "team/model", tags=["1"])
        yield registry


@pytest.fixture
def elsewhere():
    """Another server: under another name, so that it is another host."""
    with TokenServer(host="localhost") as server:
        yield server


@pytest.fixture
def login(registry, tmp_path):
    return docker_config(tmp_path / "docker", {registry.host: (USER, PASSWORD)})


def pull(store, registry, config=None, **more):
    return Pulling(store, config, **more).pull(registry.reference(NAME))


# Who gets in.


def test_anonymous_pull_sends_no_login(store, registry, login):
    pull(store, registry, login)
    assert {request.authorization for request in registry.requests} == {None}


def test_token_is_asked_for_once_with_the_scope_of_the_pull(store, registry):
    registry.demand_token()
    assert pull(store, registry).status == "pulled"
    (asked,) = registry.requests_of(kind="token")
    assert asked.query["scope"] == "repository:team/model:pull"
    assert asked.query["service"] == "registry.docker.io"
    assert asked.authorization is None


def test_password_is_shown_to_the_token_service_and_not_to_the_registry(store, registry, login):
    registry.demand_token({USER: PASSWORD}, private=["team/model"])
    assert pull(store, registry, login).status == "pulled"
    for request in registry.requests:
        scheme = (request.authorization or "").partition(" ")[0]
        assert scheme == ("Basic" if request.kind == "token" else scheme)
        assert request.kind == "token" or scheme in {"", "Bearer"}


def test_password_of_basic_is_shown_only_when_it_is_asked_for(store, registry, login):
    registry.demand_basic(USER, PASSWORD)
    assert pull(store, registry, login).status == "pulled"
    assert registry.requests[0].authorization is None
    assert registry.requests[1].authorization.startswith("Basic ")


def test_identity_token_is_exchanged(store, registry, tmp_path):
    registry.demand_token(identity_tokens={"refresh-me": USER}, private=["team/model"])
    folder = tmp_path / "docker"
    folder.mkdir()
    config = folder / "config.json"
    config.write_text(json.dumps({"auths": {registry.host: {"identitytoken": "refresh-me"}}}))
    assert pull(store, registry, config).status == "pulled"
    (asked,) = registry.requests_of(kind="token")
    assert asked.method == "POST"
    assert "refresh-me" not in asked.target


@pytest.mark.parametrize("key", ["credsStore", "credHelpers"])
def test_helper_on_the_path_is_asked(store, registry, tmp_path, monkeypatch, key):
    registry.demand_token({USER: PASSWORD}, private=["team/model"])
    install_helper(tmp_path, monkeypatch, f'echo \'{{"Username":"{USER}","Secret":"{PASSWORD}"}}\'')
    value = "x" if key == "credsStore" else {registry.host: "x"}
    config = docker_config(tmp_path / "docker", {}, **{key: value})
    assert pull(store, registry, config).status == "pulled"


def test_broken_helper_leaves_public_models_public(store, registry, tmp_path, monkeypatch):
    registry.demand_token({USER: PASSWORD})
    install_helper(tmp_path, monkeypatch, "exit 1")
    config = docker_config(tmp_path / "docker", {}, credsStore="x")
    assert pull(store, registry, config).status == "pulled"


def test_wrong_password_is_told(store, registry, login):
    registry.demand_token({USER: "another"}, private=["team/model"])
    with pytest.raises(UnauthorizedError, match="rejected the stored login") as caught:
        pull(store, registry, login)
    assert "modelrunner login" in (caught.value.hint or "")
    registry.demand_basic(USER, "another")
    with pytest.raises(UnauthorizedError):
        pull(store, registry, login)


def test_no_login_is_told_and_what_to_do(store, registry):
    registry.demand_basic(USER, PASSWORD)
    with pytest.raises(UnauthorizedError, match="not found, or login required") as caught:
        pull(store, registry)
    assert f"modelrunner login {registry.host}" in (caught.value.hint or "")


def test_denial_is_told_from_a_missing_login(store, registry, login):
    registry.demand_basic(USER, PASSWORD)
    registry.answer(403, times=None, on="manifest", skip=1)
    with pytest.raises(DeniedError):
        pull(store, registry, login)


# Tokens that run out.


def test_token_that_runs_out_between_requests_is_fetched_anew(store, registry):
    tokens = registry.demand_token()
    handle = registry.handle

    def expire_before_blobs(request):
        reply = handle(request)
        if request.kind == "manifest" and request.method == "GET":
            tokens.expire()
        return reply

    registry.handle = expire_before_blobs
    assert pull(store, registry).status == "pulled"
    assert 2 <= registry.count(kind="token") <= 4


def test_token_that_runs_out_in_the_middle_of_a_blob_is_fetched_anew(store, registry):
    tokens = registry.demand_token()
    fault = registry.cut_after(100_000, digest=sha256(WEIGHTS))
    handle = registry.handle

    def expire_after_the_cut(request):
        if fault.hits and registry.count(kind="token") == 1:
            tokens.expire()
        return handle(request)

    registry.handle = expire_after_the_cut
    assert pull(store, registry).status == "pulled"
    assert registry.count(kind="token") >= 2
    assert registry.bytes_sent(sha256(WEIGHTS)) < len(WEIGHTS) + 1000


def test_registry_that_never_takes_its_own_tokens_is_given_up(store, registry):
    tokens = registry.demand_token()
    handle = registry.handle

    def expire_always(request):
        tokens.expire()
        return handle(request)

    registry.handle = expire_always
    with pytest.raises(UnauthorizedError):
        pull(store, registry)
    assert registry.count(kind="token") <= 3


def test_token_service_in_trouble_is_asked_again(store, registry):
    registry.demand_token()
    registry.answer(503, times=2, on="token")
    assert pull(store, registry).status == "pulled"


@pytest.mark.parametrize("body", [b"", b"<html>", b"{}", b'{"token": 5}', b"[" * 10_000])
def test_token_service_that_talks_nonsense_is_told(store, registry, body):
    registry.demand_token()
    registry.answer(200, times=None, on="token", body=body)
    with pytest.raises(RegistryAnswerError, match="token service"):
        pull(store, registry)


def test_token_service_that_redirects_is_not_followed(store, registry, elsewhere, login):
    registry.demand_token({USER: PASSWORD})
    registry.redirect_to(f"{elsewhere.url}/token", on="token")
    with pytest.raises(RegistryAnswerError, match="redirects"):
        pull(store, registry, login)
    assert elsewhere.requests == []


# Who must not see anything.


def test_realm_on_another_host_is_asked_nothing(store, registry, elsewhere, login):
    registry.demand_token({USER: PASSWORD}, realm=elsewhere)
    with pytest.raises(RegistryAnswerError, match="not known to belong to it") as caught:
        pull(store, registry, login)
    assert elsewhere.requests == []
    assert 'realms = ["localhost"]' in (caught.value.hint or "")


def test_realm_on_another_host_is_asked_by_nobody_in_particular(store, registry, elsewhere):
    registry.demand_token({USER: PASSWORD}, realm=elsewhere)
    assert pull(store, registry).status == "pulled"
    assert len(elsewhere.requests) == 1
    assert elsewhere.requests[0].authorization is None


def test_realm_on_another_host_is_asked_where_the_configuration_says_so(
    store, registry, elsewhere, login
):
    registry.demand_token({USER: PASSWORD}, realm=elsewhere, private=["team/model"])
    settings = {registry.host: RegistrySettings(realms=("localhost",))}
    assert pull(store, registry, login, registries=settings).status == "pulled"


@pytest.mark.parametrize(
    "form", [r"http://localhost:{}\@127.0.0.1/", "http://127.0.0.1@localhost:{}/"]
)
def test_realm_that_can_be_read_in_two_ways_is_asked_nothing(
    store, registry, elsewhere, login, form
):
    registry.demand_token({USER: PASSWORD}, realm=form.format(elsewhere.port))
    with pytest.raises(RegistryAnswerError):
        pull(store, registry, login)
    assert elsewhere.requests == []


@pytest.mark.parametrize("scheme", ["token", "basic"])
def test_other_host_that_blobs_come_from_gets_no_login(store, registry, login, scheme):
    with Cdn(host="localhost") as cdn:
        if scheme == "token":
            registry.demand_token({USER: PASSWORD}, private=["team/model"])
        else:
            registry.demand_basic(USER, PASSWORD)
        registry.redirect_blobs(to=cdn)
        cdn.cut_after(100_000, digest=sha256(WEIGHTS))

        assert pull(store, registry, login).status == "pulled"

        assert len(cdn.requests) >= 4
        assert {request.authorization for request in cdn.requests} == {None}
        assert any(request.range for request in cdn.requests)
        assert "Cookie" not in str([request.headers for request in cdn.requests])


def test_other_port_of_the_same_host_is_another_place(store, registry, login):
    with Cdn() as cdn:
        registry.demand_basic(USER, PASSWORD)
        registry.redirect_blobs(to=cdn)
        assert pull(store, registry, login).status == "pulled"
        assert {request.authorization for request in cdn.requests} == {None}


def test_other_host_that_asks_for_a_login_gets_none(store, registry, login):
    with Cdn(host="localhost") as cdn:
        registry.demand_basic(USER, PASSWORD)
        registry.redirect_blobs(to=cdn)
        challenge = {"WWW-Authenticate": f'Bearer realm="{registry.url}/token"'}
        cdn.answer(401, times=None, headers=challenge, on="blob")
        with pytest.raises(UnauthorizedError):
            pull(store, registry, login)
        assert {request.authorization for request in cdn.requests} == {None}
        assert registry.count(kind="token") == 0


def test_mirror_never_gets_the_login_of_the_registry(store, registry, tmp_path):
    """It stands in for another registry, but it is somebody else."""
    config = docker_config(tmp_path / "docker", {"r.invalid": (USER, PASSWORD)})
    registry.demand_basic(USER, PASSWORD)
    pulling = Pulling(store, config, mirrors={"r.invalid": (registry.url,)})
    with pytest.raises((UnauthorizedError, TransferError)):
        pulling.pull("r.invalid/team/model:1")
    assert len(registry.requests) > 0
    assert {request.authorization for request in registry.requests} == {None}


def test_mirror_gets_a_login_of_its_own(store, registry, login):
    registry.demand_basic(USER, PASSWORD)
    pulling = Pulling(store, login, mirrors={"r.invalid": (registry.url,)})
    assert pulling.pull("r.invalid/team/model:1").status == "pulled"


def test_netrc_is_not_read(store, registry, tmp_path, monkeypatch):
    netrc = tmp_path / "netrc"
    netrc.write_text(f"machine 127.0.0.1 login {USER} password {PASSWORD}\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    assert pull(store, registry).status == "pulled"
    assert {request.authorization for request in registry.requests} == {None}


# What is never told.


@pytest.mark.parametrize(
    "ending", ["well", "refused", pytest.param("unreachable", marks=pytest.mark.slow)]
)
def test_secrets_are_in_no_output(cli, tmp_path, ending):
    """Whatever happens, `--debug` prints neither passwords nor tokens nor signatures."""
    with Registry() as registry, Cdn(host="localhost") as cdn:
        registry.add(MODEL, "team/model", tags=["1"])
        tokens = registry.demand_token({USER: PASSWORD}, private=["team/model"])
        registry.redirect_blobs(to=cdn)
        docker_config(tmp_path / "docker", {registry.host: (USER, PASSWORD)})
        if ending == "refused":
            registry.answer(401, times=None, on="blob")
        elif ending == "unreachable":
            cdn.close()

        done = cli(
            "pull",
            registry.reference(NAME),
            "--debug",
            "--progress",
            "plain",
            DOCKER_CONFIG=str(tmp_path / "docker"),
            PYTHONWARNINGS="default",
        )

        said = done.stdout + done.stderr
        assert (done.returncode == 0) == (ending == "well"), said
        bearers = [request.authorization for request in registry.requests if request.authorization]
        secrets = {PASSWORD, *(value.partition(" ")[2] for value in bearers), *tokens._tokens}
        assert len(secrets) >= 3
        for secret in secrets:
            assert secret not in said
        assert "sig=" not in said
        assert "expires=" not in said
        if ending == "well":
            assert "ResourceWarning" not in said


def test_library_that_logs_everything_finds_no_password(store, registry, login, caplog):
    caplog.set_level(logging.DEBUG)
    registry.demand_token({USER: PASSWORD}, private=["team/model"])
    pull(store, registry, login)
    assert caplog.records
    assert PASSWORD not in caplog.text


def install_helper(tmp_path, monkeypatch, script):
    """`docker-credential-x`, on the path."""
    folder = tmp_path / "bin"
    folder.mkdir()
    helper = folder / "docker-credential-x"
    helper.write_text(f"#!/bin/sh\n{script}\n")
    helper.chmod(helper.stat().st_mode | stat.S_IXUSR)
    monkeypatch.setenv("PATH", str(folder), prepend=os.pathsep)
