"""Settings in an artifact: made by `package`, shown, pushed, and followed where it runs."""

import itertools
import json
from collections.abc import Mapping
from pathlib import Path

import pytest

import modelrunner
from tests.conftest import CommandLine
from tests.support import exports
from tests.support.artifacts import docker_artifact
from tests.support.gguf import tiny_gguf
from tests.support.registry import Registry

ADVICE = (
    *("--context-size", "1024", "--system", "You are a pirate.", "--temperature", "0.5"),
    *("--kv-type", "f32", "--set", "top-k=40"),
    *("--set", 'chat-template-kwargs={"style": "100% $plain"}'),
)
PACKAGED = {
    "context": 1024,
    "top_k": 40,
    "chat_template_kwargs": '{"style":"100% $plain"}',
    "kv_type": "f32",
    "system": "You are a pirate.",
    "temperature": 0.5,
}


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    return tiny_gguf(tmp_path / "tiny.gguf", context_length=8192)


def test_what_is_packaged_is_in_the_config_and_shown_before_and_after_a_pull(
    cli: CommandLine, registry: Registry, weights: Path
) -> None:
    name = registry.reference("team/pirate:1")
    made = cli("package", str(weights), name, *ADVICE, "--push")
    assert made.returncode == 0, made.stderr
    cli("rm", name)
    remote = json.loads(cli("inspect", "--remote", name).stdout)
    assert (remote["packaged"], remote["packaged_ignored"]) == (PACKAGED, [])
    assert remote["sampling"] == {
        "temperature": {"value": 0.5, "source": "artifact"},
        "top_k": {"value": 40, "source": "artifact"},
    }
    pulled = cli("pull", name)
    assert pulled.stderr.splitlines()[-1] == (
        f'{name} sets context=1024, top-k=40, chat-template-kwargs={{"style":"100% $plain"}},'
        ' kv-type=f32, system="You are a pirate.", temperature=0.5'
    )
    again = cli("pull", name)
    assert "sets" not in again.stderr
    assert json.loads(cli("pull", name, "--json").stdout)["packaged"] == PACKAGED
    local = json.loads(cli("show", name).stdout)
    assert (local["packaged"], local["sampling"]) == (PACKAGED, remote["sampling"])
    assert local["context_length"] == 1024


def test_estimate_and_export_follow_it_and_options_count_more(
    cli: CommandLine, weights: Path, tmp_path: Path
) -> None:
    cli("package", str(weights), "team/pirate:1", *ADVICE)

    def estimated(*options: str) -> tuple[int, str]:
        found = json.loads(cli("estimate", "team/pirate:1", *options, "--json").stdout)
        return found["context"], found["kv_type"]

    assert estimated() == (1024, "f32")
    assert estimated("--context", "2048", "--kv-type", "f16") == (2048, "f16")
    done = cli("export", "systemd", "team/pirate:1", "--program", "/opt/llama-server")
    words = exports.words(exports.values(done.stdout, "ExecStart")[0])
    pairs = dict(itertools.pairwise(words))
    assert {
        key: pairs[key]
        for key in ("--ctx-size", "--cache-type-k", "--temp", "--top-k", "--chat-template-kwargs")
    } == {
        "--ctx-size": "1024",
        "--cache-type-k": "f32",
        "--temp": "0.5",
        "--top-k": "40",
        "--chat-template-kwargs": '{"style":"100% $plain"}',
    }
    assert "# As packaged: top-k=40, " in done.stdout
    assert done.stderr == (
        "warning: team/pirate:1: llama-server keeps no system prompt: send the packaged one with"
        " each request\n"
    )


def test_the_library_estimates_as_the_artifact_says(cli: CommandLine, weights: Path) -> None:
    cli("package", str(weights), "team/pirate:1", *ADVICE)
    found = [
        modelrunner.estimate("team/pirate:1", home=cli.home, kv_type=kv_type)
        for kv_type in (None, "f32", "f16")
    ]
    assert [each.context for each in found] == [1024] * 3
    assert found[0].total_bytes == found[1].total_bytes != found[2].total_bytes


@pytest.mark.parametrize(
    ("options", "error"),
    [
        (
            ("--set", "lora=/etc/passwd"),
            (
                "error: lora cannot be packaged: it names files or hosts of one machine\n"
                "hint: set it on each machine: `modelrunner configure REF --set lora=FILE`\n"
            ),
        ),
        (
            ("--set", "threads=3"),
            (
                "error: threads cannot be packaged: its value depends on the machine\n"
                "hint: set it on each machine: `modelrunner configure REF --set threads=VALUE`\n"
            ),
        ),
        (
            ("--set", "chat-template=chatml"),
            (
                "error: chat-template cannot be packaged: it names files or hosts of one machine\n"
                "hint: include the file with --chat-template FILE\n"
            ),
        ),
        (
            ("--temperature", "0.5", "--format", "modelpack"),
            (
                "error: cannot package temperature: settings are not supported by the ModelPack"
                " format\nhint: use --format docker, or leave the setting out\n"
            ),
        ),
    ],
)
def test_what_an_artifact_cannot_bring_is_refused(
    cli: CommandLine, weights: Path, options: tuple[str, ...], error: str
) -> None:
    done = cli("package", str(weights), "team/m:1", *options)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", error)
    assert cli("list", "-q").stdout == ""


def test_a_strangers_artifact_is_pulled_and_what_it_may_not_set_is_named(
    cli: CommandLine, registry: Registry, weights: Path
) -> None:
    config = {"settings": {"lora": "/etc/passwd", "flags": "--rpc x:1", "top_k": 3}}
    registry.add(docker_artifact(weights.read_bytes(), config=config), "team/m", ["1"])
    name = registry.reference("team/m:1")
    done = cli("pull", name)
    assert done.returncode == 0
    assert done.stderr.splitlines()[-2:] == [
        f"{name} sets context=8192, top-k=3",
        f"warning: {name}: the artifact's settings lora, flags are ignored: it may not set them",
    ]
    shown = json.loads(cli("inspect", name).stdout)
    assert shown["packaged_ignored"] == ["lora", "flags"]


@pytest.mark.model
def test_run_follows_the_packaged_prompt_unless_another_is_given(
    models: CommandLine, tiny_models: Mapping[str, Path | list[Path]]
) -> None:
    models(
        *("package", str(tiny_models["llama"]), "team/pirate:1"),
        *("--system", "one two three four five six", "--set", "seed=7", "--temperature", "0.5"),
    )

    def tokens(*options: str) -> int:
        done = models("run", "team/pirate:1", "hi", "--max-tokens", "2", "--json", *options)
        found: int = json.loads(done.stdout)["prompt_tokens"]
        return found

    packaged = tokens()
    assert tokens("--system", "") < tokens("--system", "one") < packaged
    shown = models("run", "team/pirate:1", "hi", "--verbose", "--max-tokens", "2")
    assert "sampling: temperature 0.5 (the artifact); seed 7\n" in shown.stderr
    models("configure", "team/pirate:1", "--system", "one")
    assert tokens() == tokens("--system", "one")
