"""A reader that hashes all it reads, and for much data reads and hashes ahead in a thread."""

from __future__ import annotations

import hashlib
from collections import deque
from typing import TYPE_CHECKING, Final

from ocispec.content import Readable
from ocispec.digest import Digest

if TYPE_CHECKING:
    from concurrent.futures import Future, ThreadPoolExecutor

_CHUNK: Final = 1 << 20
_ALONE: Final = 4 << 20  # bytes; a thread for less does not pay
_AHEAD: Final = 4  # chunks


class ReadAhead:
    """
    Reads *raw*, which only this reader may use.

    Decompression and hashing let go of the interpreter's lock, so that they go on while the caller
    makes files. What *raw* raises comes out of read(). close() ends the thread, not *raw*.
    """

    def __init__(self, raw: Readable) -> None:
        self._raw = raw
        self._hash = hashlib.sha256()
        self._rest = b""
        self._pool: ThreadPoolExecutor | None = None
        self._waiting: deque[Future[bytes]] = deque()
        self.size = 0  # bytes that were read from raw

    def read(self, size: int = -1, /) -> bytes:
        data = self._rest or self._chunk()
        if 0 <= size < len(data):
            self._rest = data[size:]
            return data[:size]
        self._rest = b""
        return data

    def digest(self) -> Digest:
        """Of all bytes, once read() gave b""."""
        return Digest("sha256:" + self._hash.hexdigest())

    def close(self) -> None:
        if self._pool is not None:
            self._pool.shutdown(cancel_futures=True)
            self._pool = None

    def __enter__(self) -> ReadAhead:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _chunk(self) -> bytes:
        if self._pool is None:
            if self.size < _ALONE:
                return self._fetch()
            from concurrent.futures import ThreadPoolExecutor

            self._pool = ThreadPoolExecutor(1, "readahead")
        while len(self._waiting) < _AHEAD:
            self._waiting.append(self._pool.submit(self._fetch))
        return self._waiting.popleft().result()

    def _fetch(self) -> bytes:
        data = self._raw.read(_CHUNK)
        self._hash.update(data)
        self.size += len(data)
        return data
