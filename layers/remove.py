"""Removing a tree, however deep: a RUN can make one that recursion cannot follow."""

from __future__ import annotations

import os
import stat
from pathlib import Path


def remove_tree(root: Path) -> None:
    """
    Remove *root* and everything below it; nothing happens if it is not there.

    Iterative and by descriptor, with one open at a time: what is deeper than a path may be long
    is reached by moving subdirectories up first. Links are removed, never followed.
    """
    try:
        status = root.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISDIR(status.st_mode):
        root.unlink()
        return
    fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        _empty(fd)
    finally:
        os.close(fd)
    root.rmdir()


def _empty(root: int) -> None:
    """
    Empty the directory *root*.

    A directory that is not empty has its entries moved up to the root under new names, so the
    walk never goes deeper than one level; each entry is moved at most once per level it lies at.
    """
    count = 0
    pending = os.listdir(root)
    while pending:
        name = pending.pop()
        try:
            os.unlink(name, dir_fd=root)
            continue
        except IsADirectoryError:
            pass
        except PermissionError as error:
            # POSIX lets unlink(2) of a directory fail with EPERM, too.
            if not stat.S_ISDIR(os.stat(name, dir_fd=root, follow_symlinks=False).st_mode):
                raise error
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        below = os.open(name, flags, dir_fd=root)
        try:
            for child in os.listdir(below):
                try:
                    os.unlink(child, dir_fd=below)
                except (IsADirectoryError, PermissionError):
                    count += 1
                    moved = f".removing-{os.getpid()}-{count}"
                    os.rename(child, moved, src_dir_fd=below, dst_dir_fd=root)
                    pending.append(moved)
        finally:
            os.close(below)
        os.rmdir(name, dir_fd=root)
