"""Layers become one directory tree, in which nothing points outside of it.

The tree is made in a directory that is for its owner alone and has no other name yet: nobody else
can put a link into the way. Every path is walked name by name from the top, links on the way are
followed as if the top were `/`, and only what is known to be a directory is gone through. So no
entry, whatever its name, is written outside.

Of an entry, its kind, content and the permission to execute it count; owners, times, set-uid bits
and attributes do not. Links that are absolute mean the image's top, and are written as relative
ones. Devices are left out where every container makes its own, in `dev/`, and refused elsewhere.
"""

import errno
import hashlib
import os
import shutil
import stat
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from modelrunner.archives.layers import Entry, Limits, Spent, Words, entries
from modelrunner.disk.files import disk_errors
from modelrunner.errors import IntegrityError
from modelrunner.oci.digest import Digest
from modelrunner.text import sanitize_line

_WHITEOUT = ".wh."
_OPAQUE = ".wh..wh..opq"
_OTHER_MARKS = ".wh..wh."
"""What AUFS has left of its own bookkeeping."""
_MOST_LINKS = 40
_DIRECTORY = 0o755
_FILE = 0o644
_PROGRAM = 0o755
_LONGEST_NAME = 255
_DEEPEST = 128

Parts = tuple[str, ...]


@dataclass(frozen=True, slots=True)
class LayerFile:
    """A layer: its blob, and the digest of the tar in it, where its config says that."""

    blob: Path
    diff_id: Digest | None


@dataclass(frozen=True, slots=True)
class Unpacked:
    """What came of an image's layers.

    Attributes:
        size: Bytes of all files.
        hashes: The SHA-256 of each file by its path.
    """

    size: int
    hashes: Mapping[str, str]


def unpack(
    layers: Sequence[LayerFile],
    root: Path,
    limits: Limits | None = None,
    words: Words | None = None,
) -> Unpacked:
    """Make a directory of the layers of an image or a model.

    Args:
        layers: The lowest first.
        root: The directory, which must not exist, in one that nobody else may write to.
        limits: What they may ask for.
        words: How errors speak of it.

    Raises:
        IntegrityError: A layer is damaged, points outside, or asks for more than the limits.
        UnsupportedArtifactError: It has entries of an unknown kind.
        DiskFullError, StoreAccessError: It cannot be written.
    """
    spent = Spent(limits or Limits(), words or Words())
    with disk_errors(root):
        root.mkdir(mode=0o700)
        tree = _Tree(root.resolve(), spent.words)
        for layer in layers:
            tree.begin_layer()
            for entry in entries(layer.blob, layer.diff_id, spent):
                _apply(tree, entry)
        tree.require_closed()
    return Unpacked(tree.size, {"/".join(place): text for place, text in tree.hashes.items()})


class _Tree:
    """The tree as it grows, layer by layer."""

    def __init__(self, root: Path, words: Words) -> None:
        self.size = 0
        self._words = words
        self.hashes: dict[Parts, str] = {}
        self._root = root
        self._directories: set[Parts] = {()}
        self._links: set[Parts] = set()
        self._new: set[Parts] = set()

    def begin_layer(self) -> None:
        """Begin with a layer: what it removes is what those below have."""
        self._new = set()

    def apply(self, entry: Entry) -> None:
        """Add, replace or remove what an entry of a layer says."""
        names = self._names(entry.name)
        if not names:
            if entry.kind != "directory":
                raise self.bad(entry.name, "replaces the top directory")
            return
        *above, name = names
        if name.startswith(_WHITEOUT):
            self._white_out(entry.name, tuple(above), name)
            return
        parent = self._made(entry.name, tuple(above))
        if entry.kind == "device":
            if (*parent, name)[0] != "dev":
                raise self.bad(entry.name, "is a device or a pipe")
            return
        place = (*parent, name)
        self._make(entry, place)
        self._new.add(place)

    def bad(self, name: str, what: str) -> IntegrityError:
        """The error for an entry that is not right."""
        shown = sanitize_line(name.encode("utf-8", "replace").decode(), 160)
        return self._words.error(f"entry {shown!r} of the {self._words.noun} {what}")

    def require_closed(self) -> None:
        """Accept a tree whose links all stay inside, however they are followed.

        Raises:
            IntegrityError: One leads outside by way of another.
        """
        for place in self._links:
            found = target_of(self._path(place))
            if found is None:
                continue
            if os.path.commonpath((found, self._root)) != str(self._root):
                raise self.bad("/".join(place), f"is a link that leaves the {self._words.noun}")

    def _make(self, entry: Entry, place: Parts) -> None:
        path = self._path(place)
        found = _lstat(path)
        if entry.kind == "directory":
            if found is not None and not stat.S_ISDIR(found.st_mode):
                self._remove(place)
                found = None
            if found is None:
                path.mkdir(_DIRECTORY)
                self._directories.add(place)
            return
        source = self._source_of(entry) if entry.kind == "hardlink" else None
        if source == place:
            # a link to itself changes nothing
            return
        if found is not None:
            if place in self._new and stat.S_ISDIR(found.st_mode):
                raise self.bad(entry.name, "replaces a directory of the same layer")
            self._remove(place)
        if entry.kind == "symlink":
            self._link(entry.name, entry.target, place)
        elif source is not None:
            self._link_hard(entry.name, source, place)
        else:
            self.hashes[place] = self._write(entry, path)

    def _write(self, entry: Entry, path: Path) -> str:
        mode = _PROGRAM if entry.mode & stat.S_IXUSR else _FILE
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        # outside: a new name in a directory that nobody else can write to
        handle = os.open(path, flags, mode)
        content = hashlib.sha256()
        with os.fdopen(handle, "wb") as file:
            for chunk in entry.chunks():
                content.update(chunk)
                file.write(chunk)
        self.size += entry.size
        return content.hexdigest()

    def _source_of(self, entry: Entry) -> Parts:
        names = self._names(entry.target)
        if not names:
            raise self.bad(entry.name, "is a hard link to the top directory")
        parent = self._resolved(entry.name, names[:-1], make=False)
        source = None if parent is None else (*parent, names[-1])
        found = None if source is None else _lstat(self._path(source))
        if source is None or found is None:
            raise self.bad(entry.name, "is a hard link to a missing file")
        if stat.S_ISDIR(found.st_mode):
            raise self.bad(entry.name, "is a hard link to a directory")
        return source

    def _link_hard(self, name: str, source: Parts, place: Parts) -> None:
        path = self._path(source)
        if source in self._links:
            # the same place from another directory
            text = str(path.readlink())
            self._link(name, "/" + "/".join((*source[:-1], text)), place)
        elif _lstat(path) is None:
            raise self.bad(name, "is a hard link to a file that it replaces")
        else:
            os.link(path, self._path(place), follow_symlinks=False)
            self.hashes[place] = self.hashes[source]

    def _link(self, name: str, target: str, place: Parts) -> None:
        if not target or "\0" in target:
            raise self.bad(name, "is a link to nothing")
        parts = [part for part in target.split("/") if part not in ("", ".")]
        depth = 0 if target.startswith("/") else len(place) - 1
        for part in parts:
            depth += -1 if part == ".." else 1
            if depth < 0:
                raise self.bad(name, f"is a link that leaves the {self._words.noun}")
        if target.startswith("/"):
            parts = [".."] * (len(place) - 1) + parts
        self._path(place).symlink_to("/".join(parts) or ".")
        self._links.add(place)

    def _white_out(self, text: str, above: Parts, mark: str) -> None:
        parent = self._resolved(text, above, make=False)
        name = mark.removeprefix(_WHITEOUT)
        if mark == _OPAQUE:
            if parent is not None:
                self._remove_lower(parent, itself=False)
            return
        if mark.startswith(_OTHER_MARKS):
            return
        if name in ("", ".", ".."):
            raise self.bad(text, "removes a directory above it")
        if parent is not None:
            self._remove_lower((*parent, name), itself=True)

    def _made(self, text: str, names: Parts) -> Parts:
        """The real place of a directory, made where it is missing."""
        place = self._resolved(text, names, make=True)
        if place is None:
            raise AssertionError("it was to be made")
        return place

    def _resolved(self, text: str, names: Parts, *, make: bool) -> Parts | None:
        """The real place of a directory; None where it is missing and is not to be made."""
        place: Parts = ()
        left, links = list(reversed(names)), 0
        while left:
            name = left.pop()
            if name == "..":
                # only out of a link, whose target stays inside
                place = place[:-1]
                continue
            here = (*place, name)
            if here in self._links:
                links += 1
                if links > _MOST_LINKS:
                    raise self.bad(text, "is in a directory of links in a circle")
                left.extend(reversed(str(self._path(here).readlink()).split("/")))
            elif name == ".":
                continue
            elif here in self._directories:
                place = here
            elif _lstat(self._path(here)) is not None:
                raise self.bad(text, "has a file as its directory")
            elif make:
                self._path(here).mkdir(_DIRECTORY)
                self._directories.add(here)
                self._new.add(here)
                place = here
            else:
                return None
            if len(place) >= _DEEPEST:
                raise self.bad(text, f"is more than {_DEEPEST} directories deep")
        return place

    def _remove(self, place: Parts) -> None:
        path = self._path(place)
        found = _lstat(path)
        if found is None:
            return
        if not stat.S_ISDIR(found.st_mode):
            self._unlink(place, found)
            return
        for child in list(path.iterdir()):
            self._remove((*place, child.name))
        path.rmdir()
        self._directories.discard(place)
        self._new.discard(place)

    def _unlink(self, place: Parts, found: os.stat_result) -> None:
        self._path(place).unlink()
        if found.st_nlink == 1 and stat.S_ISREG(found.st_mode):
            self.size -= found.st_size
        self._links.discard(place)
        self._new.discard(place)
        self.hashes.pop(place, None)

    def _remove_lower(self, place: Parts, *, itself: bool) -> None:
        """Remove what layers below have; what this one has brought stays."""
        path = self._path(place)
        found = _lstat(path)
        if found is None:
            return
        if not stat.S_ISDIR(found.st_mode):
            if place not in self._new:
                self._unlink(place, found)
            return
        for child in list(path.iterdir()):
            self._remove_lower((*place, child.name), itself=True)
        if itself and place not in self._new and not any(path.iterdir()):
            path.rmdir()
            self._directories.discard(place)

    def _path(self, place: Parts) -> Path:
        return self._root.joinpath(*place)

    def _names(self, text: str) -> Parts:
        names = tuple(name for name in text.split("/") if name not in ("", "."))
        if ".." in names:
            raise self.bad(text, f"leaves the {self._words.noun}")
        if any(len(os.fsencode(name)) > _LONGEST_NAME for name in names):
            raise self.bad(text, f"has a name of more than {_LONGEST_NAME} bytes")
        if "\0" in text:
            raise self.bad(text, "has a zero byte in its name")
        return names


def _apply(tree: _Tree, entry: Entry) -> None:
    try:
        tree.apply(entry)
    except OSError as exc:
        if exc.errno != errno.ENAMETOOLONG:
            raise
        raise tree.bad(entry.name, "has a path that is too long") from exc


def target_of(link: Path) -> str | None:
    """What a link leads to, there or not; None where no system follows all of them."""
    try:
        link.stat()
    except OSError as exc:
        if exc.errno == errno.ELOOP:
            # Python would follow them, each link with a call of its own
            return None
    return os.path.realpath(link)


def remove_tree(path: Path) -> None:
    """Remove an unpacked image; what is gone already does no harm."""
    shutil.rmtree(path, ignore_errors=True)


def _lstat(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None
