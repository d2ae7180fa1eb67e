"""The files of an unpacked image: noted when they are written, and compared later.

```
files.json  {"files": {"app/llama-server": ["<sha256>", size, mtime_ns, inode]},
             "links": {"lib": "usr/lib"}}
```
A file that looks as it did is believed, unless every byte is to be read; one that looks otherwise,
as after a restored back-up, is hashed. A file that was added counts as well: ggml loads whatever
plug-in lies beside the server.
"""

import hashlib
import json
import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from modelrunner.disk.files import write_atomically
from modelrunner.disk.inside import open_content, read_inside
from modelrunner.wire import parse_json

_RECORD = "files.json"
_MOST_BYTES = 256 << 20
_HASH, _LOOK = 0, slice(1, 4)

State = Literal["changed", "missing", "added", "unreadable"]


@dataclass(frozen=True, slots=True)
class Deviation:
    """A file that is not as the image has it.

    Attributes:
        path: Its path.
        state: What is wrong with it.
    """

    path: Path
    state: State

    def __str__(self) -> str:
        said = {"added": "does not belong to the image", "unreadable": "cannot be read"}
        return f"{self.path} {said.get(self.state, f'is {self.state}')}"


def note_files(folder: Path, hashes: Mapping[str, str]) -> None:
    """Note how the files below `rootfs` look.

    Args:
        folder: The directory of a runtime.
        hashes: The SHA-256 of each file by its path below `rootfs`.
    """
    root = folder / "rootfs"
    files = {name: [digest, *_look(root / name)] for name, digest in sorted(hashes.items())}
    links = {name: str(path.readlink()) for name, path in _walk(root) if path.is_symlink()}
    value = {"files": files, "links": links}
    write_atomically(folder / _RECORD, json.dumps(value, separators=(",", ":")).encode())


def deviations(
    folder: Path, *, deep: bool = False, on_bytes: Callable[[int], None] = lambda _count: None
) -> list[Deviation]:
    """Return the files that are not as the image has them.

    Args:
        folder: The directory of a runtime.
        deep: Whether to read every byte, and not only what looks other than before.
        on_bytes: Called with the size of each file that was compared.
    """
    root, value = folder / "rootfs", _noted(folder)
    if value is None:
        return [Deviation(folder / _RECORD, "missing")]
    files, links = value["files"], value["links"]
    there = dict(_walk(root))
    found = [
        Deviation(path, "added") for name, path in there.items() if name not in {**files, **links}
    ]
    for name, target in links.items():
        path = root / name
        if name not in there:
            found.append(Deviation(path, "missing"))
        elif not path.is_symlink() or str(path.readlink()) != target:
            found.append(Deviation(path, "changed"))
    seen_again = {}
    for name, entry in files.items():
        path = root / name
        state = _state(path, entry, deep=deep) if name in there else "missing"
        if state is not None:
            found.append(Deviation(path, state))
        elif deep or _look(path) != entry[_LOOK]:
            seen_again[name] = [entry[_HASH], *_look(path)]
        on_bytes(entry[1])
    if any(files[name] != entry for name, entry in seen_again.items()):
        # it only saves time the next time
        with suppress(OSError):
            note = {"files": {**files, **seen_again}, "links": links}
            write_atomically(folder / _RECORD, json.dumps(note, separators=(",", ":")).encode())
    return sorted(found, key=lambda each: each.path)


def _state(path: Path, entry: list[Any], *, deep: bool) -> State | None:
    try:
        if path.is_symlink() or not path.is_file():
            return "changed"
        look = _look(path)
        if look[0] != entry[1]:
            return "changed"
        if not deep and look == entry[_LOOK]:
            return None
        with open_content(path) as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return "unreadable"
    return None if digest == entry[_HASH] else "changed"


def _noted(folder: Path) -> dict[str, Any] | None:
    """What was noted; None where nothing was, or what cannot be understood."""
    try:
        value = parse_json(read_inside(folder / _RECORD, _MOST_BYTES))
        files, links = value["files"], value["links"]
        good = all(_is_entry(entry) for entry in files.values())
        good = good and all(isinstance(target, str) for target in links.values())
        safe = all(".." not in Path(name).parts for name in (*files, *links))
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return value if good and safe else None


def _is_entry(entry: object) -> bool:
    return isinstance(entry, list) and [type(part) for part in entry] == [str, int, int, int]


def _look(path: Path) -> list[int]:
    status = path.lstat()
    return [status.st_size, status.st_mtime_ns, status.st_ino]


def _walk(root: Path) -> Iterator[tuple[str, Path]]:
    """Every file and link below a directory, by its path from there; links are not followed."""
    for folder, directories, names in os.walk(root):
        here = Path(folder)
        linked = [name for name in directories if (here / name).is_symlink()]
        for name in (*names, *linked):
            path = here / name
            yield path.relative_to(root).as_posix(), path
