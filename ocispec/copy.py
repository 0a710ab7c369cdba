"""
copy(): a graph of blobs from a Source to a Sink, the walk behind pull, push, save and load.

Children are there before their parents, so a copy that is cut short leaves no parent with missing
children. Blobs go in parallel; documents are read once and checked before anything they name is.
"""

from __future__ import annotations

import io
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from typing import Final

from ocispec import mediatypes
from ocispec.content import Readable, Sink, Source, read_small
from ocispec.digest import Digest
from ocispec.errors import Cancelled, Invalid
from ocispec.model import MAX_DOCUMENT, Descriptor, Index, Manifest

MAX_DEPTH: Final = 8  # of indexes in indexes
MAX_DOCUMENTS: Final = 10_000  # manifests and indexes of one copy
MAX_BLOBS: Final = 100_000  # configs and layers of one copy
MAX_HELD: Final = 64 << 20  # bytes of documents, which are held until their children are there

OnBlob = Callable[[Descriptor, str], None]  # a blob, and "copied", "exists" or "skipped"


def copy(
    root: Descriptor,
    source: Source,
    sink: Sink,
    *,
    jobs: int = 4,
    on_blob: OnBlob | None = None,
    select: Callable[[Index], Sequence[Descriptor]] | None = None,
    nondistributable: bool = False,
) -> None:
    """
    Copy *root* and all it refers to; what the sink has is not read.

    *select* says which children of an index are wanted; the index itself is copied whole.
    Layers that are not to be distributed are left out unless *nondistributable*. *on_blob* is
    called from the threads of the copy. Invalid for documents that make no sense or go too deep.
    The first error ends the copy, and what is under way at its next read.
    """
    walk = _Walk(source, select)
    stop = threading.Event()

    def one(blob: Descriptor) -> None:
        if stop.is_set():
            return
        if not nondistributable and mediatypes.is_nondistributable(blob.media_type):
            done = "skipped"
        else:
            done = _put(blob, source, sink, stop)
        if on_blob is not None:
            on_blob(blob, done)

    walk.visit(root, 0)
    _each(one, sorted(walk.blobs.values(), key=lambda blob: -blob.size), jobs, stop)
    for blob, data in walk.documents:
        if sink.has(blob):
            done = "exists"
        else:
            sink.put(blob, io.BytesIO(data))
            done = "copied"
        if on_blob is not None:
            on_blob(blob, done)


def _put(blob: Descriptor, source: Source, sink: Sink, stop: threading.Event) -> str:
    if sink.has(blob):
        return "exists"
    data = _Stoppable(source.open(blob), stop)
    try:
        sink.put(blob, data)
    finally:
        data.close()
    return "copied"


def _each(
    work: Callable[[Descriptor], None],
    blobs: Sequence[Descriptor],
    jobs: int,
    stop: threading.Event,
) -> None:
    """*work* on all *blobs*, *jobs* at a time; the first error stops what has not begun."""
    if len(blobs) <= 1 or jobs <= 1:
        for blob in blobs:
            work(blob)
        return
    with ThreadPoolExecutor(min(jobs, len(blobs)), thread_name_prefix="blob") as pool:
        futures: list[Future[None]] = [pool.submit(work, blob) for blob in blobs]
        try:
            done, _ = wait(futures, return_when=FIRST_EXCEPTION)
        finally:
            # Also for an interrupt: leaving the pool waits for its threads.
            stop.set()
    for future in sorted(done, key=futures.index):
        future.result()


class _Stoppable(io.IOBase):
    """*data*, whose reads raise Cancelled once *stop* is set; a file if *data* is one."""

    def __init__(self, data: Readable, stop: threading.Event) -> None:
        self._data = data
        self._file = data if isinstance(data, io.IOBase) and data.seekable() else None
        self._stop = stop

    def read(self, size: int = -1, /) -> bytes:
        if self._stop.is_set():
            raise Cancelled("the copy was stopped")
        return self._data.read(size)

    def seekable(self) -> bool:
        return self._file is not None

    def seek(self, offset: int, whence: int = 0, /) -> int:
        return (
            super().seek(offset, whence) if self._file is None else self._file.seek(offset, whence)
        )

    def tell(self) -> int:
        return super().tell() if self._file is None else self._file.tell()

    def close(self) -> None:
        self._data.close()
        super().close()


class _Walk:
    """Everything below a root: documents, children first, and the blobs they name, each once."""

    def __init__(
        self, source: Source, select: Callable[[Index], Sequence[Descriptor]] | None
    ) -> None:
        self._source = source
        self._select = select
        self._seen: set[Digest] = set()
        self._held = 0
        self.documents: list[tuple[Descriptor, bytes]] = []
        self.blobs: dict[Digest, Descriptor] = {}

    def visit(self, blob: Descriptor, depth: int) -> None:
        if blob.media_type not in mediatypes.INDEXES | mediatypes.MANIFESTS:
            self.blobs.setdefault(blob.digest, blob)
            if len(self.blobs) > MAX_BLOBS:
                raise Invalid(f"more than {MAX_BLOBS} blobs in one image")
            return
        if depth > MAX_DEPTH:
            raise Invalid(f"{blob.digest}: indexes are nested more than {MAX_DEPTH} deep")
        if blob.digest in self._seen:
            return
        self._seen.add(blob.digest)
        if len(self._seen) > MAX_DOCUMENTS:
            raise Invalid(f"more than {MAX_DOCUMENTS} manifests in one image")
        data = read_small(self._source, blob, MAX_DOCUMENT)
        self._held += len(data)
        if self._held > MAX_HELD:
            raise Invalid(f"more than {MAX_HELD} bytes of manifests in one image")
        for child in self._children(blob, data):
            self.visit(child, depth + 1)
        self.documents.append((blob, data))

    def _children(self, blob: Descriptor, data: bytes) -> Sequence[Descriptor]:
        if blob.media_type in mediatypes.MANIFESTS:
            return Manifest.decode(data, blob.media_type).children()
        index = Index.decode(data, blob.media_type)
        return index.children() if self._select is None else self._select(index)
