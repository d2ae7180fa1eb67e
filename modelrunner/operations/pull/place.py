"""A model's files under their real names in a directory of the user's, with their checksums.

What already exists and right is left alone: a link to the blob, or a copy of its size that has
the blob's time. Everything new is made beside and then renamed. A file that is neither the model's
nor was put there by an earlier call, as `SHA256SUMS` says, is never overwritten unasked.

Beside their real names the files have stable ones, which a recipe can name whatever the model is:
`model.gguf`, or `model-00001-of-00003.gguf` and so on for shards, and `mmproj.gguf`. These are
links to the files beside them; each call renews them and removes those of the model before.
"""

import os
import re
import shutil
import stat
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from modelrunner.disk.clones import share_blocks
from modelrunner.disk.files import (
    disk_errors,
    flush,
    lasting,
    remove_abandoned,
    sync_directory,
    temporary_beside,
    write_atomically,
)
from modelrunner.disk.inside import open_content
from modelrunner.errors import ConfigError, MalformedManifestError, StoreAccessError, UsageError
from modelrunner.oci.digest import Digest
from modelrunner.store.adopt import Way
from modelrunner.store.stamps import CHUNK, hash_file
from modelrunner.store.store import StoredModel, missing
from modelrunner.store.views import place_file
from modelrunner.text import os_reason

SUMS = "SHA256SUMS"
STABLE_WEIGHTS = "model.gguf"
STABLE_PROJECTOR = "mmproj.gguf"
_STABLE = re.compile(r"(?:model(?:-\d{5}-of-\d{5})?|mmproj)\.gguf")
_LINE = re.compile(r"([0-9a-f]{64}) [ *](\S.*)")


@dataclass(frozen=True, slots=True)
class Placed:
    """Where a model's files are now; `changed` is how many had to be made."""

    folder: Path
    weights: Path
    changed: int


@dataclass(frozen=True, slots=True)
class _File:
    name: str
    digest: Digest
    blob: Path
    target: Path


@dataclass(frozen=True, slots=True)
class _Link:
    """A stable name, and the file that it stands for."""

    name: str
    file: _File
    target: Path


def place(model: StoredModel, folder: Path, way: Way = "auto", *, force: bool = False) -> Placed:
    """Puts a model's files into a directory, which is made if it is not there.

    Args:
        model: Complete in its store.
        folder: Where to.
        way: How.
        force: Whether files of other origin are replaced.

    Raises:
        UsageError: A file of other origin has the name, or links are not possible.
        ConfigError: The directory cannot be used.
        DiskFullError: No space left; what was there before is still there.
        CorruptStoreError: A blob is missing.
    """
    files = _files(model, folder)
    links = _links(model, files, folder)
    contents = _contents(files, links)
    with _folder_errors(folder):
        with lasting(folder):
            folder.mkdir(parents=True, exist_ok=True)
        targets = [file.target for file in files] + [link.target for link in links]
        for target in (*targets, folder / SUMS):
            remove_abandoned(target)
        sums = _read_sums(folder / SUMS, force=force)
        wrong = [file for file in files if not _is_right(file, way)]
        missing_links = [link for link in links if not _is_linked(link)]
        for target, ours in (
            *((file.target, _is_ours(file, sums)) for file in wrong),
            *((link.target, _is_our_link(link, sums)) for link in missing_links),
        ):
            if not (force or ours):
                raise UsageError(
                    f"{target} already exists and was not created by modelrunner",
                    hint="move it away, choose another directory, or replace it with --force",
                    path=str(target),
                )
        _replace(wrong, way)
        _remove_stale_links(folder, sums, contents)
        for link in missing_links:
            _make_link(link)
        _write_sums(folder, sums, contents)
        sync_directory(folder)
    main = model.artifact.main
    weights = folder if main is None else folder / str(main.path)
    return Placed(folder, weights, len(wrong))


def _files(model: StoredModel, folder: Path) -> Sequence[_File]:
    found = []
    for layer in model.artifact.layers:
        if layer.path is None:
            continue
        if str(layer.path).casefold() == SUMS.casefold():
            raise MalformedManifestError(
                f"a file of the model has the name of the checksum file: {layer.path}",
                hint="pull it without --output",
            )
        blob = model.layout.blob(layer.descriptor.digest)
        if not blob.exists():
            raise missing(model, layer.descriptor)
        found.append(_File(str(layer.path), layer.descriptor.digest, blob, folder / layer.path))
    return found


def _contents(files: Sequence[_File], links: Sequence[_Link]) -> Mapping[str, Digest]:
    """Every name in the directory, with the digest of its content."""
    found = {file.name: file.digest for file in files}
    return found | {link.name: link.file.digest for link in links}


def _links(model: StoredModel, files: Sequence[_File], folder: Path) -> Sequence[_Link]:
    """The stable names that no file of the model has itself."""
    by_name = {file.name: file for file in files}
    artifact = model.artifact
    if not artifact.is_runnable:
        return []
    count = len(artifact.weights)
    wanted = {
        STABLE_WEIGHTS if count == 1 else f"model-{number:05d}-of-{count:05d}.gguf": layer
        for number, layer in enumerate(artifact.weights, 1)
    }
    if artifact.projector is not None:
        wanted[STABLE_PROJECTOR] = artifact.projector
    taken = {name.casefold() for name in by_name}
    return [
        _Link(name, by_name[str(layer.path)], folder / name)
        for name, layer in wanted.items()
        if name.casefold() not in taken and layer.path is not None
    ]


def _is_linked(link: _Link) -> bool:
    if link.target.is_symlink():
        return str(link.target.readlink()) == link.file.name
    try:
        return link.target.samefile(link.file.target)
    except FileNotFoundError:
        return False


def _is_our_link(link: _Link, sums: Mapping[str, str]) -> bool:
    """Whether what has the name is nothing, or what an earlier call has put there."""
    return _look(link.target) is None or _is_known(link.target, link.name, sums)


def _is_known(path: Path, name: str, sums: Mapping[str, str]) -> bool:
    """Whether an earlier call has put there what has this name now."""
    if name not in sums:
        return False
    if path.is_symlink():
        return str(path.readlink()) in sums
    return path.is_file() and hash_file(path).hex == sums[name]


def _make_link(link: _Link) -> None:
    """Make a relative link, so that the directory may move; or else a hard link or a copy."""
    beside = temporary_beside(link.target)
    try:
        try:
            beside.symlink_to(link.file.name)
        except OSError:
            place_file(link.file.target, beside)
        beside.replace(link.target)
    finally:
        beside.unlink(missing_ok=True)


def _remove_stale_links(folder: Path, sums: Mapping[str, str], wanted: Collection[str]) -> None:
    """Removes the stable names of a model that was there before: they would name the wrong one."""
    for name in sums.keys() - wanted:
        path = folder / name
        if _STABLE.fullmatch(name) and path.is_symlink() and _is_known(path, name, sums):
            path.unlink()


def _is_right(file: _File, way: Way) -> bool:
    """Whether a file need not be made."""
    there, blob = _look(file.target), file.blob.stat()
    if there is None or not stat.S_ISREG(there.st_mode):
        return False
    if os.path.samestat(there, blob):
        return way != "copy"
    if way == "link" or there.st_size != blob.st_size:
        return False
    if there.st_mtime_ns == blob.st_mtime_ns:
        return True
    if hash_file(file.target) != file.digest:
        return False
    with suppress(OSError):
        # so that it need not be read again
        os.utime(file.target, ns=(there.st_atime_ns, blob.st_mtime_ns))
    return True


def _is_ours(file: _File, sums: Mapping[str, str]) -> bool:
    """Whether what is there is nothing, or what an earlier call has put there."""
    there = _look(file.target)
    if there is None:
        return True
    if stat.S_ISLNK(there.st_mode):
        # the stable name of another model
        return bool(_STABLE.fullmatch(file.name)) and _is_known(file.target, file.name, sums)
    if not stat.S_ISREG(there.st_mode):
        return False
    if there.st_size == 0:
        # nothing of anybody's is lost: what a power cut leaves of a file, or `touch` makes
        return True
    return hash_file(file.target).hex in (sums.get(file.name), file.digest.hex)


def _look(path: Path) -> os.stat_result | None:
    try:
        return path.lstat()
    except FileNotFoundError:
        return None


def _replace(files: Sequence[_File], way: Way) -> None:
    """Makes all files beside, and only then gives them their names."""
    made: list[tuple[Path, Path]] = []
    try:
        for file in files:
            with lasting(file.target.parent):
                file.target.parent.mkdir(parents=True, exist_ok=True)
            beside = temporary_beside(file.target)
            made.append((beside, file.target))
            _bring(file.blob, beside, way)
            with open_content(beside) as whole:
                # a name that outlives a power cut has to be that of the content
                flush(whole.fileno())
        for beside, target in made:
            beside.replace(target)
        for folder in {target.parent for _beside, target in made}:
            sync_directory(folder)
    finally:
        for beside, _ in made:
            beside.unlink(missing_ok=True)


def _bring(blob: Path, target: Path, way: Way) -> None:
    """Makes a new file with a blob's content."""
    if way == "link":
        try:
            os.link(blob, target)
        except OSError as exc:
            raise UsageError(
                f"cannot create a hard link in {target.parent}: {os_reason(exc)}",
                hint="leave out --link, or set MODELRUNNER_HOME to a directory on the same disk",
                path=str(target.parent),
            ) from exc
        return
    if share_blocks(blob, target):
        _take_time(blob, target)
        return
    if way == "auto":
        with suppress(OSError):
            os.link(blob, target)
            return
    # outside: a directory that a person names
    with open_content(blob) as source, target.open("xb") as copy:
        shutil.copyfileobj(source, copy, CHUNK)
    _take_time(blob, target)


def _take_time(blob: Path, target: Path) -> None:
    """By its time the copy is known again."""
    looked = blob.stat()
    os.utime(target, ns=(looked.st_atime_ns, looked.st_mtime_ns))


def _read_sums(path: Path, *, force: bool) -> Mapping[str, str]:
    """Checksums by name; none where there is no such file yet."""
    try:
        # outside: a directory that a person names
        lines = path.read_text(errors="surrogateescape").splitlines()
    except FileNotFoundError:
        return {}
    found = [_LINE.fullmatch(line) for line in lines]
    if not all(found) and not force:
        raise UsageError(
            f"{path} already exists and is not a list of checksums",
            hint="move it away, choose another directory, or replace it with --force",
            path=str(path),
        )
    return {match[2]: match[1] for match in found if match}


def _write_sums(folder: Path, sums: Mapping[str, str], files: Mapping[str, Digest]) -> None:
    """Writes the checksums of these files, and of others that are still there; if they differ."""
    kept = {name: digest for name, digest in sums.items() if (folder / name).exists()}
    wanted = kept | {name: digest.hex for name, digest in files.items()}
    text = "".join(f"{digest}  {name}\n" for name, digest in sorted(wanted.items()))
    content = text.encode(errors="surrogateescape")
    path = folder / SUMS
    try:
        # outside: a directory that a person names
        same = path.read_bytes() == content
    except FileNotFoundError:
        same = False
    if not same:
        write_atomically(path, content)


@contextmanager
def _folder_errors(folder: Path) -> Iterator[None]:
    """The words of `disk_errors`, for a directory that is not the store's."""
    try:
        with disk_errors(folder):
            yield
    except StoreAccessError as exc:
        error = ConfigError(exc.message, hint="check its permissions, or choose another directory")
        raise error.with_hint(error.hint, **exc.facts) from exc
    except FileNotFoundError as exc:
        # below `/proc`, say
        raise ConfigError(
            f"cannot create {folder}: {os_reason(exc)}",
            hint="choose another directory",
            path=str(folder),
        ) from exc
