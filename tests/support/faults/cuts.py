"""Power cuts: what a disk may have after one, made from what a command has done until then.

A command's calls are noted with their data (`calls`). A cut comes after one of them; what had not
been flushed by then may be there or not. Two kinds of file systems are played:

- `journal`, as ext4, XFS and btrfs do it: names, sizes and modes come to the disk in their order,
  as far as some moment, which is no earlier than the last flush of anything; the content of a file
  comes when it is flushed, before that all of it, none or some of it, with zeros in the gaps;
- `folders`, which is all that POSIX promises: each folder has its own such moment, no earlier than
  its own last flush.

It is a simulation of what reaches a disk, not of one file system's code.
"""

import os
import random
import shutil
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from tests.support.faults.calls import KINDS

Manner = Literal["journal", "folders"]
Loss = Literal["all", "content", "some", "none"]
"""What is lost of what was not flushed: all, the content of files only, some by chance, nothing."""

_DATA = ("write", "ftruncate")
_NAMES = ("create", "rename", "link", "symlink", "unlink", "rmdir", "mkdir")


@dataclass(frozen=True, slots=True)
class Event:
    """One call that was done."""

    kind: str
    inode: int
    number: int
    length: int
    path: str
    other: str
    data: bytes = field(repr=False, default=b"")


@dataclass(frozen=True, slots=True)
class Cut:
    """A moment, and what had not come to the disk."""

    at: int
    manner: Manner
    loss: Loss
    seed: int

    def __str__(self) -> str:
        return f"cut after call {self.at}, {self.manner}, {self.loss} lost ({self.seed})"


def parse(log: Path) -> list[Event]:
    """The calls of a log."""
    raw, found, at = log.read_bytes(), [], 0
    while at < len(raw):
        end = raw.index(b"\n", at)
        kind, inode, number, length, path, other = raw[at:end].decode().split("\t")
        at = end + 1
        name, size = KINDS[int(kind)], int(length)
        data = raw[at : at + size] if name == "write" else b""
        at += len(data)
        found.append(Event(name, int(inode), int(number), size, path, other, data))
    return found


@dataclass(slots=True)
class _Node:
    """A file, a folder or a link on the disk."""

    mode: int = 0o644
    content: bytearray = field(default_factory=bytearray)
    names: "dict[str, _Node] | None" = None
    target: str | None = None
    source: Path | None = None
    """Where its content is until it is changed."""

    def loaded(self) -> bytearray:
        if self.source is not None:
            self.content, self.source = bytearray(self.source.read_bytes()), None
        return self.content


@dataclass(slots=True)
class _Change:
    """Something that is to come to the disk: to one folder or two, or to one file."""

    at: int
    node: _Node
    folders: tuple[_Node, ...] = ()
    names: tuple[tuple[_Node, str, _Node | None], ...] = ()
    """What a name in a folder is from then on; None for nothing."""
    event: Event | None = None


class Disk:
    """What a folder was, and what was done to it since."""

    def __init__(self, place: Path, kept: Path, events: Sequence[Event]) -> None:
        self._place = str(place)
        self._root = _read(kept, {})
        self._now = _shape(self._root)
        self._inodes: dict[int, _Node] = {}
        self._changes: list[_Change] = []
        self._flushes: list[tuple[int, _Node]] = []
        for at, event in enumerate(events, 1):
            self._take(at, event)

    def write(self, cut: Cut, place: Path) -> None:
        """Makes a folder what the disk may be after a cut."""
        chance = random.Random(cut.seed)
        disk: dict[int, _Node] = {}

        def on_disk(node: _Node) -> _Node:
            # changes are made to copies: the next cut begins anew
            if id(node) not in disk:
                names = None if node.names is None else {}
                disk[id(node)] = _Node(
                    node.mode, bytearray(node.content), names, node.target, node.source
                )
                if names is not None and node.names is not None:
                    names |= {name: on_disk(child) for name, child in node.names.items()}
            return disk[id(node)]

        root = on_disk(self._root)
        for change in self._arrived(cut, chance):
            for folder, name, node in change.names:
                names = on_disk(folder).names
                if names is None:
                    raise AssertionError(f"not a folder: {name}")
                if node is None:
                    names.pop(name, None)
                else:
                    names[name] = on_disk(node)
            if change.event is not None:
                _apply(on_disk(change.node), change.event)
        shutil.rmtree(place, ignore_errors=True)
        _write(root, place, {}, (os.fsencode(self._place), os.fsencode(place)))

    def _arrived(self, cut: Cut, chance: random.Random) -> Iterator[_Change]:
        """The changes that came to the disk before the cut."""
        done = [change for change in self._changes if change.at <= cut.at]
        flushed: dict[int, int] = {}
        for at, node in self._flushes:
            if at <= cut.at:
                flushed[id(node)] = at
        last = max(flushed.values(), default=0)
        moments: dict[int, int] = {}

        def moment(folder: _Node | None) -> int:
            safe = last if folder is None else flushed.get(id(folder), 0)
            if cut.loss == "all":
                return safe
            return cut.at if cut.loss in ("content", "none") else chance.randint(safe, cut.at)

        for change in done:
            if change.folders or change.event is None or change.event.kind == "chmod":
                if cut.manner == "journal":
                    come = change.at <= moments.setdefault(0, moment(None))
                else:
                    # what is moved to another folder leaves its own when it has arrived
                    come = all(
                        change.at <= moments.setdefault(id(folder), moment(folder))
                        for folder in change.folders[:1]
                    )
            elif change.at <= flushed.get(id(change.node), 0):
                come = True
            else:
                come = cut.loss == "none" or (cut.loss == "some" and chance.random() < 0.5)
            if come:
                yield change

    # How the calls are understood.

    def _take(self, at: int, event: Event) -> None:
        if event.kind in ("create", "mkdir", "symlink"):
            self._create(at, event)
        elif event.kind in ("link", "rename"):
            self._move(at, event)
        elif event.kind in ("unlink", "rmdir"):
            folder, name = self._folder(event.path)
            node = self._names(folder).pop(name)
            self._changes.append(_Change(at, node, (folder,), ((folder, name, None),)))
        elif event.kind in (*_DATA, "chmod", "fsync"):
            node = self._inodes.get(event.inode) or self._find(event.path)
            if event.kind == "fsync":
                self._flushes.append((at, node))
            else:
                self._changes.append(_Change(at, node, event=event))

    def _create(self, at: int, event: Event) -> None:
        path = event.other if event.kind == "symlink" else event.path
        folder, name = self._folder(path)
        names = self._names(folder)
        if event.kind == "create" and event.number & 1:
            node = names[name]
            if event.number & 2:
                cut = Event("ftruncate", event.inode, 0, 0, event.path, "")
                self._changes.append(_Change(at, node, event=cut))
        else:
            node = _Node(event.length if event.kind == "create" else event.number or 0o755)
            if event.kind == "mkdir":
                node.names = {}
                self._now[id(node)] = {}
            elif event.kind == "symlink":
                node.target = event.path
            names[name] = node
            self._changes.append(_Change(at, node, (folder,), ((folder, name, node),)))
        self._inodes[event.inode] = node

    def _move(self, at: int, event: Event) -> None:
        source, old = self._folder(event.path)
        folder, name = self._folder(event.other)
        node = self._names(source)[old]
        made: list[tuple[_Node, str, _Node | None]] = [(folder, name, node)]
        if event.kind == "rename":
            del self._names(source)[old]
            made.append((source, old, None))
        folders = (folder,) if event.kind == "link" or source is folder else (folder, source)
        self._names(folder)[name] = node
        self._changes.append(_Change(at, node, folders, tuple(made)))

    def _names(self, folder: _Node) -> dict[str, _Node]:
        return self._now[id(folder)]

    def _find(self, path: str) -> _Node:
        node = self._root
        for part in Path(path).relative_to(self._place).parts:
            node = self._names(node)[part]
        return node

    def _folder(self, path: str) -> tuple[_Node, str]:
        parent, _, name = os.path.normpath(path).rpartition("/")
        return self._find(parent), name


def cuts(events: int, chance: random.Random) -> Iterator[Cut]:
    """Every moment, with what may be lost then."""
    losses: Iterable[Loss] = ("all", "content", "some")
    manners: Iterable[Manner] = ("journal", "folders")
    for at in range(events + 1):
        for manner in manners:
            for loss in losses:
                yield Cut(at, manner, loss, chance.randrange(2**32))


def _read(path: Path, known: dict[int, _Node]) -> _Node:
    looked = path.lstat()
    if path.is_symlink():
        return _Node(target=str(path.readlink()))
    if path.is_dir():
        names = {entry.name: _read(entry, known) for entry in path.iterdir()}
        return _Node(looked.st_mode & 0o7777, names=names)
    node = _Node(looked.st_mode & 0o7777, source=path)
    return known.setdefault(looked.st_ino, node)


def _shape(node: _Node) -> dict[int, dict[str, _Node]]:
    """The names of each folder, as the running command sees them."""
    if node.names is None:
        return {}
    found = {id(node): dict(node.names)}
    for child in node.names.values():
        found |= _shape(child)
    return found


def _apply(node: _Node, event: Event) -> None:
    if event.kind == "chmod":
        node.mode = event.number
        return
    content = node.loaded()
    if event.kind == "ftruncate":
        del content[event.number :]
        content.extend(bytes(event.number - len(content)))
        return
    content.extend(bytes(max(0, event.number - len(content))))
    content[event.number : event.number + len(event.data)] = event.data


def _write(node: _Node, path: Path, written: dict[int, Path], moved: tuple[bytes, bytes]) -> None:
    """Makes it on the real disk; where it names the place that it is from, it names the new one."""
    if node.names is not None:
        path.mkdir(parents=True)
        for name, child in node.names.items():
            _write(child, path / name, written, moved)
    elif node.target is not None:
        path.symlink_to(node.target)
    elif id(node) in written:
        os.link(written[id(node)], path)
    else:
        content = node.source.read_bytes() if node.source else bytes(node.content)
        path.write_bytes(content.replace(*moved))
        path.chmod(node.mode)
        written[id(node)] = path
