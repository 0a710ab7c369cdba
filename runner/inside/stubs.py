"""
Mount points that the image lacks, without a trace in the layer that the step leaves.

Below an overlay they come from one more lower directory, on top of the others: further down, a
whiteout would hide them. It repeats the metadata of the directories on the way, so that one copied
up looks as it did in the image.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat

from runner.inside.inroot import locate, open_directory

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

    from runner.inside.inroot import Place

_DIRECTORY_MODE, _FILE_MODE = 0o755, 0o644  # as docker makes them


class Target:
    """A mount target: where, whether a directory, and whether a link at its end is followed."""

    def __init__(self, path: str, *, is_directory: bool, follow: bool) -> None:
        self.path = path
        self.is_directory = is_directory
        self.follow = follow


def missing(root: int, targets: Sequence[Target]) -> list[tuple[Target, Place]]:
    """
    The targets that are not there below *root*, with where they belong.

    Those below another target are left out: they are looked for when that one is mounted.
    """
    covered: list[str] = []
    lacking: list[tuple[Target, Place]] = []
    for target in targets:
        place = locate(root, target.path, follow=target.follow)
        if any(f"{place.path}/".startswith(f"{path}/") for path in covered):
            continue
        covered.append(place.path)
        if place.missing:
            lacking.append((target, place))
    return lacking


def make_layer(root: int, lacking: list[tuple[Target, Place]], layer: int) -> None:
    """Fill the empty directory *layer* with the *lacking* targets of *root*."""
    times: dict[tuple[str, ...], tuple[int, int]] = {}
    top = open_directory(root, ".")  # the root may be open by O_PATH only
    _repeat_metadata(top, layer)
    os.close(top)
    times[()] = _times(root)
    for target, place in lacking:
        original, copy = open_directory(root, "."), os.dup(layer)
        for depth, name in enumerate(place.parts, 1):
            original = _into(original, name)
            if (parts := place.parts[:depth]) not in times:
                os.mkdir(name, 0o700, dir_fd=copy)
                copy = _into(copy, name)
                _repeat_metadata(original, copy)
                times[parts] = _times(original)
            else:
                copy = _into(copy, name)
        make(copy, place.missing, is_directory=target.is_directory)
        os.close(original)
        os.close(copy)
    for parts in sorted(times, key=len, reverse=True):
        directory = os.dup(layer)
        for name in parts:
            directory = _into(directory, name)
        os.utime(directory, ns=times[parts])
        os.close(directory)


def make(parent: int, names: tuple[str, ...], *, is_directory: bool) -> None:
    """Make what is not there of *names* below *parent*; targets may share a part of their way."""
    directory = open_directory(parent, ".")
    for name in names if is_directory else names[:-1]:
        with contextlib.suppress(FileExistsError):
            os.mkdir(name, _DIRECTORY_MODE, dir_fd=directory)
        directory = _into(directory, name)
    if not is_directory:
        flags = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        os.close(os.open(names[-1], flags, _FILE_MODE, dir_fd=directory))
    os.close(directory)


class Placeholders:
    """
    Mount points made in a directory that is the root itself, and taken away afterwards.

    For roots that are plain directories: there the layer is found by comparing, so nothing may be
    left, not even a parent's newer time.
    """

    def __init__(self) -> None:
        self._made: list[tuple[int, str, int]] = []  # parent's descriptor, name, inode
        self._parents: list[tuple[int, tuple[int, int]]] = []  # descriptor, times before
        self._changed: list[int] = []  # their mtime after

    def make(self, root: int, lacking: list[tuple[Target, Place]]) -> None:
        for target, place in lacking:
            directory = open_directory(root, ".")
            for name in place.parts:
                directory = _into(directory, name)
            self._parents.append((os.dup(directory), _times(directory)))
            for depth, name in enumerate(place.missing, 1):
                is_directory = target.is_directory or depth < len(place.missing)
                self._make(directory, name, is_directory=is_directory)
                if is_directory:
                    directory = _into(directory, name)
            os.close(directory)
        self._changed = [_times(directory)[1] for directory, _ in self._parents]

    def remove(self) -> None:
        """Take away what is still as it was made, and give back the times of who did not change."""
        now = [_times(directory)[1] for directory, _ in self._parents]
        for parent, name, inode in reversed(self._made):
            _remove(parent, name, inode)
            os.close(parent)
        # Latest first: a directory that got two placeholders has its first times in the end.
        for index in reversed(range(len(self._parents))):
            directory, times = self._parents[index]
            if now[index] == self._changed[index]:
                os.utime(directory, ns=times)
            os.close(directory)
        self._made, self._parents = [], []

    def _make(self, parent: int, name: str, *, is_directory: bool) -> None:
        try:
            if is_directory:
                os.mkdir(name, _DIRECTORY_MODE, dir_fd=parent)
            else:
                flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
                os.close(os.open(name, flags, _FILE_MODE, dir_fd=parent))
        except FileExistsError:  # made for an earlier target
            return
        self._made.append((os.dup(parent), name, os.lstat(name, dir_fd=parent).st_ino))


def _remove(parent: int, name: str, inode: int) -> None:
    try:
        status = os.lstat(name, dir_fd=parent)
        if status.st_ino != inode:
            return
        if stat.S_ISDIR(status.st_mode):
            os.rmdir(name, dir_fd=parent)
        elif status.st_size == 0:
            os.unlink(name, dir_fd=parent)
    except OSError as error:
        # The step removed it, or put something into it; then it is the step's.
        if error.errno not in (errno.ENOENT, errno.ENOTEMPTY):
            raise


def _into(directory: int, name: str) -> int:
    """The directory *name* in *directory*, which is closed."""
    try:
        return open_directory(directory, name)
    finally:
        os.close(directory)


def _times(directory: int) -> tuple[int, int]:
    status = os.fstat(directory)
    return status.st_atime_ns, status.st_mtime_ns


def _repeat_metadata(original: int, copy: int) -> None:
    status = os.fstat(original)
    os.fchown(copy, status.st_uid, status.st_gid)
    os.fchmod(copy, stat.S_IMODE(status.st_mode))
    for name in os.listxattr(original):
        # What a layer can carry, and what decides the mode of files made in the directory.
        if name.startswith(("user.", "system.posix_acl_")):
            os.setxattr(copy, name, os.getxattr(original, name))
