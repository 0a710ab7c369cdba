"""Removing a tree, however deep: a RUN can make one that recursion cannot follow."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_OWNERS: Final = 0o700


def remove_tree(root: Path) -> None:
    """
    Remove *root* and everything below it; nothing happens if it is not there.

    Iterative and by descriptor, two open at a time: a directory that is not empty is moved up
    first, so nothing is ever deeper than a path may be long. Links are removed, never followed.
    Others may be removing the same tree.
    """
    if _remove_file(str(root), None):
        return
    try:
        fd = _open(str(root), None)
    except FileNotFoundError:
        return
    try:
        while names := os.listdir(fd):
            for name in names:
                _remove(name, fd)
    finally:
        os.close(fd)
    _remove_empty(str(root), None)


def _remove(name: str, root: int) -> None:
    """Remove the entry *name* of *root*; what is in the directories that it holds moves up."""
    if _remove_file(name, root):
        return
    try:
        below = _open(name, root)
    except FileNotFoundError:
        return
    try:
        for child in os.listdir(below):
            if not _remove_file(child, below) and not _remove_empty(child, below):
                _move_up(child, below, root)
    finally:
        os.close(below)
    _remove_empty(name, root)


def _remove_file(name: str, directory: int | None) -> bool:
    """True if *name* is gone; False if it is a directory."""
    try:
        os.unlink(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except OSError:
        # EISDIR on Linux, EPERM in POSIX: only a directory is another matter.
        if _is_directory(name, directory):
            return False
        raise
    return True


def _is_directory(name: str, directory: int | None) -> bool:
    try:
        status = os.stat(name, dir_fd=directory, follow_symlinks=False)
    except FileNotFoundError:
        return True  # to those that removed it meanwhile: it is gone for the next step as well
    return stat.S_ISDIR(status.st_mode)


def _remove_empty(name: str, directory: int | None) -> bool:
    """True if the directory *name* is gone; False if it is not empty."""
    try:
        os.rmdir(name, dir_fd=directory)
    except FileNotFoundError:
        return True
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.EEXIST):
            return False
        raise
    return True


def _open(name: str, directory: int | None) -> int:
    """A directory to be emptied. Its owner may have been left without permission to do so."""
    try:
        fd = os.open(name, _DIRECTORY, dir_fd=directory)
    except PermissionError:
        os.chmod(name, _OWNERS, dir_fd=directory)
        fd = os.open(name, _DIRECTORY, dir_fd=directory)
    if os.geteuid() != 0:
        os.fchmod(fd, _OWNERS)
    return fd


def _move_up(name: str, directory: int, root: int) -> None:
    moved = f".removing-{os.urandom(8).hex()}"
    try:
        if os.geteuid() != 0:
            # Moving a directory writes its "..", which takes permission to write it.
            os.chmod(name, _OWNERS, dir_fd=directory)
        os.rename(name, moved, src_dir_fd=directory, dst_dir_fd=root)
    except FileNotFoundError:
        return
