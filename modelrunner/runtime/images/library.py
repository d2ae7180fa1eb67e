"""The runtimes that are installed: one directory each, and which of them is in use.

```
runtimes/  <manifest hex>/runtime.json    what it is, written last
           <manifest hex>/rootfs/...      the files of the image
           <manifest hex>/files.json      how they look, see `tree`
           <manifest hex>/home/           what its drivers keep, such as compiled shaders
           current.json                   the one in use, and the one before
           .tmp-<hex>-<random>/           being unpacked; of nobody when the lock is free
           lock
```
A directory has its name only when everything in it is there, and the server in it has been started
once. `kill -9` in between leaves a temporary one, which the next change removes.
"""

import json
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from modelrunner.disk.files import (
    TEMPORARY_PREFIX,
    disk_errors,
    flush_file_system,
    sync_directory,
    write_atomically,
)
from modelrunner.disk.inside import make_directory, read_inside
from modelrunner.disk.lock import held
from modelrunner.errors import ModelRunnerError, RuntimeUnavailableError
from modelrunner.frozen import field, frozen
from modelrunner.oci.digest import Digest
from modelrunner.text import closest, did_you_mean
from modelrunner.wire import parse_json

INSTALLED = "installed"
"""What `--runtime` calls the one in use; `installed:NAME` is a certain one."""

_RECORD = "runtime.json"
_CURRENT = "current.json"
_HEX = re.compile(r"[0-9a-f]{64}")
_SHORTEST = 6
_MOST_BYTES = 1 << 20


@frozen
class SeenDevice:
    """A device that a runtime lists, such as `Vulkan0: NVIDIA RTX 4090`."""

    name: str
    description: str
    total_bytes: int | None = None
    free_bytes: int | None = None


@frozen(kw_only=True)
class Installed:
    """A runtime that is unpacked and has been started once.

    Attributes:
        folder: Where it is.
        digest: Of the manifest of the image: its ID.
        index: Of the index that the reference named, where it was one.
        reference: What it was installed by.
        backend: `cpu`, `vulkan`, `cuda12`, ...: what was asked for, or found in the image.
        build: Such as `b11434`, where it is known.
        version: What the server says of itself.
        program: The server, relative to the top of the image.
        environ: The environment that the image asks for.
        devices: What the server listed when it was installed.
        download_bytes: The size of the image's blobs.
        unpacked_bytes: The size of its files.
        created: When the image was built, where it says so.
    """

    folder: Path
    digest: Digest
    reference: str
    backend: str
    program: str
    index: Digest | None = None
    build: str | None = None
    version: str | None = None
    environ: Mapping[str, str] = field(default_factory=dict)
    devices: Sequence[SeenDevice] = ()
    download_bytes: int = 0
    unpacked_bytes: int = 0
    created: str | None = None

    @property
    def name(self) -> str:
        """What people call it: `vulkan@b11434`."""
        return f"{self.backend}@{self.build or self.digest.short}"

    @property
    def root(self) -> Path:
        """The top of the image."""
        return self.folder / "rootfs"

    @property
    def home(self) -> Path:
        """Where it may write."""
        return self.folder / "home"

    def to_dict(self) -> dict[str, Any]:
        """The runtime as JSON has it."""
        return {
            "name": self.name,
            "digest": str(self.digest),
            "index_digest": None if self.index is None else str(self.index),
            "reference": self.reference,
            "backend": self.backend,
            "build": self.build,
            "version": self.version,
            "created": self.created,
            "devices": [
                {
                    "name": device.name,
                    "description": device.description,
                    "total_bytes": device.total_bytes,
                    "free_bytes": device.free_bytes,
                }
                for device in self.devices
            ],
            "download_bytes": self.download_bytes,
            "unpacked_bytes": self.unpacked_bytes,
            "path": str(self.folder),
        }


class Library:
    """The installed runtimes below one directory."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def all(self) -> list[Installed]:
        """Every installed runtime, by name; one whose record is damaged is not installed."""
        try:
            names = sorted(path.name for path in self.folder.iterdir())
        except OSError:
            return []
        found = [_read(self.folder / name) for name in names if _HEX.fullmatch(name)]
        return sorted((one for one in found if one is not None), key=lambda one: one.name)

    def current(self) -> Installed | None:
        """The one in use."""
        return self._noted("current")

    def previous(self) -> Installed | None:
        """The one that was in use before."""
        return self._noted("previous")

    def by_digest(self, digest: Digest) -> Installed | None:
        """The runtime of this digest."""
        return _read(self.folder / digest.hex)

    def find(self, text: str) -> Installed | None:
        """The runtime that a text names: `vulkan@b11434`, `vulkan`, a build, a digest, a reference.

        Where a backend names several, the one in use comes first, then the newest build.
        """
        wanted = text.removeprefix("sha256:")
        installed, current = self.all(), self.current()

        def preferred(one: Installed) -> tuple[bool, int]:
            build = (one.build or "b0")[1:]
            # bounded: see `build_in`
            return (current is not None and one.digest == current.digest, int(build))

        exact = [one for one in installed if text in (one.name, one.reference, str(one.digest))]
        loose = [
            one
            for one in installed
            if text in (one.backend, one.build)
            or (len(wanted) >= _SHORTEST and one.digest.hex.startswith(wanted))
        ]
        return max(exact or loose, key=preferred, default=None)

    def require(self, text: str) -> Installed:
        """Like `find`.

        Raises:
            RuntimeUnavailableError: It is not installed; the near ones are named.
        """
        found = self.find(text)
        if found is not None:
            return found
        names = [one.name for one in self.all()]
        near = did_you_mean(closest(text, names))
        raise RuntimeUnavailableError(
            f"no runtime {text[:120]!r} is installed",
            hint=near or "`modelrunner runtimes list` lists those that are installed",
            installed=names,
        )

    def use(self, one: Installed) -> None:
        """Make a runtime the one in use."""
        with self.changing():
            before = self.current()
            value = {"current": one.digest.hex}
            kept = before if before is not None and before.digest != one.digest else None
            kept = kept or self.previous()
            if kept is not None and kept.digest != one.digest:
                value["previous"] = kept.digest.hex
            self._note(value)

    def remove(self, one: Installed) -> None:
        """Remove a runtime; where it was in use, none is."""
        with self.changing(), disk_errors(one.folder):
            current, previous = self.current(), self.previous()
            noted = {"current": current, "previous": previous}
            self._note(
                {
                    key: each.digest.hex
                    for key, each in noted.items()
                    if each is not None and each.digest != one.digest
                }
            )
            gone = self._temporary(one.digest)
            one.folder.rename(gone)
            _remove(gone)

    @contextmanager
    def changing(self) -> Iterator[None]:
        """The block in which runtimes come and go; what was left half unpacked is removed first.

        Raises:
            StoreAccessError, DiskFullError: The directory cannot be written.
        """
        with disk_errors(self.folder):
            make_directory(self.folder)
        with held(self.folder / "lock"):
            self._remove_abandoned()
            yield

    @contextmanager
    def adding(self, digest: Digest) -> Iterator[Path]:
        """The block, within `changing`, in which a runtime is unpacked; `record` ends it."""
        beside = self._temporary(digest)
        with disk_errors(beside):
            beside.mkdir(mode=0o700)
        try:
            yield beside
        finally:
            _remove(beside)

    def record(self, beside: Path, one: Installed) -> Installed:
        """Give an unpacked runtime its name, in place of one with the same digest."""
        value = {**one.to_dict(), "program": one.program, "environ": dict(one.environ)}
        del value["path"]
        target = self.folder / one.digest.hex
        with disk_errors(target):
            (beside / "home").mkdir(mode=0o700, exist_ok=True)
            write_atomically(beside / _RECORD, json.dumps(value, indent=2).encode() + b"\n")
            # its name says that everything in it is there
            flush_file_system(beside)
            if os.path.lexists(target):
                gone = self._temporary(one.digest)
                target.rename(gone)
                _remove(gone)
            beside.rename(target)
            sync_directory(self.folder)
        found = _read(target)
        if found is None:
            raise AssertionError("what was just written cannot be read")
        return found

    def _temporary(self, digest: Digest) -> Path:
        return self.folder / f"{TEMPORARY_PREFIX}{digest.hex}-{os.urandom(6).hex()}"

    def _remove_abandoned(self) -> None:
        with disk_errors(self.folder):
            for path in list(self.folder.iterdir()):
                if path.name.startswith(TEMPORARY_PREFIX) and path.is_dir():
                    _remove(path)

    def _noted(self, key: str) -> Installed | None:
        try:
            value = parse_json(read_inside(self.folder / _CURRENT, _MOST_BYTES))
        except (OSError, ValueError):
            return None
        name = value.get(key) if isinstance(value, dict) else None
        if not isinstance(name, str) or not _HEX.fullmatch(name):
            return None
        return _read(self.folder / name)

    def _note(self, value: Mapping[str, str]) -> None:
        place = self.folder / _CURRENT
        with disk_errors(place):
            write_atomically(place, json.dumps(value, indent=2).encode() + b"\n")


def _read(folder: Path) -> Installed | None:
    try:
        value = parse_json(read_inside(folder / _RECORD, _MOST_BYTES))
        return _installed(folder, value)
    except (OSError, ValueError, KeyError, TypeError, ModelRunnerError):
        return None


def _installed(folder: Path, value: Mapping[str, Any]) -> Installed:
    devices = [
        SeenDevice(
            str(each["name"]), str(each["description"]), each["total_bytes"], each["free_bytes"]
        )
        for each in value["devices"]
    ]
    index = value["index_digest"]
    return Installed(
        folder=folder,
        digest=Digest(folder.name),
        index=None if index is None else Digest.parse(index),
        reference=str(value["reference"]),
        backend=str(value["backend"]),
        build=value["build"],
        version=value["version"],
        program=str(value["program"]),
        environ={str(name): str(text) for name, text in value["environ"].items()},
        devices=tuple(devices),
        download_bytes=value["download_bytes"],
        unpacked_bytes=value["unpacked_bytes"],
        created=value["created"],
    )


def _remove(folder: Path) -> None:
    # most launches remove nothing, and it loads every kind of archive
    from modelrunner.archives.unpack import remove_tree

    remove_tree(folder)
