"""A tree copied within a file system: blocks shared where that can be, holes kept, links kept."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path
from typing import Final

from layers.inroot import Descent
from layers.linux import clone_file
from layers.ondisk import entry_of, exported_xattrs, make_node, write_metadata

_CHUNK: Final = 1 << 20
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
# What copy_file_range(2) says where it cannot be used.
_NO_RANGE: Final = (errno.EXDEV, errno.EINVAL, errno.ENOSYS, errno.EOPNOTSUPP)


def copy_tree(source_fd: int, target_fd: int, links: Path) -> None:
    """
    Make the empty directory *target_fd* like *source_fd*, with all that a layer can hold.

    *links* is an empty directory in the target's file system; what is left in it can be removed.
    Sockets are left out.
    """
    stash = os.open(links, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        _Copy(stash).run(source_fd, target_fd)
    finally:
        os.close(stash)


class _Copy:
    def __init__(self, stash: int) -> None:
        self._stash = stash
        # (device, inode) -> a name in the stash. Not a path in the copy: that may be too long.
        self._links: dict[tuple[int, int], str] = {}

    def run(self, source_fd: int, target_fd: int) -> None:
        with Descent(source_fd) as source, Descent(target_fd) as target:
            todo = [self._fill(source.fd, target.fd)]
            while True:
                if todo[-1]:
                    name = todo[-1].pop()
                    os.mkdir(name, 0o700, dir_fd=target.fd)
                    todo.append(self._fill(source.down(name), target.down(name)))
                    continue
                copy_metadata(source.fd, target.fd)
                todo.pop()
                if not todo:
                    return
                source.up()
                target.up()

    def _fill(self, source: int, target: int) -> list[str]:
        """Copy what is no directory; the names of the directories."""
        directories = []
        for name in os.listdir(source):
            status = os.stat(name, dir_fd=source, follow_symlinks=False)
            mode = status.st_mode
            if stat.S_ISDIR(mode):
                directories.append(name)
            elif stat.S_ISSOCK(mode) or self._is_linked(name, status, target):
                continue
            else:
                if stat.S_ISREG(mode):
                    _copy_file(name, source, target)
                else:
                    text = os.readlink(name, dir_fd=source) if stat.S_ISLNK(mode) else ""
                    make_node(target, name, entry_of(name, status, target=text, xattrs={}))
                self._remember(name, status, target)
        return directories

    def _is_linked(self, name: str, status: os.stat_result, target: int) -> bool:
        known = self._links.get((status.st_dev, status.st_ino)) if status.st_nlink > 1 else None
        if known is None:
            return False
        os.link(known, name, src_dir_fd=self._stash, dst_dir_fd=target, follow_symlinks=False)
        return True

    def _remember(self, name: str, status: os.stat_result, target: int) -> None:
        if status.st_nlink > 1:
            known = str(len(self._links))
            os.link(name, known, src_dir_fd=target, dst_dir_fd=self._stash, follow_symlinks=False)
            self._links[status.st_dev, status.st_ino] = known


def copy_metadata(source_fd: int, target_fd: int) -> None:
    """Mode, owner, time and xattrs of one open file or directory to another, new one."""
    entry = entry_of("", os.fstat(source_fd), xattrs=exported_xattrs(source_fd))
    write_metadata(target_fd, entry)


def _copy_file(name: str, source_dir: int, target_dir: int) -> None:
    source = os.open(name, _READ, dir_fd=source_dir)
    try:
        target = os.open(name, _NEW, 0o600, dir_fd=target_dir)
        try:
            _copy_data(source, target, os.fstat(source).st_size)
            copy_metadata(source, target)
        finally:
            os.close(target)
    finally:
        os.close(source)


def _copy_data(source: int, target: int, size: int) -> None:
    if not size or clone_file(source, target):
        return
    end = 0
    while end < size:
        try:
            start = os.lseek(source, end, os.SEEK_DATA)
        except OSError as error:
            if error.errno != errno.ENXIO:
                raise
            break  # a hole to the end
        end = os.lseek(source, start, os.SEEK_HOLE)
        _copy_range(source, target, start, end)
    os.ftruncate(target, size)


def _copy_range(source: int, target: int, start: int, end: int) -> None:
    while start < end:
        try:
            done = os.copy_file_range(source, target, end - start, start, start)
        except OSError as error:
            if error.errno not in _NO_RANGE:
                raise
            done = os.pwrite(target, os.pread(source, min(end - start, _CHUNK), start), start)
        if not done:
            return
        start += done
