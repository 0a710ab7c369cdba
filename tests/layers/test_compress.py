from __future__ import annotations

import gzip
import hashlib
import io
import struct
import zlib
from collections.abc import Callable, Iterator
from contextlib import suppress
from random import Random

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from layers.compress import (
    BLOCK,
    LEVEL,
    GzipWriter,
    ZstdWriter,
    compressor,
    decompressor,
    sniff,
)
from ocispec import mediatypes
from ocispec.errors import Corrupt, Unsupported

GZIP, ZSTD = mediatypes.OCI_LAYER_GZIP, mediatypes.OCI_LAYER_ZSTD
WRITERS = pytest.mark.parametrize("writer", [GzipWriter, ZstdWriter], ids=["gzip", "zstd"])
MEDIA_TYPES = pytest.mark.parametrize("media_type", [GZIP, ZSTD], ids=["gzip", "zstd"])
Writer = type[GzipWriter] | type[ZstdWriter]


def _noise(size: int) -> bytes:
    """Bytes that do not compress, and are the same everywhere."""
    blocks = (hashlib.sha256(b"%d" % n).digest() for n in range(size // 32 + 1))
    return b"".join(blocks)[:size]


def _text(size: int) -> bytes:
    """Bytes that compress as programs and their texts do."""
    random = Random(7)
    words = [_noise(random.randrange(2, 12)).hex().encode() for _ in range(3000)]
    return b" ".join(random.choices(words, k=size // 8))[:size]


# ---- the same bytes, always


@pytest.mark.parametrize(
    ("data", "gzip_digest", "zstd_digest"),
    [
        (b"", "ac73670af3abed54ac6fb4695131f409", "f96deff1816083fdff8bc3e46c3fe6ca"),
        (b"hello\n", "65b30c271edd097bec963b39c5346790", "da36102c0f61b0ed07e43422cf55fd5f"),
        (bytes(3 << 20), "b49e6dbc80e5c12cc50d9626538b929f", "95767c00fc166bcce3684bfc566ae4c9"),
        (_noise(5 << 19), "490efe044bcd8f74cf4b5736278dcf64", "2bf99dc6872359de77ce8eed2ca6fd89"),
        (_text(7 << 19), "8c31fa6ed2ab7d08d069860acb3698e5", "4a52cec55dd86866195bfe24d5282e9b"),
        (
            _text(1 << 20) + _noise(100_000) + bytes(500_000) + _text(1 << 20),
            "5ea27e8f8d2007aa04085e3f79eef34b",
            "7d4e9ce6362d828dc11e54b6295fa8e9",
        ),
    ],
    ids=["empty", "hello", "zeros", "noise", "text", "mixture"],
)
def test_the_bytes_are_the_same_on_every_machine(
    data: bytes, gzip_digest: str, zstd_digest: str
) -> None:
    packed = [_compressed(writer, [data]) for writer in (GzipWriter, ZstdWriter)]
    found = [hashlib.sha256(stream).hexdigest()[:32] for stream in packed]

    assert [gzip_digest, zstd_digest] == found


@WRITERS
@pytest.mark.parametrize(
    "size", [1000, 65536, BLOCK - 1, BLOCK, BLOCK + 1, 3 * BLOCK, 3 * BLOCK + 7], ids=str
)
def test_the_size_of_the_writes_changes_nothing(writer: Writer, size: int) -> None:
    data = _text(3 * BLOCK) + _noise(BLOCK) + b"end"
    pieces = [data[start : start + size] for start in range(0, len(data), size)]

    assert _compressed(writer, [data]) == _compressed(writer, pieces)


@settings(max_examples=40, deadline=None)
@given(st.lists(st.binary(max_size=200) | st.just(bytes(BLOCK)) | st.just(b"x" * (BLOCK // 2))))
def test_any_writes_make_the_stream_of_their_sum(pieces: list[bytes]) -> None:
    data = b"".join(pieces)

    for writer, media_type in ((GzipWriter, GZIP), (ZstdWriter, ZSTD)):
        packed = _compressed(writer, pieces)
        assert _compressed(writer, [data]) == packed
        assert data == decompressor(media_type, io.BytesIO(packed)).read()


def test_what_is_written_may_change_afterwards() -> None:
    buffer = bytearray(b"first")
    chunks: list[bytes] = []
    writer = GzipWriter(chunks.append)
    writer.write(bytes(buffer))
    buffer[:] = b"other"
    writer.close()

    assert gzip.decompress(b"".join(chunks)) == b"first"


def test_the_gzip_header_tells_nothing_of_time_name_or_machine() -> None:
    packed = _compressed(GzipWriter, [b"data"])

    assert bytes.fromhex("1f8b08 00 00000000 00 ff") == packed[:10]
    assert (zlib.crc32(b"data"), 4) == struct.unpack("<II", packed[-8:])


def test_python_reads_what_the_gzip_writer_writes() -> None:
    data = _text(5 << 19)

    assert data == gzip.decompress(_compressed(GzipWriter, [data]))


def test_zstandard_reads_what_the_zstd_writer_writes_and_checks_it() -> None:
    data = _text(5 << 19)
    packed = _compressed(ZstdWriter, [data])

    assert data == zstandard.ZstdDecompressor().decompressobj().decompress(packed)
    assert zstandard.get_frame_parameters(packed).has_checksum


def test_the_compressor_is_named_with_its_version_and_level() -> None:
    name, version, *_ = compressor().replace(",", "").split()

    assert name == "isal"
    assert version.split(".") >= ["1", "7"]
    assert f"level {LEVEL}" in compressor()


# ---- reading


@MEDIA_TYPES
@pytest.mark.parametrize("pieces", [1, 7, 4096, 1 << 20], ids=str)
@pytest.mark.parametrize("reads", [1, 100, 65536, 1 << 20], ids=str)
def test_streams_are_read_in_pieces_of_any_size(media_type: str, pieces: int, reads: int) -> None:
    data = _text(3000) if min(pieces, reads) < 1000 else _text(1 << 20) + bytes(1 << 20)
    raw = _Pieces(_pack(media_type, data), pieces)
    reader = decompressor(media_type, raw)

    found = list(iter(lambda: reader.read(reads), b""))
    assert data == b"".join(found)
    assert max(map(len, found)) <= reads
    assert reader.read(10) == b""
    assert raw.read(1) == b""


@MEDIA_TYPES
@settings(max_examples=60, deadline=None)
@given(
    parts=st.lists(st.binary(max_size=3000) | st.just(bytes(100_000)), min_size=1, max_size=4),
    pieces=st.integers(1, 5000),
    reads=st.integers(1, 5000),
)
def test_several_streams_one_after_another_are_one(
    media_type: str, parts: list[bytes], pieces: int, reads: int
) -> None:
    packed = b"".join(_pack(media_type, part) for part in parts)
    reader = decompressor(media_type, _Pieces(packed, pieces))

    assert b"".join(parts) == b"".join(iter(lambda: reader.read(reads), b""))


@pytest.mark.parametrize(
    "flags",
    [0, 2, 4, 8, 16, 31],
    ids=["none", "header crc", "extra", "name", "comment", "all"],
)
def test_every_gzip_header_is_read(flags: int) -> None:
    header = bytearray(b"\x1f\x8b\x08") + bytes([flags]) + b"\x01\x02\x03\x04\x00\x03"
    header += b"\x03\x00abc" if flags & 4 else b""
    header += b"name\x00" if flags & 8 else b""
    header += b"comment\x00" if flags & 16 else b""
    header += struct.pack("<H", zlib.crc32(header) & 0xFFFF) if flags & 2 else b""
    packed = bytes(header) + _pack(GZIP, b"data")[10:]

    assert decompressor(GZIP, io.BytesIO(packed)).read() == b"data"


def test_skippable_frames_are_skipped() -> None:
    skipped = struct.pack("<II", 0x184D2A53, 5) + b"stuff"
    frame = _pack(ZSTD, b"data")
    packed = skipped + frame + skipped + skipped + frame + skipped

    assert decompressor(ZSTD, io.BytesIO(packed)).read() == b"datadata"


def test_what_is_not_compressed_passes() -> None:
    assert decompressor(mediatypes.OCI_LAYER, io.BytesIO(b"data")).read() == b"data"


@MEDIA_TYPES
def test_closing_closes_what_is_read(media_type: str) -> None:
    raw = io.BytesIO(_pack(media_type, b"data"))
    decompressor(media_type, raw, max_output=10).close()

    assert raw.closed


# ---- what is refused


@MEDIA_TYPES
@pytest.mark.parametrize(
    "rest", [b"x", b"\0" * 10, b"garbage" * 100, b"\x1f\x8b", b"\x28\xb5\x2f\xfd"], ids=repr
)
def test_nothing_may_follow_the_stream(media_type: str, rest: bytes) -> None:
    reader = decompressor(media_type, io.BytesIO(_pack(media_type, b"data") + rest))

    with pytest.raises(Corrupt):
        reader.read()


@MEDIA_TYPES
def test_a_stream_that_is_cut_short_anywhere_is_corrupt(media_type: str) -> None:
    packed = _pack(media_type, _text(2000))
    for size in range(len(packed)):
        with pytest.raises(Corrupt):
            decompressor(media_type, io.BytesIO(packed[:size])).read()


@MEDIA_TYPES
def test_a_damaged_stream_is_never_read_as_something_else(media_type: str) -> None:
    data = _text(2000)
    packed = _pack(media_type, data)
    # Not those fields of a header that say nothing of the data: gzip's time, flags and system.
    for place in range(10 if media_type == GZIP else 0, len(packed)):
        damaged = bytearray(packed)
        damaged[place] ^= 1 << place % 8
        try:
            found = decompressor(media_type, io.BytesIO(damaged)).read()
        except Corrupt:
            continue
        assert data == found


@MEDIA_TYPES
@settings(max_examples=150, deadline=None)
@given(data=st.binary(max_size=200), magic=st.booleans())
def test_any_bytes_are_read_or_refused(media_type: str, data: bytes, magic: bool) -> None:
    head = (b"\x1f\x8b\x08\x00" if media_type == GZIP else b"\x28\xb5\x2f\xfd") if magic else b""
    with suppress(Corrupt, Unsupported):
        decompressor(media_type, io.BytesIO(head + data), max_output=1 << 20).read()


@MEDIA_TYPES
def test_a_bomb_is_stopped_at_the_limit(media_type: str) -> None:
    bomb = _pack(media_type, bytes(64 << 20))
    reader = decompressor(media_type, io.BytesIO(bomb), max_output=1 << 20)
    with pytest.raises(Unsupported, match="more than 1048576 bytes"):
        _exhaust(reader.read)


@pytest.mark.parametrize("media_type", [GZIP, ZSTD, mediatypes.OCI_LAYER])
def test_the_limit_itself_is_allowed(media_type: str) -> None:
    packed = b"12345" if media_type == mediatypes.OCI_LAYER else _pack(media_type, b"12345")

    assert decompressor(media_type, io.BytesIO(packed), max_output=5).read() == b"12345"
    with pytest.raises(Unsupported):
        decompressor(media_type, io.BytesIO(packed), max_output=4).read()


def test_a_zstd_window_that_takes_too_much_memory_is_refused() -> None:
    # Frame header (RFC 8878, 3.1.1.1): a window of 2 ** (10 + 31) bytes, then an empty last block.
    packed = b"\x28\xb5\x2f\xfd" + bytes([0x00, 31 << 3]) + b"\x01\x00\x00"

    with pytest.raises(Corrupt):
        decompressor(ZSTD, io.BytesIO(packed)).read()


def test_a_zstd_window_as_long_as_those_of_zstd_ultra_is_read() -> None:
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    packed = packer.compress(b"data") + packer.flush()

    assert decompressor(ZSTD, io.BytesIO(packed)).read() == b"data"


# ---- sniffing


_TAR = b"name".ljust(100, b"\0") + b"0000644\0" + bytes(40)
_SUM = sum(_TAR) + 8 * 32


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (gzip.compress(b"x"), "gzip"),
        (b"BZh91AY&SY", "bzip2"),
        (b"\xfd7zXZ\x00\x00", "xz"),
        (zstandard.ZstdCompressor().compress(b"x"), "zstd"),
        ((_TAR + b"%06o\0 " % _SUM).ljust(512, b"\0"), "tar"),
        ((_TAR + b"%06o\0 " % (_SUM + 1)).ljust(512, b"\0"), ""),
        ((_TAR + b"%06o\0 " % _SUM).ljust(511, b"\0"), ""),
        (bytes(512), ""),
        (b"#!/bin/sh\n", ""),
        (b"", ""),
        (b"\x1f\x8b", ""),
    ],
    ids=[
        *("gzip", "bzip2", "xz", "zstd", "tar without magic", "wrong checksum", "short tar"),
        *("zeros", "script", "empty", "half a magic"),
    ],
)
def test_formats_are_known_by_their_first_bytes(head: bytes, expected: str) -> None:
    assert expected == sniff(head)


def _compressed(writer: Writer, pieces: list[bytes]) -> bytes:
    chunks: list[bytes] = []
    stream = writer(chunks.append)
    for piece in pieces:
        stream.write(piece)
    stream.close()
    return b"".join(chunks)


def _pack(media_type: str, data: bytes) -> bytes:
    return _compressed(GzipWriter if media_type == GZIP else ZstdWriter, [data])


class _Pieces:
    """*data* in reads of at most *size* bytes, as a socket gives them."""

    def __init__(self, data: bytes, size: int) -> None:
        self._data = io.BytesIO(data)
        self._size = size

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(self._size if size < 0 else min(size, self._size))

    def close(self) -> None:
        self._data.close()


def _exhaust(read: Callable[[int], bytes]) -> None:
    chunks: Iterator[bytes] = iter(lambda: read(1 << 16), b"")
    for _ in chunks:
        pass
