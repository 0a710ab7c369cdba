"""Where a mount target is inside an untrusted root, and how much of it is missing."""

from __future__ import annotations

import errno
import os
import stat

_MAX_LINKS = 40  # as the kernel, MAXSYMLINKS


class Place:
    """
    A path with its links followed inside the root: *parts* exist, *missing* do not.

    Only directories and, if nothing is missing, a last part of any kind are in *parts*.
    """

    def __init__(self, parts: tuple[str, ...], missing: tuple[str, ...]) -> None:
        self.parts = parts
        self.missing = missing

    @property
    def path(self) -> str:
        return "/".join(self.parts + self.missing)


def locate(root: int, path: str, *, follow: bool) -> Place:
    """
    Look *path* up below the directory *root*, link by link, never by the kernel's own following.

    A last part that is a link is followed if *follow*. Only for trees that nobody changes
    meanwhile. NotADirectoryError if a part is a file, OSError(ELOOP) for too many links.
    """
    opened = [os.dup(root)]
    parts: list[str] = []
    pending = path.split("/")[::-1]
    links = 0
    try:
        while pending:
            part = pending.pop()
            if part in ("", "."):
                continue
            if part == "..":
                if parts:
                    os.close(opened.pop())
                    parts.pop()
                continue
            mode = _mode(opened[-1], part)
            if mode is None:
                return Place(tuple(parts), _lexical([part, *reversed(pending)]))
            rest = any(other not in ("", ".") for other in pending)
            if stat.S_ISLNK(mode) and (rest or follow):
                links += 1
                if links > _MAX_LINKS:
                    raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
                text = os.readlink(part, dir_fd=opened[-1])
                if text.startswith("/"):
                    _close(opened[1:])
                    del opened[1:], parts[:]
                pending += text.split("/")[::-1]
                continue
            if stat.S_ISDIR(mode):
                opened.append(open_directory(opened[-1], part))
            elif rest:
                raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), path)
            parts.append(part)
        return Place(tuple(parts), ())
    finally:
        _close(opened)


def open_directory(parent: int, name: str) -> int:
    flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
    return os.open(name, flags, dir_fd=parent)


def _mode(parent: int, name: str) -> int | None:
    try:
        status = os.lstat(name, dir_fd=parent)
    except FileNotFoundError:
        return None
    # A single layer is looked at without an overlay over it: there, this is a whiteout.
    if stat.S_ISCHR(status.st_mode) and status.st_rdev == 0:
        return None
    return status.st_mode


def _lexical(names: list[str]) -> tuple[str, ...]:
    """Nothing of *names* exists, so no link can make ".." mean anything else."""
    result: list[str] = []
    for name in names:
        if name == ".." and result:
            result.pop()
        elif name not in ("", ".", ".."):
            result.append(name)
    return tuple(result)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
