"""Views: a model's files under their real names, for programs that want a path.

Hard links to the blobs, so that a view takes no room; where the file system has no hard links a
copy is made instead. A view is built aside and renamed, so it is there whole or not at all.
"""

import os
import secrets
import shutil
from pathlib import Path

from modelrunner.oci.artifact import Layer, ModelArtifact
from modelrunner.store.files import TEMPORARY_PREFIX, disk_errors
from modelrunner.store.layout import Layout


def ensure_view(layout: Layout, artifact: ModelArtifact) -> Path:
    """The folder with a model's files; made if it is not there, or not right any more.

    Raises:
        DiskFullError, StoreAccessError: It cannot be made.
    """
    folder = layout.view(artifact.manifest.digest)
    if _is_right(layout, artifact, folder):
        return folder
    with disk_errors(folder):
        beside = layout.views / f"{TEMPORARY_PREFIX}{folder.name}-{secrets.token_hex(6)}"
        try:
            beside.mkdir(parents=True)
            for layer in artifact.layers:
                if layer.path is not None:
                    place_file(layout.blob(layer.descriptor.digest), beside / layer.path)
            _swap(beside, folder)
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return folder


def place_file(blob: Path, target: Path) -> None:
    """Puts a blob's content under another name: a hard link, or else a copy."""
    target.parent.mkdir(parents=True, exist_ok=True)
    try:
        os.link(blob, target)
    except OSError:
        # another file system, one without links, or too many links: a copy serves as well
        shutil.copyfile(blob, target)
        target.chmod(0o444)


def _is_right(layout: Layout, artifact: ModelArtifact, folder: Path) -> bool:
    return folder.is_dir() and all(
        _is_same(layout, layer, folder) for layer in artifact.layers if layer.path is not None
    )


def _is_same(layout: Layout, layer: Layer, folder: Path) -> bool:
    try:
        view = (folder / str(layer.path)).lstat()
        blob = layout.blob(layer.descriptor.digest).stat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    if os.path.samestat(view, blob):
        return True
    # a copy: made after its blob, and of its size
    return view.st_nlink == 1 and view.st_size == blob.st_size and view.st_mtime >= blob.st_mtime


def _swap(beside: Path, folder: Path) -> None:
    try:
        beside.rename(folder)
    except OSError:
        if not folder.is_dir():
            raise
        # an older view is in the way: another process may have made it just now
        stale = folder.with_name(f"{TEMPORARY_PREFIX}{folder.name}-{secrets.token_hex(6)}")
        folder.rename(stale)
        beside.rename(folder)
        shutil.rmtree(stale, ignore_errors=True)
