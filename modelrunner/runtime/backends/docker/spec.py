"""How a container is made for a `LaunchSpec`: pure, but for a look at the GPUs in `/dev`.

The model's directory is mounted read-only; so is the rest of its file system but for `/tmp`. It
runs as nobody, has no capabilities and gains none, and its network leads to one port on loopback;
with `rpc` it has a way out as well.
"""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Literal

from modelrunner.frozen import frozen, replace
from modelrunner.runtime.backends import arguments
from modelrunner.runtime.base import PATHS, GivenGpus, LaunchSpec
from modelrunner.runtime.child.ports import LOOPBACK

Vendor = Literal["nvidia", "amd", "other", "none"]

IMAGES: dict[Vendor, str] = {
    "nvidia": "ghcr.io/ggml-org/llama.cpp:server-cuda",
    "amd": "ghcr.io/ggml-org/llama.cpp:server-rocm",
    "other": "ghcr.io/ggml-org/llama.cpp:server-vulkan",
    "none": "ghcr.io/ggml-org/llama.cpp:server",
}
"""What serves with llama.cpp, by the maker of the GPU."""

PORT = 8080
"""Where it listens inside."""

NETWORK = "modelrunner"
NETWORK_OPTIONS = {
    # what it sends to the world has no way back, and it sees no other container; a network that
    # is internal altogether would publish no port
    "com.docker.network.bridge.enable_ip_masquerade": "false",
    "com.docker.network.bridge.enable_icc": "false",
}

_NOBODY = 65534
_MOST_PROCESSES = 1024


@frozen
class Volume:
    """A directory of this machine, and where the container has it."""

    source: Path
    target: str


def vendor(dev: Path = Path("/dev")) -> Vendor:
    """Whose GPU the kernel offers here."""
    if (dev / "nvidiactl").exists():
        return "nvidia"
    if (dev / "kfd").exists():
        return "amd"
    return "other" if (dev / "dri" / "renderD128").exists() else "none"


_GIVES: dict[Vendor, frozenset[str]] = {
    "nvidia": frozenset({"nvidia"}),
    "amd": frozenset({"amd"}),
    "other": frozenset({"amd", "intel"}),
    "none": frozenset(),
}
"""The makers of the GPUs that a container is given."""

_OWN = re.compile(
    r"ghcr\.io/ggml-org/llama\.cpp:(?:server|full|light)"
    r"(?:-(?!b\d)([a-z]{1,20})[\d.]{0,8})?(?:-b\d{1,8})?(?:@sha256:[0-9a-f]{64})?"
)
_USES: dict[str, frozenset[str]] = {
    "": frozenset(),
    "cuda": frozenset({"nvidia"}),
    "rocm": frozenset({"amd"}),
    "vulkan": frozenset({"amd", "intel"}),
    "intel": frozenset({"intel"}),
}
"""The makers of the GPUs that an image of llama.cpp can use, by its tag. Those of NVIDIA
are given to a container for CUDA, not for Vulkan."""


def given(image: str, dev: Path = Path("/dev")) -> GivenGpus:
    """The GPUs that a container of an image is given and can use, as far as its name says.

    Args:
        image: The image; one that is not of llama.cpp's own may use whatever it is given.
        dev: Where devices are.
    """
    who = vendor(dev)
    own = _OWN.fullmatch(image)
    uses = _USES.get(own[1] or "", _GIVES[who]) if own else _GIVES[who]
    makers = _GIVES[who] & uses
    usual = IMAGES[who]
    wrong = bool(_GIVES[who]) and not makers
    return GivenGpus(
        makers,
        f"use an image for it with `export MODELRUNNER_CONTAINER_IMAGE={usual}`" if wrong else "",
    )


def options(
    spec: LaunchSpec, gpu: Vendor, *, rootless: bool = False, dev: Path = Path("/dev")
) -> dict[str, object]:
    """The keyword arguments of the SDK's `create`, but for GPUs of NVIDIA.

    Args:
        spec: What to serve.
        gpu: Whose GPU to give it.
        rootless: Whether the daemon's root is the user: then so is the container's.
        dev: Where devices are.
    """
    inside, volumes = mounted(spec)
    return {
        "command": arguments.arguments(inside, PORT, host="0.0.0.0"),  # noqa: S104 - of its own
        "environment": {**arguments.environment(inside), "HOME": "/tmp"},  # noqa: S108
        "volumes": {str(each.source): {"bind": each.target, "mode": "ro"} for each in volumes},
        "ports": {f"{PORT}/tcp": (LOOPBACK, spec.port or None)},
        **_network(spec),
        "user": _user(rootless=rootless),
        "cap_drop": ["ALL"],
        "security_opt": ["no-new-privileges:true"],
        "read_only": True,
        "tmpfs": {"/tmp": "rw,nosuid,nodev,noexec"},  # noqa: S108 - its own
        "pids_limit": _MOST_PROCESSES,
        "auto_remove": True,
        **_devices(gpu, dev),
    }


def _network(spec: LaunchSpec) -> dict[str, object]:
    if spec.rpc is not None:
        # other machines are to be reached, so the way out has to be open
        return {"network": "bridge"}
    # nobody is asked for names of the world either
    return {"network": NETWORK, "dns": [LOOPBACK]}


def mounted(spec: LaunchSpec) -> tuple[LaunchSpec, list[Volume]]:
    """The spec as the container sees it, and the directories that it needs."""
    targets: dict[Path, str] = {}
    changes = {}
    for name in PATHS:
        path: Path | None = getattr(spec, name)
        if path is not None:
            folder = path.absolute().parent
            target = targets.setdefault(folder, f"/models/{len(targets)}")
            changes[name] = Path(target, path.name)
    for adapter in spec.adapters:
        folder = adapter.path.absolute().parent
        targets.setdefault(folder, f"/models/{len(targets)}")
    adapters = tuple(
        replace(each, path=Path(targets[each.path.absolute().parent], each.path.name))
        for each in spec.adapters
    )
    # mypy knows no keyword arguments by name
    inside: LaunchSpec = replace(spec, adapters=adapters, **changes)  # type: ignore[arg-type]
    return inside, [Volume(*each) for each in targets.items()]


def _user(*, rootless: bool) -> str:
    if rootless:
        return "0:0"
    user, group = os.getuid(), os.getgid()
    return f"{user}:{group}" if user else f"{_NOBODY}:{_NOBODY}"


def _devices(gpu: Vendor, dev: Path) -> dict[str, object]:
    nodes = {"amd": ("kfd", "dri"), "other": ("dri",)}.get(gpu, ())
    if not nodes:
        return {}
    return {
        "devices": [f"{dev / node}:/dev/{node}:rw" for node in nodes],
        "group_add": sorted({str(group) for group in _groups(dev)}),
    }


def _groups(dev: Path) -> Iterator[int]:
    """The groups that may compute, by number: the container's own names mean others."""
    for node in (dev / "kfd", *(dev / "dri").glob("renderD*")):
        if node.exists():
            yield node.stat().st_gid
