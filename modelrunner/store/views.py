"""Views: a model's files under their real names, for programs that want a path.

Hard links to the blobs, so that a view takes no room; where the file system has no hard links a
copy is made instead, which is hashed once and then known by how it looks. A view is built aside
and renamed, so it is there whole or not at all.
"""

import errno
import os
import stat
import sys
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from modelrunner.disk.files import TEMPORARY_PREFIX, disk_errors
from modelrunner.disk.inside import make_directory, make_read_only, open_content, open_inside
from modelrunner.errors import ConfigError, CorruptStoreError
from modelrunner.oci.model.artifact import Layer, ModelArtifact
from modelrunner.oci.model.paths import same_names
from modelrunner.store.layout import Layout
from modelrunner.store.stamps import is_copy, is_known_copy


def ensure_view(layout: Layout, artifact: ModelArtifact) -> Path:
    """The directory with a model's files; made if it is not there, or not right any more.

    Raises:
        CorruptStoreError: A blob of the model is missing.
        ConfigError: The locale lacks a character of a file name.
        DiskFullError, StoreAccessError: It cannot be made.
    """
    folder = layout.view(artifact.manifest.digest)
    require_names(layout, artifact)
    if _is_right(layout, artifact, folder):
        return folder
    beside = _temporary(folder)
    try:
        with disk_errors(folder):
            make_directory(beside)
            made = {beside}
            for layer in artifact.layers:
                if layer.path is not None:
                    target = beside / layer.path
                    # once for each: a model may have thousands of files in one directory
                    if (folder_of := target.parent) not in made:
                        make_directory(folder_of)
                        made.add(folder_of)
                    _place_layer(layout, layer, target)
            while not _is_right(layout, artifact, folder) and not _swap(beside, folder):
                pass
    finally:
        _remove(beside)
    return folder


def require_names(layout: Layout, artifact: ModelArtifact) -> None:
    """Make sure that the model's files can have their names where the store is.

    Raises:
        ConfigError: File names have an encoding here that lacks a character; or two of them are one
            name for the file system.
    """
    paths = [str(layer.path) for layer in artifact.layers if layer.path is not None]
    for path in paths:
        require_name(path)
    same = same_names(paths)
    if same is not None and not _tells_apart(layout.root):
        raise ConfigError(
            f"{same[0]} and {same[1]} are one name for the file system of {layout.root}: files of"
            " the model would replace each other",
            hint="set MODELRUNNER_HOME to a directory on a case-sensitive file system",
        )


def _tells_apart(folder: Path) -> bool:
    """Whether the file system knows upper from lower case, and forms of Unicode from each other."""
    other = folder.with_name(folder.name.swapcase())
    try:
        return sys.platform != "darwin" and not other.samefile(folder)
    except FileNotFoundError:
        return True


def require_name(name: str) -> None:
    """Make sure that a file can have its name on this machine, see `require_names`."""
    try:
        os.fsencode(name)
    except UnicodeEncodeError as exc:
        raise ConfigError(
            f"cannot create the file {name}: this locale limits file names to "
            f"{sys.getfilesystemencoding().upper()}",
            hint="use a locale with UTF-8: LC_ALL=C.UTF-8",
        ) from exc


def place_file(blob: Path, target: Path) -> None:
    """Puts a blob's content under another name, which is free: a hard link, or else a copy.

    Raises:
        FileExistsError: The name is taken.
    """
    make_directory(target.parent)
    _link_or_copy(blob, target)


def _link_or_copy(blob: Path, target: Path) -> None:
    try:
        os.link(blob, target)
    except (FileExistsError, FileNotFoundError):
        # what is there may be a link to a blob: never written to
        raise
    except OSError:
        # another file system, one without links, or too many links: a copy serves as well
        from modelrunner.disk.clones import copy_data

        with open_content(blob) as source, open_inside(target, "new") as copy:
            copy_data(source.fileno(), copy.fileno())
            make_read_only(copy, target)


def _place_layer(layout: Layout, layer: Layer, target: Path) -> None:
    try:
        _link_or_copy(layout.blob(layer.descriptor.digest), target)
    except FileNotFoundError as exc:
        raise CorruptStoreError(
            f"blob missing from the local store: {layer.descriptor.digest}",
            hint="pull the model again: only missing blobs are downloaded",
            digest=str(layer.descriptor.digest),
        ) from exc


def _is_right(layout: Layout, artifact: ModelArtifact, folder: Path) -> bool:
    return folder.is_dir() and all(
        _is_same(layout, layer, folder) for layer in artifact.layers if layer.path is not None
    )


def _is_same(layout: Layout, layer: Layer, folder: Path) -> bool:
    path, digest = folder / str(layer.path), layer.descriptor.digest
    try:
        view = path.lstat()
        blob = layout.blob(digest).stat()
        if os.path.samestat(view, blob):
            return True
        return (
            stat.S_ISREG(view.st_mode)
            and view.st_size == layer.descriptor.size
            # one that is older than its blob may have been a link: it becomes one again
            and view.st_mtime >= blob.st_mtime
            and is_copy(layout, digest, path)
        )
    except (FileNotFoundError, NotADirectoryError):
        return False


def known_file(layout: Layout, artifact: ModelArtifact, layer: Layer) -> Path | None:
    """The file of a layer in a view, without reading it; None where it is another or not there."""
    path, digest = layout.view(artifact.manifest.digest) / str(layer.path), layer.descriptor.digest
    try:
        view = path.lstat()
        linked = os.path.samestat(view, layout.blob(digest).stat())
        right = view.st_size == layer.descriptor.size and (
            linked or (stat.S_ISREG(view.st_mode) and is_known_copy(layout, digest, path))
        )
    except (OSError, UnicodeEncodeError):
        # the locale has no such name, so that no file has it
        return None
    return path if right else None


def known_view(layout: Layout, artifact: ModelArtifact) -> Path | None:
    """The directory of a view, without reading it; None where a file is another or not there."""
    if all(known_file(layout, artifact, layer) is not None for layer in artifact.files):
        return layout.view(artifact.manifest.digest)
    return None


def copied_layers(layout: Layout, artifact: ModelArtifact) -> Iterator[tuple[Layer, Path]]:
    """The files of a view that is there which are not links to their blobs, with their paths."""
    folder = layout.view(artifact.manifest.digest)
    for layer in artifact.layers:
        if layer.path is None:
            continue
        path = folder / layer.path
        # a name that the locale lacks cannot be asked for
        with suppress(FileNotFoundError, NotADirectoryError, UnicodeEncodeError):
            blob = layout.blob(layer.descriptor.digest).stat()
            if not os.path.samestat(path.lstat(), blob):
                yield layer, path


def _swap(beside: Path, folder: Path) -> bool:
    """Gives a new view its name; False where another process has to be reckoned with first."""
    try:
        beside.rename(folder)
    except OSError as exc:
        if exc.errno not in (errno.ENOTEMPTY, errno.EEXIST) and not folder.is_symlink():
            raise
        # an older view is in the way, or one that another process has just made
        stale = _temporary(folder)
        with suppress(FileNotFoundError):
            folder.rename(stale)
        if stale.is_symlink():
            stale.unlink()
        _remove(stale)
        return False
    return True


def _temporary(folder: Path) -> Path:
    return folder.with_name(f"{TEMPORARY_PREFIX}{folder.name}-{os.urandom(6).hex()}")


def _remove(folder: Path) -> None:
    # most commands make no view, and it loads every kind of compression
    from shutil import rmtree

    rmtree(folder, ignore_errors=True)
