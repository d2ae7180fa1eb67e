"""Which backend fits a machine: the smallest that uses its GPU."""

import re
import subprocess
import sys
from pathlib import Path

_ASKS_DRIVER = (
    "import ctypes,sys;l=ctypes.CDLL(sys.argv[1]);n=ctypes.c_int();"
    "l.cuDriverGetVersion(ctypes.byref(n));print(n.value)"
)
_DEADLINE_S = 10.0
_CUDA_13, _CUDA_12 = 13000, 12000


def fitting(machine: Path = Path("/")) -> tuple[str, str]:
    """The smallest backend that uses this machine's GPU, and why, for people."""
    device = machine / "dev"
    if sys.platform != "linux":
        return "cpu", "images of llama.cpp are for Linux"
    if (device / "nvidiactl").exists() or (device / "dxg").exists():
        return _for_nvidia(machine)
    if any(device.glob("mtgpu*")):
        return "musa", "a Moore Threads GPU"
    if any((device / "dri").glob("renderD*")):
        return "vulkan", "a GPU with a driver of the kernel"
    return "cpu", "no GPU was found"


def _for_nvidia(machine: Path) -> tuple[str, str]:
    folders = [machine / folder for folder in ("usr/share/vulkan/icd.d", "etc/vulkan/icd.d")]
    if any(path for folder in folders for path in folder.glob("nvidia*.json")):
        return "vulkan", "an NVIDIA GPU with a Vulkan driver"
    version = cuda_version(machine)
    if version is None or version < _CUDA_12:
        return "cpu", "the NVIDIA driver is too old for CUDA 12 and has no Vulkan driver"
    backend = "cuda13" if version >= _CUDA_13 else "cuda12"
    return backend, f"an NVIDIA driver for CUDA {version // 1000}.{version % 1000 // 10}"


def cuda_version(machine: Path = Path("/")) -> int | None:
    """The version of CUDA that the driver is for, such as 12080; asked in a child."""
    for folder in ("usr/lib/wsl/lib", "usr/lib/x86_64-linux-gnu", "usr/lib/aarch64-linux-gnu",
                   "usr/lib64", "usr/lib"):  # fmt: skip
        library = machine / folder / "libcuda.so.1"
        if not library.exists():
            continue
        try:
            done = subprocess.run(
                [sys.executable, "-I", "-S", "-c", _ASKS_DRIVER, str(library)],
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_DEADLINE_S,
                check=False,
                text=True,
            )
        except (OSError, subprocess.TimeoutExpired):
            return None
        said = done.stdout.strip()
        # bounded: six digits
        return int(said) if re.fullmatch(r"\d{4,6}", said) else None
    return None
