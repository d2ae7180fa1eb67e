"""Which names a model has after it was pulled and removed in more than one way."""

import pytest

from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry


@pytest.fixture
def registry():
    with Registry() as made:
        yield made


@pytest.fixture
def pulled(cli, registry, tmp_path):
    artifact = docker_artifact(tiny_gguf(tmp_path / "m.gguf").read_bytes())
    digest = registry.add(artifact, "team/model", tags=["1"])
    assert cli("pull", f"{registry.host}/team/model:1").returncode == 0
    return digest


def names(cli):
    return [name.short for model in cli.store.models() for name in model.references]


def test_pulling_by_digest_what_has_a_name_adds_none(cli, registry, pulled):
    before = names(cli)

    assert cli("pull", f"{registry.host}/team/model@{pulled}").returncode == 0
    assert cli("pull", pulled).returncode == 0

    assert names(cli) == before


def test_repairing_by_id_adds_no_name(cli, registry, pulled):
    before = names(cli)
    (model,) = cli.store.models()
    cli.store.blobs.path(model.artifact.weights[0].descriptor.digest).unlink()

    done = cli("pull", pulled.removeprefix("sha256:")[:12])

    assert done.returncode == 0, done.stderr
    assert names(cli) == before
    assert cli("verify", "--deep").returncode == 0


def test_removing_a_digest_under_a_name_that_it_does_not_have_removes_nothing(cli, pulled):
    before = names(cli)

    done = cli("rm", f"other/name@{pulled}")

    assert done.returncode == 3
    assert "team/model:1" in done.stderr
    assert names(cli) == before
