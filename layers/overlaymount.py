"""An overlay as a detached mount, by whichever interface the kernel has."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from threading import Thread
from typing import Final

from layers import linux
from layers.linux import FsOption
from ocispec.errors import Unsupported

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Any directory that every host has, and that the mount does not need.
_PLACE: Final = "/dev"


def mount_overlay(
    lowers: Sequence[Path],
    options: Sequence[str],
    attrs: int = 0,
    *,
    upper: Path | None = None,
    work: Path | None = None,
) -> int:
    """
    The overlay of *lowers*, the topmost first, as a descriptor; the caller closes.

    *options* are those of mount(8), such as ``index=off``. Directories are handed over as
    descriptors, so that no character in a path means anything and no path is too long. The three
    ways need: Linux 6.13, Linux 6.8, nothing. An old kernel says EINVAL to what it does not know,
    so each is tried; an error is the first one's.
    """
    directories = [("lowerdir", path) for path in lowers]
    if upper is not None and work is not None:
        directories += [("upperdir", upper), ("workdir", work)]
    opened: list[tuple[str, int]] = []
    try:
        opened.extend((key, os.open(path, _DIRECTORY)) for key, path in directories)
        try:
            return _by_descriptor(opened, options, attrs)
        except OSError as error:
            for way in (_by_name, _by_mount):
                try:
                    return way(opened, options, attrs)
                except (OSError, Unsupported):
                    continue
            raise error
    finally:
        for _, fd in opened:
            os.close(fd)


def _by_descriptor(opened: list[tuple[str, int]], options: Sequence[str], attrs: int) -> int:
    directories: list[FsOption] = [(_appending(key), fd) for key, fd in opened]
    return linux.fsmount_new("overlay", [*directories, *map(_pair, options)], attrs)


def _by_name(opened: list[tuple[str, int]], options: Sequence[str], attrs: int) -> int:
    directories: list[FsOption] = [(_appending(key), f"/proc/self/fd/{fd}") for key, fd in opened]
    return linux.fsmount_new("overlay", [*directories, *map(_pair, options)], attrs)


def _by_mount(opened: list[tuple[str, int]], options: Sequence[str], attrs: int) -> int:
    """
    By mount(2), which needs a place: one that only a thread of its own sees.

    All options share one page, so the thread changes its directory to where descriptors have the
    shortest names. Its namespace is gone when it ends, the copy of the mount is not.
    """
    lowers = ":".join(str(fd) for key, fd in opened if key == "lowerdir")
    others = [f"{key}={fd}" for key, fd in opened if key != "lowerdir"]
    data = ",".join([f"lowerdir={lowers}", *others, *options])
    result: list[int | OSError | Unsupported] = []

    def run() -> None:
        try:
            # It unshares the thread's current directory, too (unshare(2), CLONE_NEWNS).
            linux.unshare(linux.CLONE_NEWNS)
            linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
            os.chdir("/proc/self/fd")
            linux.mount("overlay", _PLACE, "overlay", _flags(attrs), data)
            result.append(linux.bind_fd(_PLACE))
        except (OSError, Unsupported) as error:
            result.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(result[0], int):
        return result[0]
    raise result[0]


def _flags(attrs: int) -> int:
    # MS_RDONLY, MS_NOSUID, MS_NODEV and MS_NOEXEC have the values of their MOUNT_ATTR_* twins.
    return attrs & 0xF


def _appending(key: str) -> str:
    return "lowerdir+" if key == "lowerdir" else key


def _pair(option: str) -> FsOption:
    key, equals, value = option.partition("=")
    return (key, value) if equals else key
