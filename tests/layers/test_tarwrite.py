from __future__ import annotations

import io
import tarfile
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layers.entry import Entry
from layers.tarread import tar_entries
from layers.tarwrite import END, TarWriter, padding
from ocispec.errors import Invalid, Unsupported

NAMES = st.text(st.characters(blacklist_characters="/\0", codec="utf-8"), min_size=1).filter(
    lambda name: name not in (".", "..") and len(name.encode()) <= 255
)
PATHS = st.lists(NAMES, min_size=1, max_size=12).map("/".join)


def archive(*entries: Entry) -> bytes:
    writer = TarWriter()
    return (
        b"".join(
            writer.header(entry) + b"x" * entry.size + bytes(padding(entry.size))
            for entry in entries
        )
        + END
    )


@pytest.mark.parametrize(
    "entry",
    [
        Entry("a", "file", 0o644, 1, 2, 3, 4_000_000_000),
        Entry("a", "file", 0o7777, size=512),
        Entry("d", "dir", 0o1777),
        Entry("", "dir", 0o700, 5, 6),
        Entry("l", "symlink", 0o777, target="../../etc/passwd"),
        Entry("l", "symlink", 0o777, target="t" * 100),
        Entry("l", "symlink", 0o777, target="t" * 101),
        Entry("l", "symlink", 0o777, target="zürich"),
        Entry("h", "link", target="a"),
        Entry("c", "char", major=4095, minor=1048575),
        Entry("b", "block", major=7, minor=1),
        Entry("p", "fifo", 0o600),
        Entry("n" * 100, "file"),
        Entry("n" * 101, "file"),
        Entry("n" * 99, "dir"),
        Entry("n" * 100, "dir"),
        Entry("p" * 155 + "/" + "n" * 100, "file"),
        Entry("p" * 155 + "/" + "n" * 99, "dir"),
        Entry("p" * 155 + "/" + "n" * 100, "dir"),
        Entry("p" * 156 + "/" + "n", "file"),
        Entry("d/" * 2000 + "f", "file"),
        Entry("ünï/cödé", "file"),
        Entry("bad \udcff\udcfe", "file"),
        Entry("new\nline=", "file"),
        Entry("f", "file", uid=2_097_151, gid=2_097_152),
        Entry("f", "file", uid=4_294_967_294),
        Entry("f", "file", mtime_ns=-5_000_000_000),
        Entry("f", "file", mtime_ns=8**11 * 1_000_000_000),
        Entry("f", "file", 0o4755, xattrs={"security.capability": b"\1\0\0\2=\n\0"}),
        Entry("d", "dir", xattrs={"user.b": b"2", "user.a": b"1" * 1000}),
    ],
    ids=lambda entry: f"{entry.kind} {entry.path[:12]!r} {len(entry.path)}",
)
def test_an_entry_is_read_back_as_it_was_written(entry: Entry) -> None:
    read = [entry for entry, _ in tar_entries(io.BytesIO(archive(entry)))]

    assert [entry] == read


@given(PATHS, st.integers(0, 2**32 - 2), st.integers(-(2**40), 2**40))
def test_any_path_owner_and_time_is_read_back(path: str, owner: int, seconds: int) -> None:
    entry = Entry(path, "file", uid=owner, gid=owner, mtime_ns=seconds * 10**9)

    read = [entry for entry, _ in tar_entries(io.BytesIO(archive(entry)))]

    assert [entry] == read


@given(PATHS, PATHS)
def test_python_reads_the_same_path_and_target(path: str, target: str) -> None:
    entry = Entry(path, "symlink", 0o777, target=target)
    with tarfile.open(fileobj=io.BytesIO(archive(entry)), errors="surrogateescape") as tar:
        (info,) = tar.getmembers()

    assert (path, target) == (info.name, info.linkname)


def test_a_size_of_8_gib_or_more_is_in_a_pax_header() -> None:
    entry = Entry("f", "file", size=8**11)
    header = TarWriter().header(entry)
    with tarfile.open(fileobj=io.BytesIO(header)) as tar:
        info = tar.next()

    assert info is not None
    assert info.size == 8**11


def test_parts_of_a_second_are_cut_off() -> None:
    writer = TarWriter()
    entry = Entry("f", "file", mtime_ns=5_999_999_999)

    assert writer.header(replace(entry, mtime_ns=5_000_000_000)) == writer.header(entry)


def test_no_pax_header_is_written_where_ustar_can_say_it() -> None:
    lengths = [
        len(TarWriter().header(entry))
        for entry in (
            Entry("f", "file"),
            Entry("p" * 155 + "/" + "n" * 100, "file"),
            Entry("l", "symlink", target="t" * 100),
        )
    ]

    assert lengths == [512, 512, 512]


def test_the_order_of_xattrs_does_not_matter() -> None:
    one = Entry("f", "file", xattrs={"user.a": b"1", "user.b": b"2"})
    other = Entry("f", "file", xattrs={"user.b": b"2", "user.a": b"1"})

    assert TarWriter().header(one) == TarWriter().header(other)


def test_what_was_written_before_does_not_matter() -> None:
    used = TarWriter()
    for owner in range(5000):
        used.header(Entry("x", "file", uid=owner))
    entry = Entry("f", "file", 0o600, 7, 8, 9, 10)

    assert TarWriter().header(entry) == used.header(entry)


def test_a_nul_in_a_path_is_refused() -> None:
    with pytest.raises(Invalid):
        TarWriter().header(Entry("a\0b", "file"))


def test_an_xattr_with_an_equals_sign_in_its_name_is_refused() -> None:
    with pytest.raises(Unsupported):
        TarWriter().header(Entry("f", "file", xattrs={"user.a=b": b"1"}))
