from __future__ import annotations

import io
from collections.abc import Iterator

import pytest
from support.tars import header, member, padded, pax, record, tar

from layers.sparse import SparseData
from layers.tarread import Limits, tar_entries
from ocispec.content import Readable
from ocispec.errors import Invalid


def whole(data: Readable) -> bytes:
    return b"".join(iter(lambda: data.read(1 << 20), b""))


def sparse(segments: list[tuple[int, bytes]], size: int) -> Iterator[tuple[str, bytes]]:
    """One sparse file in each format of GNU tar."""
    data = b"".join(part for _, part in segments)
    pairs = [(offset, len(part)) for offset, part in segments]
    numbers = [str(number).encode() for pair in pairs for number in pair]
    yield (
        "0.0",
        pax(
            pax_bytes([(b"GNU.sparse.size", b"%d" % size), (b"GNU.sparse.numblocks", b"2")])
            + b"".join(
                pax_bytes([(b"GNU.sparse.offset", b"%d" % o), (b"GNU.sparse.numbytes", b"%d" % n)])
                for o, n in pairs
            )
        )
        + member("f", data=data),
    )
    records = {b"GNU.sparse.map": b",".join(numbers), b"GNU.sparse.size": b"%d" % size}
    yield "0.1", member("fake", data=data, records=records | {b"GNU.sparse.name": b"f"})
    text = b"\n".join([b"%d" % len(pairs), *numbers]) + b"\n"
    records = {
        b"GNU.sparse.major": b"1",
        b"GNU.sparse.minor": b"0",
        b"GNU.sparse.name": b"f",
        b"GNU.sparse.realsize": b"%d" % size,
    }
    yield "1.0", member("GNUSparseFile.1/f", data=padded(text) + data, records=records)
    fields = {483: b"%011o" % size}
    for at, (offset, length) in enumerate(pairs[:4]):
        fields[386 + 24 * at] = b"%011o\0%011o" % (offset, length)
    more = b""
    if pairs[4:]:
        fields[482] = b"\1"
        for at in range(4, len(pairs), 21):
            part = b"".join(b"%011o\0%011o\0" % pair for pair in pairs[at : at + 21])
            more += part.ljust(504, b"\0") + bytes([at + 21 < len(pairs)]) + bytes(7)
    yield "old", header(b"f", b"S", len(data), fields=fields) + more + padded(data)


def pax_bytes(records: list[tuple[bytes, bytes]]) -> bytes:
    return b"".join(record(key, value) for key, value in records)


SEGMENTS = [(4096 * n, bytes([n]) * 512) for n in range(1, 31)]


@pytest.mark.parametrize("count", [0, 1, 3, 5, 30])
@pytest.mark.parametrize("format_", ["0.0", "0.1", "1.0", "old"])
def test_a_sparse_file_has_zeros_in_its_holes(format_: str, count: int) -> None:
    size = 200_000
    expected = bytearray(size)
    for offset, part in SEGMENTS[:count]:
        expected[offset : offset + len(part)] = part
    blocks = dict(sparse(SEGMENTS[:count], size))[format_]

    archive = tar(blocks, member("next", data=b"x"))
    found = [(entry, whole(data)) for entry, data in tar_entries(archive)]

    assert [("f", size), ("next", 1)] == [(entry.path, entry.size) for entry, _ in found]
    assert [bytes(expected), b"x"] == [data for _, data in found]


def test_sparse_files_in_sum_are_limited() -> None:
    blocks = dict(sparse([], 600))["0.1"]
    with pytest.raises(Invalid, match="sparse files of more than 1000 bytes"):
        list(tar_entries(tar(blocks, blocks), Limits(sparse=1000)))


def test_a_hole_is_told_apart_from_data() -> None:
    data = SparseData(io.BytesIO(b"abc"), [(5, 3)], 10)

    assert (data.hole(), data.read(3), data.hole(), data.read(5)) == (5, b"abc", 2, b"")
