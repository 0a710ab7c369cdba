"""An overlay as a detached mount, by whichever interface the kernel has."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from threading import Thread
from typing import Final

from layers import linux
from layers.linux import FsOption
from ocispec.errors import Unsupported

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
# Any directory that every host has, and that the mount does not need.
_PLACE: Final = "/dev"
Directories = Sequence[tuple[str, Path]]  # "lowerdir" (topmost first), "upperdir", "workdir"


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
    try:
        return by_descriptor(directories, options, attrs)
    except OSError as error:
        for way in (by_name, by_mount):
            try:
                return way(directories, options, attrs)
            except (OSError, Unsupported):
                continue
        raise error


def by_descriptor(directories: Directories, options: Sequence[str], attrs: int) -> int:
    with _opened(directories) as opened:
        named: list[FsOption] = [(_appending(key), fd) for key, fd in opened]
        return linux.fsmount_new("overlay", [*named, *map(_pair, options)], attrs)


def by_name(directories: Directories, options: Sequence[str], attrs: int) -> int:
    with _opened(directories) as opened:
        named: list[FsOption] = [(_appending(key), f"/proc/self/fd/{fd}") for key, fd in opened]
        return linux.fsmount_new("overlay", [*named, *map(_pair, options)], attrs)


def by_mount(directories: Directories, options: Sequence[str], attrs: int) -> int:
    """
    By mount(2), which needs a place: one that only a thread of its own sees.

    The thread's mount namespace is gone when it ends, the copy of the mount is not.
    """
    result: list[int | OSError | Unsupported] = []

    def run() -> None:
        try:
            result.append(_in_own_namespace(directories, options, attrs))
        except (OSError, Unsupported) as error:
            result.append(error)

    thread = Thread(target=run)
    thread.start()
    thread.join()
    if isinstance(result[0], int):
        return result[0]
    raise result[0]


def _in_own_namespace(directories: Directories, options: Sequence[str], attrs: int) -> int:
    # The thread gets a current directory of its own with it (unshare(2), CLONE_NEWNS).
    linux.unshare(linux.CLONE_NEWNS)
    linux.mount("none", "/", "", linux.MS_REC | linux.MS_PRIVATE)
    # Opened only now: overlayfs takes directories of this namespace's mounts alone.
    with _opened(directories) as opened:
        lowers = ":".join(str(fd) for key, fd in opened if key == "lowerdir")
        others = [f"{key}={fd}" for key, fd in opened if key != "lowerdir"]
        # All options share one page, so directories are named from where names are the shortest.
        os.chdir("/proc/self/fd")
        # MS_RDONLY, MS_NOSUID, MS_NODEV, MS_NOEXEC have the values of their MOUNT_ATTR_* twins.
        data = ",".join([f"lowerdir={lowers}", *others, *options])
        linux.mount("overlay", _PLACE, "overlay", attrs & 0xF, data)
    return linux.bind_fd(_PLACE)


@contextmanager
def _opened(directories: Directories) -> Iterator[list[tuple[str, int]]]:
    opened: list[tuple[str, int]] = []
    try:
        for key, path in directories:
            opened.append((key, os.open(path, _DIRECTORY)))
        yield opened
    finally:
        for _, fd in opened:
            os.close(fd)


def _appending(key: str) -> str:
    return "lowerdir+" if key == "lowerdir" else key


def _pair(option: str) -> FsOption:
    key, equals, value = option.partition("=")
    return (key, value) if equals else key
