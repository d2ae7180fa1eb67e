"""What removes much asks first, and keeps what no registry has: of `prune` and of `rm --all`."""

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact, docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry
from tests.support.terminal import in_terminal


@pytest.fixture
def locked(project: Path, cli: CommandLine, registry: Registry, tiny: Artifact) -> str:
    """The name that the project's lock has."""
    registry.add(tiny, "team/locked", ["1"])
    name = registry.reference("team/locked:1")
    (project / "modelrunner.toml").write_text(f'[models]\nm = "{name}"\n')
    assert cli("lock").returncode == 0
    assert cli("pull", "--locked").returncode == 0
    return name


@pytest.fixture
def other(cli: CommandLine, registry: Registry, tmp_path: Path) -> str:
    """A pulled model that is not in the lock."""
    weights = tiny_gguf(tmp_path / "other.gguf").read_bytes()
    registry.add(docker_artifact(weights, license=b"other\n"), "team/other", ["1"])
    name = registry.reference("team/other:1")
    assert cli("pull", name).returncode == 0
    return name


@pytest.fixture
def packaged(cli: CommandLine, registry: Registry, tmp_path: Path) -> str:
    """A model that was made on this machine."""
    name = registry.reference("me/own:1")
    done = cli("package", str(tiny_gguf(tmp_path / "own-v1.gguf")), name)
    assert done.returncode == 0, done.stderr
    return name


def names(cli: CommandLine) -> list[str]:
    found = json.loads(cli("list", "--json").stdout)
    return sorted(name for entry in found for name in entry["references"])


def test_prune_of_models_needs_yes_where_nobody_can_answer(
    cli: CommandLine, locked: str, other: str
) -> None:
    done = cli("prune", "--keep-locked")
    size, _, title = done.stderr.partition("\n")[0].removeprefix("model  ").rpartition("  ")
    assert (done.returncode, done.stdout, title) == (2, "", other)
    assert done.stderr == (
        f"model  {size}  {other}\n"
        f"error: refusing to remove 1 model ({size}) without confirmation\n"
        "hint: add --yes, or see what would be removed with --dry-run\n"
    )
    assert names(cli) == sorted([locked, other])
    failed = cli("prune", "--keep-locked", "--json")
    error = json.loads(failed.stderr)["error"]
    assert (failed.returncode, failed.stdout) == (2, "")
    assert error["would_remove"] == [f"model  {size}  {other}"]
    assert cli("prune", "--keep-locked", "--yes").stdout == f"model  {size}  {other}\n"
    assert names(cli) == [locked]
    # there is nothing to ask about any more
    assert cli("prune", "--keep-locked").returncode == 0


@pytest.mark.parametrize(("answer", "code"), [("y\n", 0), ("n\n", 130), ("\n", 130), ("\x04", 130)])
def test_prune_of_models_asks_on_a_terminal(
    cli: CommandLine, locked: str, other: str, answer: str, code: int
) -> None:
    with in_terminal(cli.argv("prune", "--keep-locked"), cli.environ) as (terminal, process):
        seen = terminal.wait_for("? [y/N] ")
        assert f"  {other}\r\nRemove 1 model (" in seen
        terminal.type(answer)
        assert process.wait(60) == code
    assert names(cli) == ([locked] if code == 0 else sorted([locked, other]))


def test_what_no_registry_has_is_kept_unless_told(
    cli: CommandLine, locked: str, packaged: str, tmp_path: Path
) -> None:
    weights = tiny_gguf(tmp_path / "imported-v2.gguf")
    weights.write_bytes(weights.read_bytes() + bytes(32))
    assert cli("import", str(weights)).returncode == 0
    everything = names(cli)
    assert len(everything) == 3
    done = cli("prune", "--keep-locked", "--yes")
    assert (done.returncode, names(cli)) == (0, everything)
    assert (
        f"kept {packaged}: not known to be in any registry (--unpushed removes it)\n" in done.stderr
    )
    planned = json.loads(cli("prune", "--keep-locked", "--dry-run", "--json").stdout)
    assert [entry["references"] for entry in planned["unpushed"]] == [
        [name] for name in everything if name != locked
    ]
    assert cli("prune", "--keep-locked", "--unpushed").returncode == 2
    assert cli("prune", "--keep-locked", "--unpushed", "--yes").returncode == 0
    assert names(cli) == [locked]


def test_what_was_pushed_may_be_pruned(cli: CommandLine, locked: str, packaged: str) -> None:
    assert cli("push", packaged).returncode == 0
    assert cli("prune", "--keep-locked", "--yes").returncode == 0
    assert names(cli) == [locked]


def test_a_further_name_of_a_pulled_model_keeps_nothing(
    cli: CommandLine, locked: str, other: str
) -> None:
    cli("tag", other, "my/copy:1")
    cli("rm", other)
    assert cli("prune", "--keep-locked", "--yes").returncode == 0
    assert names(cli) == [locked]


def test_a_name_that_moves_to_a_model_made_here_does_not_vouch_for_it(
    cli: CommandLine, locked: str, other: str, packaged: str
) -> None:
    cli("tag", packaged, other)
    assert cli("prune", "--keep-locked", "--yes").returncode == 0
    assert names(cli) == sorted([locked, other, packaged])


def test_a_pull_of_what_was_made_here_notes_that_a_registry_has_it(
    cli: CommandLine, locked: str, packaged: str
) -> None:
    index = cli.store.layout.index
    assert cli("push", packaged).returncode == 0
    # as a version of this program left it that did not note this
    entries = json.loads(index.read_text())
    for entry in entries["manifests"]:
        entry["annotations"].pop("vnd.modelrunner.published")
    index.write_text(json.dumps(entries))
    assert cli("prune", "--keep-locked", "--yes").returncode == 0
    assert packaged in names(cli)
    assert cli("pull", packaged).stdout.startswith(f"{packaged}: up to date")
    assert cli("prune", "--keep-locked", "--yes").returncode == 0
    assert packaged not in names(cli)


def test_unpushed_is_about_locks(cli: CommandLine) -> None:
    done = cli("prune", "--unpushed")
    assert (done.returncode, done.stderr) == (
        2,
        "error: --unpushed needs --keep-locked\nhint: add --keep-locked\n",
    )


def test_rm_all_lists_what_goes_and_needs_yes(cli: CommandLine, locked: str, packaged: str) -> None:
    done = cli("rm", "--all")
    assert (done.returncode, done.stdout) == (2, "")
    listed, error = done.stderr.splitlines()[:2], done.stderr.splitlines()[2]
    assert listed[0].startswith(f"{packaged}  ")
    assert listed[0].endswith("  (not known to be in any registry)")
    assert listed[1].startswith(f"{locked}  ")
    assert error.startswith("error: refusing to remove 2 models (")
    assert len(names(cli)) == 2
    done = cli("rm", "--all", "-y")
    assert (done.returncode, names(cli)) == (0, [])
    assert [line.partition(": ")[0] for line in done.stdout.splitlines()] == [
        "Untagged",
        "Deleted",
    ] * 2
    assert list(cli.store.layout.blobs.iterdir()) == []
    assert cli("rm", "--all").stderr == "no local models\n"


def test_rm_all_asks_on_a_terminal(cli: CommandLine, locked: str) -> None:
    with in_terminal(cli.argv("rm", "--all"), cli.environ) as (terminal, process):
        terminal.wait_for("? [y/N] ")
        terminal.type("no\n")
        assert process.wait(60) == 130
    assert names(cli) == [locked]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((), "error: no model given\nhint: name a model, or use --all to remove all models\n"),
        (
            ("--all", "ai/x"),
            ("error: --all and model names cannot be combined\nhint: remove one of the two\n"),
        ),
    ],
)
def test_rm_wants_models_or_all(cli: CommandLine, arguments: tuple[str, ...], message: str) -> None:
    done = cli("rm", *arguments)
    assert (done.returncode, done.stderr) == (2, message)
