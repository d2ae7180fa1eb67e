"""Names of runtimes: `vulkan`, `vulkan@b11434`, an image's reference; and which fits a machine."""

import re
import subprocess
import sys
from dataclasses import dataclass, replace
from pathlib import Path

from modelrunner.errors import UsageError
from modelrunner.oci.reference import Reference
from modelrunner.runtime.images.image import build_in
from modelrunner.text import suggest

AUTO = "auto"
REPOSITORY = "ghcr.io/ggml-org/llama.cpp"
SIZES = {
    "cpu": 200 << 20,
    "vulkan": 500 << 20,
    "cuda12": 2 << 30,
    "cuda13": 2 << 30,
    "rocm": 7 << 30,
    "intel": 3 << 30,
    "musa": 3 << 30,
    "openvino": 1 << 30,
}
"""What the official images are about, as downloads; manifests say it exactly."""

LATEST = "latest"
_TAG = re.compile(r"server(?:-(?P<backend>[a-z]+\d*))?(?:-(?P<build>b\d{3,7}))?")
_NATIVE_TAG = re.compile(r"(?:v?[\w.]+|latest)-(?P<backend>[a-z]+\d*)")
_VERSION = re.compile(r"b?(\d{3,7})")
_ASKS_DRIVER = (
    "import ctypes,sys;l=ctypes.CDLL(sys.argv[1]);n=ctypes.c_int();"
    "l.cuDriverGetVersion(ctypes.byref(n));print(n.value)"
)
_DEADLINE_S = 10.0
_CUDA_13, _CUDA_12 = 13000, 12000


@dataclass(frozen=True, slots=True)
class Named:
    """What a text names: the reference of an image, and its backend where it is known."""

    reference: Reference
    backend: str | None


def named(text: str, version: str | None = None) -> Named:
    """What a text names.

    Args:
        text: `cpu`, `vulkan`, ..., with `@BUILD` or without, or the reference of an image.
        version: A build, or `latest`; what `--version` says.

    Raises:
        UsageError: It is neither, or has two versions.
        InvalidReferenceError: It is not a valid reference.
    """
    backend, at, build = text.partition("@")
    if backend in SIZES and not build.startswith("sha256:"):
        if at and version is not None:
            raise UsageError(
                f"two versions are given: {build[:60]!r} and {version[:60]!r}",
                hint="remove --version",
            )
        return Named(_official(backend, build if at else version), backend)
    if "/" not in text and ":" not in text:
        near = suggest(text, (AUTO, *SIZES))
        raise UsageError(
            f"unknown runtime {text[:80]!r}",
            hint=near or f"use {AUTO}, {', '.join(SIZES)}, or the reference of an image",
        )
    reference = Reference.parse(text)
    if version not in (None, LATEST):
        raise UsageError(
            "--version is for the official images only",
            hint="write the tag into the reference",
        )
    return Named(reference, _backend_of(reference))


def moving(one: Reference) -> Reference:
    """The name by which newer builds of an image come: an official tag without its build."""
    match = _TAG.fullmatch(one.tag or "")
    bare = replace(one, digest=None) if one.tag is not None else one
    if one.name != REPOSITORY or match is None:
        return bare
    return _official(match["backend"] or "cpu", None)


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


def backend_named(backends: tuple[str, ...]) -> str:
    """What an image is called that has plug-ins for these, where its name has no backend."""
    return {"hip": "rocm", "sycl": "intel"}.get(backends[0], backends[0])


def _official(backend: str, version: str | None) -> Reference:
    tag = "server" if backend == "cpu" else f"server-{backend}"
    if version not in (None, LATEST):
        match = _VERSION.fullmatch(version)
        if match is None:
            raise UsageError(
                f"invalid version {version[:60]!r}",
                hint="write a build of llama.cpp such as b11434, or latest",
            )
        tag += f"-b{match[1]}"
    return Reference.parse(f"{REPOSITORY}:{tag}")


def _backend_of(reference: Reference) -> str | None:
    tag = reference.tag or ""
    match = _TAG.fullmatch(tag) or _NATIVE_TAG.fullmatch(tag)
    if match is None:
        return None
    backend = match["backend"] or "cpu"
    return None if build_in(backend) else {"cuda": "cuda12"}.get(backend, backend)
