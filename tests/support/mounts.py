"""Disks of the tests' own: small ones, and folders that nobody may write to. They take root."""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest


@contextmanager
def small_disk(folder: Path, size: str) -> Iterator[Path]:
    """The block in which a folder, made if it is missing, is a file system of so many bytes."""
    folder.mkdir(exist_ok=True)
    with _mounted(folder, "-t", "tmpfs", "-o", f"size={size}", "tmpfs"):
        yield folder


@contextmanager
def sharing_disk(folder: Path) -> Iterator[Path]:
    """The block in which a folder is a file system whose files can share blocks."""
    folder.mkdir(exist_ok=True)
    if not shutil.which("mkfs.xfs"):
        pytest.skip("mkfs.xfs is not installed")
    image = folder.with_name(f"{folder.name}.img")
    with image.open("xb") as file:
        # less than that mkfs.xfs refuses to make; it is all hole
        file.truncate(320 * 1024 * 1024)
    subprocess.run(["mkfs.xfs", "-q", "-m", "reflink=1", image], check=True, timeout=30)
    with _mounted(folder, "-o", "loop", str(image)):
        yield folder


@contextmanager
def read_only(folder: Path) -> Iterator[None]:
    """The block in which a folder is on a file system that is mounted read-only."""
    with _mounted(folder, "--bind", "-o", "ro", str(folder)):
        yield


def freeze(folder: Path) -> None:
    """Makes a small disk read-only."""
    subprocess.run(["mount", "-o", "remount,ro", folder], check=True, timeout=10)


@contextmanager
def _mounted(folder: Path, *how: str) -> Iterator[None]:
    if sys.platform != "linux" or os.geteuid() != 0:
        pytest.skip("only root can mount a file system")
    made = subprocess.run(["mount", *how, folder], capture_output=True, check=False, timeout=10)
    if made.returncode != 0:
        pytest.skip(f"mounting is not allowed here: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "-l", folder], check=True, timeout=10)
