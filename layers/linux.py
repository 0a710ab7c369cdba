"""
System calls that Python 3.11 lacks: the new mount API, renameat2, syncfs, FICLONE.

Through ctypes, each an OSError with its name on failure. Numbers above 423 are the same on every
architecture (kernel, scripts/syscall.tbl).
"""

from __future__ import annotations

import ctypes
import errno
import os
from collections.abc import Sequence
from typing import Final

AT_FDCWD: Final = -100
_AT_EMPTY_PATH: Final = 0x1000
_RENAME_NOREPLACE: Final = 1

_MOVE_MOUNT: Final = 429
_FSOPEN: Final = 430
_FSCONFIG: Final = 431
_FSMOUNT: Final = 432
_FSOPEN_CLOEXEC: Final = 1
_FSMOUNT_CLOEXEC: Final = 1
_SET_FLAG, _SET_STRING, _CREATE = 0, 1, 6  # linux/mount.h, enum fsconfig_command

MOUNT_RDONLY: Final = 0x1
MOUNT_NOSUID: Final = 0x2
MOUNT_NODEV: Final = 0x4
MOUNT_NOEXEC: Final = 0x8

_FICLONE: Final = 0x40049409

_libc = ctypes.CDLL(None, use_errno=True)
_syscall = _libc.syscall
_syscall.restype = ctypes.c_long


def rename_noreplace(source: os.PathLike[str] | str, target: os.PathLike[str] | str) -> None:
    """Rename, but FileExistsError if *target* is there (renameat2(2))."""
    result = _libc.renameat2(
        AT_FDCWD, os.fsencode(source), AT_FDCWD, os.fsencode(target), _RENAME_NOREPLACE
    )
    if result < 0:
        raise _error(os.fspath(target))


def syncfs(fd: int) -> None:
    """Write out the file system that *fd* is on (syncfs(2))."""
    if _libc.syncfs(fd) < 0:
        raise _error("syncfs")


def mount_detached(
    kind: str, options: Sequence[tuple[str, str | None]], attributes: int = 0
) -> int:
    """
    A new mount of file system *kind* that is attached nowhere, as a descriptor.

    It works as a directory descriptor and is gone when the last one is closed, also after kill -9.
    An option without a value is a flag. The kernel's own words are in the OSError.
    """
    context = _call(_FSOPEN, kind.encode(), _FSOPEN_CLOEXEC, what=f"fsopen {kind}")
    try:
        try:
            for key, value in options:
                if value is None:
                    _call(_FSCONFIG, context, _SET_FLAG, key.encode(), None, 0, what=key)
                else:
                    text = os.fsencode(value)
                    _call(_FSCONFIG, context, _SET_STRING, key.encode(), text, 0, what=key)
            _call(_FSCONFIG, context, _CREATE, None, None, 0, what=f"mount {kind}")
            return _call(_FSMOUNT, context, _FSMOUNT_CLOEXEC, attributes, what=f"mount {kind}")
        except OSError as error:
            message = f"{error.strerror}{_kernel_words(context)}"
            raise OSError(error.errno, message, error.filename) from None
    finally:
        os.close(context)


def clone_file(source: int, target: int) -> bool:
    """Let *target* share the blocks of *source*; False if the file system cannot."""
    import fcntl

    try:
        fcntl.ioctl(target, _FICLONE, source)
    except OSError as error:
        if error.errno in (errno.EOPNOTSUPP, errno.ENOTTY, errno.EXDEV, errno.EINVAL):
            return False
        raise
    return True


def _kernel_words(context: int) -> str:
    """The messages that an fs context collects (fsopen(2)); "" if there are none."""
    words = []
    os.set_blocking(context, False)
    while True:
        try:
            words.append(os.read(context, 4096).decode(errors="replace").strip())
        except OSError as error:
            if error.errno in (errno.ENODATA, errno.EAGAIN):
                break
            raise
    return f" ({'; '.join(words)})" if words else ""


def _call(number: int, *args: int | bytes | None, what: str) -> int:
    values = [
        ctypes.c_char_p(arg) if isinstance(arg, bytes | None) else ctypes.c_long(arg)
        for arg in args
    ]
    result = int(_syscall(ctypes.c_long(number), *values))
    if result < 0:
        raise _error(what)
    return result


def _error(what: str) -> OSError:
    number = ctypes.get_errno()
    return OSError(number, os.strerror(number), what)
