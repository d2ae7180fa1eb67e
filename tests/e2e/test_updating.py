"""`outdated` and `update`: what registries have now, and what is different."""

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact, index_artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry


@pytest.fixture
def weights(tmp_path: Path) -> list[bytes]:
    return [tiny_gguf(tmp_path / f"{seed}.gguf", seed=seed).read_bytes() for seed in range(3)]


@pytest.fixture
def old(weights: list[bytes]) -> Artifact:
    return docker_artifact(weights[0], license=b"free", template=b"{{ old }}")


@pytest.fixture
def name(cli: CommandLine, registry: Registry, old: Artifact) -> str:
    """`team/m:1`, here as it is there; and `team/n:1`."""
    registry.add(old, "team/m", ["1"])
    registry.add(old, "team/n", ["1"])
    for path in ("team/m:1", "team/n:1"):
        assert cli("pull", registry.reference(path)).returncode == 0
    registry.requests.clear()
    return registry.reference("team/m:1")


@pytest.fixture
def moved(name: str, registry: Registry, weights: list[bytes]) -> Artifact:
    """What `team/m:1` is now: another template."""
    new = docker_artifact(weights[0], license=b"free", template=b"{{ new }}")
    registry.add(new, "team/m", ["1"])
    return new


def test_what_is_up_to_date_costs_one_head_request_each(
    cli: CommandLine, registry: Registry, name: str
) -> None:
    done = cli("outdated", "--json")
    assert (done.returncode, done.stdout.strip()) == (0, "[]")
    assert [request.method for request in registry.requests] == ["HEAD", "HEAD"]
    assert "2 names, 0 outdated" in cli("outdated").stderr
    every = json.loads(cli("outdated", "--all", "--json").stdout)
    assert [entry["status"] for entry in every] == ["up-to-date"] * 2


def test_what_has_moved_is_told_by_head_alone(
    cli: CommandLine, registry: Registry, name: str, moved: Artifact, old: Artifact
) -> None:
    (entry,) = json.loads(cli("outdated", "--json").stdout)
    assert entry == {
        "reference": name,
        "status": "outdated",
        "digest": old.digest,
        "available": moved.digest,
        "change": None,
        "error": None,
    }
    assert {request.method for request in registry.requests} == {"HEAD"}
    assert cli("outdated", "-q").stdout.split() == [name]
    assert "changed" in cli("outdated").stdout
    # nothing has happened here
    assert json.loads(cli("inspect", name).stdout)["id"] == old.digest


def test_the_difference_is_told(
    cli: CommandLine, registry: Registry, name: str, moved: Artifact, weights: list[bytes]
) -> None:
    (entry,) = json.loads(cli("outdated", "--diff", "--json").stdout)
    assert entry["change"] == "template only"
    assert registry.count("GET", "manifest") == 1
    assert registry.count("GET", "blob") == 0
    other = docker_artifact(weights[1], license=b"free", template=b"{{ old }}")
    registry.add(other, "team/m", ["1"])
    assert json.loads(cli("outdated", "--diff", "--json").stdout)[0]["change"] == "weights"
    assert "weights" in cli("outdated", "--diff", name).stdout


def test_an_index_of_what_is_here_is_no_news(
    cli: CommandLine, registry: Registry, name: str, old: Artifact
) -> None:
    registry.add(index_artifact(old), "team/m", ["1"])
    assert json.loads(cli("outdated", "--diff", "--json").stdout) == []


def test_update_moves_what_differs_and_says_what(
    cli: CommandLine, registry: Registry, name: str, moved: Artifact, old: Artifact
) -> None:
    done = cli("update", name)
    assert done.returncode == 0, done.stderr
    assert done.stdout.rstrip().endswith("(template only)")
    assert "1 previous version kept until `modelrunner prune`" in done.stderr
    assert json.loads(cli("inspect", name).stdout)["id"] == moved.digest
    fetched = {request.reference for request in registry.requests if request.kind == "blob"}
    assert old.layer_digests[0] not in fetched
    assert cli("prune").returncode == 0
    ids = {row["id"] for row in json.loads(cli("list", "--json").stdout)}
    # the other name still stands for it
    assert ids == {moved.digest, old.digest}


def test_update_all_takes_every_name(
    cli: CommandLine, registry: Registry, name: str, moved: Artifact, old: Artifact
) -> None:
    results = json.loads(cli("update", "--all", "--json").stdout)
    told = {entry["reference"]: entry for entry in results}
    assert told[name]["replaced"] == old.digest
    assert (told[name]["change"], told[name]["status"]) == ("template only", "pulled")
    other = told[registry.reference("team/n:1")]
    assert (other["status"], "replaced" in other) == ("up-to-date", False)


def test_what_has_no_registry_is_left_out(
    cli: CommandLine, registry: Registry, name: str, old: Artifact, tmp_path: Path
) -> None:
    (tmp_path / "own-Q8_0.gguf").write_bytes(old.layers[0])
    assert cli("import", str(tmp_path / "own-Q8_0.gguf")).returncode == 0
    listed = json.loads(cli("outdated", "--all", "--json").stdout)
    assert {entry["reference"] for entry in listed} == {name, registry.reference("team/n:1")}
    for command in ("update", "outdated"):
        done = cli(command, "local/own:Q8_0")
        assert done.returncode == 3
        assert "local/own:Q8_0 is a local name: no registry has it" in done.stderr


def test_one_that_fails_takes_nothing_from_the_others(
    cli: CommandLine, registry: Registry, name: str, moved: Artifact
) -> None:
    registry.remove_tag("team/n", "1")
    done = cli("outdated", "--json")
    assert done.returncode == 0
    states = {entry["reference"]: entry for entry in json.loads(done.stdout)}
    assert states[name]["status"] == "outdated"
    gone = states[registry.reference("team/n:1")]
    assert (gone["status"], gone["error"]["code"]) == ("unknown", "manifest_not_found")
    updated = cli("update", "--all")
    assert updated.returncode == 3
    assert json.loads(cli("inspect", name).stdout)["id"] == moved.digest


def test_where_nobody_answers_it_is_an_error(
    cli: CommandLine, registry: Registry, name: str
) -> None:
    registry.answer(503, times=None)
    assert cli("outdated").returncode == 5


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (("update",), 2),
        (("update", "--all", "x"), 2),
        (("update", "nobody/has:it"), 3),
        (("outdated", "nobody/has:it"), 3),
        (("outdated", "--offline"), 9),
        (("update", "--all", "--offline"), 9),
    ],
)
def test_what_cannot_be_done_is_told(
    cli: CommandLine, arguments: tuple[str, ...], code: int
) -> None:
    assert cli(*arguments).returncode == code


def test_an_empty_store_has_nothing_old(cli: CommandLine) -> None:
    assert cli("outdated", "--json").stdout.strip() == "[]"
    assert cli("update", "--all").returncode == 0
