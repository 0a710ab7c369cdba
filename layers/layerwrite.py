"""
A layer being written: entries in, one compressed tar in the store out, in one pass.

DiffID, identity and the blob's digest are taken on the way. A layer of more than a few megabytes
is hashed and written by a second thread while the first reads and compresses (measured: 1.67 times
as fast; isal, hashlib and write(2) let go of the interpreter's lock).
"""

from __future__ import annotations

import hashlib
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import TYPE_CHECKING, Final, NamedTuple, Protocol

from layers.compress import BLOCK, GzipWriter, ZstdWriter
from layers.entry import OPAQUE, SECOND, WHITEOUT, Entry
from layers.identity import ContentHash, Identity, is_timed_pyc, neutral, record
from layers.tarwrite import END, TarWriter, padding
from ocispec import mediatypes
from ocispec.content import Readable
from ocispec.digest import DiffID, Digest
from ocispec.errors import Corrupt, Invalid
from ocispec.model import Layer

if TYPE_CHECKING:
    from concurrent.futures import Future

    from layers.session import Session

_OVERLAP_FROM: Final = 4 << 20  # bytes of tar; a thread for less does not pay
_AHEAD: Final = 24  # steps that may wait for the thread: some 8 MiB of data
_HEAD: Final = 512  # bytes that a first chunk has at least, or all there are
_RECORDS: Final = 1 << 16  # bytes of identity records that are hashed together


class WrittenLayer(NamedTuple):
    """A layer that is in the store, and what was seen while it was written."""

    layer: Layer
    newest: int  # the latest mtime of an entry, seconds
    size: int  # bytes of the tar, uncompressed
    entries: int


class LayerWriter:
    """
    Writes one layer. add() in the order of the tar, then finish(), or abort().

    As a context manager it aborts what was not finished.
    """

    def __init__(self, session: Session, media_type: str = mediatypes.OCI_LAYER_GZIP) -> None:
        self._media_type = media_type
        self._ingest = session.ingest()
        self._overlap: _Overlap | None = None
        self._compressor = _compressor(media_type, self._write)
        self._tar = TarWriter()
        self._diff_id = hashlib.sha256()
        self._identity = Identity()
        self._records = bytearray()  # for the identity, not yet hashed
        self._buffer = bytearray()  # of the tar, not yet hashed and compressed
        self._taken = 0
        self._newest = 0
        self._entries = 0
        self._over = False

    def add(
        self, entry: Entry, data: Readable | bytes | None = None, content: Digest | None = None
    ) -> None:
        """
        Append *entry*; *data* is what a file holds, exactly ``entry.size`` bytes of it.

        *content* is the SHA-256 of these very bytes, if it is known. The caller closes *data*.
        Corrupt if there are more or fewer bytes; Invalid for a name that a layer cannot hold.
        """
        if WHITEOUT in entry.path and any(
            name.startswith(WHITEOUT) for name in entry.path.split("/")
        ):
            raise Invalid(
                f"{entry.path!r}: a layer cannot hold a name that starts with {WHITEOUT!r}",
                hint="image layers mark deleted files with such names; rename or exclude the file",
            )
        self.copy(entry, data, content)

    def whiteout(self, path: str) -> None:
        """Append the mark that *path* of a layer below is gone."""
        parent, slash, name = path.rpartition("/")
        self.copy(Entry(f"{parent}{slash}{WHITEOUT}{name}", "file", mode=0))

    def opaque(self, directory: str) -> None:
        """Append the mark that all that layers below have in *directory* is gone."""
        self.copy(Entry(f"{directory}/{OPAQUE}" if directory else OPAQUE, "file", mode=0))

    def copy(
        self, entry: Entry, data: Readable | bytes | None = None, content: Digest | None = None
    ) -> None:
        """As add(), for what was in a layer already: marks of deletion are taken too."""
        self._buffer += self._tar.header(entry)
        self._entries += 1
        self._newest = max(self._newest, entry.mtime_ns // SECOND)
        if not entry.size:
            if data and (isinstance(data, bytes) or data.read(1)):
                raise _changed(entry)
            self._records += record(entry, "")
        elif isinstance(data, bytes):
            self._add_bytes(entry, data, content)
        elif data is not None:
            self._add_stream(entry, data, content)
        else:
            raise ValueError(f"{entry.path!r}: {entry.size} bytes, but no data")
        if len(self._buffer) >= BLOCK:
            self._take_blocks()
        if len(self._records) >= _RECORDS:
            self._flush_records()

    def finish(self) -> WrittenLayer:
        """End the tar and publish the blob."""
        self._buffer += END
        self._take_blocks()
        if self._buffer:
            self._take(bytes(self._buffer))
        self._flush_records()
        self._compressor.close()
        if self._overlap is not None:
            self._overlap.finish()
            self._overlap = None
        blob = self._ingest.commit(self._media_type, None, None)
        self._over = True
        diff_id = DiffID(Digest("sha256:" + self._diff_id.hexdigest()))
        layer = Layer(diff_id, self._identity.digest(), blob)
        return WrittenLayer(layer, self._newest, self._taken, self._entries)

    def abort(self) -> None:
        """Leave nothing behind. Nothing happens after finish()."""
        if self._over:
            return
        self._over = True
        if self._overlap is not None:
            self._overlap.stop()
            self._overlap = None
        self._ingest.abort()

    def __enter__(self) -> LayerWriter:
        return self

    def __exit__(self, *_: object) -> None:
        self.abort()

    def _add_bytes(self, entry: Entry, data: bytes, content: Digest | None) -> None:
        if len(data) != entry.size:
            raise _changed(entry)
        if content is not None and not is_timed_pyc(entry.path, data):
            digest = content.hex
        else:
            digest = hashlib.sha256(neutral(entry.path, data)).hexdigest()
        self._records += record(entry, digest)
        self._put(data)
        self._buffer += bytes(padding(entry.size))

    def _add_stream(self, entry: Entry, data: Readable, content: Digest | None) -> None:
        # The first chunk completes a block, so that the others are blocks and need no copying.
        chunks = _exactly(entry, data, BLOCK - len(self._buffer))
        first = next(chunks)
        if len(first) == entry.size:
            for _ in chunks:  # checks that nothing follows
                pass
            self._add_bytes(entry, first, content)
            return
        hashing = None
        if content is None or is_timed_pyc(entry.path, first):
            hashing = ContentHash(entry.path)
            self._later(hashing.update, first)
        self._put(first)
        for chunk in chunks:
            if hashing is not None:
                self._later(hashing.update, chunk)
            self._put(chunk)
        if hashing is not None:
            self._flush_records()
            self._later(partial(self._record, entry, hashing.hexdigest), b"")
        elif content is not None:
            self._records += record(entry, content.hex)
        self._buffer += bytes(padding(entry.size))

    def _record(self, entry: Entry, hexdigest: Callable[[], str], _: bytes) -> None:
        self._identity.update(record(entry, hexdigest()))

    def _flush_records(self) -> None:
        if self._records:
            self._later(self._identity.update, bytes(self._records))
            self._records.clear()

    def _put(self, data: bytes) -> None:
        if not self._buffer and len(data) == BLOCK:
            self._take(data)
            return
        self._buffer += data
        self._take_blocks()

    def _take_blocks(self) -> None:
        # Whole blocks, as the compressor wants them: others it would have to put together anew.
        while len(self._buffer) >= BLOCK:
            with memoryview(self._buffer) as view:
                block = bytes(view[:BLOCK])
            del self._buffer[:BLOCK]
            self._take(block)

    def _take(self, block: bytes) -> None:
        """Hash and compress *block*, the next bytes of the tar."""
        self._taken += len(block)
        if self._overlap is None and self._taken >= _OVERLAP_FROM:
            self._overlap = _Overlap()
        self._later(self._diff_id.update, block)
        self._compressor.write(block)

    def _write(self, compressed: bytes) -> None:
        self._later(self._ingest.write, compressed)

    def _later(self, step: Callable[[bytes], object], data: bytes) -> None:
        if self._overlap is None:
            step(data)
        else:
            self._overlap.do(step, data)


class _Overlap:
    """A thread that takes steps in order; what one raises comes out of a later do() or finish()."""

    def __init__(self) -> None:
        from concurrent.futures import ThreadPoolExecutor

        self._pool = ThreadPoolExecutor(1, "layer")
        self._waiting: deque[Future[object]] = deque()

    def do(self, step: Callable[[bytes], object], data: bytes) -> None:
        self._waiting.append(self._pool.submit(step, data))
        if len(self._waiting) > _AHEAD:
            self._waiting.popleft().result()

    def finish(self) -> None:
        while self._waiting:
            self._waiting.popleft().result()
        self._pool.shutdown()

    def stop(self) -> None:
        self._pool.shutdown(cancel_futures=True)


class _Compressor(Protocol):
    def write(self, data: bytes, /) -> object: ...
    def close(self) -> None: ...


def _compressor(media_type: str, sink: Callable[[bytes], object]) -> _Compressor:
    kind = mediatypes.compression(media_type)
    if kind == "gzip":
        return GzipWriter(sink)
    if kind == "zstd":
        return ZstdWriter(sink)
    return _Plain(sink)


class _Plain:
    """The writer of a layer that is stored uncompressed."""

    def __init__(self, sink: Callable[[bytes], object]) -> None:
        self._sink = sink

    def write(self, data: bytes) -> None:
        self._sink(data)

    def close(self) -> None:
        """Nothing is held back."""


def _exactly(entry: Entry, data: Readable, first: int) -> Iterator[bytes]:
    """
    The bytes of *data*: about *first*, then full blocks, then the rest.

    Corrupt if they are not ``entry.size``.
    """
    left = entry.size
    wanted = first if first >= _HEAD else first + BLOCK
    while left:
        wanted = min(left, wanted)
        chunk = data.read(wanted)
        while len(chunk) < wanted:
            more = data.read(wanted - len(chunk))
            if not more:
                raise _changed(entry)
            chunk += more
        left -= wanted
        wanted = BLOCK
        yield chunk
    if data.read(1):
        raise _changed(entry)


def _changed(entry: Entry) -> Corrupt:
    return Corrupt(
        f"{entry.path!r}: its size is no longer {entry.size} bytes",
        hint="it was changed while it was being read; try again",
    )
