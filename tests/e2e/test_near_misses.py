"""A name that is spelled wrong: every command says which one may have been meant."""

import json
from pathlib import Path

import pytest

from tests.conftest import CommandLine
from tests.support.artifacts import Artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry


@pytest.fixture
def local(cli: CommandLine, registry: Registry, tiny: Artifact) -> CommandLine:
    """A store with `team/tiny:1`, out of a registry that has only that."""
    registry.add(tiny, "team/tiny", tags=["1"])
    assert cli("pull", registry.reference("team/tiny:1")).returncode == 0
    assert cli("tag", registry.reference("team/tiny:1"), "team/tiny:1").returncode == 0
    assert cli("rm", registry.reference("team/tiny:1")).returncode == 0
    return cli


@pytest.mark.parametrize(
    "command",
    [
        ["pull"],
        ["run", "--runtime", "http://127.0.0.1:9"],
        ["estimate"],
        ["inspect", "--remote"],
        ["export", "compose"],
        ["tags"],
    ],
    ids=" ".join,
)
def test_a_model_that_no_registry_has_is_looked_up_in_the_catalogue(
    local: CommandLine, registry: Registry, command: list[str]
) -> None:
    prompt = ["hello"] if command[0] == "run" else []
    done = local(*command, registry.reference("ai/smolm2"), *prompt)
    assert done.stderr.splitlines()[-1] == "hint: did you mean `ai/smollm2`?"
    assert done.returncode == 3


@pytest.mark.parametrize(
    "command",
    [
        ["inspect"],
        ["path"],
        ["push"],
        ["rm"],
        ["save", "-o", "x.tar"],
        ["verify"],
        ["tag"],
    ],
    ids=" ".join,
)
def test_a_model_that_the_store_does_not_have_is_looked_up_in_it(
    local: CommandLine, command: list[str]
) -> None:
    more = ["other"] if command == ["tag"] else []
    done = local(*command, "team/tini:1", *more)
    assert done.stderr.splitlines()[-1] == "hint: did you mean `team/tiny:1`?"
    assert done.returncode == 3


@pytest.mark.parametrize(
    "command",
    [
        ["pull"],
        ["run", "--runtime", "http://127.0.0.1:9"],
        ["estimate"],
        ["inspect", "--remote"],
        ["export", "compose"],
        ["tags"],
    ],
    ids=" ".join,
)
def test_a_model_that_no_registry_may_be_asked_for_is_looked_up_in_the_store(
    local: CommandLine, command: list[str]
) -> None:
    prompt = ["hello"] if command[0] == "run" else []
    done = local("--offline", *command, "team/tini:1", *prompt)
    assert done.stderr == (
        "error: team/tini:1 is not in the local store, and --offline is set\n"
        "hint: did you mean `team/tiny:1`? If not, run the command once without --offline\n"
    )
    assert done.returncode == 9
    far = local("--offline", *command, "team/whatever:1", *prompt)
    assert far.stderr.splitlines()[-1] == "hint: run the command once without --offline"


@pytest.mark.parametrize("name", ["smolm2", "local/smolm2", "ghcr.io/team/smolm2"])
def test_the_name_counts_whatever_its_namespace(cli: CommandLine, name: str) -> None:
    done = cli("inspect", name)
    assert done.stderr == (
        f"error: {name}: not in the local store\n"
        "hint: did you mean `ai/smollm2`? `modelrunner pull ai/smollm2` downloads it\n"
    )


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("ai/smolm2:135M-Q4_K_M", "did you mean `ai/smollm2:135M-Q4_K_M`?"),
        ("ai/smollm2:135M-Q4_KM", "did you mean `ai/smollm2:135M-Q4_K_M` or "),
        ("ai/smollm2:135M-Q4_K_M", "download it: `modelrunner pull ai/smollm2:135M-Q4_K_M`"),
    ],
)
def test_tags_of_cards_are_known_too(cli: CommandLine, name: str, hint: str) -> None:
    assert cli("inspect", name).stderr.splitlines()[-1].removeprefix("hint: ").startswith(hint)


def test_of_several_models_each_failure_has_its_own_names(
    local: CommandLine, registry: Registry
) -> None:
    names = [registry.reference(name) for name in ("ai/smolm2", "team/tiny:2")]
    done = local("pull", *names)
    assert "hint: did you mean `ai/smollm2`?" in done.stderr
    assert "hint: available: `1`" in done.stderr
    assert done.returncode == 3


def test_scripts_get_the_names_as_data(local: CommandLine, registry: Registry) -> None:
    name = registry.reference("ai/smolm2")
    error = json.loads(local("pull", "--json", name).stderr)["error"]
    assert (error["code"], error["near"]) == ("manifest_not_found", ["ai/smollm2"])


def test_a_registry_that_does_not_say_whether_a_model_exists_is_logged_in_to(
    local: CommandLine, registry: Registry
) -> None:
    registry.answer(401, times=None, on="manifest")
    done = local("pull", registry.reference("ai/smolm2"))
    # a model of Docker Hub is not what is missing at this registry
    assert done.stderr.splitlines()[-1] == (
        f"hint: check the name; if it is private, log in: `modelrunner login {registry.host}`"
    )
    assert done.returncode == 4


# Names of other programs.


def test_a_file_is_imported_under_a_name_as_it_is_packaged(
    cli: CommandLine, tmp_path: Path
) -> None:
    file = tiny_gguf(tmp_path / "tiny.gguf")
    planned = json.loads(cli("import", str(file), "team/mine:1", "--dry-run", "--json").stdout)
    assert [entry["reference"] for entry in planned] == ["docker.io/team/mine:1"]
    assert json.loads(cli("list", "--json").stdout) == []
    assert cli("import", str(file), "team/mine:1").returncode == 0
    assert cli("list", "-q").returncode == 0
    assert "team/mine:1" in cli("list").stdout
    done = cli("import", str(file), "nowhere.gguf")
    assert done.stderr.startswith("error: nowhere.gguf: file or directory not found\n")


def test_a_package_is_pushed_when_it_is_made(
    cli: CommandLine, registry: Registry, tmp_path: Path
) -> None:
    file, name = tiny_gguf(tmp_path / "tiny.gguf"), registry.reference("team/mine:1")
    made = json.loads(cli("package", str(file), name, "--push", "--json").stdout)
    assert (made["reference"], made["skipped_bytes"]) == (name, 0)
    assert made["uploaded_bytes"] > 0
    assert json.loads(cli("tags", name, "--json").stdout)["tags"] == ["1"]
    offline = cli("package", str(file), registry.reference("team/mine:2"), "--push", "--offline")
    assert offline.returncode == 9
    assert "mine:2" not in cli("list").stdout


def test_purge_removes_every_model_when_that_is_meant(local: CommandLine) -> None:
    asked = local("purge")
    assert asked.returncode == 2
    assert "team/tiny:1" in local("list").stdout
    assert local("purge", "-f").returncode == 0
    assert local("list", "--json").stdout == "[]\n"


@pytest.mark.parametrize(
    ("alias", "command"),
    [
        (["show", "team/tiny:1"], ["inspect", "team/tiny:1"]),
        (["status", "--json"], ["ps", "--json"]),
        (["images"], ["list"]),
        (["unload", "--all"], ["stop", "--all"]),
    ],
    ids=str,
)
def test_what_others_call_it_does_the_same(
    local: CommandLine, alias: list[str], command: list[str]
) -> None:
    one, other = local(*alias), local(*command)
    assert (one.stdout, one.returncode) == (other.stdout, other.returncode) != ("", 2)


def test_rmi_removes(local: CommandLine) -> None:
    assert local("rmi", "team/tiny:1").returncode == 0
    assert local("list", "--json").stdout == "[]\n"
