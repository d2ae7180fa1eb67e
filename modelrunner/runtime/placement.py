"""Where a runtime has put a model, as its log says once it is ready.

common_fit_params:   - CUDA0 (NVIDIA GeForce RTX 4070): 33 layers (21 overflowing), ...
llama_prepare_model_devices: using device CUDA0 (NVIDIA GeForce RTX 4070) (0000:01:00.0) - ...
load_tensors: offloaded 33/33 layers to GPU
load_tensors:   CPU_Mapped model buffer size =    92.10 MiB
load_tensors:        CUDA0 model buffer size =  4095.12 MiB
llama_kv_cache:      CUDA0 KV buffer size =    45.00 MiB
sched_reserve:   CUDA_Host compute buffer size =    16.64 MiB
"""

import re
from collections.abc import Mapping

from modelrunner.frozen import field, frozen
from modelrunner.text import sanitize_line
from modelrunner.units import counted, format_size

HOST = "host"
"""What the host's own memory is called, whatever the buffer: mapped, repacked, pinned."""

_MIB = 1024 * 1024
_BUFFER = re.compile(
    r"(\S{1,80})\s+(model|LoRA|KV|RS|compute|output) buffer size\s*=\s*(\d{1,12}(?:\.\d+)?) MiB"
)
_PURPOSES = {"model": "weights", "LoRA": "weights", "KV": "cache", "RS": "cache"}
_OFFLOADED = re.compile(r"offloaded (\d{1,6})/(\d{1,6}) layers to GPU")
_DEVICE = re.compile(r"using device (\S{1,80}) \((.{1,200}?)\) \([^()]*\) - \d+ MiB free")
_OVERFLOW = re.compile(r"- (\S{1,80}) .*: +\d+ layers \( ?(\d{1,6}) overflowing\)")
_ON_HOST = re.compile(r"CPU|BLAS|.*_Host$")
_KIND = re.compile(r"_(?:Mapped|Private|Split|REPACK)$")


@frozen
class Held:
    """What one device holds, in bytes by purpose.

    Attributes:
        name: As the runtime calls it, such as `CUDA0`, or `HOST`.
        description: As its maker calls it; empty where that is not known.
        bytes: By `weights`, `cache`, `compute` and `output`.
    """

    name: str
    description: str = ""
    bytes: Mapping[str, int] = field(default_factory=dict)

    @property
    def total(self) -> int:
        """All of it."""
        return sum(self.bytes.values())


@frozen
class Placement:
    """Where the parts of a model are.

    Attributes:
        held: What each device holds, those of the runtime first, then the host.
        gpu_layers: Layers on GPUs, the output matrix counting as one.
        layers: All of them; None where the runtime cannot use a GPU, and counts none.
        expert_layers: Layers on GPUs whose experts are on the host, as far as the runtime says.
    """

    held: tuple[Held, ...]
    gpu_layers: int = 0
    layers: int | None = None
    expert_layers: int = 0

    @property
    def uses_gpu(self) -> bool:
        """Whether anything but the host holds weights."""
        return any(each.name != HOST and each.bytes.get("weights") for each in self.held)

    def line(self) -> str:
        """One sentence about it."""
        if not self.uses_gpu:
            where = "all layers on the CPU"
        else:
            gpus = [each for each in self.held if each.name != HOST]
            names = " and ".join(map(_named, gpus))
            of = f" of {self.layers}" if self.layers is not None else ""
            where = f"{self.gpu_layers}{of} layers on {names}"
            if self.expert_layers:
                where += f", experts of {counted(self.expert_layers, 'layer')} on the CPU"
        sizes = ", ".join(f"{each.name} {format_size(each.total)}" for each in self.held)
        return f"{where}; {sizes}"

    def to_dict(self) -> dict[str, object]:
        """The placement as JSON has it."""
        return {
            "gpu_layers": self.gpu_layers,
            "layers": self.layers,
            "expert_layers_on_host": self.expert_layers,
            "devices": [
                {
                    "name": each.name,
                    "description": each.description or None,
                    **{f"{purpose}_bytes": each.bytes.get(purpose, 0) for purpose in _ORDER},
                    "total_bytes": each.total,
                }
                for each in self.held
            ],
        }


_ORDER = ("weights", "cache", "compute", "output")


def placement_of(log: str, expert_layers: int = 0) -> Placement | None:
    """Return the placement that a runtime's log shows; None where it does not.

    Args:
        log: What the runtime has printed.
        expert_layers: Layers whose experts it had to keep on the host.
    """
    found: dict[str, dict[str, int]] = {}
    for buffer, kind, size in _BUFFER.findall(log):
        name = HOST if _ON_HOST.match(buffer) else _KIND.sub("", buffer)
        purposes = found.setdefault(sanitize_line(name, 80), {})
        purpose = _PURPOSES.get(kind, kind)
        # bounded: by the pattern
        purposes[purpose] = purposes.get(purpose, 0) + round(float(size) * _MIB)
    if not any("weights" in purposes for purposes in found.values()):
        return None
    described = dict(_DEVICE.findall(log))
    # bounded: by the patterns, here and below
    on_gpu = [(int(some), int(all_)) for some, all_ in _OFFLOADED.findall(log)[:1]]
    # bounded: by the pattern
    overflow = {name: int(count) for name, count in _OVERFLOW.findall(log)}
    order = [*(name for name in found if name != HOST), *([HOST] if HOST in found else [])]
    return Placement(
        tuple(Held(n, sanitize_line(described.get(n, ""), 200), found[n]) for n in order),
        on_gpu[0][0] if on_gpu else 0,
        on_gpu[0][1] if on_gpu else None,
        max(expert_layers, sum(overflow.values())),
    )


def _named(held: Held) -> str:
    return f"{held.name} ({held.description})" if held.description else held.name
