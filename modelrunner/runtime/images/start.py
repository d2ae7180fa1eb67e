"""How the server of an unpacked image is started: as a command for a child process.

Isolated, the image is its root, and its own loader finds its libraries. Elsewhere the newer of two
C libraries starts it, the image's or this machine's: code that was built with an older one runs
with a newer one, and not the other way round. Behind `/app`, where the plug-ins are, come the
libraries of the image, and of this machine the files of a GPU's driver alone.
"""

import json
import os
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path, PurePosixPath

from modelrunner.disk.files import write_atomically
from modelrunner.disk.inside import make_directory, read_inside
from modelrunner.runtime.child import environment
from modelrunner.runtime.child.process import Command
from modelrunner.runtime.images import enter
from modelrunner.runtime.images.library import Installed
from modelrunner.runtime.libraries import interpreter_of
from modelrunner.wire import parse_json

_DROPPED = ("LD_", "PYTHON", "VIRTUAL_ENV", "DYLD_", "XDG_", "TMP", "TEMP", "PATH", "HOME")
"""What of our environment is about this machine's files."""
_HARMLESS = ("CUDA_", "GGML_", "HIP_", "MUSA_", "NVIDIA_", "OCL_ICD_", "ONEAPI_", "ROCM_", "SYCL_")
"""What of an image's environment is passed on: never what llama.cpp reads as options."""
_DRIVER_FILES = (
    "libcuda.so.1",
    "libnvidia-ml.so.1",
    "libnvidia-ptxjitcompiler.so.1",
    "libnvidia-gpucomp.so.*",
    "libnvidia-glcore.so.*",
    "libnvidia-glvkspirv.so.*",
    "libnvidia-tls.so.*",
    "libnvidia-glsi.so.*",
    "libnvidia-nvvm.so.4",
    "libGLX_nvidia.so.0",
    "libdxcore.so",
)
_C_LIBRARY = (
    "libc.so.6",
    "libm.so.6",
    "libmvec.so.1",
    "libdl.so.2",
    "libpthread.so.0",
    "librt.so.1",
    "libresolv.so.2",
    "libutil.so.1",
    "libanl.so.1",
    "libnss_files.so.2",
    "libnss_dns.so.2",
)
_FOLDERS = ("lib", "lib64", "usr/lib", "usr/lib64", "usr/local/lib")
_TRIPLETS = ("x86_64-linux-gnu", "aarch64-linux-gnu")
_WSL = "usr/lib/wsl/lib"
_ICD_FOLDERS = ("usr/share/vulkan/icd.d", "etc/vulkan/icd.d")
_C_VERSION = re.compile(rb"GNU C Library[^\0\n]*version (\d+)\.(\d+)")
_MOST_BYTES = 1 << 20
_MOST_OF_LIBC = 16 << 20
_INSIDE = Path("/run/modelrunner")


def command(
    one: Installed,
    line: Sequence[str],
    environ: Mapping[str, str],
    files: Sequence[Path] = (),
    *,
    writes: Sequence[Path] = (),
    connects: bool = False,
    isolate: bool = True,
    machine: Path = Path("/"),
) -> Command:
    """The command that starts the server of an installed runtime.

    Args:
        one: The runtime.
        line: The server's arguments.
        environ: Our environment, of which it gets a part, with what is for the server alone.
        files: What it may read of this machine beside its image; the directory of each is shown.
        writes: Directories of this machine that it may write to.
        connects: Whether it may connect to other machines.
        isolate: Whether to isolate it where that is possible.
        machine: The top of this machine's files.
    """
    program = one.root / one.program
    drivers = {path.name: path for path in _drivers(machine)}
    own = {
        name: value
        for name, value in environment.for_child(environ).items()
        if not name.startswith(_DROPPED)
    }
    wanted = {
        name: value for name, value in one.environ.items() if name.startswith(_HARMLESS)
    } | own
    order = {
        "name": one.name,
        "isolate": isolate and sys.platform == "linux",
        "connects": connects,
        "root": str(one.root),
        "top": str(one.folder / "top"),
        "shown": [
            *(
                [str(path), str(_INSIDE / "drivers" / name), False]
                for name, path in drivers.items()
            ),
            *([str(icd), str(_INSIDE / "icd" / icd.name), False] for icd in _nvidia_icds(machine)),
            *([str(folder), str(folder), False] for folder in _folders(files)),
            *([str(folder), str(folder), True] for folder in writes),
            [str(one.home), "/home", True],
        ],
        "inside": _inside(one, line, drivers, machine),
        "outside": _outside(one, program, line, drivers, machine),
    }
    for folder in (one.folder / "top", one.home):
        make_directory(folder)
    return Command(
        argv=(sys.executable, "-I", "-S", enter.__file__, json.dumps(order)),
        environ={**wanted, "LANG": "C.UTF-8"},
    )


def _inside(
    one: Installed, line: Sequence[str], drivers: Mapping[str, Path], machine: Path
) -> dict[str, object]:
    program = PurePosixPath("/", one.program)
    paths = [str(program.parent), *_split(one.environ.get("LD_LIBRARY_PATH", ""))]
    environ = {
        "HOME": "/home",
        "PATH": "/usr/local/bin:/usr/bin:/bin",
        "LD_LIBRARY_PATH": ":".join(
            [
                *paths,
                str(program.parent.parent / "lib"),
                *([str(_INSIDE / "drivers")] * bool(drivers)),
            ]
        ),
    }
    icds = [str(_INSIDE / "icd" / icd.name) for icd in _nvidia_icds(machine)]
    if icds:
        environ["VK_ADD_DRIVER_FILES"] = ":".join(icds)
    return {"argv": [str(program), *line], "directory": str(program.parent), "environ": environ}


def _outside(
    one: Installed,
    program: Path,
    line: Sequence[str],
    drivers: Mapping[str, Path],
    machine: Path,
) -> dict[str, object]:
    loader = interpreter_of(program)
    named = None if loader is None else _within(one.root, str(loader))
    paths = [program.parent, program.parent.parent / "lib"]
    paths += [_within(one.root, text) for text in _split(one.environ.get("LD_LIBRARY_PATH", ""))]
    paths += _library_folders(one.root)
    linked = dict(drivers)
    if named is not None and named.is_file():
        own, host = _c_version(named, one.root), _host_loader(loader, machine)
        if host is not None and own is not None and host[1] > own:
            named = host[0]
            # the parts of one C library go together
            clib = {path.name: path for path in _c_library(host[0])}
            paths.insert(0, _links(one.home / "libc", clib))
    if linked:
        paths.append(_links(one.home / "drivers", linked))
    found = ":".join(dict.fromkeys(str(path) for path in paths if path.is_dir()))
    environ = {"HOME": str(one.home), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    icds = [*_own_icds(one), *map(str, _nvidia_icds(machine))]
    if icds:
        environ["VK_DRIVER_FILES"] = ":".join(icds)
    argv = [str(program), *line]
    if named is not None and named.is_file():
        argv = [str(named), "--library-path", found, "--argv0", str(program), *argv]
    else:
        environ["LD_LIBRARY_PATH"] = found
    return {"argv": argv, "directory": str(program.parent), "environ": environ}


def _folders(files: Sequence[Path]) -> list[Path]:
    """The directories of some files, without those that lie in another of them."""
    found = sorted({file.absolute().parent for file in files})
    real = {file.resolve().parent for file in files}
    every = sorted({*found, *real})
    return [
        folder
        for folder in every
        if not any(other != folder and folder.is_relative_to(other) for other in every)
    ]


def _within(root: Path, text: str) -> Path:
    """A path of the image, on this machine; links in it are relative, and stay inside."""
    parts = [part for part in PurePosixPath(text).parts if part not in ("/", "..")]
    return root.joinpath(*parts)


def _split(text: str) -> list[str]:
    return [part for part in text.split(":") if part.startswith("/")]


def _library_folders(root: Path) -> list[Path]:
    """The directories in which the image's loader would look, in about its order."""
    named: list[Path] = []
    configured = sorted((root / "etc/ld.so.conf.d").glob("*.conf"))
    for file in configured:
        rows = _text(file).splitlines()
        named.extend(_within(root, row.strip()) for row in rows if row.startswith("/"))
    usual = [
        root / folder / triplet
        for folder in ("lib", "usr/lib", "usr/local/lib")
        for triplet in _TRIPLETS
    ]
    return [*named, *usual, *(root / folder for folder in _FOLDERS)]


def _c_version(loader: Path, root: Path) -> tuple[int, int] | None:
    """The version of the C library that a loader belongs to; None for one that is not glibc."""
    places = [loader.resolve().parent, *_library_folders(root)]
    for place in places:
        version = _version_of(place / "libc.so.6")
        if version is not None:
            return version
    return None


@cache
def _version_of(libc: Path) -> tuple[int, int] | None:
    try:
        # outside: a library
        with libc.open("rb") as file:
            match = _C_VERSION.search(file.read(_MOST_OF_LIBC))
    except OSError:
        return None
    # bounded: digits of a version in a library
    return None if match is None else (int(match[1][:6]), int(match[2][:6]))


def _host_loader(loader: Path | None, machine: Path) -> tuple[Path, tuple[int, int]] | None:
    """This machine's loader of the same name, and the version of its C library."""
    if loader is None:
        return None
    host = machine / str(loader).lstrip("/")
    version = _c_version(host, machine) if host.is_file() else None
    return None if version is None else (host, version)


def _c_library(loader: Path) -> Iterator[Path]:
    folder = loader.resolve().parent
    for name in _C_LIBRARY:
        if (folder / name).is_file():
            yield folder / name


def _drivers(machine: Path) -> Iterator[Path]:
    """The files of this machine's NVIDIA driver, which no image has."""
    if not any((machine / "dev").glob("nvidia*")) and not (machine / "dev/dxg").exists():
        return
    folders = [machine / _WSL, *_library_folders(machine)]
    seen = set()
    for pattern in _DRIVER_FILES:
        for folder in folders:
            for path in sorted(folder.glob(pattern)):
                if path.name not in seen and path.is_file():
                    seen.add(path.name)
                    yield path


def _nvidia_icds(machine: Path) -> list[Path]:
    """What tells Vulkan of this machine's NVIDIA driver."""
    if not any((machine / "dev").glob("nvidia*")):
        return []
    found = [path for folder in _ICD_FOLDERS for path in (machine / folder).glob("nvidia*.json")]
    return sorted(found)[:1]


def _own_icds(one: Installed) -> list[str]:
    """What tells Vulkan of the drivers in the image, with paths of this machine."""
    found = []
    for folder in _ICD_FOLDERS:
        for path in sorted((one.root / folder).glob("*.json")):
            try:
                value = parse_json(_text(path))
                library = value["ICD"]["library_path"]
            except (ValueError, KeyError, TypeError):
                continue
            if isinstance(library, str) and library.startswith("/"):
                value["ICD"]["library_path"] = str(_within(one.root, library))
            target = one.home / "icd" / path.name
            content = json.dumps(value).encode()
            make_directory(target.parent)
            if _text(target).encode() != content:
                write_atomically(target, content)
            found.append(str(target))
    return found


def _links(folder: Path, files: Mapping[str, Path]) -> Path:
    """A directory with links to these files and no others."""
    make_directory(folder)
    for path in list(folder.iterdir()):
        if path.name not in files:
            path.unlink(missing_ok=True)
    for name, path in files.items():
        link = folder / name
        if link.is_symlink() and link.readlink() == path:
            continue
        beside = folder / f".{name}-{os.urandom(4).hex()}"
        beside.symlink_to(path)
        beside.replace(link)
    return folder


def _text(path: Path) -> str:
    try:
        return read_inside(path, _MOST_BYTES).decode(errors="replace")
    except OSError:
        return ""
