"""`modelrunner delete`, and `search --registry`, as a user runs them."""

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.docker_registry import docker_registry, needs_docker_registry, push_artifact
from tests.support.registry import Registry
from tests.support.registry_messages import Reply, error
from tests.support.terminal import in_terminal


def test_a_tag_is_removed_and_the_rest_stays(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    registry.add(tiny, "team/m", ["1", "2"])
    name = registry.reference("team/m:1")
    refused = cli("delete", name)
    assert (refused.returncode, refused.stdout) == (2, "")
    assert refused.stderr == (
        f"the tag 1 of {tiny.digest}; 2 stay\n"
        f"error: refusing to delete {name} without confirmation\n"
        "hint: add --yes\n"
    )
    assert registry.tags("team/m") == {"1": tiny.digest, "2": tiny.digest}
    done = cli("delete", name, "--yes")
    assert (done.returncode, done.stdout, done.stderr) == (0, f"Untagged: {name}\n", "")
    assert registry.tags("team/m") == {"2": tiny.digest}
    assert cli("delete", name, "--yes").returncode == 3


def test_a_manifest_goes_with_its_tags(
    cli: CommandLine, registry: Registry, tiny: Artifact
) -> None:
    other = docker_artifact(b"GGUF other")
    registry.add(tiny, "team/m", ["10", "2"])
    registry.add(other, "team/m", ["3"])
    name = f"{registry.reference('team/m')}@{tiny.digest}"
    refused = cli("delete", name, "--json")
    assert json.loads(refused.stderr)["error"]["would_remove"] == [
        f"{tiny.digest}, with its tags 2, 10"
    ]
    done = cli("delete", name, "--yes", "--json")
    assert json.loads(done.stdout) == {
        "reference": name,
        "digest": tiny.digest,
        "untagged": ["2", "10"],
        "deleted": True,
    }
    assert registry.tags("team/m") == {"3": other.digest}


def test_it_asks_on_a_terminal(cli: CommandLine, registry: Registry, tiny: Artifact) -> None:
    registry.add(tiny, "team/m", ["1"])
    name = registry.reference("team/m:1")
    for answer in ("n", "y"):
        with in_terminal(cli.argv("delete", name), cli.environ) as (terminal, process):
            terminal.wait_for("? [y/N] ")
            terminal.type(f"{answer}\n")
            assert process.wait(60) == (130 if answer == "n" else 0)
        assert registry.tags("team/m") == ({"1": tiny.digest} if answer == "n" else {})


@pytest.mark.parametrize(
    ("reference", "said"),
    [
        ("team/m", "docker.io/team/m: no tag given"),
        ("local/m:1", "local/m:1 is a local name: no registry has it"),
        ("ab" * 32, f"delete needs a model name, got the ID {'ab' * 32}"),
        ("hf.co/a/b:c", "hf.co/a/b:c: the Hugging Face Hub is not an OCI registry"),
        ("hf.co/a/b", "hf.co/a/b:latest: the Hugging Face Hub is not an OCI registry"),
    ],
)
def test_what_cannot_be_meant_is_refused(cli: CommandLine, reference: str, said: str) -> None:
    done = cli("delete", reference, "--yes")
    assert done.returncode in {2, 10}
    assert done.stderr.startswith(f"error: {said}\nhint: ")
    assert "upload" not in done.stderr


@needs_docker_registry
@pytest.mark.registry
def test_registries_of_others(
    cli: CommandLine, tiny: Artifact, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with docker_registry(tmp_path / "fixed") as fixed:
        push_artifact(fixed, tiny, "team/m", ["1"])
        alone = cli("delete", fixed.reference("team/m:1"), "--yes")
        assert (alone.returncode, alone.stderr.splitlines()[0]) == (
            5,
            f"error: {fixed.host} does not allow deletion",
        )
        digest = f"{fixed.reference('team/m')}@{tiny.digest}"
        done = cli("delete", digest, "--yes")
        assert done.returncode == 5
        assert done.stderr == (
            f"error: {fixed.host} does not allow deletion\n"
            "hint: ask its administrator to allow it (docker-registry: "
            "REGISTRY_STORAGE_DELETE_ENABLED=true)\n"
        )
    monkeypatch.setenv("REGISTRY_STORAGE_DELETE_ENABLED", "true")
    with docker_registry(tmp_path / "open") as away:
        push_artifact(away, tiny, "team/m", ["1", "2"])
        push_artifact(away, tiny, "team/n", ["1"])
        digest = f"{away.reference('team/m')}@{tiny.digest}"
        alone = cli("delete", away.reference("team/m:1"), "--yes")
        if alone.returncode:
            # before 3.0
            assert alone.stderr == (
                f"error: {away.host} does not remove a tag alone\n"
                "hint: delete the manifest, which removes the tag 2 too: "
                f"`modelrunner delete {digest}`\n"
            )
        assert cli("delete", digest, "--yes").returncode == 0
        assert cli("pull", away.reference("team/m:2")).returncode == 3
        assert cli("pull", away.reference("team/n:1")).returncode == 0
        listed = cli("search", "--registry", away.host, "N", "team")
        assert listed.stdout == f"{away.reference('team/n')}\n"


@pytest.mark.parametrize("text", ["localhost:5000", "registry.example.com", "127.0.0.1:5000"])
def test_registry_alone_is_not_taken_for_a_model(cli: CommandLine, text: str) -> None:
    done = cli("delete", text, "--yes")
    assert (done.returncode, done.stderr) == (
        2,
        (
            f"error: {text} is a registry: no repository given\n"
            f"hint: write {text}/NAME:TAG; `modelrunner search --registry {text}` lists its"
            " repositories\n"
        ),
    )


def test_login_at_a_registry_is_asked_for_without_models_of_docker_hub(
    cli: CommandLine, registry: Registry
) -> None:
    registry.demand_basic("user", "secret")
    done = cli("pull", registry.reference("ai/smollm2:1"))
    assert done.returncode == 4
    assert done.stderr.splitlines()[-1] == (
        f"hint: check the name; if it is private, log in: `modelrunner login {registry.host}`"
    )


# search --registry.


@pytest.fixture
def catalog(registry: Registry) -> Registry:
    """A registry with a list of its repositories, two a page."""
    names = ["ai/qwen3", "ai/smollm2", "team/qwen", "zoo/\x1b[31mred"]
    handle = registry.handle

    def listing(request):  # type: ignore[no-untyped-def]
        if not request.path.startswith("/v2/_catalog"):
            return handle(request)
        begin = int(request.query.get("at", "0"))
        headers = {"Content-Type": "application/json"}
        if begin + 2 < len(names):
            headers["Link"] = f'</v2/_catalog?at={begin + 2}>; rel="next"'
        body = json.dumps({"repositories": names[begin : begin + 2]}).encode()
        return Reply(200, headers, body)

    registry.handle = listing  # type: ignore[method-assign]
    return registry


def test_repositories_of_a_registry_are_listed(cli: CommandLine, catalog: Registry) -> None:
    found = cli("search", "--registry", catalog.host)
    names = ["ai/qwen3", "ai/smollm2", "team/qwen", "zoo/red"]
    assert found.stdout.splitlines()[:3] == [catalog.reference(name) for name in names[:3]]
    assert "\x1b" not in found.stdout
    some = cli("search", "--registry", catalog.host, "QWEN", "--json")
    assert json.loads(some.stdout) == [
        {"name": catalog.reference(name), "source": catalog.host}
        for name in ("ai/qwen3", "team/qwen")
    ]
    first = cli("search", "--registry", catalog.host, "-n", "1")
    assert first.stdout == f"{catalog.reference('ai/qwen3')}\n"
    assert first.stderr == "only the first 1 are shown: --limit shows more\n"


def test_a_registry_without_a_list_says_so(cli: CommandLine, registry: Registry) -> None:
    done = cli("search", "--registry", registry.host)
    assert done.returncode == 5
    assert done.stderr == (
        f"error: {registry.host} does not list its repositories\n"
        "hint: `modelrunner tags REGISTRY/NAME` lists the tags of one that you know\n"
    )
    handle = registry.handle
    registry.handle = lambda request: (  # type: ignore[method-assign]
        error(401, "UNAUTHORIZED", "login") if "_catalog" in request.path else handle(request)
    )
    assert cli("search", "--registry", registry.host).returncode == 4
    path = cli("search", "--registry", f"{registry.host}/team")
    assert path.stderr.startswith(f"error: '{registry.host}/team' is not a valid registry\nhint: ")
    for words in (["--fits"], ["--source", "dockerhub"]):
        assert cli("search", "--registry", registry.host, *words).returncode == 2
