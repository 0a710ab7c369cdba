from __future__ import annotations

import io
import tarfile
import tracemalloc

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.tars import DIR, END, FILE, LINK, SYMLINK, header, member, padded, pax, tar

from layers.entry import Entry
from layers.tarread import Limits, tar_entries
from ocispec.content import Readable
from ocispec.errors import Invalid, PybuildError

SECOND = 10**9


class Trickle:
    """Gives a few bytes at a time, and remembers whether it was read to its end."""

    def __init__(self, data: bytes, step: int) -> None:
        self._data = io.BytesIO(data)
        self._step = step
        self.ended = False

    def read(self, size: int = -1, /) -> bytes:
        data = self._data.read(min(size, self._step) if size >= 0 else self._step)
        self.ended = self.ended or not data
        return data

    def close(self) -> None:
        pass


def whole(data: Readable) -> bytes:
    return b"".join(iter(lambda: data.read(1 << 20), b""))


def members(*blocks: bytes) -> list[tuple[Entry, bytes]]:
    return [(entry, whole(data)) for entry, data in tar_entries(tar(*blocks))]


def one(*blocks: bytes) -> Entry:
    ((entry, _),) = members(*blocks)
    return entry


def test_members_come_in_order_with_their_data() -> None:
    found = members(
        member("d/", DIR, mode=0o1777, uid=1, gid=2),
        member("d/f", data=b"text", mtime=5),
        member("l", SYMLINK, link="d/f"),
        member("h", LINK, link="./d//f"),
    )

    assert [
        (Entry("d", "dir", 0o1777, 1, 2, mtime_ns=1_600_000_000 * SECOND), b""),
        (Entry("d/f", "file", 0o644, size=4, mtime_ns=5 * SECOND), b"text"),
        (Entry("l", "symlink", target="d/f", mtime_ns=1_600_000_000 * SECOND), b""),
        (Entry("h", "link", target="d/f", mtime_ns=1_600_000_000 * SECOND), b""),
    ] == found


def test_data_that_was_not_read_is_passed_over() -> None:
    archive = tar(member("a", data=b"a" * 3_000_000), member("b", data=b"b" * 1000), member("c"))

    paths = []
    for entry, data in tar_entries(archive):
        data.read(10)
        paths.append(entry.path)

    assert paths == ["a", "b", "c"]


@pytest.mark.parametrize("step", [1, 511, 513, 10_000])
def test_short_reads_change_nothing(step: int) -> None:
    archive = b"".join(
        (member("n" * 200, data=b"x" * 1000), member("f", data=b"y" * 700, records={b"a": b"b"}))
    )

    found = [(entry.size, whole(data)) for entry, data in tar_entries(Trickle(archive + END, step))]

    assert found == [(1000, b"x" * 1000), (700, b"y" * 700)]


def test_all_bytes_after_the_end_are_read() -> None:
    raw = Trickle(member("f", data=b"x") + END + bytes(9000) + b"junk", 4096)

    assert len(list(tar_entries(raw))) == 1
    assert raw.ended


@pytest.mark.parametrize(
    "end", [b"", bytes(512), END, END + bytes(8192)], ids=["none", "half", "two", "record"]
)
def test_the_end_may_be_missing_or_long(end: bytes) -> None:
    archive = io.BytesIO(member("f", data=b"x") + end)

    assert [entry.path for entry, _ in tar_entries(archive)] == ["f"]


def test_an_empty_tar_has_no_members() -> None:
    assert members() == []


@pytest.mark.parametrize(
    ("name", "path"),
    [("/a//b/./c/", "a/b/c"), ("./", ""), ("/", ""), (".", ""), ("./a", "a"), ("a/.", "a")],
)
def test_paths_are_relative_and_free_of_dots(name: str, path: str) -> None:
    assert path == one(member(name, DIR)).path


def test_a_ustar_prefix_is_part_of_the_name() -> None:
    assert one(header(b"name", fields={345: b"pre/fix"})).path == "pre/fix/name"


def test_the_gnu_format_has_no_prefix() -> None:
    old = header(b"name", magic=b"ustar  \0", fields={345: b"14000000000\0"})

    assert one(old).path == "name"


def test_names_that_are_not_utf_8_are_kept() -> None:
    assert one(member(b"\xff")).path == "\udcff"


def test_long_names_and_links_of_gnu_tar_are_read() -> None:
    entry = one(member("n" * 250, SYMLINK, link="t" * 300))

    assert (entry.path, entry.target) == ("n" * 250, "t" * 300)


def test_pax_records_win_over_the_header() -> None:
    records = {
        b"path": b"real",
        b"linkpath": b"target",
        b"uid": b"3000000",
        b"gid": b"7",
        b"mtime": b"12.0000000015",
    }
    entry = one(member("fake", SYMLINK, link="no", uid=1, records=records))

    assert (
        Entry("real", "symlink", 0o644, 3_000_000, 7, mtime_ns=12_000_000_001, target="target")
        == entry
    )


def test_a_pax_size_is_how_much_data_follows() -> None:
    blocks = pax({b"size": b"3"}) + header(b"f", size=0) + padded(b"abc")

    assert [data for _, data in members(blocks, member("g", data=b"next"))] == [b"abc", b"next"]


def test_an_empty_pax_value_means_the_header() -> None:
    assert one(member("name", records={b"path": b"", b"mtime": b""})).path == "name"


def test_a_pax_header_is_for_one_member() -> None:
    found = members(member("a", records={b"uid": b"5"}), member("b"))

    assert [entry.uid for entry, _ in found] == [5, 0]


def test_a_global_pax_header_is_for_all_that_follow_and_loses_to_a_local_one() -> None:
    found = members(
        member("a"),
        pax({b"uid": b"5", b"comment": b"a commit"}, b"g"),
        member("b"),
        member("c", records={b"uid": b"6"}),
        member("d"),
    )

    assert [entry.uid for entry, _ in found] == [0, 5, 6, 5]


def test_xattrs_are_read_with_any_bytes() -> None:
    value = bytes(range(256)) + b"=\n"
    entry = one(member("f", records={b"SCHILY.xattr.user.a": value, b"SCHILY.xattr.user.b": b""}))

    assert {"user.a": value, "user.b": b""} == entry.xattrs


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"1", SECOND),
        (b"1.5", 1_500_000_000),
        (b"-1.5", -1_500_000_000),
        (b"0.000000001", 1),
        (b"0.0000000019", 1),
        (b"7.", 7 * SECOND),
        (b"-0.5", -500_000_000),
    ],
)
def test_times_have_parts_of_a_second(text: bytes, expected: int) -> None:
    assert expected == one(member("f", records={b"mtime": text})).mtime_ns


@pytest.mark.parametrize("text", [b".5", b"1e3", b"1_0", b"0x1", b"+1", b" 1", b"inf", b"--1"])
def test_what_is_no_time_is_refused(text: bytes) -> None:
    with pytest.raises(Invalid):
        one(member("f", records={b"mtime": text}))


@pytest.mark.parametrize(
    ("field", "size"),
    [
        (b"00000000003\0", 3),
        (b"         3 \0", 3),
        (b"3\0\0\0\0\0\0\0\0\0\0\0", 3),
        (b"000000000003", 3),
        (b"\x80" + bytes(10) + b"\3", 3),
    ],
)
def test_numbers_in_all_their_forms(field: bytes, size: int) -> None:
    blocks = header(b"f", fields={124: field}) + padded(b"abc")

    assert size == one(blocks).size


@pytest.mark.parametrize(
    "field",
    [b"0000000000_3", b"0o00000003\0\0", b"00000000008\0", b"3\0junk\0\0\0\0\0\0\0", b"\x81" * 12],
)
def test_what_is_no_number_is_refused(field: bytes) -> None:
    with pytest.raises(Invalid):
        one(header(b"f", fields={124: field}) + padded(b"abc"))


def test_a_negative_base_256_time_is_before_1970() -> None:
    assert one(header(b"f", fields={136: b"\xff" * 12})).mtime_ns == -SECOND


def test_a_checksum_of_signed_bytes_is_accepted() -> None:
    block = bytearray(header(b"\xe9t\xe9"))
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(byte - 256 if byte > 127 else byte for byte in block)

    assert one(bytes(block)).path == "\udce9t\udce9"


def test_what_has_no_data_is_followed_by_the_next_member_whatever_its_size_says() -> None:
    found = members(member("d", DIR, size=1000), member("h", LINK, link="f", size=5), member("f"))

    assert [entry.path for entry, _ in found] == ["d", "h", "f"]


def test_limits_hold() -> None:
    archive = member("a") + member("b") + END
    with pytest.raises(Invalid, match="more than 1 members"):
        list(tar_entries(io.BytesIO(archive), Limits(entries=1)))
    with pytest.raises(Invalid, match="a path of 120 bytes"):
        list(tar_entries(io.BytesIO(member("n" * 120) + END), Limits(path=100)))
    with pytest.raises(Invalid, match="extended header of 121 bytes"):
        list(tar_entries(io.BytesIO(member("n" * 120) + END), Limits(extended=100)))


@given(st.binary(max_size=4096))
def test_any_bytes_are_read_or_refused(data: bytes) -> None:
    with_header = header(b"f", size=len(data)) + data
    for archive in (data, with_header, data + with_header):
        try:
            for _, content in tar_entries(io.BytesIO(archive)):
                whole(content)
        except PybuildError:
            pass


@given(st.integers(0, 511), st.integers(0, 255), st.sampled_from([FILE, b"x", b"L", b"S", b"g"]))
def test_a_header_with_any_byte_changed_is_read_or_refused(
    at: int, byte: int, type_: bytes
) -> None:
    block = bytearray(header(b"f", type_, 20, fields={483: b"00000000024"}))
    block[at] = byte
    block[148:156] = b" " * 8
    block[148:156] = b"%06o\0 " % sum(block)
    archive = bytes(block) + padded(b"20 path=0123456789ab\n"[:20]) + member("next") + END
    try:
        for _, content in tar_entries(io.BytesIO(archive)):
            whole(content)
    except PybuildError:
        pass


@pytest.mark.parametrize(
    "format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=str
)
def test_what_pythons_tarfile_writes_is_read(format_: int) -> None:
    info = tarfile.TarInfo("d/" * 40 + "f")
    info.size, info.mode, info.uid, info.mtime = 3, 0o4755, 1000, 1_234_567_890
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=format_) as archive:
        archive.addfile(info, io.BytesIO(b"abc"))
    out.seek(0)

    ((entry, data),) = [(entry, whole(data)) for entry, data in tar_entries(out)]

    assert Entry(info.name, "file", 0o4755, 1000, 0, 3, info.mtime * SECOND) == entry
    assert data == b"abc"


def test_the_number_of_members_costs_no_memory() -> None:
    class Many:
        """A tar of 30,000 members that is never in memory as a whole."""

        def __init__(self) -> None:
            self.left = 60
            self._block = b"".join(member(f"d/{n}", data=b"x", uid=n) for n in range(500))

        def read(self, size: int = -1, /) -> bytes:
            self.left -= 1
            return self._block[:size] if self.left >= 0 else b""

        def close(self) -> None:
            pass

    many = Many()
    tracemalloc.start()
    try:
        count = sum(1 for _ in tar_entries(many))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()

    assert count == 30_000
    assert peak < 6 << 20
