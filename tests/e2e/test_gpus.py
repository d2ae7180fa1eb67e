"""GPUs that the chosen runtime cannot use: said by every command that plans for it."""

import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from modelrunner.errors import ExitStatus
from tests.conftest import CommandLine
from tests.support.gguf import tiny_gguf
from tests.support.machines import CUDA0, RTX_4070, Machine
from tests.support.registry import Registry
from tests.support.runtime_image import artifact_of, shell_image

INSTALL = "modelrunner runtimes install auto"
CANNOT = (
    "llama-server cannot use NVIDIA GeForce RTX 4070 (11.99 GiB), so the CPU is used: install a"
    f" runtime that can with `{INSTALL}`"
)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    made = Machine.at(tmp_path / "machine").nvidia(RTX_4070)
    made.llama_server()
    return made


@pytest.fixture
def there(cli: CommandLine, machine: Machine) -> CommandLine:
    """The command line on that machine, with its `llama-server`."""
    path = f"{machine.bin}:{cli.environ['PATH']}"
    said = {"TESTED_MACHINE": str(machine.root), "MODELRUNNER_RUNTIME": "llama-server"}
    return replace(cli, environ={**cli.environ, **said, "PATH": path})


@pytest.fixture
def tiny_file(tmp_path: Path) -> str:
    return str(tiny_gguf(tmp_path / "tiny.gguf"))


def test_estimate_plans_for_the_runtime_and_says_what_it_cannot_use(
    there: CommandLine, machine: Machine, tiny_file: str
) -> None:
    done = there("estimate", tiny_file)
    assert (done.returncode, done.stderr) == (0, f"warning: {CANNOT}\n")
    value = json.loads(there("estimate", tiny_file, "--json").stdout)
    assert value["runtime"] == "llama-server"
    assert [device["kind"] for device in value["devices"]] == ["host"]
    (unused,) = value["unused_devices"]
    assert (unused["name"], unused["backend"]) == ("NVIDIA GeForce RTX 4070", "cuda")
    machine.llama_server(CUDA0)
    done = there("estimate", tiny_file, "--json")
    value = json.loads(done.stdout)
    assert (done.stderr, value["unused_devices"]) == ("", [])
    assert [device["backend"] for device in value["devices"]] == ["cuda", "cpu"]


def test_an_estimate_is_for_the_devices_that_are_named(
    there: CommandLine, machine: Machine, tiny_file: str
) -> None:
    machine.llama_server(CUDA0)

    def kinds(*options: str) -> list[str]:
        done = there("estimate", tiny_file, "--json", *options)
        assert done.stderr == ""
        return [device["kind"] for device in json.loads(done.stdout)["devices"]]

    assert kinds("--device", "RTX 4070") == kinds("--device", "cuda0") == ["gpu", "host"]
    assert kinds("--device", "none") == ["host"]
    done = there("estimate", tiny_file, "--device", "CUDA7")
    assert (done.returncode, done.stdout, done.stderr) == (
        2,
        "",
        (
            "error: device CUDA7: not found\n"
            "hint: use one of CUDA0 (NVIDIA GeForce RTX 4070), or none\n"
        ),
    )
    done = there("estimate", tiny_file, "--device", "none", "--for", "RTX 4090")
    assert (done.returncode, done.stderr) == (
        2,
        (
            "error: --device and --for cannot be combined: "
            "--device is for devices of this machine\n"
            "hint: use one of them\n"
        ),
    )


@pytest.mark.parametrize("other", [("--for", "RTX 4090"), ("--budget", "1GiB")])
def test_an_estimate_for_another_machine_says_nothing_of_this_one(
    there: CommandLine, tiny_file: str, other: tuple[str, str]
) -> None:
    done = there("estimate", tiny_file, *other, "--json")
    assert (done.returncode, done.stderr) == (0, "")
    assert "runtime" not in json.loads(done.stdout)


def test_devices_lists_the_gpu_and_that_it_is_not_used(
    there: CommandLine, machine: Machine
) -> None:
    done = there("devices", "--json")
    assert json.loads(done.stderr) == {"warning": CANNOT}
    assert [(d["kind"], d["used"]) for d in json.loads(done.stdout)] == [
        ("gpu", False),
        ("host", True),
    ]
    machine.llama_server(CUDA0)
    done = there("devices", "--json")
    assert done.stderr == ""
    assert [(d["kind"], d["used"]) for d in json.loads(done.stdout)] == [
        ("gpu", True),
        ("host", True),
    ]


def test_doctor_gives_the_command(there: CommandLine) -> None:
    found = json.loads(there("doctor", "--offline", "--json").stdout)["findings"]
    (entry,) = [each for each in found if each["check"] == "device" and each["status"] == "warn"]
    assert entry == {"check": "device", "status": "warn", "message": CANNOT, "fix": INSTALL}


@pytest.mark.parametrize(
    "start", [("run", "hi"), ("serve", "--port", "0"), ("bench",)], ids=["run", "serve", "bench"]
)
@pytest.mark.parametrize("by", ["option", "variable", "file"])
def test_a_required_gpu_that_would_not_be_used_ends_with_8_before_anything_is_done(
    there: CommandLine, tiny_file: str, start: tuple[str, ...], by: str
) -> None:
    verb, *rest = start
    environ = {"MODELRUNNER_REQUIRE_GPU": "1"} if by == "variable" else {}
    if by == "file":
        there.home.mkdir(parents=True)
        (there.home / "config.toml").write_text("require_gpu = true\n")
    options = ["--require-gpu"] if by == "option" else []
    done = there(verb, tiny_file, *rest, *options, **environ)
    assert (done.returncode, done.stdout) == (ExitStatus.RUNTIME, "")
    assert done.stderr == (
        "error: --require-gpu: llama-server cannot use NVIDIA GeForce RTX 4070 (11.99 GiB)\n"
        f"hint: install a runtime that can with `{INSTALL}`\n"
    )


def test_a_gpu_cannot_be_required_of_a_server_that_runs_already(there: CommandLine) -> None:
    done = there("run", "ai/m", "hi", "--require-gpu", "--runtime", "http://127.0.0.1:9/v1")
    assert done.returncode == ExitStatus.USAGE
    assert done.stderr == (
        "error: --require-gpu: the server is already running, its devices are not known\n"
        "hint: remove --require-gpu, or use another --runtime\n"
    )


def test_a_required_gpu_is_true_or_false(there: CommandLine) -> None:
    done = there("devices", MODELRUNNER_REQUIRE_GPU="maybe")
    assert done.returncode == ExitStatus.USAGE
    assert done.stderr == (
        "error: MODELRUNNER_REQUIRE_GPU must be true or false, got 'maybe'\n"
        "hint: set MODELRUNNER_REQUIRE_GPU=true, or unset it\n"
    )


@pytest.mark.model
def test_a_run_says_once_that_its_runtime_cannot_use_the_gpu(
    models: CommandLine, machine: Machine
) -> None:
    done = models(
        "run",
        "ai/smollm2",
        "hi",
        "--max-tokens",
        "4",
        TESTED_MACHINE=str(machine.root),
        PATH=f"{machine.bin}:{models.environ['PATH']}",
    )
    assert done.returncode == 0
    lines = [line for line in done.stderr.splitlines() if "cannot use" in line]
    assert lines == [f"warning: {CANNOT.replace('llama-server', 'xllamacpp')}"]
    quiet = models(
        "run",
        "ai/smollm2",
        "hi",
        "--max-tokens",
        "4",
        "--gpu-layers",
        "0",
        TESTED_MACHINE=str(machine.root),
        PATH=f"{machine.bin}:{models.environ['PATH']}",
    )
    assert "cannot use" not in quiet.stderr


@pytest.mark.skipif(
    sys.platform != "linux" or shutil.which("ldd") is None, reason="starts programs of images"
)
@pytest.mark.parametrize(
    ("name", "lists", "said"),
    [
        ("cpu", False, "`modelrunner runtimes install vulkan` installs a build for it"),
        ("vulkan", False, "`modelrunner doctor` checks its driver"),
        ("vulkan", True, None),
    ],
)
def test_the_devices_of_a_new_build_are_held_against_those_of_the_machine(
    there: CommandLine, machine: Machine, registry: Registry, name: str, lists: bool, said: str
) -> None:
    drivers = machine.root / "usr/share/vulkan/icd.d"
    drivers.mkdir(parents=True)
    (drivers / "nvidia_icd.json").write_text("{}")
    listing = (
        f'[ "$1" != --list-devices ] || {{ echo "Available devices:"; echo "  {CUDA0}"; exit; }}'
    )
    image = shell_image("b11434", script=listing if lists else "")
    registry.add(artifact_of(image), "ggml-org/llama.cpp", ["server", "server-vulkan"])
    mirrors = {"MODELRUNNER_MIRRORS": f"ghcr.io=http://{registry.host}"}
    done = there("runtimes", "install", name, "--yes", "--progress", "none", **mirrors)
    assert done.returncode == 0, done.stderr
    warned = [line for line in done.stderr.splitlines() if line.startswith("warning: ")]
    text = f"{name}@b11434 does not list NVIDIA GeForce RTX 4070: {said}"
    assert warned == ([f"warning: {text}"] if said else [])
