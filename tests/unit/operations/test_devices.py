"""Which devices a plan is for: those that the chosen runtime lists, on machines of every kind."""

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelrunner.errors import RuntimeUnavailableError, UsageError
from modelrunner.memory.devices.host import host_memory
from modelrunner.memory.devices.listing import of_ggml
from modelrunner.memory.devices.probe import ask
from modelrunner.operations import devices
from modelrunner.operations.devices import (
    Usable,
    look_at,
    narrowed,
    require_gpu,
    runtime_probes,
    usable,
)
from modelrunner.operations.launch.request import LaunchRequest
from modelrunner.runtime.backends.docker import spec as container_spec
from modelrunner.runtime.backends.docker.runtime import ContainerRuntime
from modelrunner.runtime.backends.llama_cpp_python import LlamaCppPython
from modelrunner.runtime.backends.llama_server import LlamaServer
from modelrunner.runtime.backends.xllamacpp import XLlamaCpp
from modelrunner.runtime.base import Runtime
from modelrunner.runtime.select import known
from modelrunner.runtime.settings import parse
from tests.support.machines import CUDA0, GIB, MIB, RTX_4070, Machine, write
from tests.support.modules import folder_of

BESIDE = ("NVIDIA GeForce RTX 3060", 12288, "00000000:02:00.0")
RADEON = ("Radeon RX 7800 XT", 16368, "0000:03:00.0")
VULKAN = "Vulkan0: AMD Radeon RX 7800 XT (RADV NAVI32) (16368 MiB, 15892 MiB free)"
CPU_WHEEL = {"name": "CPU", "description": "x86", "type": 0}
CUDA_WHEEL = {
    "name": "CUDA0",
    "description": "NVIDIA GeForce RTX 4070",
    "type": 1,
    "device_id": "0000:01:00.0",
    "size": 12282 * MIB,
}


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    made = Machine.at(tmp_path / "machine")
    monkeypatch.setattr(devices, "MACHINE", made.root)
    monkeypatch.setenv("PATH", f"{made.bin}{os.pathsep}{os.environ['PATH']}")
    return made


@pytest.fixture
def wheel(
    machine: Machine, monkeypatch: pytest.MonkeyPatch
) -> "Iterator[object]":  # a function of its devices
    def install(*listed: dict[str, object]) -> XLlamaCpp:
        folder = machine.python_package("xllamacpp", *(dict(each) for each in listed))
        monkeypatch.syspath_prepend(str(folder))
        monkeypatch.setenv("PYTHONPATH", str(folder))
        return XLlamaCpp(dict(os.environ))

    return install


def found(runtime: Runtime, machine: Machine, **more) -> Usable:
    kept = machine.root / "kept/devices.json"
    return usable(runtime, kept=kept, environ=dict(os.environ), deadline=60, **more)


def server() -> LlamaServer:
    return LlamaServer(dict(os.environ))


def test_a_machine_without_a_gpu_asks_no_runtime_and_warns_of_nothing(machine):
    machine.llama_server(CUDA0)
    what = found(server(), machine)
    assert [device.kind for device in what.devices] == ["host"]
    assert (what.known, what.warning, machine.times_asked) == (True, None, 0)


TABLE = {
    # the machine, what its runtime lists, the GPUs that a plan is for, and those it is warned of
    "nvidia, cpu only": (["4070"], [], [], ["NVIDIA GeForce RTX 4070 (11.99 GiB)"]),
    "nvidia, cuda": (["4070"], [CUDA0], ["CUDA0"], []),
    "nvidia, vulkan": (
        ["4070"],
        ["Vulkan0: NVIDIA GeForce RTX 4070 (12282 MiB, 12000 MiB free)"],
        ["Vulkan0"],
        [],
    ),
    "nvidia, both backends list one card": (
        ["4070"],
        [CUDA0, "Vulkan0: NVIDIA GeForce RTX 4070 (12282 MiB, 12000 MiB free)"],
        ["CUDA0"],
        [],
    ),
    "two of nvidia, both": (
        ["4070", "3060"],
        [CUDA0, "CUDA1: NVIDIA GeForce RTX 3060 (12288 MiB, 12000 MiB free)"],
        ["CUDA0", "CUDA1"],
        [],
    ),
    "two of nvidia, one": (
        ["4070", "3060"],
        [CUDA0],
        ["CUDA0"],
        ["NVIDIA GeForce RTX 3060 (12.00 GiB)"],
    ),
    "two of nvidia, none": (
        ["4070", "3060"],
        [],
        [],
        ["NVIDIA GeForce RTX 4070 (11.99 GiB)", "NVIDIA GeForce RTX 3060 (12.00 GiB)"],
    ),
    "amd with rocm, cpu only": (["amd"], [], [], ["Radeon RX 7800 XT (15.98 GiB)"]),
    "amd with rocm, hip": (
        ["amd"],
        ["ROCm0: AMD Radeon RX 7800 XT (16368 MiB, 16000 MiB free)"],
        ["ROCm0"],
        [],
    ),
    "amd with rocm, vulkan": (["amd"], [VULKAN], ["Vulkan0"], []),
    "amd without rocm, cpu only": (["graphics"], [], [], ["Radeon RX 7800 XT (15.98 GiB)"]),
    "amd without rocm, vulkan": (["graphics"], [VULKAN], ["Vulkan0"], []),
    "nvidia and amd, cuda": (
        ["4070", "amd"],
        [CUDA0],
        ["CUDA0"],
        ["Radeon RX 7800 XT (15.98 GiB)"],
    ),
    "nvidia and amd, vulkan": (
        ["4070", "amd"],
        [VULKAN, "Vulkan1: NVIDIA GeForce RTX 4070 (12282 MiB, 12000 MiB free)"],
        ["Vulkan0", "Vulkan1"],
        [],
    ),
    "arc, cpu only": (["arc"], [], [], ["Intel GPU"]),
    "arc, vulkan": (
        ["arc"],
        ["Vulkan0: Intel(R) Arc(TM) A770 Graphics (DG2) (15473 MiB, 15000 MiB free)"],
        ["Vulkan0"],
        [],
    ),
    # a part of the processor is seldom faster than the processor
    "intel inside, cpu only": (["inside"], [], [], []),
    "nvidia and intel inside, cuda": (["4070", "inside"], [CUDA0], ["CUDA0"], []),
    "nvidia and intel inside, vulkan": (
        ["4070", "inside"],
        [
            "Vulkan0: Intel(R) UHD Graphics 770 (ADL-S GT1) (23947 MiB, 21552 MiB free)",
            "Vulkan1: NVIDIA GeForce RTX 4070 (12282 MiB, 12000 MiB free)",
        ],
        ["Vulkan1"],
        [],
    ),
    "a screen of a virtual machine": (["screen"], [], [], []),
}


def furnish(machine: Machine, parts: list[str]) -> None:
    nvidia = [gpu for part, gpu in (("4070", RTX_4070), ("3060", BESIDE)) if part in parts]
    if nvidia:
        machine.nvidia(*nvidia)
    if "amd" in parts or "graphics" in parts:
        machine.amd(*RADEON, compute="amd" in parts)
    for part, vendor, place in (
        ("arc", "0x8086", "0000:04:00.0"),
        ("inside", "0x8086", "0000:00:02.0"),
        ("screen", "0x1af4", "0000:00:05.0"),
    ):
        if part in parts:
            machine.card(vendor, place)


@pytest.mark.parametrize("case", TABLE, ids=[*TABLE])
def test_a_gpu_that_the_runtime_cannot_use_is_named_and_not_planned_with(machine, case):
    parts, listed, handles, unused = TABLE[case]
    furnish(machine, parts)
    machine.llama_server(*listed)
    what = found(server(), machine)
    assert what.known
    assert [gpu.handle for gpu in what.gpus] == handles
    assert what.devices[-1].kind == "host"
    if not unused:
        assert what.warning is None
        return
    instead = "" if handles else ", so the CPU is used"
    assert what.warning == (
        f"llama-server cannot use {' and '.join(unused)}{instead}: {what.remedy}"
    )
    assert what.command


@pytest.mark.parametrize("parts", [["4070"], ["amd"], ["graphics"], ["arc"]])
def test_the_embedded_wheel_for_the_cpu_is_told_of_every_kind_of_gpu(machine, wheel, parts):
    furnish(machine, parts)
    what = found(wheel(CPU_WHEEL), machine)
    assert what.gpus == ()
    assert what.runtime == "xllamacpp"
    assert len(what.unused) == 1
    assert what.command == "modelrunner runtimes install auto"


def test_a_wheel_for_cuda_uses_the_gpu_with_the_memory_that_the_driver_says_is_free(machine, wheel):
    machine.nvidia(RTX_4070)
    (gpu,) = found(wheel(CUDA_WHEEL, CPU_WHEEL), machine).gpus
    assert (gpu.handle, gpu.backend, gpu.free_bytes) == ("CUDA0", "cuda", 11982 * MIB)
    assert gpu.sources == ("nvidia-smi", "xllamacpp")


def test_the_gpus_stand_in_the_order_of_the_runtime(machine):
    machine.nvidia(RTX_4070, BESIDE)
    machine.llama_server(
        "CUDA0: NVIDIA GeForce RTX 3060 (12288 MiB, 12000 MiB free)",
        "CUDA1: NVIDIA GeForce RTX 4070 (12282 MiB, 11000 MiB free)",
    )
    assert [gpu.name for gpu in found(server(), machine).gpus] == [BESIDE[0], RTX_4070[0]]


def test_another_installed_runtime_that_can_is_the_remedy(machine, wheel):
    machine.nvidia(RTX_4070)
    machine.llama_server(CUDA0)
    what = found(wheel(CPU_WHEEL), machine, others=known(dict(os.environ)))
    assert what.warning == (
        "xllamacpp cannot use NVIDIA GeForce RTX 4070 (11.99 GiB), so the CPU is used: use"
        " --runtime llama-server (`export MODELRUNNER_RUNTIME=llama-server`)"
    )


def test_a_gpu_that_the_user_may_not_open_needs_a_group_and_no_other_runtime(machine, monkeypatch):
    machine.amd(*RADEON, compute=False)
    # root, who may run the tests, opens everything
    monkeypatch.setattr("os.access", lambda path, _mode: not str(path).endswith("renderD128"))
    machine.llama_server()
    assert found(server(), machine).remedy == (
        "allow it with `sudo usermod -aG render,video $USER`, then log in again"
    )


@pytest.mark.parametrize(
    ("parts", "name"), [(["4070"], "CUDA_VISIBLE_DEVICES"), (["amd"], "HIP_VISIBLE_DEVICES")]
)
def test_a_gpu_that_a_person_has_hidden_is_not_warned_of(machine, monkeypatch, parts, name):
    furnish(machine, parts)
    machine.llama_server()
    monkeypatch.setenv(name, "")
    assert found(server(), machine).warning is None


def test_a_runtime_is_asked_once_and_again_when_it_or_a_driver_changes(machine, monkeypatch):
    machine.nvidia(RTX_4070)
    program = machine.llama_server(CUDA0)
    first = found(server(), machine)
    assert found(server(), machine) == first
    assert machine.times_asked == 1
    machine.nvidia(("NVIDIA GeForce RTX 4070", 12282, "00000000:01:00.0"))
    assert (found(server(), machine), machine.times_asked) == (first, 1)
    (machine.root / "proc/driver/nvidia/version").write_text("NVRM version: 590.1\n")
    found(server(), machine)
    assert machine.times_asked == 2
    program.write_text(program.read_text() + "# another build\n")
    found(server(), machine)
    assert machine.times_asked == 3
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0")
    found(server(), machine)
    assert machine.times_asked == 4


def test_what_is_free_is_asked_again_where_only_the_runtime_knows(machine):
    machine.card("0x8086", "0000:04:00.0")
    arc = "Vulkan0: Intel(R) Arc(TM) A770 Graphics (DG2) (15473 MiB, 15000 MiB free)"
    machine.llama_server(arc)
    found(server(), machine)
    found(server(), machine)
    assert machine.times_asked == 2


def test_what_was_kept_and_is_damaged_is_asked_again(machine):
    machine.nvidia(RTX_4070)
    machine.llama_server(CUDA0)
    first = found(server(), machine)
    for text in ("", "[]", "{", '{"a": 1}'):
        (machine.root / "kept/devices.json").write_text(text)
        assert found(server(), machine) == first
    assert machine.times_asked == 5


def test_a_list_that_cannot_be_kept_costs_only_time(machine):
    machine.nvidia(RTX_4070)
    machine.llama_server(CUDA0)
    (machine.root / "kept").write_text("a file where a folder should be")
    assert [gpu.handle for gpu in found(server(), machine).gpus] == ["CUDA0"]


def test_a_runtime_that_fails_to_list_is_named_and_the_machine_is_planned_with(machine):
    machine.nvidia(RTX_4070)
    machine.program("llama-server", "kill -SEGV $$")
    what = found(server(), machine)
    assert (what.known, what.warning) == (False, None)
    assert what.note == "llama-server was ended by signal 11: its devices are not known"
    assert [device.kind for device in what.devices] == ["gpu", "host"]
    with pytest.raises(RuntimeUnavailableError, match="its devices are not known"):
        require_gpu(what)


def test_a_server_that_runs_elsewhere_is_planned_with_the_machine(machine):
    from modelrunner.runtime.backends.external import ExternalRuntime

    machine.nvidia(RTX_4070)
    what = found(ExternalRuntime("http://127.0.0.1:1/v1"), machine)
    assert (what.known, what.warning, len(what.gpus)) == (False, None, 1)


def test_a_required_gpu_is_there_or_the_reason_is_said(machine):
    machine.llama_server()
    with pytest.raises(RuntimeUnavailableError) as none:
        require_gpu(found(server(), machine))
    assert none.value.message == "--require-gpu: no GPU found on this machine"
    machine.nvidia(RTX_4070)
    with pytest.raises(RuntimeUnavailableError) as unused:
        require_gpu(found(server(), machine))
    assert unused.value.message == (
        "--require-gpu: llama-server cannot use NVIDIA GeForce RTX 4070 (11.99 GiB)"
    )
    assert unused.value.exit_code == 8
    assert "`modelrunner runtimes install auto`" in unused.value.hint
    machine.llama_server(CUDA0)
    require_gpu(found(server(), machine))


@pytest.mark.parametrize("runtime", [XLlamaCpp, LlamaCppPython])
def test_an_installed_ggml_lists_its_cpu_which_is_no_gpu(runtime):
    folder_of(runtime.modules[0])
    query = runtime(dict(os.environ)).device_query()
    (answer,) = ask([query.command], 60, [query.environ])
    assert answer.failure is None
    listed = json.loads(answer.lines[-1])
    (cpu,) = [device for device in listed if device["type"] == "cpu"]
    assert cpu["name"] == "CPU"
    # it does not know of control groups
    assert 0 < cpu["free"] <= cpu["total"]
    assert cpu["total"] >= host_memory().total_bytes
    gpus = [device for device in listed if device["type"] in ("gpu", "igpu")]
    assert len(list(of_ggml(answer.lines, "ggml"))) == len(gpus)


def two_gpus(machine) -> Usable:
    machine.nvidia(RTX_4070, BESIDE)
    machine.llama_server(CUDA0, "CUDA1: NVIDIA GeForce RTX 3060 (12288 MiB, 12000 MiB free)")
    return found(server(), machine)


@pytest.mark.parametrize(
    ("said", "handles", "devices_said"),
    [
        (["device=CUDA1"], ["CUDA1"], ("CUDA1",)),
        (["device=cuda1,CUDA0"], ["CUDA1", "CUDA0"], ("CUDA1", "CUDA0")),
        (["device=RTX 3060"], ["CUDA1"], ("CUDA1",)),
        (["device=none"], [], ("none",)),
        (["split-mode=none"], ["CUDA0"], ()),
        (["split-mode=none", "main-gpu=1"], ["CUDA1"], ()),
        (["main-gpu=1"], ["CUDA0", "CUDA1"], ()),
        (["tensor-split=3,1"], ["CUDA0", "CUDA1"], ()),
    ],
)
def test_a_request_leaves_the_devices_that_it_names(machine, said, handles, devices_said):
    what, request = narrowed(two_gpus(machine), LaunchRequest.of(parse(said)))
    assert [gpu.handle for gpu in what.gpus] == handles
    assert request.devices == devices_said
    assert what.devices[-1].kind == "host"


@pytest.mark.parametrize(
    ("said", "message"),
    [
        (["device=CUDA2"], "device CUDA2: not found"),
        (["device=GeForce"], "device GeForce: is the name of several"),
        (["main-gpu=2"], "main-gpu 2: llama-server has 2 GPUs"),
        (["device=CUDA0", "main-gpu=1"], "main-gpu 1: llama-server has 1 GPU"),
        (["tensor-split=1,1,1"], "tensor-split has 3 shares, but llama-server has 2 GPUs"),
    ],
)
def test_devices_that_are_not_there_are_named_with_those_that_are(machine, said, message):
    with pytest.raises(UsageError) as caught:
        narrowed(two_gpus(machine), LaunchRequest.of(parse(said)))
    assert caught.value.message == message
    assert caught.value.hint


def test_a_container_without_a_gpu_is_planned_for_the_cpu(machine):
    runtime = ContainerRuntime(dict(os.environ))
    what = found(runtime, machine)
    assert [device.kind for device in what.devices] == ["host"]
    assert (what.known, what.warning) == (True, None)
    with pytest.raises(RuntimeUnavailableError, match="no GPU found on this machine"):
        require_gpu(what)


def test_a_container_is_planned_for_the_gpus_that_it_is_given(machine, monkeypatch):
    machine.nvidia(RTX_4070)
    monkeypatch.setattr(container_spec, "vendor", lambda *_: "nvidia")
    image = "ghcr.io/ggml-org/llama.cpp:server"
    given = found(ContainerRuntime(dict(os.environ), f"{image}-cuda"), machine)
    assert [device.kind for device in given.devices] == ["gpu", "host"]
    assert (given.known, given.warning) == (False, None)
    what = found(ContainerRuntime(dict(os.environ), image), machine)
    assert [device.kind for device in what.devices] == ["host"]
    assert what.warning == (
        "docker cannot use NVIDIA GeForce RTX 4070 (11.99 GiB), so the CPU is used: use an image"
        f" for it with `export MODELRUNNER_CONTAINER_IMAGE={image}-cuda`"
    )
    cpu, _request = narrowed(given, LaunchRequest.of(parse(["device=none"])))
    assert ([device.kind for device in cpu.devices], cpu.warning) == (["host"], None)


def test_a_gpu_that_only_the_kernel_knows_may_be_one_that_a_container_uses(machine, monkeypatch):
    machine.card("0x10de", "0000:01:00.0")
    write(machine.root / "dev/nvidiactl", "")
    monkeypatch.setattr(container_spec, "vendor", lambda *_: "nvidia")
    what = found(ContainerRuntime(dict(os.environ)), machine)
    assert (what.known, what.warning) == (False, None)


def test_without_a_runtime_the_gpus_of_the_machine_are_named(machine):
    machine.nvidia(RTX_4070, BESIDE)
    what = found(None, machine)
    chosen, request = narrowed(what, LaunchRequest.of(parse(["device=3060"])))
    assert [gpu.name for gpu in chosen.gpus] == ["NVIDIA GeForce RTX 3060"]
    assert request.devices == ("NVIDIA GeForce RTX 3060",)
    with pytest.raises(UsageError) as caught:
        narrowed(what, LaunchRequest.of(parse(["device=CUDA0"])))
    assert caught.value.hint == (
        "use one of NVIDIA GeForce RTX 4070, NVIDIA GeForce RTX 3060, or none"
    )


def test_every_runtime_is_asked_where_all_devices_are_listed(machine, wheel):
    machine.card("0x8086", "0000:04:00.0")
    machine.llama_server("Vulkan0: Intel(R) Arc(TM) A770 Graphics (15473 MiB, 15000 MiB free)")
    wheel(CPU_WHEEL)
    gpu, host = look_at(dict(os.environ)).devices
    assert (gpu.name, gpu.sources) == ("Intel(R) Arc(TM) A770 Graphics", ("llama-server",))
    assert host.total_bytes == 64 * GIB
    names = [probe.name for probe in runtime_probes(dict(os.environ))]
    assert {"llama-server", "xllamacpp"} <= set(names)
