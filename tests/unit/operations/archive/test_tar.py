"""A tar from anywhere: its members are read as they come, and what attacks is refused."""

import io
import tarfile
from contextlib import suppress

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from modelrunner.errors import IntegrityError, SizeMismatchError
from modelrunner.operations.archive.save import header
from modelrunner.operations.archive.tar import TarStream

GIB = 1024**3
FORMATS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def packed(*members, form=tarfile.PAX_FORMAT):
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w", format=form) as archive:
        for name, content, *changes in members:
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for change in changes:
                vars_of, value = change
                setattr(member, vars_of, value)
            archive.addfile(member, io.BytesIO(content))
    return stream.getvalue()


def read(raw):
    tar = TarStream(io.BytesIO(raw))
    return [(member.name, member.kind, b"".join(tar.chunks())) for member in tar.members()]


@pytest.mark.parametrize("form", FORMATS.values(), ids=FORMATS)
def test_members_come_with_their_content(form):
    long = "a/" * 45 + "end"
    members = [("one", b"1" * 511), (f"./{long}", b""), ("two", b"2" * 1025)]
    assert read(packed(*members, form=form)) == [
        ("one", "file", b"1" * 511),
        (long, "file", b""),
        ("two", "file", b"2" * 1025),
    ]


@pytest.mark.parametrize("form", [tarfile.GNU_FORMAT, tarfile.PAX_FORMAT])
def test_a_name_of_any_length_is_read_whole(form):
    name = "n" * 3000
    assert read(packed((name, b"x"), form=form)) == [(name, "file", b"x")]


def test_what_is_not_read_of_a_member_is_passed_over():
    tar = TarStream(io.BytesIO(packed(("one", b"1" * 5000), ("two", b"2"))))
    assert [member.name for member in tar.members()] == ["one", "two"]


def test_links_devices_and_folders_are_told_apart_from_files():
    kinds = [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE, tarfile.DIRTYPE]
    raw = packed(*((f"m{kind[0]}", b"", ("type", kind)) for kind in kinds), ("file", b"x"))
    assert [kind for _name, kind, _content in read(raw)] == [*["other"] * 4, "folder", "file"]


@pytest.mark.parametrize("name", ["/etc/passwd", "../up", "a/../../up", "blobs/..", "a\\..\\b"])
def test_a_name_that_leads_out_of_the_archive_is_refused(name):
    with pytest.raises(IntegrityError, match="outside of it"):
        read(packed((name, b"x")))


def test_a_sparse_file_is_refused():
    with pytest.raises(IntegrityError, match="sparse"):
        read(packed(("one", b"", ("type", tarfile.GNUTYPE_SPARSE))))
    with pytest.raises(IntegrityError, match="sparse"):
        read(packed(("one", b"x", ("pax_headers", {"GNU.sparse.size": "99"}))))


@pytest.mark.parametrize("size", ["-1", "9" * 30, "x", "1e3", "\u0661"])
def test_a_size_that_is_none_is_refused(size):
    with pytest.raises(IntegrityError, match="size"):
        read(packed(("one", b"x", ("pax_headers", {"size": size}))))


def test_a_header_without_end_takes_no_memory():
    extra = tarfile.TarInfo("x")
    extra.type, extra.size = tarfile.GNUTYPE_LONGNAME, 100 * GIB
    with pytest.raises(IntegrityError, match="more than 1048576"):
        read(extra.tobuf(tarfile.GNU_FORMAT) + bytes(10_000))


@pytest.mark.parametrize("record", [b"x", b"999 a=b\n", b"3 a=b\n", b"6 a=bc", b"-5 a=b\n"])
def test_a_damaged_pax_header_is_refused(record):
    extra = tarfile.TarInfo("x")
    extra.type, extra.size = tarfile.XHDTYPE, len(record)
    raw = extra.tobuf(tarfile.USTAR_FORMAT) + record.ljust(512, b"\0") + packed(("one", b"x"))
    with pytest.raises(IntegrityError, match="pax"):
        read(raw)


def test_an_archive_that_is_cut_anywhere_is_found_out():
    raw = packed(("one", b"1" * 700), ("n" * 200, b"2" * 10))
    whole = raw.rstrip(b"\0")
    for end in [*range(0, len(whole), 97), len(whole)]:
        with pytest.raises(SizeMismatchError, match="unexpected end of archive"):
            read(raw[:end])


@given(st.binary(max_size=2000), st.integers(0, 3000))
@settings(max_examples=3 * settings.default.max_examples)
def test_whatever_comes_is_read_or_refused(noise, place):
    raw = bytearray(packed(("one", b"1" * 700), ("n" * 200, b"2" * 10)))
    raw[place : place + len(noise)] = noise
    with suppress(IntegrityError):
        read(bytes(raw))


@pytest.mark.parametrize("size", [0, 1, 8 * GIB - 1, 8 * GIB, 8 * GIB + 1, 2000 * GIB])
def test_a_header_of_ours_says_its_size_to_everybody(size):
    raw = header("blobs/sha256/" + "0" * 64, size)
    # beyond eight GiB in a record before the header: three blocks, else one
    assert len(raw) == (512 if size < 8 * GIB else 1536)
    with tarfile.open(fileobj=io.BytesIO(raw), mode="r:") as archive:
        member = archive.next()
    assert (member.name[-64:], member.size, member.mtime) == ("0" * 64, size, 0)
    assert next(TarStream(io.BytesIO(raw)).members()).size == size
    # no dialect of its own: what every tar reads
    assert raw[257:265] == b"ustar\x0000"
