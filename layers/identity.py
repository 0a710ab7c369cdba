"""
The identity of a layer: what it changes in a filesystem, whatever the times.

A SHA-256 over one record an entry, in the order of the entries. Every text in a record has its
length before it, so that no two lists of entries have the same records. A layer's identity, unlike
its DiffID, is the same in every rebuild that makes the same files.
"""

from __future__ import annotations

import hashlib
import os
from typing import Final

from layers.entry import Entry, encoded
from ocispec.digest import Digest

_VERSION: Final = b"pybuild layer identity 1\n"
_BATCH: Final = 1 << 16


class Identity:
    """Takes records, gives the digest."""

    def __init__(self) -> None:
        self._hash = hashlib.sha256(_VERSION)
        self._batch = bytearray()

    def add(self, entry: Entry, content: str = "") -> None:
        """As update(record(entry, content))."""
        self._batch += record(entry, content)
        if len(self._batch) >= _BATCH:
            self._hash.update(self._batch)
            self._batch.clear()

    def update(self, records: bytes) -> None:
        self._batch += records
        self._hash.update(self._batch)
        self._batch.clear()

    def digest(self) -> Digest:
        self.update(b"")
        return Digest("sha256:" + self._hash.hexdigest())


def record(entry: Entry, content: str) -> bytes:
    """*content* is the hex SHA-256 of a file's neutral() bytes; "" for an empty one."""
    path, target = encoded(entry.path), encoded(entry.target)
    head = b"%b %o %d %d %d %d %d %d:%b %d:%b %b\n" % (
        entry.kind.encode(),
        entry.mode,
        entry.uid,
        entry.gid,
        entry.major,
        entry.minor,
        len(entry.xattrs),
        len(path),
        path,
        len(target),
        target,
        content.encode() or b"-",
    )
    if not entry.xattrs:
        return head
    pairs = sorted((os.fsencode(key), value) for key, value in entry.xattrs.items())
    return head + b"".join(b"%d:%b %d:%b\n" % (len(k), k, len(v), v) for k, v in pairs)


class ContentHash:
    """The digest of a file's content for its record(), from chunks, of which the first says it."""

    def __init__(self, path: str) -> None:
        self._path: str | None = path
        self._hash = hashlib.sha256()

    def update(self, chunk: bytes) -> None:
        """The first chunk is the whole file or at least 16 bytes of it."""
        if self._path is not None:
            chunk = neutral(self._path, chunk)
            self._path = None
        self._hash.update(chunk)

    def hexdigest(self) -> str:
        return self._hash.hexdigest()


def is_timed_pyc(path: str, head: bytes) -> bool:
    """
    True if *head*, the first 16 bytes or more of the file at *path*, is a .pyc with its source's
    time in it.

    PEP 552: magic number (ending in CR LF), flags, then for flags 0 the source's time and size.
    """
    return (
        path.endswith(".pyc")
        and len(head) >= 16
        and head[2:4] == b"\r\n"
        and head[4:8] == b"\0\0\0\0"
    )


def neutral(path: str, head: bytes) -> bytes:
    """*head* as it enters the identity: the time of a .pyc's source is a time, so it is zeroed."""
    if is_timed_pyc(path, head):
        return head[:8] + b"\0\0\0\0" + head[12:]
    return head
