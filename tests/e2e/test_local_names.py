"""Names under `local/`, and IDs: no registry is ever asked for them."""

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry

ID = "ab" * 32


@pytest.fixture
def hub(cli: CommandLine, registry: Registry, tiny: Artifact) -> Registry:
    """Docker Hub, where strangers have the namespace `local`, the IDs, and everything else."""
    for name in ("local/smol-v1", "local/other", "ai/smol-v1", f"ai/{ID}"):
        registry.add(tiny, name, ["latest", "Q4_1", "1"])
    cli.home.mkdir(parents=True)
    (cli.home / "config.toml").write_text(f'[mirrors]\n"docker.io" = "{registry.url}"\n')
    return registry


@pytest.fixture
def imported(cli: CommandLine, hub: Registry, tmp_path: Path) -> str:
    """A model that `import` has named `local/smol-v1:Q4_1`."""
    file = tiny_gguf(tmp_path / "smol-v1-Q4_1.gguf", seed=7)
    (told,) = json.loads(cli("import", str(file), "--json").stdout)
    assert told["reference"] == "docker.io/local/smol-v1:Q4_1"
    digest: str = told["digest"]
    return digest


@pytest.mark.parametrize(
    "arguments",
    [
        ("pull", "{}"),
        ("run", "{}", "hello"),
        ("serve", "{}"),
        ("estimate", "{}"),
        ("tags", "{}"),
        ("inspect", "{}"),
        ("inspect", "--remote", "{}"),
        ("path", "{}"),
        ("outdated", "{}"),
        ("update", "{}"),
        ("push", "{}"),
        ("export", "compose", "{}"),
        ("card", "{}"),
        ("doctor", "{}"),
        ("save", "{}", "-o", "x.tar"),
        ("rm", "{}"),
        ("tag", "{}", "ai/other:1"),
    ],
    ids=" ".join,
)
def test_no_command_asks_a_registry_for_what_is_not_here(
    cli: CommandLine, hub: Registry, imported: str, arguments: tuple[str, ...]
) -> None:
    done = cli(*(word.format("local/smol-v2:Q4_1") for word in arguments), "--json")
    assert (done.returncode, hub.requests) == (3, [])
    error = json.loads(done.stderr.splitlines()[-1])["error"]
    if arguments[0] != "card":
        assert error["hint"] == "did you mean `local/smol-v1:Q4_1`?"


@pytest.mark.parametrize(
    "arguments",
    [
        ("inspect", "--remote", "{}"),
        ("outdated", "{}"),
        ("update", "{}"),
        ("push", "{}"),
        ("doctor", "{}"),
    ],
    ids=" ".join,
)
@pytest.mark.parametrize("name", ["local/smol-v1:Q4_1", "docker.io/local/smol-v1:Q4_1"])
def test_what_is_here_and_asked_of_a_registry_is_at_none(
    cli: CommandLine, hub: Registry, imported: str, arguments: tuple[str, ...], name: str
) -> None:
    done = cli(*(word.format(name) for word in arguments))
    assert (done.returncode, hub.requests, done.stdout) == (3, [], "")
    assert done.stderr == (
        "error: local/smol-v1:Q4_1 is a local name: no registry has it\nhint: name it for a "
        "registry: `modelrunner tag local/smol-v1:Q4_1 REGISTRY/NAMESPACE/NAME:TAG`\n"
    )


def test_lock_pins_nothing_that_no_registry_has(
    cli: CommandLine, hub: Registry, imported: str, tmp_path: Path
) -> None:
    (tmp_path / "modelrunner.toml").write_text('[models]\nown = "local/smol-v1:Q4_1"\n')
    for offline in ((), ("--offline",)):
        done = cli("lock", "--file", str(tmp_path / "modelrunner.toml"), *offline)
        assert (done.returncode, hub.requests) == (3, [])
        assert "no registry has it" in done.stderr


def test_pull_of_what_is_here_has_nothing_to_do(
    cli: CommandLine, hub: Registry, imported: str
) -> None:
    for name in ("local/smol-v1:Q4_1", "local/smol-v1"):
        told = json.loads(cli("pull", name, "--json").stdout)
        assert (told["reference"], told["digest"], told["status"]) == (
            "docker.io/local/smol-v1:Q4_1",
            imported,
            "up-to-date",
        )
    assert hub.requests == []


@pytest.mark.parametrize("command", ["inspect", "path", "estimate", "pull"])
def test_the_only_tag_is_taken_and_said(
    cli: CommandLine, hub: Registry, imported: str, command: str
) -> None:
    done = cli(command, "local/smol-v1")
    assert done.returncode == 0, done.stderr
    said = [line for line in done.stderr.splitlines() if "only tag" in line]
    assert said == ["using local/smol-v1:Q4_1, the only tag of local/smol-v1"]
    assert hub.requests == []


def test_of_two_tags_none_is_taken(
    cli: CommandLine, hub: Registry, imported: str, tmp_path: Path
) -> None:
    tiny_gguf(tmp_path / "smol-v1-Q8_0.gguf", seed=8)
    assert cli("import", str(tmp_path / "smol-v1-Q8_0.gguf")).returncode == 0
    done = cli("run", "local/smol-v1", "hello")
    assert (done.returncode, hub.requests) == (3, [])
    assert done.stderr == (
        "error: local/smol-v1: not in the local store\n"
        "hint: did you mean `local/smol-v1:Q4_1` or `local/smol-v1:Q8_0`?\n"
    )


@pytest.mark.parametrize("text", ["local/smol-v1", "smol-v1", "ghcr.io/me/smol-v1"])
def test_removing_takes_no_other_name_and_suggests_it(
    cli: CommandLine, hub: Registry, imported: str, text: str
) -> None:
    done = cli("rm", text)
    assert done.returncode == 3
    assert "hint: did you mean `local/smol-v1:Q4_1`?" in done.stderr
    assert cli("list", "-q").stdout.strip()


def test_tags_are_those_of_the_store(cli: CommandLine, hub: Registry, imported: str) -> None:
    told = json.loads(cli("tags", "local/smol-v1", "--json").stdout)
    assert (told["repository"], told["tags"]) == ("docker.io/local/smol-v1", ["Q4_1"])
    assert hub.requests == []


def test_a_pull_that_finds_nothing_names_what_is_here(
    cli: CommandLine, hub: Registry, imported: str
) -> None:
    for tag in ("latest", "Q4_1", "1"):
        hub.remove_tag("ai/smol-v1", tag)
    done = cli("run", "smol-v1", "hello")
    assert done.returncode == 3
    assert "did you mean `local/smol-v1:Q4_1`" in done.stderr


@pytest.mark.parametrize("text", [ID, f"sha256:{ID}"])
@pytest.mark.parametrize(
    "command", ["pull", "run", "serve", "estimate", "path", "inspect", "rm", "card"]
)
def test_no_registry_is_asked_for_an_id(
    cli: CommandLine, hub: Registry, imported: str, command: str, text: str
) -> None:
    more = ("hello",) if command == "run" else ()
    done = cli(command, text, *more)
    assert (done.returncode, hub.requests) == (3, [])
    assert f"error: {text}: not in the local store" in done.stderr


@pytest.mark.parametrize("arguments", [("tags",), ("inspect", "--remote"), ("doctor",)])
def test_what_needs_a_name_refuses_an_id(
    cli: CommandLine, hub: Registry, arguments: tuple[str, ...]
) -> None:
    done = cli(*arguments, ID)
    assert (done.returncode, hub.requests) == (2, [])
    assert f"error: {ID} is the ID of a model, not a name" in done.stderr


def test_a_push_needs_a_name(cli: CommandLine, hub: Registry, imported: str) -> None:
    done = cli("push", imported.removeprefix("sha256:")[:12])
    assert (done.returncode, hub.requests) == (2, [])
    assert "push needs a model name, got the ID" in done.stderr
    assert "`local/smol-v1:Q4_1`" in done.stderr


def test_a_push_of_a_model_without_a_name_says_how_to_give_it_one(
    cli: CommandLine, hub: Registry, imported: str
) -> None:
    # as another tool writes it into the layout
    index = cli.home / "store" / "v1" / "index.json"
    written = json.loads(index.read_text())
    for entry in written["manifests"]:
        del entry["annotations"]
    index.write_text(json.dumps(written))
    digits = imported.removeprefix("sha256:")[:12]
    done = cli("push", digits)
    assert (done.returncode, hub.requests, done.stderr) == (
        2,
        [],
        (
            f"error: push needs a model name, got the ID {digits}\n"
            f"hint: add a name first: `modelrunner tag {digits} REGISTRY/NAME:TAG`\n"
        ),
    )
