"""Completion, as the shells ask for it."""

import shutil
import subprocess

import pytest

from tests.conftest import CommandLine

SHELLS = ("bash", "zsh", "fish")


def completed(cli: CommandLine, line: str) -> list[str]:
    """What bash would offer at the end of a line: of words with a colon what follows it."""
    program = f"""
modelrunner() {{ {" ".join(cli.argv())} "$@"; }}
{cli("completion", "bash").stdout}
COMP_LINE={line!r}
COMP_POINT=${{#COMP_LINE}}
_modelrunner modelrunner
printf '%s\\n' "${{COMPREPLY[@]}}"
"""
    done = subprocess.run(
        ["bash", "-c", program], env=dict(cli.environ), capture_output=True, text=True, check=True
    )
    assert done.stderr == ""
    return done.stdout.split()


def test_names_of_the_store_come_first_then_the_catalogue(models: CommandLine) -> None:
    done = models("tag", "fixtures/tiny-llama:docker", "ai/smoother:1")
    assert done.returncode == 0, done.stderr
    assert completed(models, "modelrunner run ai/smo") == [
        *("ai/smollm2:135M-Q4_1", "ai/smollm2:latest", "ai/smoother:1"),
        *("ai/smollm2", "ai/smollm3", "ai/smolvlm"),
    ]


def test_a_name_is_completed_as_it_was_begun(models: CommandLine) -> None:
    found = completed(models, "modelrunner run granite")
    assert "granite-4.0-micro:3B-Q4_K_M" in found
    assert all(name.startswith("granite") for name in found)


def test_of_a_name_with_a_colon_bash_gets_the_tag(models: CommandLine) -> None:
    assert completed(models, "modelrunner rm ai/smollm2:135M-Q4") == ["135M-Q4_1"]


def test_what_only_the_catalogue_has_cannot_be_removed(models: CommandLine) -> None:
    assert completed(models, "modelrunner rm ai/gemma") == []


def test_settings_are_completed_with_their_equals_sign(models: CommandLine) -> None:
    assert completed(models, "modelrunner run ai/smollm2 --set kv-") == [
        *("kv-type=", "kv-type-k=", "kv-type-v=")
    ]


def test_commands_and_options_are_completed(models: CommandLine) -> None:
    assert completed(models, "modelrunner esti") == ["estimate"]
    assert completed(models, "modelrunner pull --connec") == ["--connections"]


def test_a_broken_configuration_is_no_business_of_a_tab(models: CommandLine) -> None:
    (models.home / "config.toml").write_text("no TOML")
    assert "ai/gemma3" in completed(models, "modelrunner run ai/gemma")


@pytest.mark.parametrize("shell", SHELLS)
def test_the_script_is_one_that_its_shell_understands(cli: CommandLine, shell: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    script = cli("completion", shell).stdout
    done = subprocess.run(
        [program, "-n"], check=False, input=script, capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
