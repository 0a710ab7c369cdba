"""An overlay as a detached mount, by whichever interface the kernel has."""

from __future__ import annotations

import errno
import os

from runner.inside import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence
    from typing import TypeAlias

    # key and value, in order; None for a flag such as "volatile"
    Options: TypeAlias = Sequence[tuple[str, str | None]]

_DIRECTORIES = ("lowerdir+", "upperdir", "workdir")


def parse(options: Sequence[str]) -> Options:
    """``key=value`` and ``flag`` as pairs."""
    pairs = (option.partition("=") for option in options)
    return [(key, value if equals else None) for key, equals, value in pairs]


def held(options: Options) -> Options:
    """
    *options* with every directory opened now, and named by its descriptor from here on.

    For whoever covers a part of the host's tree before it mounts: the directories may be below it.
    The descriptors close when the command is executed.
    """
    return [
        (key, f"/proc/self/fd/{_open(value)}" if key in _DIRECTORIES and value else value)
        for key, value in options
    ]


def mount(options: Options, attributes: int, scratch: str) -> int:
    """
    The overlay, detached. *scratch* is a directory that may be mounted on for a moment.

    The three ways differ in what they need: descriptors Linux 6.13, paths one by one 6.8, and
    mount(2) nothing. An old kernel says EINVAL to what it does not know, so each way is tried; the
    error is the first way's.
    """
    first: OSError | None = None
    for way in (by_descriptor, by_path, by_mount):
        try:
            mount_fd = way(options, attributes, scratch)
        except OSError as error:
            first = first or error
        else:
            return _as_asked(mount_fd, options)
    assert first is not None
    raise first


def by_descriptor(options: Options, attributes: int, _scratch: str) -> int:
    """No limit to the length of a path, and no character in it means anything."""
    opened: list[int] = []
    try:
        pairs: list[tuple[str, str | int | None]] = [("source", "overlay")]
        for key, value in options:
            if key in _DIRECTORIES and value:
                opened.append(_open(value))
                pairs.append((key, opened[-1]))
            else:
                pairs.append((key, value))
        return linux.new_mount("overlay", tuple(pairs), attributes)
    finally:
        _close(opened)


def by_path(options: Options, attributes: int, _scratch: str) -> int:
    """fsconfig(2) takes up to 255 bytes."""
    pairs: list[tuple[str, str | int | None]] = [("source", "overlay")]
    for key, value in options:
        # fs/overlayfs/params.c unescapes these two, but not lowerdir+
        if value and key in ("upperdir", "workdir"):
            value = value.replace("\\", "\\\\")
        pairs.append((key, value))
    return linux.new_mount("overlay", tuple(pairs), attributes)


def by_mount(options: Options, attributes: int, scratch: str) -> int:
    """All options share one page, so directories are named by number below /proc/self/fd."""
    layers: list[str] = []
    words: list[str] = []
    opened = [os.open(".", os.O_PATH | os.O_CLOEXEC)]
    try:
        for key, value in options:
            if key in _DIRECTORIES and value:
                opened.append(_open(value))
                value = str(opened[-1])
            if key == "lowerdir+" and value:
                layers.append(value)
            else:
                words.append(key if value is None else f"{key}={value}")
        words.append("lowerdir=" + ":".join(layers))
        target = os.fsencode(scratch)
        os.chdir("/proc/self/fd")
        try:
            linux.mount(b"overlay", target, b"overlay", attributes, ",".join(words).encode())
        finally:
            os.fchdir(opened[0])
        try:
            return linux.clone_tree(scratch)
        finally:
            linux.unmount(target, linux.MNT_DETACH)
    finally:
        _close(opened)


def _as_asked(mount_fd: int, options: Options) -> int:
    """
    *mount_fd*, if it can be written to where that was asked for.

    overlayfs falls back to read-only with no more than a line in the kernel's log, for instance
    where it cannot make work/work (fs/overlayfs/super.c, ovl_make_workdir).
    """
    writable = not os.fstatvfs(mount_fd).f_flag & os.ST_RDONLY
    if writable or all(key != "upperdir" for key, _ in options):
        return mount_fd
    os.close(mount_fd)
    raise OSError(errno.EROFS, "mount overlay: it came up read-only; the kernel's log says why")


def _open(path: str) -> int:
    # A descriptor opened with O_PATH does for an overlay from Linux 6.15 on only.
    return os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)


def _close(descriptors: list[int]) -> None:
    for descriptor in descriptors:
        os.close(descriptor)
