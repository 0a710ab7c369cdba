"""
Compression of layers: gzip through ISA-L and zstd, in and out, with the same bytes on every run.

ISA-L's output depends on the size of the blocks it is fed, so it is always fed exactly BLOCK bytes;
level 1, since level 3 differs between processors. The gzip header is our own: no name, no time.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, Final

from layers.zstdframes import FrameWalker
from ocispec import mediatypes
from ocispec.content import Readable
from ocispec.errors import Corrupt, Unsupported

LEVEL: Final = 1
BLOCK: Final = 1 << 20
ZSTD_LEVEL: Final = 3
_RAW: Final = -15  # a deflate stream without header and trailer
# RFC 1952: magic, deflate, no flags, no time, no extra flags, unknown system.
_HEADER: Final = b"\x1f\x8b\x08\x00" + bytes(4) + b"\x00\xff"
_READ: Final = 1 << 18
# RFC 8878 asks decoders to take windows of 8 MB; 128 MB is what zstd's own tools take.
_MAX_WINDOW: Final = 128 << 20

Sink = Callable[[bytes], object]


class GzipWriter:
    """Compresses what is written and gives it to *sink*; close() ends the stream."""

    def __init__(self, sink: Sink) -> None:
        from isal import isal_zlib

        self._sink = sink
        self._compressor = isal_zlib.compressobj(LEVEL, isal_zlib.DEFLATED, _RAW)
        self._crc32 = isal_zlib.crc32
        self._crc = 0
        self._size = 0
        self._pending = bytearray()
        sink(_HEADER)

    def write(self, data: bytes) -> None:
        """Append *data*."""
        self._crc = self._crc32(data, self._crc)
        self._size += len(data)
        if not self._pending and len(data) == BLOCK:
            self._compress(data)
            return
        self._pending += data
        if len(self._pending) >= BLOCK:
            whole = len(self._pending) - len(self._pending) % BLOCK
            with memoryview(self._pending) as view:
                for start in range(0, whole, BLOCK):
                    self._compress(bytes(view[start : start + BLOCK]))
            del self._pending[:whole]

    def close(self) -> None:
        """Write what is left, and the trailer."""
        if self._pending:
            self._compress(bytes(self._pending))
            self._pending.clear()
        self._sink(self._compressor.flush())
        self._sink(struct.pack("<II", self._crc, self._size & 0xFFFFFFFF))

    def _compress(self, block: bytes) -> None:
        if out := self._compressor.compress(block):
            self._sink(out)


class ZstdWriter:
    """As GzipWriter, for zstd: one frame, one thread (the threaded output differs)."""

    def __init__(self, sink: Sink) -> None:
        import zstandard

        self._sink = sink
        compressor = zstandard.ZstdCompressor(level=ZSTD_LEVEL, threads=0, write_checksum=True)
        self._compressor = compressor.compressobj()

    def write(self, data: bytes) -> None:
        if out := self._compressor.compress(data):
            self._sink(out)

    def close(self) -> None:
        self._sink(self._compressor.flush())


def compressor() -> str:
    """What the bytes of a gzip layer depend on beside its tar; for records of how it was made."""
    import isal

    return f"isal {isal.__version__}, level {LEVEL}, blocks of {BLOCK} bytes"


def decompressor(media_type: str, raw: Readable, *, max_output: int | None = None) -> Readable:
    """
    The uncompressed bytes of a layer of *media_type* that is read from *raw*.

    All of *raw* is read: several gzip members or zstd frames are one stream, and anything after
    them is Corrupt, since it would be in the blob's digest and nowhere else. At most *max_output*
    bytes come out, however small *raw* is. close() closes *raw*.
    """
    kind = mediatypes.compression(media_type)
    if kind == "none":
        return raw if max_output is None else _Limited(raw, max_output)
    decoded = _GzipReader(raw) if kind == "gzip" else _zstd_reader(raw)
    return decoded if max_output is None else _Limited(decoded, max_output)


class _GzipReader:
    """Reads gzip members to the end of *raw* (RFC 1952, section 2.2)."""

    def __init__(self, raw: Readable) -> None:
        from isal import isal_zlib

        self._raw = raw
        self._new: Callable[[], Any] = lambda: isal_zlib.decompressobj(31)
        self._error: Any = isal_zlib.error
        self._member = self._new()
        self._input = b""
        self._in_member = True  # no bytes at all are no gzip stream
        self._ended = False

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        while size and not self._ended:
            if not self._input:
                self._input = self._raw.read(_READ)
            if not self._input:
                self._end()
                break
            out = self._decode(size)
            if out:
                return out
        return b""

    def close(self) -> None:
        self._raw.close()

    def _decode(self, size: int) -> bytes:
        self._in_member = True
        try:
            out: bytes = self._member.decompress(self._input, size)
        except self._error as error:
            raise Corrupt(f"not a gzip stream: {error}") from error
        if self._member.eof:
            self._input = self._member.unused_data
            self._member = self._new()
            self._in_member = False
        else:
            self._input = self._member.unconsumed_tail
        return out

    def _end(self) -> None:
        # What ISA-L still holds back comes out without more input.
        if self._in_member:
            raise Corrupt("the gzip stream is cut short")
        self._ended = True


def _zstd_reader(raw: Readable) -> Readable:
    import zstandard

    decoder = zstandard.ZstdDecompressor(max_window_size=_MAX_WINDOW)
    watched = _Watched(raw, FrameWalker())
    source: Any = watched  # it asks for read() only, though its stubs want a whole file
    return _ZstdReader(watched, decoder.stream_reader(source, read_across_frames=True))


class _ZstdReader:
    """Frames and skippable frames to the end of *raw* (RFC 8878, section 3.1)."""

    def __init__(self, watched: _Watched, stream: Any) -> None:
        import zstandard

        self._watched = watched
        self._stream = stream
        self._error = zstandard.ZstdError

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            return b"".join(iter(lambda: self.read(1 << 20), b""))
        try:
            data: bytes = self._stream.read(size)
        except self._error as error:
            raise Corrupt(f"not a zstd stream: {error}") from error
        if not data and size:
            self._watched.check_end()
        return data

    def close(self) -> None:
        self._watched.close()


class _Watched:
    """What zstandard reads through: its reader takes a frame that is cut short for the end."""

    def __init__(self, raw: Readable, frames: FrameWalker) -> None:
        self._raw = raw
        self._frames = frames

    def read(self, size: int = -1, /) -> bytes:
        data = self._raw.read(size if size > 0 else _READ)
        self._frames.feed(data)
        return data

    def check_end(self) -> None:
        if not self._frames.is_between:
            raise Corrupt("the zstd stream is cut short")

    def close(self) -> None:
        self._raw.close()


class _Limited:
    """At most *limit* bytes of *raw*: a small blob must not fill the disk."""

    def __init__(self, raw: Readable, limit: int) -> None:
        self._raw = raw
        self._limit = limit
        self._seen = 0

    def read(self, size: int = -1, /) -> bytes:
        data = self._raw.read(size)
        self._seen += len(data)
        if self._seen > self._limit:
            raise Unsupported(f"the layer unpacks to more than {self._limit} bytes")
        return data

    def close(self) -> None:
        self._raw.close()


def sniff(head: bytes) -> str:
    """
    The format that a file with these first bytes (512 are enough) seems to have.

    ``gzip``, ``bzip2``, ``xz``, ``zstd``, ``tar``, or "" for anything else.
    """
    for magic, name in (
        (b"\x1f\x8b\x08", "gzip"),
        (b"BZh", "bzip2"),
        (b"\xfd7zXZ\x00", "xz"),
        (b"\x28\xb5\x2f\xfd", "zstd"),
    ):
        if head.startswith(magic):
            return name
    return "tar" if _is_tar_header(head) else ""


def _is_tar_header(head: bytes) -> bool:
    """By its checksum, which old tars without a magic number have, too (pax(5), ustar)."""
    if len(head) < 512 or not any(head[:100]):
        return False
    text = head[148:156].strip(b" \0")
    if not text or not set(text) <= set(b"01234567"):
        return False
    return int(text, 8) == sum(head[:148]) + sum(head[156:512]) + 8 * 0x20
