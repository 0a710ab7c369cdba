"""Files of a tree, read so that what comes out is what was listed, or an error."""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from layers.attributes import is_exported
from layers.inroot import DIRECTORY
from ocispec.errors import Corrupt, Denied

SMALL: Final = 1 << 20  # bytes of a file that is read in one go
CHUNK: Final = 1 << 20
NO_XATTRS: Final[Mapping[str, bytes]] = {}
_FILE: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_GONE: Final = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENXIO)


def open_file(root: Path, path: str, *, carefully: bool = False) -> int:
    """
    The file at *path* below *root*, opened for reading.

    Not *carefully*, a directory on the way that became a link is followed: then the caller is to
    compare what was opened with what was listed. Denied; Corrupt if it is no longer there.
    """
    try:
        if not carefully:
            try:
                return os.open(f"{root}/{path}", _FILE)
            except OSError as error:
                if error.errno != errno.ENAMETOOLONG:
                    raise
        return _open_beneath(root, path)
    except PermissionError as error:
        raise denied(path) from error
    except OSError as error:
        if error.errno in _GONE:
            raise changed(path) from error
        raise OSError(error.errno, error.strerror, path) from error


def is_same(one: os.stat_result, other: os.stat_result) -> bool:
    """True if nothing that stat(2) tells of a file's identity, bytes or mode has changed."""
    return (
        one.st_ctime_ns == other.st_ctime_ns
        and one.st_mtime_ns == other.st_mtime_ns
        and one.st_size == other.st_size
        and one.st_ino == other.st_ino
        and one.st_dev == other.st_dev
        and one.st_mode == other.st_mode
    )


def hash_file(fd: int, size: int) -> tuple[str, bytes | None]:
    """The SHA-256 of all that *fd* has, hex; and the bytes, if *size* and they are small."""
    if size > SMALL:
        return _hash_large(fd), None
    data = os.read(fd, size + 1)
    # A regular file gives all it has at once; one that grows or shrinks is found by its stat.
    if len(data) != size:
        chunks = [data]
        while chunk := os.read(fd, CHUNK):
            chunks.append(chunk)
        data = b"".join(chunks)
    return hashlib.sha256(data).hexdigest(), data if len(data) <= SMALL else None


def xattrs_of(fd: int) -> Mapping[str, bytes]:
    """The extended attributes of an open file or directory that belong to a layer."""
    try:
        names = os.listxattr(fd)
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return NO_XATTRS
    return {name: os.getxattr(fd, name) for name in names if is_exported(name)} or NO_XATTRS


class CheckedFile:
    """
    Reads an open file, and closes it; at the end Corrupt if it was not what *status* is of.

    With a *digest* its bytes are compared, else what stat(2) says before and after.
    """

    def __init__(self, fd: int, path: str, status: os.stat_result, digest: str | None) -> None:
        self._fd = fd
        self._path = path
        self._status = status
        self._digest = digest
        self._hash = None if digest is None else hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        try:
            data = os.read(self._fd, CHUNK if size < 0 else size)
        except IsADirectoryError as error:
            raise changed(self._path) from error
        if self._hash is not None:
            self._hash.update(data)
        if not data and size:
            self._check()
        return data

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1

    def _check(self) -> None:
        if self._hash is None:
            is_intact = is_same(os.fstat(self._fd), self._status)
        else:
            is_intact = self._hash.hexdigest() == self._digest
        if not is_intact:
            raise changed(self._path)


def changed(path: str) -> Corrupt:
    return Corrupt(
        f"{path!r} was changed while it was being read",
        hint="try again when nothing writes to it, or exclude it",
    )


def denied(path: str) -> Denied:
    return Denied(
        f"{path!r} may not be read", hint="change its permissions, or exclude it in .dockerignore"
    )


def _hash_large(fd: int) -> str:
    hasher = hashlib.sha256()
    buffer = bytearray(CHUNK)
    view = memoryview(buffer)
    while count := os.readv(fd, [buffer]):
        hasher.update(view[:count])
    return hasher.hexdigest()


def _open_beneath(root: Path, path: str) -> int:
    *parents, name = path.split("/")
    at = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        for parent in parents:
            below = os.open(parent, DIRECTORY, dir_fd=at)
            os.close(at)
            at = below
        fd = os.open(name, _FILE, dir_fd=at)
    finally:
        os.close(at)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise changed(path)
    return fd
