"""Images of a runtime for a registry: one whose server is a shell script, and one that is real."""

import functools
import io
import re
import shutil
import subprocess
import tarfile
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from tests.support.artifacts import Artifact
from tests.support.images import (
    INDEX,
    MANIFEST,
    Image,
    Item,
    digest_of,
    index_of,
    symlink,
    tar_of,
)

_LIBRARY = re.compile(r"(/\S+) \(0x")
_ENVIRON = ["LLAMA_ARG_HOST=0.0.0.0", "LD_LIBRARY_PATH=/app"]


def platform() -> dict[str, str]:
    """The platform of this machine, as images have it."""
    from modelrunner.oci.image import Platform

    found = Platform.of_machine()
    return {"os": found.os, "architecture": found.architecture}


def shell_image(
    build: str, devices: Sequence[str] = (), *, script: str = "", extra: Sequence[Item] = ()
) -> Image:
    """An image whose `llama-server` is a shell script that says this of itself.

    Args:
        build: Such as `b11434`.
        devices: Names of the GPUs that it lists.
        script: What it does first.
        extra: What else is in the image.
    """
    lines = "".join(
        f'echo "  GPU{number}: {name} (8192 MiB, 8000 MiB free)"\n'
        for number, name in enumerate(devices)
    )
    program = (
        f"#!/bin/sh\n{script}\n"
        f'case "$1" in\n--version) echo "version: 0.7.0 (build {build[1:]}, commit x)";;\n'
        f'--list-devices) echo "Available devices:"\n{lines};;\n*) exit 3;;\nesac\n'
    )
    server = [Item("app/llama-server", program.encode(), mode=0o4755), *extra]
    return Image(
        [_shell(), tar_of(server)],
        platform=platform(),
        config={"Env": _ENVIRON, "Entrypoint": ["/app/llama-server"]},
        annotations={"org.opencontainers.image.version": build},
    )


@functools.cache
def _shell() -> bytes:
    """A layer with this machine's shell, and the libraries that it needs."""
    shell = Path(shutil.which("sh") or "/bin/sh").resolve()
    said = subprocess.run(["ldd", str(shell)], capture_output=True, text=True, check=True).stdout
    files = [Path("/bin/sh"), *map(Path, _LIBRARY.findall(said))]
    return tar_of([Item(str(path), path.resolve().read_bytes(), mode=0o755) for path in files])


def artifact_of(*images: Image) -> Artifact:
    """An index of images, as a registry has it; of one image alone, its manifest."""
    found = [
        Artifact(image.manifest, MANIFEST, {digest_of(blob): blob for blob in image.blobs})
        for image in images
    ]
    if len(found) == 1:
        return found[0]
    return Artifact(index_of(images), INDEX, children=tuple(found))


def elsewhere(image: Image) -> Image:
    """The same image, said to be for another platform."""
    return replace(image, platform={"os": "linux", "architecture": "riscv64"})


_DEBIAN = "http://deb.debian.org/debian"
_PACKAGES = ("libc6", "libgcc-s1", "libstdc++6", "libgomp1", "libssl3t64", "zlib1g", "libzstd1")
_LLAMA = ("libggml0", "libllama0", "llama.cpp-tools")


def real_image(cache: Path) -> Image:
    """An image with Debian sid's `llama-server`: another C library than this machine's.

    Args:
        cache: Where the packages are kept.
    """
    packages = _packages(cache)
    links = [symlink("lib", "usr/lib"), symlink("lib64", "usr/lib64"), symlink("bin", "usr/bin")]
    libraries = [item for name in _LLAMA[:2] for item in _picked(packages[name], _library)]
    server = _picked(packages[_LLAMA[2]], _server)
    return Image(
        [
            tar_of(links),
            *(_data(packages[name]) for name in _PACKAGES),
            tar_of(libraries),
            tar_of(server),
        ],
        platform=platform(),
        config={"Env": _ENVIRON, "Entrypoint": ["/app/llama-server"], "WorkingDir": "/app"},
    )


def _packages(cache: Path) -> dict[str, Path]:
    """The packages, from the cache or from Debian's mirror."""
    if shutil.which("dpkg-deb") is None or platform()["architecture"] != "amd64":
        pytest.skip("needs dpkg-deb, and packages for amd64")
    wanted = (*_PACKAGES, *_LLAMA)
    kept = {name: next(iter(sorted(cache.glob(f"{name}_*.deb"))), None) for name in wanted}
    if any(path is None for path in kept.values()):
        cache.mkdir(parents=True, exist_ok=True)
        listing = _fetched(f"{_DEBIAN}/dists/sid/main/binary-amd64/Packages.xz")
        import lzma

        sections = lzma.decompress(listing).decode().split("\n\n")
        for name in wanted:
            section = next(text for text in sections if text.startswith(f"Package: {name}\n"))
            place = re.search(r"^Filename: (\S+)$", section, re.MULTILINE)
            assert place is not None
            content = _fetched(f"{_DEBIAN}/{place[1]}")
            file = cache / Path(place[1]).name
            file.with_suffix(".part").write_bytes(content)
            file.with_suffix(".part").rename(file)
            kept[name] = file
    return {name: path for name, path in kept.items() if path is not None}


def _fetched(url: str) -> bytes:
    import requests

    try:
        answer = requests.get(url, timeout=120)
    except requests.RequestException:
        pytest.skip("Debian's mirror cannot be reached")
    if not answer.ok:
        pytest.skip(f"Debian's mirror answers {answer.status_code}")
    return answer.content


def _data(package: Path) -> bytes:
    done = subprocess.run(
        ["dpkg-deb", "--fsys-tarfile", str(package)], capture_output=True, check=True
    )
    return done.stdout


def _library(name: str) -> str | None:
    last = name.rpartition("/")[2]
    return last if "/lib/" in f"/{name}" and ".so" in last else None


def _server(name: str) -> str | None:
    return "llama-server" if name == "usr/bin/llama-server" else _library(name)


def _picked(package: Path, keep: Callable[[str], str | None]) -> list[Item]:
    found = []
    with tarfile.open(fileobj=io.BytesIO(_data(package))) as archive:
        for member in archive:
            name = keep(member.name.removeprefix("./"))
            content = archive.extractfile(member) if member.isfile() else None
            if name is not None and content is not None:
                found.append(Item(f"app/{name}", content.read(), mode=0o755))
            elif name is not None and member.issym():
                found.append(symlink(f"app/{name}", member.linkname))
    return found
