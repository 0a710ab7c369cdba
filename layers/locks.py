"""Locks between processes: flock(2), which the kernel lets go of when the owner dies."""

from __future__ import annotations

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def locked(path: Path, *, exclusive: bool) -> Iterator[None]:
    """
    Hold the lock file *path*, made if missing, while the context lasts.

    flock and not lockf: a lockf lock is lost when any descriptor of the file is closed. Each call
    has a descriptor of its own, so threads exclude each other, too.
    """
    fd = _lock(path, fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH)
    try:
        yield
    finally:
        # A child that was forked meanwhile has the descriptor, too: closing ours is not enough.
        fcntl.flock(fd, fcntl.LOCK_UN)
        os.close(fd)


def _lock(path: Path, operation: int) -> int:
    while True:
        fd = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            fcntl.flock(fd, operation)
            if os.fstat(fd).st_nlink:
                return fd
        except BaseException:
            os.close(fd)
            raise
        # The file was removed while we waited: a lock on it excludes nobody.
        os.close(fd)


def is_held(path: Path) -> bool:
    """True if a living process holds *path* exclusively; False if it is free or not there."""
    try:
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError as error:
        if error.errno == errno.EWOULDBLOCK:
            return True
        raise
    finally:
        os.close(fd)
    return False
