"""Entries as they are on disk: read from a stat and xattrs, made and given their metadata."""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import Final

from layers.attributes import is_exported
from layers.entry import Entry, Kind
from ocispec.errors import Invalid, Unsupported

_KINDS: Final[dict[int, Kind]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}


def entry_of(
    path: str, status: os.stat_result, *, target: str = "", xattrs: Mapping[str, bytes]
) -> Entry:
    """The entry of what *status* is of. Unsupported for a socket."""
    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
    if kind is None:
        raise Unsupported(f"{path!r}: a socket cannot be in a layer")
    is_device = kind in ("char", "block")
    return Entry(
        path,
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_size if kind == "file" else 0,
        status.st_mtime_ns,
        target,
        os.major(status.st_rdev) if is_device else 0,
        os.minor(status.st_rdev) if is_device else 0,
        xattrs,
    )


def is_whiteout(status: os.stat_result) -> bool:
    """True for what overlayfs reads as a deletion (overlayfs.rst, "whiteouts")."""
    return stat.S_ISCHR(status.st_mode) and status.st_rdev == 0


def status_of(name: str, dir_fd: int | None) -> os.stat_result | None:
    """lstat of *name*; None if it is not there, or there is no directory."""
    if dir_fd is None:
        return None
    try:
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)
    except FileNotFoundError:
        return None


def by_fd(fd: int) -> str:
    """A path to what *fd* is open on, also if it is open as a path only."""
    return f"/proc/self/fd/{fd}"


def xattr_names(file: int | str) -> list[str]:
    """The names of the extended attributes of *file*; none where there can be none."""
    try:
        return os.listxattr(file)
    except OSError as error:
        if error.errno == errno.EOPNOTSUPP:
            return []
        raise


def exported_xattrs(file: int | str) -> dict[str, bytes]:
    """The extended attributes of *file* that belong to a layer."""
    return {name: os.getxattr(file, name) for name in xattr_names(file) if is_exported(name)}


def write_metadata(fd: int, entry: Entry) -> None:
    """
    Owner, mode, xattrs and time of *entry* to the file or directory open as *fd*.

    In this order: chown(2) clears setuid and file capabilities, everything else sets a time.
    """
    os.fchown(fd, entry.uid, entry.gid)
    os.fchmod(fd, entry.mode)
    if entry.xattrs:
        for name, value in entry.xattrs.items():
            _set_xattr(fd, name, value, entry.path)
    os.utime(fd, ns=(entry.mtime_ns, entry.mtime_ns))


def replace_xattrs(fd: int, entry: Entry) -> None:
    """Remove what a directory had, so that it has the xattrs of *entry* and no others."""
    for name in exported_xattrs(fd):
        if name not in entry.xattrs:
            os.removexattr(fd, name)


def make_node(dir_fd: int, name: str, entry: Entry) -> None:
    """Make the symlink, fifo or device of *entry*, with its metadata. FileExistsError."""
    match entry.kind:
        case "symlink":
            os.symlink(entry.target, name, dir_fd=dir_fd)
        case "fifo":
            os.mkfifo(name, 0o600, dir_fd=dir_fd)
        case "char" | "block":
            type_ = stat.S_IFCHR if entry.kind == "char" else stat.S_IFBLK
            os.mknod(name, type_ | 0o600, os.makedev(entry.major, entry.minor), dir_fd=dir_fd)
        case "file" | "dir" | "link":
            raise ValueError(f"{entry.path!r} is a {entry.kind}")
    os.chown(name, entry.uid, entry.gid, dir_fd=dir_fd, follow_symlinks=False)
    if entry.kind != "symlink":
        # chmod by name would follow a link; by an fd of the very node it cannot.
        node = os.open(name, os.O_PATH | os.O_NOFOLLOW | os.O_CLOEXEC, dir_fd=dir_fd)
        try:
            os.chmod(by_fd(node), entry.mode)
        finally:
            os.close(node)
    os.utime(name, ns=(entry.mtime_ns, entry.mtime_ns), dir_fd=dir_fd, follow_symlinks=False)


def _set_xattr(fd: int, name: str, value: bytes, path: str) -> None:
    try:
        os.setxattr(fd, name, value)
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise Invalid(f"{path!r}: a malformed value of {name}") from error
        raise OSError(error.errno, f"setting {name}: {error.strerror}", path) from error
