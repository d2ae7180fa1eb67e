"""Completion, as the shells ask for it."""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from modelrunner.cli.parser.command_table import COMMANDS, GROUPS
from modelrunner.oci.digest import Digest
from modelrunner.runtime.images.library import Installed, Library
from tests.conftest import CommandLine

BUILDS = ["installed:cpu@b11401", "installed:vulkan@b11434"]
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
        *("kv-type=", "kv-type-k=", "kv-type-v=", "kv-unified=")
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


def offered(cli: CommandLine, line: str, shell: str = "fish") -> list[str]:
    """What the program hands to a shell, a line an offer."""
    words = line.split()
    last = len(words) if line.endswith(" ") else len(words) - 1
    asked = {"_MODELRUNNER_COMPLETE": f"complete_{shell}", "COMP_WORDS": line}
    done = cli(COMP_CWORD=str(last), **asked)
    assert (done.returncode, done.stderr) == (0, "")
    return done.stdout.splitlines()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("modelrunner help cac", ["cache-key"]),
        ("modelrunner cards granite-docling", ["granite-docling"]),
        ("modelrunner card ai/granite-doc", ["ai/granite-docling"]),
        ("modelrunner export qu", ["quadlet"]),
        ("modelrunner configure ai/x --unset kv-type-", ["kv-type-k", "kv-type-v"]),
        ("modelrunner configure ai/x --set mmap=", ["mmap=on", "mmap=off"]),
        ("modelrunner configure ai/x --set kv_type=q8", ["kv_type=q8_0"]),
        ("modelrunner run ai/x --set chat-template=pha", []),
        ("modelrunner run ai/x --chat-template gem", ["gemma"]),
        ("modelrunner run ai/x --kv-type iq", ["iq4_nl"]),
        ("modelrunner estimate ai/x --kv-type iq", ["iq4_nl"]),
        ("modelrunner run ai/x --runtime xll", ["xllamacpp"]),
        (
            "modelrunner estimate ai/x --for rtx4070t",
            ["rtx4070ti", "rtx4070tisuper"],
        ),
        ("modelrunner estimate ai/x --for RTX4060T", ["RTX4060Ti", "RTX4060Ti16GB"]),
        ("modelrunner tag fixtures/tiny-llama:d", ["fixtures/tiny-llama:docker"]),
        ("modelrunner rmi fixtures/tiny-llama:d", ["fixtures/tiny-llama:docker"]),
        ("modelrunner rmi ai/gemma", []),
        ("modelrunner nonsense ai/ge", []),
        ("modelrunner help nonsense ", []),
    ],
)
def test_what_a_place_takes_is_completed(
    models: CommandLine, line: str, expected: list[str]
) -> None:
    assert [offer.partition("\t")[0] for offer in offered(models, line)] == expected


@pytest.fixture
def with_builds(cli: CommandLine) -> CommandLine:
    """The command line with two builds out of images."""
    library = Library(cli.home / "runtimes")
    for backend, build in (("vulkan", "b11434"), ("cpu", "b11401")):
        digest = Digest.of(backend.encode())
        one = Installed(
            folder=library.folder / digest.hex,
            digest=digest,
            reference="ghcr.io/ggml-org/llama.cpp:server",
            backend=backend,
            build=build,
            program="app/llama-server",
        )
        with library.changing(), library.adding(digest) as beside:
            library.record(beside, one)
    return cli


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("modelrunner runtimes u", ["use", "update"]),
        ("modelrunner runtimes use ", ["cpu@b11401", "vulkan@b11434"]),
        ("modelrunner runtimes use cpu@b11401 ", []),
        ("modelrunner runtimes remove v", ["vulkan@b11434"]),
        ("modelrunner runtimes update cpu@b11401 ", ["vulkan@b11434"]),
        ("modelrunner runtimes install cud", ["cuda12", "cuda13"]),
        ("modelrunner runtimes list ", []),
        ("modelrunner run ai/x --runtime inst", ["installed", *BUILDS]),
        ("modelrunner run ai/x --runtime installed:v", BUILDS[1:]),
    ],
)
def test_runtimes_out_of_images_are_completed(
    with_builds: CommandLine, line: str, expected: list[str]
) -> None:
    assert [offer.partition("\t")[0] for offer in offered(with_builds, line)] == expected


def test_bash_gets_what_follows_the_colon_of_a_runtime(with_builds: CommandLine) -> None:
    line = "modelrunner serve ai/x --runtime installed:"
    assert completed(with_builds, line) == ["cpu@b11401", "vulkan@b11434"]


def test_the_names_of_a_project_are_completed(
    cli: CommandLine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert offered(cli, "modelrunner lock --update ") == []
    Path("modelrunner.toml").write_text('[models]\nchat = "ai/smollm2:1"\nembed = "ai/e:1"\n')
    assert offered(cli, "modelrunner lock --update ") == ["chat", "embed"]
    Path("modelrunner.toml").write_text("no TOML")
    assert offered(cli, "modelrunner lock --update ") == []


def test_registries_of_the_configuration_and_of_stored_models_are_completed(
    models: CommandLine,
) -> None:
    (models.home / "config.toml").write_text('[registries."ghcr.io"]\ninsecure = false\n')
    found = offered(models, "modelrunner login ")
    assert {"docker.io", "ghcr.io"} <= {*found}


def test_zsh_and_fish_are_told_what_an_offer_is_and_bash_is_not(cli: CommandLine) -> None:
    line = "modelrunner cache"
    expected = f"cache-key\t{COMMANDS['cache-key'].summary}"
    assert offered(cli, line, "fish") == offered(cli, line, "zsh") == [expected]
    assert offered(cli, line, "bash") == ["cache-key"]


@pytest.mark.parametrize("asked", [{}, {"COMP_WORDS": "modelrunner ", "COMP_CWORD": "x"}])
def test_a_script_that_sends_no_line_gets_no_offer(cli: CommandLine, asked: dict[str, str]) -> None:
    done = cli(_MODELRUNNER_COMPLETE="complete_bash", **asked)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("line", ["modelrunner ru", "modelrunner rm ", "modelrunner pull ai/"])
def test_usual_lines_are_completed_without_the_large_parser(cli: CommandLine, line: str) -> None:
    asked = {
        "_MODELRUNNER_COMPLETE": "complete_bash",
        "COMP_WORDS": line,
        "COMP_CWORD": str(len(line.split(" ")) - 1),
    }
    program = (
        "import sys\nfrom modelrunner.cli.app import main\n"
        "assert main([]) == 0\nassert not {'typer', 'ast'} & {*sys.modules}"
    )
    subprocess.run(
        [sys.executable, "-c", program],
        env={**cli.environ, **asked},
        capture_output=True,
        check=True,
    )


def test_every_command_is_offered_and_none_is_loaded_for_it(cli: CommandLine) -> None:
    asked = {"_MODELRUNNER_COMPLETE": "complete_bash", "COMP_WORDS": "modelrunner "}
    done = cli(COMP_CWORD="1", PYTHONPROFILEIMPORTTIME="1", **asked)
    assert done.stdout.split() == [name for names in GROUPS.values() for name in names]
    assert "modelrunner.cli.parser.completion" in done.stderr
    assert "modelrunner.cli.commands." not in done.stderr


def test_a_store_that_cannot_be_read_is_no_business_of_a_tab(models: CommandLine) -> None:
    index = models.home / "store" / "v1" / "index.json"
    # it is a link to that of all tests
    index.unlink()
    index.write_text("damaged")
    assert offered(models, "modelrunner run ai/granite-doc") == ["ai/granite-docling"]
    assert offered(models, "modelrunner rm ") == []


@pytest.mark.skipif(shutil.which("fish") is None, reason="fish is not installed")
def test_fish_completes_a_line(models: CommandLine) -> None:
    program = f"""
{models("completion", "fish").stdout}
complete -C "modelrunner rm fixtures/tiny-llama:"
"""
    folder = program_in(models)
    environ = {**models.environ, "PATH": f"{folder}:{models.environ['PATH']}"}
    done = subprocess.run(
        ["fish", "--no-config", "-c", program],
        check=False,
        env=environ,
        capture_output=True,
        text=True,
    )
    assert "fixtures/tiny-llama:docker" in done.stdout.split(), done.stderr


@pytest.mark.skipif(shutil.which("zsh") is None, reason="zsh is not installed")
def test_zsh_shows_what_an_offer_is_beside_it(cli: CommandLine) -> None:
    folder = program_in(cli)
    program = f"""
compdef() {{ : }}
compadd() {{ print -rl -- "$*" $shown "=" $values }}
_files() {{ print files }}
{cli("completion", "zsh").stdout}
words=(modelrunner cache); CURRENT=2; _modelrunner
words=(modelrunner card ai/granite-doc); CURRENT=3; _modelrunner
words=(modelrunner card ./nothing); CURRENT=3; _modelrunner
"""
    environ = {**cli.environ, "PATH": f"{folder}:{cli.environ['PATH']}"}
    done = subprocess.run(
        ["zsh", "-f", "-c", program], check=False, env=environ, capture_output=True, text=True
    )
    assert done.stderr == ""
    assert done.stdout.splitlines() == [
        *("-l -d shown -a values", f"cache-key  -- {COMMANDS['cache-key'].summary}", "="),
        *("cache-key", "-a values", "ai/granite-docling", "=", "ai/granite-docling", "files"),
    ]


def program_in(cli: CommandLine) -> Path:
    """A directory for PATH that has `modelrunner`, as an installation has it."""
    folder = cli.home / "bin"
    folder.mkdir(parents=True)
    (folder / "modelrunner").write_text(f'#!/bin/sh\nexec {" ".join(cli.argv())} "$@"\n')
    (folder / "modelrunner").chmod(0o755)
    return folder


def test_without_a_shell_the_one_in_use_is_taken(cli: CommandLine) -> None:
    for shell in filter(shutil.which, SHELLS):
        program = f"{' '.join(cli.argv('completion'))}; echo"
        done = subprocess.run(
            [shell, "-c", program],
            check=False,
            env=dict(cli.environ),
            capture_output=True,
            text=True,
        )
        assert done.stdout.rstrip("\n") == cli("completion", shell).stdout.rstrip("\n")


def test_a_shell_without_a_script_is_refused_with_those_that_have_one(cli: CommandLine) -> None:
    done = cli("completion", "tcsh")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr == (
        "error: SHELL: invalid value 'tcsh'\nhint: available: `bash`, `zsh`, `fish`\n"
    )
