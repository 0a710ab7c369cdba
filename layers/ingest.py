"""A blob being written: hashed as it comes, synced before it gets its name."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from pathlib import Path
from types import TracebackType
from typing import Final

from ocispec.digest import Digest
from ocispec.errors import Corrupt
from ocispec.model import Descriptor

_BLOCK: Final = 1 << 18  # smaller pieces are gathered: a hash and a system call for each are dear


class Ingest:
    """Made by Session.ingest(). As a context manager it aborts what was not committed."""

    def __init__(
        self, path: Path, algorithm: str, publish: Callable[[Descriptor, Path], None]
    ) -> None:
        self._path = path
        self._algorithm = algorithm
        self._publish = publish
        self._hash = hashlib.new(algorithm)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd: int | None = os.open(path, flags, 0o444)
        self._pending = bytearray()
        self.size = 0  # bytes written so far

    def write(self, data: bytes) -> None:
        """Append *data*."""
        self.size += len(data)
        if self._pending or len(data) < _BLOCK:
            self._pending += data
            if len(self._pending) >= _BLOCK:
                self._flush()
        else:
            self._write(data)

    def commit(
        self, media_type: str, expected: Digest | None = None, size: int | None = None
    ) -> Descriptor:
        """
        Publish what was written; its descriptor.

        Corrupt if it is not *expected* or has not *size* bytes. A blob that is there already is
        left as it is.
        """
        try:
            self._flush()
            blob = Descriptor(media_type, self._verified(expected, size), self.size)
            os.fsync(self._open_fd())
            self._close()
            self._publish(blob, self._path)
        except BaseException:
            self.abort()
            raise
        return blob

    def abort(self) -> None:
        """Leave nothing behind. Nothing happens after commit()."""
        if self._close():
            self._pending.clear()
        self._path.unlink(missing_ok=True)

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()

    def _verified(self, expected: Digest | None, size: int | None) -> Digest:
        digest = Digest(f"{self._algorithm}:{self._hash.hexdigest()}")
        name = digest if expected is None else expected
        if size is not None and self.size != size:
            compared = "more than" if self.size > size else f"{self.size} of"
            raise Corrupt(
                f"blob {name}: {compared} its {size} bytes came",
                hint="the transfer was cut short, or the source is damaged; try again",
            )
        if digest != name:
            raise Corrupt(
                f"blob {name}: the bytes hash to {digest}",
                hint="the source is damaged or has been tampered with",
            )
        return digest

    def _flush(self) -> None:
        if self._pending:
            self._write(self._pending)
            self._pending = bytearray()

    def _write(self, data: bytes | bytearray) -> None:
        self._hash.update(data)
        fd = self._open_fd()
        view = memoryview(data)
        while view:
            view = view[os.write(fd, view) :]

    def _open_fd(self) -> int:
        if self._fd is None:
            raise ValueError("the blob was committed or aborted")
        return self._fd

    def _close(self) -> bool:
        if self._fd is None:
            return False
        os.close(self._fd)
        self._fd = None
        return True
