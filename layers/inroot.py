"""
Paths inside an image, resolved as the image would, never leaving its root.

Every step is one component, opened relative to the last with O_NOFOLLOW; symlinks are spliced in
as text, ".." and "/" stop at the root. So no link, however it is made, leads out, and the magic
links of /proc are never followed. What comes out is a directory and a name in it: work with these.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Callable
from typing import Final, NamedTuple, Protocol

MAX_LINKS: Final = 40  # as the kernel's MAXSYMLINKS
MAX_STEPS: Final = 20_000  # components looked at for one path, repeats after ".." included
_MISSING: Final = ""  # no link has an empty text
DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_PLACE: Final = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

Create = Callable[[int, str, str], None]  # directory to make it in, its name, its path
Make = Callable[[str, str, bool], None]  # name, path, whether a link asks for it


class Found(NamedTuple):
    """Where a path leads: ``name`` in the directory ``dirfd``, which the caller closes."""

    dirfd: int
    name: str  # "." for the directory itself; what it names need not exist
    parent: str  # the path of dirfd, free of links; "" for the root
    created: list[str]  # directories that were made on the way, topmost first


class Place(Protocol):
    """Where a walk stands: a directory below some root."""

    def home(self) -> None:
        """Stand at the root."""

    def enter(self, name: str) -> None:
        """Stand in the directory *name*. FileNotFoundError, NotADirectoryError if it is none."""

    def link(self, name: str) -> str | None:
        """The text of the symlink *name*; None if it is none. FileNotFoundError."""


def walk_in_root(
    root_fd: int, path: str, *, create: Create | None = None, follow_last: bool = True
) -> tuple[int, str, list[str]]:
    """
    (directory fd, name in it, directories created) for *path* below *root_fd*.

    The caller closes the fd. See locate().
    """
    found = locate(root_fd, path, create=create, follow_last=follow_last)
    return found.dirfd, found.name, found.created


def locate(
    root_fd: int, path: str, *, create: Create | None = None, follow_last: bool = True
) -> Found:
    """
    Where *path* leads below *root_fd*.

    *create* makes a missing parent, also one behind a dangling link (COPY to /data/x with
    /data -> /mnt/data). The last component is followed if it is a link and *follow_last*; it need
    not exist. OSError with the path: a parent is missing or no directory, or there are too many
    links.
    """
    place = _Directory(root_fd)
    created: list[str] = []

    def make(name: str, made: str, _: bool) -> None:
        if create is None:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), path)
        create(place.fd, name, made)
        created.append(made)

    try:
        name, parents = resolve(place, path, make=make, follow_last=follow_last)
    except BaseException:
        place.close()
        raise
    return Found(place.take(), name, "/".join(parents), created)


def resolve(place: Place, path: str, *, make: Make, follow_last: bool) -> tuple[str, list[str]]:
    """
    Move *place* to the parent of *path*; the last name and the parent's names, free of links.

    *make* is called for a parent that is not there, with its name, its path and whether it is part
    of a link's text, which then dangles; it makes the directory or raises.
    """
    todo = _components(path)[::-1]
    names: list[str] = []
    moved = True  # place is not where names says
    links = steps = 0
    rest = len(todo)  # components of the path itself; more than these are a link's
    while todo:
        steps += 1
        if steps > MAX_STEPS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        of_link = len(todo) > rest
        name = todo.pop()
        rest = min(rest, len(todo))
        if name == "..":
            if names:
                names.pop()
                moved = True
            continue
        if moved:
            _stand(place, names)
            steps += len(names)
            moved = False
        if not todo and not follow_last:
            return name, names
        target = _link(place, name) if not todo else _enter(place, name, path)
        if target is None and not todo:
            return name, names
        if target == _MISSING:
            make(name, "/".join((*names, name)), of_link)
            place.enter(name)
            target = None
        if target is None:
            names.append(name)
            continue
        links += 1
        if links > MAX_LINKS:
            raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
        if target.startswith("/"):
            names.clear()
            moved = True
        todo += _components(target)[::-1]
    if moved:
        _stand(place, names)
    return ".", names


def _stand(place: Place, names: list[str]) -> None:
    # From the root, not by opening "..": a directory that is moved meanwhile would lead outside.
    place.home()
    for name in names:
        place.enter(name)


def _enter(place: Place, name: str, path: str) -> str | None:
    """Stand in *name*; or the text of the link that it is, or _MISSING."""
    try:
        place.enter(name)
    except FileNotFoundError:
        return _MISSING
    except NotADirectoryError:
        target = place.link(name)
        if target is None:
            raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path) from None
        return target
    return None


def _link(place: Place, name: str) -> str | None:
    try:
        return place.link(name)
    except FileNotFoundError:
        return None


class _Directory:
    """A Place in one tree on disk."""

    def __init__(self, root_fd: int) -> None:
        self._root = root_fd
        self.fd = root_fd  # not ours to close while it is the root's

    def home(self) -> None:
        self.close()

    def enter(self, name: str) -> None:
        fd = os.open(name, _PLACE, dir_fd=self.fd)
        self.close()
        self.fd = fd

    def link(self, name: str) -> str | None:
        mode = os.stat(name, dir_fd=self.fd, follow_symlinks=False).st_mode
        return os.readlink(name, dir_fd=self.fd) if stat.S_ISLNK(mode) else None

    def take(self) -> int:
        """The fd, now the caller's."""
        fd = os.dup(self.fd) if self.fd == self._root else self.fd
        self.fd = self._root
        return fd

    def close(self) -> None:
        if self.fd != self._root:
            os.close(self.fd)
        self.fd = self._root


def _components(path: str) -> list[str]:
    return [name for name in path.split("/") if name not in ("", ".")]


class Descent:
    """
    The directories from a root down to where a walk is, with a bounded number of open fds.

    A tree may be deeper than a process may have files open. What was closed on the way down is
    opened again on the way up, as "..", and checked to be the directory that was left: for trees
    that nobody else changes meanwhile.
    """

    KEEP: Final = 64

    def __init__(self, root_fd: int, *, check: bool = True) -> None:
        """*check* off: for overlayfs, whose inode numbers of directories may change when idle."""
        self._fds: list[int | None] = [os.open(".", DIRECTORY, dir_fd=root_fd)]
        self._ids: list[tuple[int, int]] = [self._identify(self.fd)]
        self._check = check

    @property
    def fd(self) -> int:
        """The directory where the walk is."""
        fd = self._fds[-1]
        if fd is None:
            raise ValueError("the walk is over")
        return fd

    @property
    def depth(self) -> int:
        return len(self._fds) - 1

    def down(self, name: str) -> int:
        """Enter *name*, a directory; its fd, which stays ours."""
        fd = os.open(name, DIRECTORY, dir_fd=self.fd)
        self._fds.append(fd)
        self._ids.append(self._identify(fd))
        if (far := len(self._fds) - self.KEEP) > 0 and (old := self._fds[far - 1]) is not None:
            os.close(old)
            self._fds[far - 1] = None
        return fd

    def up(self) -> int:
        """Back to the parent; its fd."""
        child = self._fds.pop()
        self._ids.pop()
        if child is None or not self._fds:
            raise ValueError("the walk is over")
        try:
            if self._fds[-1] is None:
                self._fds[-1] = self._reopen(child)
        finally:
            os.close(child)
        return self.fd

    def close(self) -> None:
        while self._fds:
            if (fd := self._fds.pop()) is not None:
                os.close(fd)

    def __enter__(self) -> Descent:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _reopen(self, child: int) -> int:
        fd = os.open("..", DIRECTORY, dir_fd=child)
        if self._check and self._identify(fd) != self._ids[-1]:
            os.close(fd)
            raise OSError(errno.ESTALE, "a directory was moved while it was being read")
        return fd

    @staticmethod
    def _identify(fd: int) -> tuple[int, int]:
        status = os.fstat(fd)
        return status.st_dev, status.st_ino


def remove_tree(name: str, dir_fd: int) -> None:
    """
    Remove *name* in *dir_fd* and everything below it, however deep; links are not followed.

    Nothing happens if it is not there. (shutil.rmtree recurses, and dies on a 1,500-deep tree.)
    """
    try:
        os.unlink(name, dir_fd=dir_fd)
    except FileNotFoundError:
        return
    except IsADirectoryError:
        pass
    else:
        return
    top = os.open(name, DIRECTORY, dir_fd=dir_fd)
    try:
        with Descent(top) as walk:
            _empty(walk)
    finally:
        os.close(top)
    os.rmdir(name, dir_fd=dir_fd)


def _empty(walk: Descent) -> None:
    """Remove all that is below the directory where *walk* stands."""
    below: list[list[str]] = [_unlink_all(walk.fd)]
    names: list[str] = []
    while below:
        if below[-1]:
            names.append(below[-1].pop())
            walk.down(names[-1])
            below.append(_unlink_all(walk.fd))
            continue
        below.pop()
        if names:
            os.rmdir(names.pop(), dir_fd=walk.up())


def _unlink_all(fd: int) -> list[str]:
    """Unlink what is no directory in *fd*; the directories that are left."""
    left = []
    with os.scandir(fd) as found:
        entries = list(found)
    for entry in entries:
        if entry.is_dir(follow_symlinks=False):
            left.append(entry.name)
        else:
            os.unlink(entry.name, dir_fd=fd)
    return left
