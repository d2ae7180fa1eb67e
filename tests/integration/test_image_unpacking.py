"""Layers of images: what is right in them is unpacked, and nothing gets out of the directory."""

import gzip
import io
import os
import stat
import tarfile
import tracemalloc
from collections.abc import Sequence
from pathlib import Path

import pytest

from modelrunner.archives.layers import Limits
from modelrunner.archives.unpack import LayerFile, unpack
from modelrunner.disk.inside import InsideFile
from modelrunner.errors import DigestMismatchError, IntegrityError, UnsupportedArtifactError
from modelrunner.oci.digest import Digest
from modelrunner.oci.tar import TarEntries, TarErrors
from tests.support.images import Item, Packed, directory, hardlink, packed, symlink, tar_of

SECRET = "the content of a file outside"


def _unpacked(
    folder: Path,
    *layers: Sequence[Item],
    how: Packed = "gzip",
    limits: Limits | None = None,
) -> Path:
    return _unpack_blobs(folder, [packed(tar_of(items), how) for items in layers],
                         [tar_of(items) for items in layers], limits)  # fmt: skip


def _unpack_blobs(
    folder: Path, blobs: Sequence[bytes], tars: Sequence[bytes], limits: Limits | None = None
) -> Path:
    files = []
    for number, (blob, tar) in enumerate(zip(blobs, tars, strict=True)):
        path = folder / f"layer-{number}"
        path.write_bytes(blob)
        files.append(LayerFile(path, Digest.of(tar)))
    unpack(files, folder / "root", limits)
    return folder / "root"


def _tree(root: Path) -> dict[str, str]:
    """Every file with its content, every link with what it points to."""
    found = {}
    for path in sorted(root.rglob("*")):
        name = str(path.relative_to(root))
        if path.is_symlink():
            found[name] = f"-> {path.readlink()}"
        elif path.is_file():
            found[name] = path.read_text()
        elif not any(path.iterdir()):
            found[name] = "/"
    return found


@pytest.mark.parametrize("how", ["", "gzip", "zstd"])
def test_layers_are_put_on_top_of_each_other(tmp_path: Path, how: Packed) -> None:
    root = _unpacked(
        tmp_path,
        [directory("app"), Item("app/a", b"old"), Item("etc/b", b"b"), directory("./empty/")],
        [Item("app/a", b"new"), Item("/app/c", b"c")],
        how=how,
    )
    assert _tree(root) == {"app/a": "new", "app/c": "c", "etc/b": "b", "empty": "/"}


def test_whiteouts_remove_what_layers_below_have(tmp_path: Path) -> None:
    root = _unpacked(
        tmp_path,
        [Item("a/1", b"1"), Item("a/2", b"2"), Item("b/1", b"1"), Item("b/d/2", b"2")],
        [Item("a/.wh.1"), Item("b/new", b"new"), Item("b/.wh..wh..opq"), Item("c/.wh.none")],
    )
    assert _tree(root) == {"a/2": "2", "b/new": "new"}


def test_a_whiteout_leaves_what_its_own_layer_has(tmp_path: Path) -> None:
    root = _unpacked(
        tmp_path,
        [Item("a/old", b"old")],
        [directory("a"), Item("a/new", b"new"), Item(".wh.a"), Item(".wh..wh.plnk", b"aufs")],
    )
    assert _tree(root) == {"a/new": "new"}


def test_absolute_links_mean_the_top_of_the_image(tmp_path: Path) -> None:
    root = _unpacked(
        tmp_path,
        [Item("usr/lib/x.so.1", b"x"), symlink("lib", "usr/lib")],
        [symlink("opt/deep/x.so", "/usr/lib/x.so.1"), Item("lib/y.so", b"y")],
        [symlink("etc/top", "/"), hardlink("app/x.so", "/lib/x.so.1")],
    )
    assert _tree(root) == {
        "app/x.so": "x",
        "etc/top": "-> ..",
        "lib": "-> usr/lib",
        "opt/deep/x.so": "-> ../../usr/lib/x.so.1",
        "usr/lib/x.so.1": "x",
        "usr/lib/y.so": "y",
    }
    assert (root / "opt/deep/x.so").read_text() == "x"


def test_a_hard_link_keeps_its_content_when_its_first_name_is_replaced(tmp_path: Path) -> None:
    root = _unpacked(
        tmp_path,
        [Item("a", b"first")],
        [hardlink("b", "a"), hardlink("b", "b")],
        [Item("a", b"second"), symlink("d/s", "../b"), hardlink("e/f/s", "d/s")],
    )
    assert _tree(root) == {
        "a": "second",
        "b": "first",
        "d/s": "-> ../b",
        "e/f/s": "-> ../../d/../b",
    }


def test_what_is_a_file_in_one_layer_may_be_a_directory_in_the_next(tmp_path: Path) -> None:
    root = _unpacked(
        tmp_path,
        [Item("a", b"file"), Item("b/c", b"c"), symlink("l", "b")],
        [directory("a"), Item("a/x", b"x"), Item("b", b"file"), directory("l"), Item("l/y", b"y")],
    )
    assert _tree(root) == {"a/x": "x", "b": "file", "l/y": "y"}


def test_only_the_permission_to_execute_counts(tmp_path: Path) -> None:
    root = _unpacked(
        tmp_path,
        [
            Item("su", b"", mode=0o6755),
            Item("shadow", b"", mode=0o000),
            Item("open", b"", mode=0o666),
            Item("dev/null", kind=tarfile.CHRTYPE),
        ],
    )
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) & 0o7700 for path in root.iterdir()}
    assert modes == {"su": 0o700, "shadow": 0o600, "open": 0o600, "dev": 0o700}
    assert not any((root / "dev").iterdir())


def test_long_names_and_large_files_come_whole(tmp_path: Path) -> None:
    name = "d" * 90 + "/" + "f" * 200
    content = os.urandom(3 << 20)
    root = _unpacked(tmp_path, [Item(name, content), hardlink("h", name), symlink("s", name)])
    assert (root / "s").read_bytes() == content
    gnu = tmp_path / "gnu"
    gnu.mkdir()
    with tarfile.open(gnu / "t", "w", format=tarfile.GNU_FORMAT) as archive:
        info = tarfile.TarInfo(name)
        archive.addfile(info)
    tar = (gnu / "t").read_bytes()
    # several members of gzip, as parallel packers write them
    blob = gzip.compress(tar[:700]) + gzip.compress(tar[700:])
    assert (_unpack_blobs(gnu, [blob], [tar]) / name).exists()


HOSTILE = {
    "a name that leaves": ([Item("../outside", b"x")], "leaves the image"),
    "a name that leaves in the middle": ([Item("a/../../outside", b"x")], "leaves the image"),
    "a pax name that leaves": (
        [Item("a", b"x", pax={"path": "../../outside"})],
        "leaves the image",
    ),
    "a link that leaves": (
        [symlink("out", "../outside"), Item("out/x", b"x")],
        "is a link that leaves the image",
    ),
    "a link that leaves by another": (
        [directory("d1/d2"), symlink("d1/d2/up", "../.."), symlink("out", "d1/d2/up/../outside")],
        "is a link that leaves the image",
    ),
    "a link to nothing": ([symlink("a", "")], "is a link to nothing"),
    "links in a circle": (
        [symlink("a", "b"), symlink("b", "a"), Item("a/x", b"x")],
        "is in a directory of links in a circle",
    ),
    "a hard link that leaves": ([hardlink("a", "../../outside")], "leaves the image"),
    "a hard link to a missing file": (
        [hardlink("a", "/outside")],
        "is a hard link to a missing file",
    ),
    "a hard link to a directory": (
        [directory("d"), hardlink("a", "d")],
        "is a hard link to a directory",
    ),
    "a hard link to the top": ([hardlink("a", "/")], "is a hard link to the top directory"),
    "a hard link to what it replaces": (
        [Item("d/f", b"x"), hardlink("d", "d/f")],
        "replaces a directory of the same layer",
    ),
    "a device": ([Item("app/disk", kind=tarfile.BLKTYPE)], "is a device or a pipe"),
    "a pipe": ([Item("app/pipe", kind=tarfile.FIFOTYPE)], "is a device or a pipe"),
    "a whiteout of the directory above": (
        [Item("a/.wh...")],
        "removes a directory above it",
    ),
    "a whiteout of nothing": ([Item("a/.wh.")], "removes a directory above it"),
    "a whiteout that leaves": ([Item("../.wh.outside")], "leaves the image"),
    "a file as a directory": (
        [Item("a", b"x"), Item("a/b", b"x")],
        "has a file as its directory",
    ),
    "a file over a directory": (
        [directory("a"), Item("a", b"x")],
        "replaces a directory of the same layer",
    ),
    "a file over the top": ([Item("./", b"x")], "replaces the top directory"),
    "a very deep directory": ([Item("a/" * 200 + "f", b"x")], "directories deep"),
    "a very long name": ([Item("n" * 300, b"x")], "has a name of more than 255 bytes"),
}


@pytest.mark.parametrize("name", HOSTILE)
def test_a_hostile_layer_is_refused_and_changes_nothing_outside(tmp_path: Path, name: str) -> None:
    outside = tmp_path / "outside"
    outside.write_text(SECRET)
    items, why = HOSTILE[name]
    with pytest.raises(IntegrityError) as caught:
        _unpacked(tmp_path, items)
    assert why in caught.value.message
    assert caught.value.hint
    assert outside.read_text() == SECRET
    assert outside.stat().st_nlink == 1
    assert sorted(path.name for path in tmp_path.iterdir()) == ["layer-0", "outside", "root"]


def test_a_hard_link_over_the_directory_of_its_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(IntegrityError, match="is a hard link to a file that it replaces"):
        _unpacked(tmp_path, [Item("d/f", b"x")], [hardlink("d", "d/f")])


def test_a_hard_link_finds_no_file_of_the_machine(tmp_path: Path) -> None:
    outside = tmp_path / "outside"
    outside.write_text(SECRET)
    with pytest.raises(IntegrityError, match="is a hard link to a missing file"):
        _unpacked(tmp_path, [symlink("top", "/"), hardlink("a", f"top{outside}")])
    assert outside.stat().st_nlink == 1


def test_a_bomb_is_refused_before_the_disk_is_full(tmp_path: Path) -> None:
    zeros = [Item("zeros", b"\0" * (8 << 20))]
    with pytest.raises(IntegrityError, match=r"unpacks to more than 1.00 MiB, 10 times its size"):
        _unpacked(tmp_path, zeros, limits=Limits(ratio=10, small=1 << 20))
    assert sum(path.stat().st_size for path in (tmp_path / "root").iterdir()) <= 2 << 20


@pytest.mark.parametrize(
    ("limits", "why"),
    [
        (Limits(bytes=1 << 20), "the image unpacks to more than 1.00 MiB"),
        (Limits(entries=2), "the image has more than 2 entries"),
        (Limits(path=30), "a path in the image has 40 characters, more than 30"),
    ],
)
def test_an_image_beyond_the_limits_is_refused(tmp_path: Path, limits: Limits, why: str) -> None:
    items = [Item("a", os.urandom(1 << 20)), Item("b"), Item("c" * 40)]
    with pytest.raises(IntegrityError) as caught:
        _unpacked(tmp_path, items, limits=limits)
    assert caught.value.message == why


def test_a_header_that_would_fill_the_memory_is_refused(tmp_path: Path) -> None:
    info = tarfile.TarInfo("x")
    info.type, info.size = tarfile.XHDTYPE, 1 << 33
    tar = info.tobuf(tarfile.GNU_FORMAT)
    with pytest.raises(IntegrityError, match="has an extended header of 8589934592 bytes"):
        _unpack_blobs(tmp_path, [tar], [tar])


def test_a_sparse_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnsupportedArtifactError, match="an entry of an unsupported kind: 'a'"):
        _unpacked(tmp_path, [Item("a", b"x", pax={"GNU.sparse.realsize": "1099511627776"})])


def test_another_content_than_the_config_says_is_refused(tmp_path: Path) -> None:
    tar = tar_of([Item("a", b"x")])
    with pytest.raises(DigestMismatchError, match="but its config says"):
        _unpack_blobs(tmp_path, [packed(tar)], [b"something else"])
    (tmp_path / "b").mkdir()
    with pytest.raises(DigestMismatchError, match="but its config says"):
        # what stands behind the end of the archive counts
        _unpack_blobs(tmp_path / "b", [packed(tar + b"more")], [tar])


@pytest.mark.parametrize("how", ["", "gzip", "zstd"])
def test_a_cut_layer_is_refused(tmp_path: Path, how: Packed) -> None:
    tar = tar_of([Item("a", os.urandom(100_000))])
    with pytest.raises(IntegrityError, match="ends in the middle"):
        _unpack_blobs(tmp_path, [packed(tar, how)[:50_000]], [tar])


@pytest.mark.parametrize("blob", [b"\x1f\x8b not gzip", b"\x28\xb5\x2f\xfd not zstd", b"x" * 600])
def test_what_is_not_a_layer_is_refused(tmp_path: Path, blob: bytes) -> None:
    with pytest.raises(IntegrityError, match="a layer of the image is not"):
        _unpack_blobs(tmp_path, [blob], [blob])


def test_a_chain_of_links_that_no_system_follows_does_no_harm(tmp_path: Path) -> None:
    links = [symlink(f"l{number}", f"l{number + 1}") for number in range(3000)]
    root = _unpacked(tmp_path, [Item("l3000", b"x"), *links])
    assert (root / "l2999").read_text() == "x"


def test_a_link_through_a_file_does_no_harm(tmp_path: Path) -> None:
    root = _unpacked(tmp_path, [Item("f", b"x"), symlink("l", "f/x")])
    assert (root / "l").readlink() == Path("f/x")


def _pax(records: bytes) -> bytes:
    head = tarfile.TarInfo("pax")
    head.type, head.size = tarfile.XHDTYPE, len(records)
    return head.tobuf(tarfile.USTAR_FORMAT) + records + bytes(-len(records) % 512)


def test_headers_before_an_entry_take_no_more_memory_the_more_they_are(tmp_path: Path) -> None:
    size = 1024 * 1024
    headers = [_pax(b"%d %08d=%s\n" % (size, n, b"a" * (size - 18))) for n in range(16)]
    blob = b"".join(headers) + tarfile.TarInfo("f").tobuf(tarfile.USTAR_FORMAT)
    tracemalloc.start()
    try:
        _unpack_blobs(tmp_path, [packed(blob, "gzip")], [blob])
        _, most = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert most < 10 * size


class _Counted(bytes):
    """Bytes that count how many of them are copied."""

    copied = 0

    def __getitem__(self, key):  # type: ignore[no-untyped-def,override]
        found = super().__getitem__(key)
        if isinstance(key, slice):
            _Counted.copied += len(found)
            return _Counted(found)
        return found

    def rstrip(self, chars=None):  # type: ignore[no-untyped-def,override]
        return _Counted(super().rstrip(chars))


def test_the_records_of_a_header_are_read_once(tmp_path: Path) -> None:
    raw = _Counted(b"5 a=\n" * 10_000)
    errors = TarErrors(AssertionError, AssertionError, AssertionError, AssertionError)  # type: ignore[arg-type]
    entries = TarEntries(io.BytesIO(), errors)
    assert entries._records(raw) == {}
    assert _Counted.copied < 10 * len(raw)


@pytest.mark.parametrize("how", ["gzip", "zstd"])
def test_what_follows_a_member_is_not_copied_for_each_of_many(
    tmp_path: Path, how: Packed, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = []
    read = InsideFile.read

    def counted(self: InsideFile, size: int = -1) -> bytes | None:
        asked.append(size)
        return read(self, size)

    monkeypatch.setattr(InsideFile, "read", counted)
    blob = packed(b"", how) * 100 + packed(tar_of([Item("f", b"x")]), how)
    root = _unpack_blobs(tmp_path, [blob], [tar_of([Item("f", b"x")])])
    assert (root / "f").read_text() == "x"
    # each member takes time by what is read at once
    assert max(asked) <= 64 * 1024
