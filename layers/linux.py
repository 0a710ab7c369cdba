"""
Linux system calls that the standard library lacks: detached mounts, syncfs, renameat2.

ctypes is loaded by the first call, not by the import. A failed call raises OSError naming the call
and the path; a failed mount also says what the kernel wrote to its context (fsopen(2)).
"""

from __future__ import annotations

import errno
import os
import struct
from collections.abc import Iterable
from functools import cache
from typing import TYPE_CHECKING, Final

from ocispec.errors import Unsupported

if TYPE_CHECKING:
    import ctypes

AT_FDCWD: Final = -100
AT_SYMLINK_NOFOLLOW: Final = 0x100
AT_EMPTY_PATH: Final = 0x1000
AT_RECURSIVE: Final = 0x8000

MOUNT_ATTR_RDONLY: Final = 0x1
MOUNT_ATTR_NOSUID: Final = 0x2
MOUNT_ATTR_NODEV: Final = 0x4


CLONE_NEWNS: Final = 0x20000

MS_REC: Final = 0x4000
MS_PRIVATE: Final = 1 << 18

_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_FSCONFIG_SET_FLAG: Final = 0
_FSCONFIG_SET_STRING: Final = 1
_FSCONFIG_SET_FD: Final = 5
_FSCONFIG_CMD_CREATE: Final = 6
_OPEN_TREE_CLONE: Final = 1
_RENAME_NOREPLACE: Final = 1
_FICLONE: Final = 0x40049409

# Calls since Linux 5.1 have one number on every architecture; older ones have two tables that
# matter here: x86-64's own and the generic one (include/uapi/asm-generic/unistd.h).
_NUMBERS: Final = {
    "open_tree": 428,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "mount_setattr": 442,
}
_OLDER: Final = {
    "x86_64": {"mount": 165, "unshare": 272, "syncfs": 306, "renameat2": 316},
    "aarch64": {"mount": 40, "unshare": 97, "syncfs": 267, "renameat2": 276},
    "riscv64": {"mount": 40, "unshare": 97, "syncfs": 267, "renameat2": 276},
}

# A bare name is a flag; a string or a file descriptor is the value of its key.
FsOption = str | tuple[str, str] | tuple[str, int]


def fsmount_new(fstype: str, options: Iterable[FsOption] = (), attrs: int = 0) -> int:
    """
    A new, detached mount of *fstype*; the caller closes the descriptor.

    It can be a ``dir_fd`` without ever being attached, and goes with its last descriptor.
    """
    context = _call("fsopen", fstype, _FSOPEN_CLOEXEC)
    try:
        try:
            for option in options:
                _configure(context, option)
            _call("fsconfig", context, _FSCONFIG_CMD_CREATE, None, None, 0)
            return _call("fsmount", context, _FSMOUNT_CLOEXEC, attrs)
        except OSError as error:
            said = _context_messages(context)
            detail = f" ({'; '.join(said)})" if said else ""
            raise OSError(error.errno, f"{fstype}: {error.strerror}{detail}") from None
    finally:
        os.close(context)


def bind_fd(path: str, *, dir_fd: int = AT_FDCWD, recursive: bool = False, attrs: int = 0) -> int:
    """
    A detached bind mount of *path*; an empty path is *dir_fd* itself. The caller closes.

    A symlink at the end of *path* is bound itself, not followed.
    """
    flags = _OPEN_TREE_CLONE | os.O_CLOEXEC | AT_SYMLINK_NOFOLLOW
    flags |= AT_RECURSIVE if recursive else 0
    flags |= 0 if path else AT_EMPTY_PATH
    mount = _call("open_tree", dir_fd, path, flags)
    if attrs:
        try:
            mount_setattr(mount, attrs, recursive=recursive)
        except BaseException:
            os.close(mount)
            raise
    return mount


def mount_setattr(mount: int, attrs: int, clear: int = 0, *, recursive: bool = False) -> None:
    """Set the MOUNT_ATTR_* bits *attrs* and clear the bits *clear* of a mount."""
    flags = AT_EMPTY_PATH | (AT_RECURSIVE if recursive else 0)
    _call("mount_setattr", mount, "", flags, struct.pack("QQQQ", attrs, clear, 0, 0), 32)


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """mount(2), for kernels whose overlayfs cannot be configured option by option."""
    _call("mount", source, target, fstype, flags, data)


def unshare(flags: int) -> None:
    """unshare(2) for the calling thread."""
    _call("unshare", flags)


def syncfs(fd: int) -> None:
    """Write everything of the file system that *fd* is on to its disk."""
    _call("syncfs", fd)


def rename_noreplace(source: str | os.PathLike[str], target: str | os.PathLike[str]) -> None:
    """Rename *source* to *target*, atomically; FileExistsError if *target* is there."""
    old, new = os.fspath(source), os.fspath(target)
    try:
        _call("renameat2", AT_FDCWD, old, AT_FDCWD, new, _RENAME_NOREPLACE)
    except FileExistsError:
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), new) from None
    except OSError as error:
        # EINVAL: the file system knows no flags (renameat2(2)). A link is as exclusive for a file;
        # a directory never replaces anything but an empty one.
        if error.errno not in (errno.EINVAL, errno.ENOSYS):
            raise
        if os.path.isdir(old):
            os.rename(old, new)
        else:
            os.link(old, new)
            os.unlink(old)


def clone_file(source: int, target: int) -> bool:
    """Let *target* share the blocks of *source* (ioctl_ficlone(2)); False where that cannot be."""
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL):
            return False
        raise
    return True


def _configure(context: int, option: FsOption) -> None:
    if isinstance(option, str):
        _call("fsconfig", context, _FSCONFIG_SET_FLAG, option, None, 0)
        return
    key, value = option
    if isinstance(value, int):
        _call("fsconfig", context, _FSCONFIG_SET_FD, key, None, value)
    else:
        _call("fsconfig", context, _FSCONFIG_SET_STRING, key, value, 0)


def _context_messages(context: int) -> list[str]:
    """What the kernel says about a failed mount: one line a read, "e overlay: …" (fsopen(2))."""
    said: list[str] = []
    while True:
        try:
            line = os.read(context, 4096)
        except OSError:
            return said
        if not line:
            return said
        said.append(line.decode(errors="replace").strip().removeprefix("e "))


@cache
def _libc() -> ctypes.CDLL:
    import ctypes

    libc = ctypes.CDLL(None, use_errno=True)
    libc.syscall.restype = ctypes.c_long
    return libc


@cache
def _number(name: str) -> int:
    number = _NUMBERS.get(name)
    if number is not None:
        return number
    machine = os.uname().machine
    if machine not in _OLDER:
        raise Unsupported(f"the system calls of {machine} are not known")
    return _OLDER[machine][name]


def _call(name: str, *args: int | str | bytes | None) -> int:
    import ctypes

    words = [
        ctypes.c_long(arg)
        if isinstance(arg, int)
        else ctypes.c_char_p(os.fsencode(arg) if isinstance(arg, str) else arg)
        for arg in args
    ]
    result: int = _libc().syscall(ctypes.c_long(_number(name)), *words)
    if result < 0:
        code = ctypes.get_errno()
        path = next((arg for arg in args if isinstance(arg, str) and "/" in arg), None)
        raise OSError(code, f"{name}: {os.strerror(code)}", path)
    return result
