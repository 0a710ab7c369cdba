"""
What files were when their digests were taken: one flat file, loaded and written whole.

A cache that can be thrown away: a damaged or missing index is an empty one. Two builds may write
the same index at once; one of them wins.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import struct
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Final, NamedTuple

_MAGIC: Final = b"pybuild stat index 1\n\0\0\0"
_LENGTHS: Final = struct.Struct("<4Q")
_HEADER: Final = len(_MAGIC) + 32 + _LENGTHS.size  # magic, SHA-256 of what follows it, lengths
_ROW: Final = struct.Struct("<qqqQI")
_DIGEST: Final = 32  # bytes
ROW: Final = _ROW.size
UNKNOWN: Final = "0" * 64  # the digest of a file that nobody asked for

Xattrs = Mapping[str, bytes]


class Table(NamedTuple):
    """Files in the order of their paths: what stat(2) said, and the digests of their bytes."""

    paths: bytes  # joined by NUL
    rows: bytes  # ROW bytes each
    digests: str  # 64 hex digits each, or UNKNOWN
    xattrs: Mapping[int, Xattrs]  # by index, of the few that have any


def joined(paths: Iterable[str]) -> bytes:
    return "\0".join(paths).encode("utf-8", "surrogateescape")


def split(paths: bytes) -> list[str]:
    return paths.decode("utf-8", "surrogateescape").split("\0") if paths else []


def rows(statuses: Sequence[os.stat_result]) -> bytes:
    """
    What tells that a file may have changed: size, mtime, ctime, inode, mode.

    ctime is the one that no program can set: it catches an edit that puts the mtime back. The
    device is left out: some file systems have another number after each boot.
    """
    pack = _ROW.pack
    return b"".join(
        [pack(st.st_size, st.st_mtime_ns, st.st_ctime_ns, st.st_ino, st.st_mode) for st in statuses]
    )


def load(path: Path) -> Table | None:
    """The table in *path*; None if there is none, or it is damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    start = len(_MAGIC) + 32
    if data[: len(_MAGIC)] != _MAGIC or len(data) < _HEADER:
        return None
    # Written without fsync: after a power cut it may hold anything.
    if hashlib.sha256(memoryview(data)[start:]).digest() != data[len(_MAGIC) : start]:
        return None
    parts = []
    at = _HEADER
    for length in _LENGTHS.unpack_from(data, start):
        parts.append(data[at : at + length])
        at += length
    paths, stats, digests, extra = parts
    xattrs = {
        int(index): {name: bytes.fromhex(value) for name, value in attributes.items()}
        for index, attributes in json.loads(extra).items()
    }
    return Table(paths, stats, digests.hex(), xattrs)


def save(path: Path, table: Table) -> None:
    """Write *table* to *path*, unless another process is doing so."""
    extra = {
        str(index): {name: value.hex() for name, value in attributes.items()}
        for index, attributes in table.xattrs.items()
    }
    parts = (table.paths, table.rows, bytes.fromhex(table.digests), json.dumps(extra).encode())
    body = _LENGTHS.pack(*map(len, parts)) + b"".join(parts)
    data = _MAGIC + hashlib.sha256(body).digest() + body
    # One name, so that what a killed process left is written over and not added to.
    temporary = f"{path}.new"
    fd = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if not _is_ours(fd, temporary):
            return
        try:
            os.ftruncate(fd, 0)
            view = memoryview(data)
            while view:
                view = view[os.write(fd, view) :]
            os.rename(temporary, path)
        except BaseException:
            os.unlink(temporary)
            raise
    finally:
        os.close(fd)


def _is_ours(fd: int, path: str) -> bool:
    """Lock the open file; False if another process has it, or has just given it its name."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        return os.path.samestat(os.fstat(fd), os.stat(path))
    except FileNotFoundError:
        return False
    except OSError as error:
        if error.errno != errno.EWOULDBLOCK:
            raise
        return False


def known(table: Table, paths: Sequence[str], stats: bytes) -> Iterable[tuple[int, int]]:
    """(index in *paths*, index in *table*) of the files that are as the table has them."""
    where = {path: index for index, path in enumerate(split(table.paths))}
    recorded = table.rows
    for index, path in enumerate(paths):
        found = where.get(path)
        if found is not None:
            row = recorded[found * ROW : found * ROW + ROW]
            if row == stats[index * ROW : index * ROW + ROW]:
                yield index, found
