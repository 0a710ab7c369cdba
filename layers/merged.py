"""
Where names lead in the merged tree of a layer that is being made and of what is below it.

A Place for inroot.resolve() with two directories at once: the layer's own and the one that lies
under it, as overlayfs would merge them. What a new entry needs of the lower tree is brought up:
parents with their metadata (an overlay directory has those of its topmost layer, so a parent made
with others would change /tmp from 1777 to 755), and files that a hard link is made to.
"""

from __future__ import annotations

import os
import stat
from typing import Final

from layers.entry import Entry
from layers.inroot import DIRECTORY
from layers.ondisk import (
    by_fd,
    entry_of,
    exported_xattrs,
    is_whiteout,
    make_node,
    status_of,
    write_metadata,
)
from ocispec.errors import Invalid

_LOWER: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CHUNK: Final = 1 << 20
_MAX_NOTES: Final = 1000


class Merged:
    """Stands in a directory of the merged tree, which is then also one of the layer's own."""

    def __init__(self, root_fd: int, lower_fd: int | None, prefix: str) -> None:
        self._root = (root_fd, lower_fd)
        self._opaque = f"{prefix}.overlay.opaque"
        self.fd = root_fd
        self.lower = lower_fd  # None: nothing of the lower tree is visible here
        self.implicit: list[str] = []  # directories made for want of an entry, the first thousand
        self._names: list[str] = []  # from the root to here

    def home(self) -> None:
        self._move(*self._root)
        self._names.clear()

    def enter(self, name: str) -> None:
        own, hidden = self._own_directory(name)
        lower = None
        try:
            if self.lower is not None and not hidden and not (own and self.is_opaque(own)):
                lower = self._lower_directory(name, must=own is None)
            if own is None and lower is None:
                raise FileNotFoundError(name)
            if own is None and lower is not None:
                own = self._bring_up_directory(name, lower)
        except BaseException:
            for fd in (own, lower):
                if fd is not None:
                    os.close(fd)
            raise
        if own is not None:
            self._move(own, lower)
            self._names.append(name)

    def link(self, name: str) -> str | None:
        for fd in (self.fd, self.lower):
            status = status_of(name, fd)
            if status is None:
                continue
            return os.readlink(name, dir_fd=fd) if stat.S_ISLNK(status.st_mode) else None
        raise FileNotFoundError(name)

    def mkdir(self, name: str) -> None:
        """A directory that no layer has an entry for; a deletion in its place stays in force."""
        with _TimeKept(self.fd):
            fd = self.new_directory(name)
            try:
                write_metadata(fd, Entry(name, "dir", 0o755))
            finally:
                os.close(fd)
        self._note(name)

    def new_directory(self, name: str) -> int:
        """
        Make the directory *name*, or take the one that is there; its fd, which the caller closes.

        What is in its place, a deletion or another file, goes; and as that hid what the lower tree
        has under this name, the directory then hides it too.
        """
        replaced = False
        try:
            os.mkdir(name, 0o700, dir_fd=self.fd)
        except FileExistsError:
            status = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
            if not stat.S_ISDIR(status.st_mode):
                os.unlink(name, dir_fd=self.fd)
                os.mkdir(name, 0o700, dir_fd=self.fd)
                replaced = True
        fd = os.open(name, DIRECTORY, dir_fd=self.fd)
        if replaced:
            self.make_opaque(fd, name)
        return fd

    def make_opaque(self, fd: int, name: str) -> None:
        """Let the directory *name*, open as *fd*, hide what the lower tree has in it."""
        below = status_of(name, self.lower)
        if below is not None and stat.S_ISDIR(below.st_mode):
            self.mark_opaque(fd)

    def mark_opaque(self, fd: int) -> None:
        os.setxattr(fd, self._opaque, b"y")

    def is_root(self) -> bool:
        return self.fd == self._root[0]

    def is_opaque(self, fd: int) -> bool:
        return self._opaque in os.listxattr(fd)

    def bring_up(self, name: str) -> bool:
        """Copy *name* from the lower tree unless the layer has it; False if it is no file."""
        own = status_of(name, self.fd)
        if own is not None:
            return not is_whiteout(own) and not stat.S_ISDIR(own.st_mode)
        below = status_of(name, self.lower)
        if below is None or self.lower is None or stat.S_ISDIR(below.st_mode):
            return False
        with _TimeKept(self.fd):
            if stat.S_ISREG(below.st_mode):
                _copy_file(name, self.lower, self.fd)
            else:
                target = ""
                if stat.S_ISLNK(below.st_mode):
                    target = os.readlink(name, dir_fd=self.lower)
                make_node(self.fd, name, entry_of(name, below, target=target, xattrs={}))
        return True

    def _own_directory(self, name: str) -> tuple[int | None, bool]:
        """(the layer's directory *name* or None, True if the layer deletes it)."""
        try:
            return os.open(name, DIRECTORY, dir_fd=self.fd), False
        except FileNotFoundError:
            return None, False
        except NotADirectoryError:
            status = os.stat(name, dir_fd=self.fd, follow_symlinks=False)
            if is_whiteout(status):
                return None, True
            raise

    def _lower_directory(self, name: str, *, must: bool) -> int | None:
        try:
            return os.open(name, _LOWER, dir_fd=self.lower)
        except FileNotFoundError:
            return None
        except NotADirectoryError:
            status = status_of(name, self.lower)
            if must and status is not None and stat.S_ISLNK(status.st_mode):
                raise
            return None  # a file there: a directory of this layer takes its place

    def _bring_up_directory(self, name: str, lower: int) -> int:
        entry = entry_of(name, os.fstat(lower), xattrs=exported_xattrs(by_fd(lower)))
        with _TimeKept(self.fd):
            os.mkdir(name, 0o700, dir_fd=self.fd)
            fd = os.open(name, DIRECTORY, dir_fd=self.fd)
            write_metadata(fd, entry)
        self._note(name)
        return fd

    def _note(self, name: str) -> None:
        if len(self.implicit) < _MAX_NOTES:
            self.implicit.append("/".join((*self._names, name)))

    def _move(self, own: int, lower: int | None) -> None:
        if self.fd != self._root[0]:
            os.close(self.fd)
        if self.lower is not None and self.lower != self._root[1]:
            os.close(self.lower)
        self.fd, self.lower = own, lower


class _TimeKept:
    """Gives the directory *fd* back the time it had before something was made in it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd
        self._time = os.fstat(fd).st_mtime_ns

    def __enter__(self) -> None:
        pass

    def __exit__(self, *_: object) -> None:
        os.utime(self._fd, ns=(self._time, self._time))


def _copy_file(name: str, source_dir: int, dir_fd: int) -> None:
    # O_NONBLOCK: should it turn out to be a fifo, opening must not wait for its writer.
    flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
    source = os.open(name, flags, dir_fd=source_dir)
    try:
        status = os.fstat(source)
        if not stat.S_ISREG(status.st_mode):
            raise Invalid(f"{name!r} is no longer a file")
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        copy = os.open(name, flags, 0o600, dir_fd=dir_fd)
        try:
            while chunk := os.read(source, _CHUNK):
                view = memoryview(chunk)
                while view:
                    view = view[os.write(copy, view) :]
            write_metadata(copy, entry_of(name, status, xattrs=exported_xattrs(source)))
        finally:
            os.close(copy)
    finally:
        os.close(source)
