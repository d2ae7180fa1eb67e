"""The server in an unpacked image, and what it is built for.

The official images have `/app/llama-server`, its libraries and plug-ins beside it. Those that
Docker's model runner uses have no system around them, and several builds side by side:

    com.docker.llama-server.native.<os>.<variant>.<arch>/{bin,lib}
"""

import re
from pathlib import Path, PurePosixPath

from modelrunner.oci.image import Platform

PROGRAM = "llama-server"
_NATIVE = re.compile(
    r"com\.docker\.llama-server\.native\.(?P<os>[a-z]+)\.(?P<variant>[a-z0-9-]+)\.(?P<arch>[a-z0-9]+)"
)
_LIBRARY = re.compile(r"(?:lib)?ggml-(?P<name>[a-z]+)(?:-[a-z0-9_]+)*\.(?:so|dll|dylib)")
_BACKENDS = ("cuda", "hip", "vulkan", "sycl", "musa", "cann", "opencl", "openvino", "metal")


def program_in(root: Path, entrypoint: str | None, wanted: Platform) -> Path | None:
    """The server in an unpacked image; None if it is not found.

    Args:
        root: The top of the image.
        entrypoint: What its config starts.
        wanted: The platform of this machine, where it has builds for several.
    """
    native = _native(root, wanted)
    if native is not None:
        return native
    places = [f"app/{PROGRAM}", f"usr/bin/{PROGRAM}", f"usr/local/bin/{PROGRAM}"]
    if entrypoint is not None and PurePosixPath(entrypoint).name == PROGRAM:
        places.insert(0, entrypoint.lstrip("/"))
    for place in places:
        if ".." not in PurePosixPath(place).parts and (root / place).is_file():
            return root / place
    return None


def _native(root: Path, wanted: Platform) -> Path | None:
    """The program of the layout of Docker's images, the most able variant first."""
    found = []
    for folder in sorted(root.iterdir()):
        match = _NATIVE.fullmatch(folder.name)
        if match is None:
            continue
        built = Platform(match["os"], match["arch"])
        for name in (PROGRAM, f"com.docker.{PROGRAM}", f"{PROGRAM}.exe"):
            program = folder / "bin" / name
            if built.serves(wanted) and program.is_file():
                found.append((match["variant"] == "cpu", program))
    return min(found)[1] if found else None


def backends_in(program: Path) -> tuple[str, ...]:
    """The kinds of GPUs that the libraries beside a server are for, and `cpu`."""
    folders = (program.parent, program.parent.parent / "lib")
    found = {
        match["name"]
        for folder in folders
        if folder.is_dir()
        for path in folder.iterdir()
        if (match := _LIBRARY.match(path.name))
    }
    return (*(name for name in _BACKENDS if name in found), "cpu")


def backend_named(backends: tuple[str, ...]) -> str:
    """What an image is called that has plug-ins for these, where its name has no backend."""
    return {"hip": "rocm", "sycl": "intel"}.get(backends[0], backends[0])
