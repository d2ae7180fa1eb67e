"""The well-known registries, each as it differs: pulled from, listed, refused, kept up."""

import json
from pathlib import Path

import pytest

from modelrunner.errors import AccessError, ManifestNotFoundError
from modelrunner.oci.reference import Reference
from modelrunner.registry.settings import RegistrySettings
from tests.support.artifacts import docker_artifact
from tests.support.pulling import Pulling, docker_config
from tests.support.registry_profiles import IDENTITY, PASSWORD, PROFILES, like

WEIGHTS = b"GGUF" + (bytes(range(256)) * 9000)[4:]
MODEL = docker_artifact(WEIGHTS, license=b"do as you like")
TAGS = [f"v{number}" for number in range(120)]


@pytest.fixture(params=PROFILES)
def profile(request):
    return PROFILES[request.param]


@pytest.fixture
def served(profile):
    with like(profile, "team/private") as (registry, expire):
        for name in ("team/open", "team/private"):
            registry.add(MODEL, name, tags=TAGS)
        yield registry, expire


@pytest.fixture
def registry(served):
    return served[0]


def reaching(store, registry, profile, tmp_path: Path, *, login: bool) -> Pulling:
    config = None
    if login and profile.door == "identity":
        auths = {registry.host: {"identitytoken": IDENTITY}}
        config = tmp_path / "config.json"
        config.write_text(json.dumps({"auths": auths}))
    elif login:
        config = docker_config(tmp_path / "docker", {registry.host: (profile.user, PASSWORD)})
    # a realm that is no part of the registry's name: Docker's own are known, others are named
    known = {registry.host: RegistrySettings(realms=("localhost",))}
    return Pulling(store, config, registries=known)


def test_public_model_comes_whoever_asks(store, registry, profile, tmp_path):
    login = profile.door == "basic"
    pulling = reaching(store, registry, profile, tmp_path, login=login)
    pulled = pulling.pull(registry.reference("team/open:v7"))
    assert (pulled.status, pulled.source) == ("pulled", registry.host)
    assert pulled.model.weights().read_bytes() == WEIGHTS


def test_private_model_comes_to_whoever_is_logged_in(store, registry, profile, tmp_path):
    pulling = reaching(store, registry, profile, tmp_path, login=True)
    pulled = pulling.pull(registry.reference("team/private:v7"))
    assert pulled.model.weights().read_bytes() == WEIGHTS


def test_private_model_is_refused_to_others(store, registry, profile, tmp_path):
    pulling = reaching(store, registry, profile, tmp_path, login=False)
    with pytest.raises(AccessError) as caught:
        pulling.pull(registry.reference("team/private:v7"))
    assert caught.value.exit_code == 4
    assert "login" in (caught.value.hint or "")
    assert store.models() == ()


def test_all_tags_are_listed_and_a_near_one_is_named(store, registry, profile, tmp_path):
    pulling = reaching(store, registry, profile, tmp_path, login=True)
    name = Reference.parse(registry.reference("team/private:v119x"))
    assert sorted(pulling.places.source_for(name).tags(name)) == sorted(TAGS)
    with pytest.raises(ManifestNotFoundError) as caught:
        pulling.pull(str(name))
    assert "v119" in caught.value.facts["near"]


def test_pull_goes_on_where_it_broke_off(store, registry, profile, tmp_path):
    pulling = reaching(store, registry, profile, tmp_path, login=True)
    registry.cut_after(300_000, times=3)
    pulled = pulling.pull(registry.reference("team/private:v1"))
    assert pulled.model.weights().read_bytes() == WEIGHTS


def test_token_that_has_run_out_is_fetched_anew(store, served, profile, tmp_path):
    registry, expire = served
    pulling = reaching(store, registry, profile, tmp_path, login=True)
    pulling.pull(registry.reference("team/private:v1"))
    expire()
    assert pulling.pull(registry.reference("team/private:v2")).status == "up-to-date"
