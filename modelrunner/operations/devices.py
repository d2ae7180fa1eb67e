"""What a model can be put into here: the devices that the chosen runtime lists, and no others.

Drivers know how much memory is free; the runtime knows what it was built for. What a runtime lists
is kept until the runtime or a driver changes, since to ask takes up to a second.
"""

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NamedTuple

from modelrunner.disk.files import write_lightly
from modelrunner.disk.inside import read_inside
from modelrunner.errors import (
    DiskFullError,
    RuntimeUnavailableError,
    StoreAccessError,
    UsageError,
)
from modelrunner.frozen import replace
from modelrunner.memory.devices.adapters import Adapter, adapters
from modelrunner.memory.devices.device import NO_DEVICE, Device
from modelrunner.memory.devices.devices import Probe, Survey, may_have_gpu, preferred, survey
from modelrunner.memory.devices.drivers import fingerprint
from modelrunner.memory.devices.listing import of_ggml, of_llama_server
from modelrunner.memory.devices.merge import maker_of, matched
from modelrunner.memory.devices.probe import DEADLINE, ask
from modelrunner.text import sanitize_line
from modelrunner.units import counted, format_size
from modelrunner.wire import parse_json

# late imports: `card` and `cards` on a machine without a GPU have no runtime to ask
if TYPE_CHECKING:
    from modelrunner.operations.launch.plan import LaunchPlan
    from modelrunner.operations.launch.request import LaunchRequest
    from modelrunner.runtime.base import DeviceQuery, GivenGpus, Runtime
    from modelrunner.runtime.placement import Placement

MACHINE = Path("/")
"""Where `dev`, `proc` and `sys` are."""

_COMMAND = r"`([^`]+)`"
_MOST_KEPT = 16
_MAX_FILE = 1 << 20
_HIDING = {
    "nvidia": ("CUDA_VISIBLE_DEVICES", "NVIDIA_VISIBLE_DEVICES"),
    "amd": ("HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "GPU_DEVICE_ORDINAL"),
}
_HIDING_ANY = ("GGML_VK_VISIBLE_DEVICES",)
"""Variables by which people choose what a runtime sees."""

_INSTALL = "modelrunner runtimes install auto"
"""What finds a build of llama.cpp for the GPUs of this machine."""

_SMALL = 4 << 30


class Usable(NamedTuple):
    """What one runtime can use of this machine.

    Attributes:
        devices: What it can use: GPUs in its own order, then the host.
        runtime: Its name; None without a runtime.
        known: Whether it has listed them; otherwise they are those of the machine.
        unused: GPUs of the machine that it cannot use; a size of 0 is not known.
        remedy: What makes it use them, as a command or an option; empty where nothing is unused.
        note: Why it is not known, for people.
    """

    devices: tuple[Device, ...]
    runtime: str | None = None
    known: bool = False
    unused: tuple[Device, ...] = ()
    remedy: str = ""
    note: str | None = None

    @property
    def gpus(self) -> tuple[Device, ...]:
        """The GPUs that it can use."""
        return tuple(device for device in self.devices if device.kind == "gpu")

    def uses(self, device: Device) -> bool | None:
        """Whether the runtime uses a device of the machine; None where that is not known."""
        if device.kind == "host":
            return True
        if not self.known:
            return None
        return any(found is not None for _, found in matched([device], self.gpus))

    @property
    def command(self) -> str:
        """The remedy as a command line."""
        match = re.search(_COMMAND, self.remedy)
        return match[1] if match else "modelrunner runtimes"

    @property
    def warning(self) -> str | None:
        """A sentence about GPUs that are not used; None if all are used."""
        if not self.unused:
            return None
        named = " and ".join(map(_with_size, self.unused))
        instead = "" if self.gpus else ", so the CPU is used"
        return f"{self.runtime} cannot use {named}{instead}: {self.remedy}"


def usable(
    runtime: "Runtime | None",
    *,
    kept: Path,
    environ: Mapping[str, str],
    others: "Sequence[Runtime]" = (),
    deadline: float = DEADLINE,
) -> Usable:
    """Return what a runtime can use of this machine.

    Args:
        runtime: The runtime; None if none is installed.
        kept: The file of what was listed before.
        environ: The environment, in which people may hide devices.
        others: Runtimes that could be used instead.
        deadline: Seconds that all that is asked may take together.
    """
    machine = survey(MACHINE, deadline=deadline)
    if runtime is None:
        return Usable(preferred(machine.devices))
    from modelrunner.runtime.base import GivenGpus

    query = runtime.device_query()
    if query is None:
        return Usable(preferred(machine.devices), runtime.name)
    if isinstance(query, GivenGpus):
        return _given(runtime, query, machine, environ)
    if not may_have_gpu(MACHINE):
        return Usable(machine.devices, runtime.name, known=True)
    listing = _Listing(kept, deadline)
    found = listing.of(runtime.name, query, machine)
    if isinstance(found, str):
        note = f"{runtime.name} {found}: its devices are not known"
        return Usable(preferred(machine.devices), runtime.name, note=note)
    devices = (*_used(found, machine), *(x for x in machine.devices if x.kind == "host"))
    unused = tuple(_unused(machine, devices, environ))
    remedy = _remedy(runtime, unused, others, listing, machine) if unused else ""
    return Usable(devices, runtime.name, known=True, unused=unused, remedy=remedy)


def _given(
    runtime: "Runtime", query: "GivenGpus", machine: Survey, environ: Mapping[str, str]
) -> Usable:
    """What a runtime can use that cannot be asked before it is started."""
    devices = tuple(
        device
        for device in preferred(machine.devices)
        if device.kind == "host" or maker_of(device) in query.makers
    )
    if query.makers:
        # whether its drivers take them it says when it starts
        return Usable(devices, runtime.name)
    unused = tuple(_unused(machine, devices, environ)) if may_have_gpu(MACHINE) else ()
    remedy = query.remedy or f"install a runtime that can with `{_INSTALL}`"
    return Usable(devices, runtime.name, known=True, unused=unused, remedy=remedy if unused else "")


def has_gpu() -> bool:
    """Whether the kernel has a driver for a GPU."""
    return may_have_gpu(MACHINE)


def look_at(environ: Mapping[str, str], image: str = "", library: Path | None = None) -> Survey:
    """Return every device that drivers and installed runtimes list, used or not."""
    return survey(MACHINE, runtime_probes(environ, image, library))


def runtime_probes(
    environ: Mapping[str, str], image: str = "", library: Path | None = None
) -> list[Probe]:
    """Return how to ask each runtime that is installed; none is loaded to find out."""
    from modelrunner.runtime.base import DeviceQuery
    from modelrunner.runtime.select import known

    asked = ((runtime.name, runtime.device_query()) for runtime in known(environ, image, library))
    return [_probe(name, query) for name, query in asked if isinstance(query, DeviceQuery)]


def narrowed(found: Usable, request: "LaunchRequest") -> tuple[Usable, "LaunchRequest"]:
    """Return the devices that a request leaves of those, and the request in the runtime's words.

    Raises:
        UsageError: A device is unknown, or several are meant; or there is no GPU of a number.
    """
    names = request.devices
    gpus = list(found.gpus)
    if names not in ((), (NO_DEVICE,)) and not found.known and found.runtime is not None:
        # the runtime will say whether it has them
        return found, request
    if names == (NO_DEVICE,):
        gpus = []
    elif names:
        gpus = [_device(found, name) for name in names]
        request = replace(request, devices=tuple(gpu.handle or gpu.name for gpu in gpus))
    if request.main_gpu is not None and found.known and request.main_gpu >= max(len(gpus), 1):
        raise UsageError(
            f"main-gpu {request.main_gpu}: {found.runtime} has {counted(len(gpus), 'GPU')}",
            hint="GPUs are counted from 0; `modelrunner devices` lists them",
        )
    if request.split_mode == "none" and gpus:
        gpus = [gpus[request.main_gpu or 0]]
    if len(request.tensor_split) > max(len(gpus), 1) and found.known:
        raise UsageError(
            f"tensor-split has {len(request.tensor_split)} shares, but {found.runtime} has"
            f" {counted(len(gpus), 'GPU')}",
            hint="give one share for each GPU; `modelrunner devices` lists them",
        )
    hosts = (device for device in found.devices if device.kind == "host")
    unused = found.unused if not names and request.split_mode != "none" else ()
    return found._replace(devices=(*gpus, *hosts), unused=unused), request


def _device(found: Usable, name: str) -> Device:
    """The GPU that a name means: the runtime's own, or a part of its maker's."""
    wanted = name.casefold()
    exact = [gpu for gpu in found.gpus if gpu.handle.casefold() == wanted]
    matching = exact or [gpu for gpu in found.gpus if wanted in gpu.name.casefold()]
    if len(matching) == 1:
        return matching[0]
    has = ", ".join(map(_with_handle, found.gpus))
    several = "is the name of several" if matching else "not found"
    raise UsageError(
        f"device {sanitize_line(name, 80)}: {several}",
        hint=f"use one of {has}, or none"
        if has
        else f"{found.runtime or 'this machine'} has no GPU: remove --device, or use --device none",
    )


def _with_handle(gpu: Device) -> str:
    name = sanitize_line(gpu.name, 80)
    return f"{gpu.handle} ({name})" if gpu.handle else name


def require_gpu(found: Usable, plan: "LaunchPlan | None" = None) -> None:
    """Accept a start that computes on a GPU.

    Args:
        found: What the runtime can use.
        plan: What is put there; None where only the devices count.

    Raises:
        RuntimeUnavailableError: Nothing would be computed there, or that is not known.
    """
    if not found.known:
        why = found.note or f"{found.runtime or 'no runtime'} does not list its devices"
        raise RuntimeUnavailableError(
            f"--require-gpu: {why}", hint="choose another --runtime, or remove --require-gpu"
        )
    if not found.gpus:
        named = " and ".join(map(_with_size, found.unused))
        raise RuntimeUnavailableError(
            f"--require-gpu: {found.runtime} cannot use {named}"
            if named
            else "--require-gpu: no GPU found on this machine",
            hint=found.remedy or "remove --require-gpu to use the CPU",
            runtime=found.runtime,
            unused_devices=[device.name for device in found.unused],
        )
    if plan is None:
        return
    if plan.spec.devices == (NO_DEVICE,):
        raise RuntimeUnavailableError(
            "--require-gpu: `--device none` leaves all layers to the CPU",
            hint="remove --device, or --require-gpu",
        )
    if plan.spec.gpu_layers == 0:
        raise RuntimeUnavailableError(
            "--require-gpu: gpu-layers is 0, which leaves all layers to the CPU",
            hint="remove gpu-layers, or --require-gpu",
        )
    if plan.fit.gpu_layers == 0:
        raise RuntimeUnavailableError(
            f"--require-gpu: no layer of {plan.name} fits on the GPU",
            hint="use a smaller variant or a shorter --context, or remove --require-gpu",
        )


def require_gpu_used(runtime: str, placement: "Placement | None") -> None:
    """Accept a server that has put weights on a GPU.

    Raises:
        RuntimeUnavailableError: It has not; a server that does not say is accepted.
    """
    if placement is not None and not placement.uses_gpu:
        raise RuntimeUnavailableError(
            f"--require-gpu: {runtime} started and put all layers on the CPU",
            hint="`modelrunner doctor` checks the devices; or remove --require-gpu",
        )


class _Listing(NamedTuple):
    """The lists of devices that runtimes gave, by what they depend on."""

    kept: Path
    deadline: float

    def of(self, name: str, query: "DeviceQuery", machine: Survey) -> list[Device] | str:
        """Return the GPUs that a runtime lists, or why there is no list."""
        key = _key(name, query)
        rows = self._load()
        probe = _probe(name, query)
        if key in rows:
            found = list(probe.read(rows[key]))
            if all(shared or known for shared, known in _is_current(found, machine)):
                return found
        (answer,) = ask([probe.command], self.deadline, [probe.environ])
        if answer.failure is not None:
            return answer.failure
        self._save({**{k: v for k, v in rows.items() if k != key}, key: list(answer.lines)})
        return list(probe.read(answer.lines))

    def _load(self) -> dict[str, list[str]]:
        try:
            value = parse_json(read_inside(self.kept, _MAX_FILE))
        except (OSError, ValueError):
            return {}
        rows = value if isinstance(value, dict) else {}
        return {
            key: lines
            for key, lines in rows.items()
            if isinstance(lines, list) and all(isinstance(line, str) for line in lines)
        }

    def _save(self, rows: Mapping[str, list[str]]) -> None:
        latest = dict(list(rows.items())[-_MOST_KEPT:])
        try:
            self.kept.parent.mkdir(parents=True, exist_ok=True)
            write_lightly(self.kept, json.dumps(latest, indent=1).encode())
        except (OSError, StoreAccessError, DiskFullError):
            # it is asked again next time
            return


def _key(name: str, query: "DeviceQuery") -> str:
    # a variable may hide a device, or make a driver give up
    around = sorted(query.environ.items())
    facts = [name, query.command, query.build, around, fingerprint(MACHINE)]
    # late: most machines have no GPU to remember
    from hashlib import sha256

    return sha256(json.dumps(facts).encode()).hexdigest()


def _probe(name: str, query: "DeviceQuery") -> Probe:
    reader = of_ggml if query.prints == "json" else of_llama_server
    return Probe(name, query.command, partial(reader, source=name), query.environ)


def _is_current(found: Sequence[Device], machine: Survey) -> Iterator[tuple[bool, bool]]:
    """Whether each shares the host's memory, and whether a driver says what is free of it now."""
    for device, other in matched(found, _gpus(machine)):
        yield device.shared, other is not None


def _used(found: Sequence[Device], machine: Survey) -> Iterator[Device]:
    """The GPUs that llama.cpp takes of a list: each once, integrated ones only without others."""
    host = next((x for x in machine.devices if x.kind == "host"), None)
    pairs = list(matched(found, _gpus(machine)))
    seen: list[Device] = []
    merged = []
    for own, other in pairs:
        if other is not None and any(other is each for each in seen):
            # the same card by another of its backends
            continue
        if other is not None:
            seen.append(other)
        merged.append(_joined(own, other, host))
    own_memory = [device for device in merged if not device.shared]
    yield from own_memory or merged


def _joined(own: Device, other: Device | None, host: Device | None) -> Device:
    """The runtime's device with what its driver says of its memory now."""
    if own.shared and host is not None:
        total = min(own.total_bytes, host.total_bytes)
        free = min(total, host.free_bytes)
        return replace(own, total_bytes=total, free_bytes=free)
    if other is None:
        return own
    return replace(
        other,
        backend=own.backend,
        handle=own.handle,
        sources=tuple(dict.fromkeys([*other.sources, *own.sources])),
    )


def _unused(
    machine: Survey, used: Sequence[Device], environ: Mapping[str, str]
) -> Iterator[Device]:
    """The GPUs of the machine that are not among those used, but for what nobody would miss."""
    gpus = [device for device in used if device.kind == "gpu"]
    listed = _gpus(machine)
    taken = [other for _, other in matched(gpus, listed) if other is not None]
    for gpu in listed:
        small = bool(gpus) and gpu.total_bytes < _SMALL
        if small or gpu.shared or any(gpu is each for each in taken):
            continue
        if not _is_hidden(maker_of(gpu), environ):
            yield gpu
    addresses = {device.pci for device in (*listed, *gpus)}
    makers = {maker_of(device) for device in (*listed, *gpus)}
    for adapter in adapters(MACHINE):
        if adapter.integrated or adapter.pci in addresses or adapter.maker in makers:
            continue
        if not _is_hidden(adapter.maker, environ):
            yield _nameless(adapter)


def _nameless(adapter: Adapter) -> Device:
    shown = {"nvidia": "NVIDIA", "amd": "AMD", "intel": "Intel"}[adapter.maker]
    return Device(f"{shown} GPU", "gpu", 0, 0, "vulkan", pci=adapter.pci, sources=("kernel",))


def _is_hidden(maker: str, environ: Mapping[str, str]) -> bool:
    return any(name in environ for name in (*_HIDING.get(maker, ()), *_HIDING_ANY))


def _remedy(
    runtime: "Runtime",
    unused: Sequence[Device],
    others: "Sequence[Runtime]",
    listing: _Listing,
    machine: Survey,
) -> str:
    """What to do so that the first of the GPUs is used."""
    from modelrunner.runtime.base import DeviceQuery

    gpu = unused[0]
    locked = [each for each in adapters(MACHINE) if each.pci == gpu.pci and not each.accessible]
    if locked:
        return "allow it with `sudo usermod -aG render,video $USER`, then log in again"
    for other in others:
        query = other.device_query()
        if other.name == runtime.name or not isinstance(query, DeviceQuery):
            continue
        if not other.availability().available:
            continue
        found = listing.of(other.name, query, machine)
        if not isinstance(found, str) and any(
            known is not None and known.pci == gpu.pci and known.name == gpu.name
            for _, known in matched(found, _gpus(machine))
        ):
            return f"use --runtime {other.name} (`export MODELRUNNER_RUNTIME={other.name}`)"
    return f"install a runtime that can with `{_INSTALL}`"


def _gpus(machine: Survey) -> list[Device]:
    return [device for device in machine.devices if device.kind == "gpu"]


def _with_size(device: Device) -> str:
    name = sanitize_line(device.name, 80)
    return f"{name} ({format_size(device.total_bytes)})" if device.total_bytes else name
