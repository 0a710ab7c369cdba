"""System calls that Python 3.11 lacks, by ctypes. A failure is OSError with the call's name."""

from __future__ import annotations

import ctypes
import errno
import os
import struct

_libc = ctypes.CDLL(None, use_errno=True)
_libc.syscall.restype = ctypes.c_long

# asm/unistd_64.h and asm-generic/unistd.h; from 424 on, every architecture has the same numbers.
_X86_64 = {
    "rt_sigaction": 13,
    "capget": 125,
    "capset": 126,
    "pivot_root": 155,
    "keyctl": 250,
    "seccomp": 317,
    "bpf": 321,
}
_GENERIC = {
    "pivot_root": 41,
    "capget": 90,
    "capset": 91,
    "rt_sigaction": 134,
    "keyctl": 219,
    "seccomp": 277,
    "bpf": 280,
}
_NUMBERS = {
    **{"x86_64": _X86_64, "aarch64": _GENERIC}[os.uname().machine],
    "open_tree": 428,
    "move_mount": 429,
    "fsopen": 430,
    "fsconfig": 431,
    "fsmount": 432,
    "close_range": 436,
    "openat2": 437,
    "mount_setattr": 442,
}

# linux/sched.h
NEWNS, NEWCGROUP, NEWUTS = 0x00020000, 0x02000000, 0x04000000
NEWIPC, NEWPID, NEWNET = 0x08000000, 0x20000000, 0x40000000
# linux/mount.h, linux/fcntl.h
RDONLY, NOSUID, NODEV, NOEXEC = 1, 2, 4, 8
MS_REC, MS_PRIVATE, MS_SLAVE = 0x4000, 1 << 18, 1 << 19
MNT_DETACH = 2
_AT_FDCWD, _AT_NOFOLLOW, _AT_EMPTY_PATH, _AT_RECURSIVE = -100, 0x100, 0x1000, 0x8000
_TREE_CLONE, _TREE_CLOEXEC = 1, os.O_CLOEXEC
_MOVE_FROM_FD, _MOVE_TO_FD = 0x04, 0x40
_CONFIG_FLAG, _CONFIG_STRING, _CONFIG_FD, _CONFIG_CREATE = 0, 1, 5, 6
_FS_CLOEXEC = 1
# linux/openat2.h
_NO_MAGICLINKS, _IN_ROOT = 0x02, 0x10
# linux/prctl.h
PR_SET_PDEATHSIG, PR_SET_DUMPABLE, PR_SET_KEEPCAPS, PR_SET_NAME = 1, 4, 8, 15
PR_CAPBSET_DROP, PR_SET_NO_NEW_PRIVS = 24, 38
_CLOSE_RANGE_CLOEXEC = 4
_CAPABILITY_VERSION_3 = 0x20080522
_SECCOMP_SET_MODE_FILTER = 1
_KEYCTL_JOIN_SESSION_KEYRING = 1


def _fail(what: str, path: str | bytes | None = None) -> OSError:
    code = ctypes.get_errno()
    if path:
        return OSError(code, f"{what}: {os.strerror(code)}", os.fsdecode(path))
    return OSError(code, f"{what}: {os.strerror(code)}")


def syscall(name: str, *args: int | str | bytes | None) -> int:
    """The result of the system call *name*; strings and bytes are passed as pointers."""
    values: list[object] = [ctypes.c_long(_NUMBERS[name])]
    for value in args:
        if isinstance(value, int):
            values.append(ctypes.c_long(value))
        elif value is None:
            values.append(ctypes.c_void_p(None))
        else:
            values.append(ctypes.c_char_p(os.fsencode(value)))
    result = int(_libc.syscall(*values))
    if result < 0:
        raise _fail(name, next((a for a in args if isinstance(a, str)), None))
    return result


def unshare(flags: int) -> None:
    if _libc.unshare(ctypes.c_int(flags)) < 0:
        raise _fail("unshare")


def setns(fd: int, flags: int) -> None:
    if _libc.setns(ctypes.c_int(fd), ctypes.c_int(flags)) < 0:
        raise _fail("setns")


def sethostname(name: bytes) -> None:
    if _libc.sethostname(name, ctypes.c_size_t(len(name))) < 0:
        raise _fail("sethostname")


def prctl(option: int, value: int | bytes = 0) -> None:
    argument = ctypes.c_char_p(value) if isinstance(value, bytes) else ctypes.c_ulong(value)
    zero = ctypes.c_ulong(0)
    if _libc.prctl(ctypes.c_int(option), argument, zero, zero, zero) < 0:
        raise _fail(f"prctl {option}")


def mount(
    source: bytes | None, target: bytes, kind: bytes | None, flags: int, data: bytes | None
) -> None:
    """mount(2), for changes of propagation and where the newer calls do not do."""
    if _libc.mount(source, target, kind, ctypes.c_ulong(flags), data) < 0:
        raise _fail("mount", target)


def unmount(target: bytes, flags: int) -> None:
    if _libc.umount2(target, ctypes.c_int(flags)) < 0:
        raise _fail("umount2", target)


def new_mount(kind: str, options: tuple[tuple[str, str | int | None], ...], attributes: int) -> int:
    """
    A detached mount of a new filesystem; closing the descriptor ends it.

    An option's value is a string, a descriptor, or None for a flag. The error carries the kernel's
    own words, which it leaves on the filesystem context (fsopen(2)).
    """
    context = syscall("fsopen", kind, _FS_CLOEXEC)
    try:
        for key, value in options:
            if isinstance(value, int):
                syscall("fsconfig", context, _CONFIG_FD, key, None, value)
            elif value is None:
                syscall("fsconfig", context, _CONFIG_FLAG, key, None, 0)
            else:
                syscall("fsconfig", context, _CONFIG_STRING, key, value, 0)
        syscall("fsconfig", context, _CONFIG_CREATE, None, None, 0)
        return syscall("fsmount", context, _FS_CLOEXEC, attributes)
    except OSError as error:
        said = "; ".join(_context_messages(context))
        text = f"mount {kind}: {said or error.strerror}"
        raise OSError(error.errno or errno.EIO, text) from None
    finally:
        os.close(context)


def _context_messages(context: int) -> list[str]:
    messages: list[str] = []
    while True:
        try:
            line = os.read(context, 4096)
        except OSError:  # ENODATA: that was the last
            return messages
        # "e overlay: …": level, then the text
        messages.append(line.decode(errors="replace").strip().partition(" ")[2])


def clone_tree(
    path: str, dirfd: int = _AT_FDCWD, *, recursive: bool = False, follow: bool = False
) -> int:
    """A detached copy of the mount at *path*, or of *dirfd* itself if *path* is empty."""
    flags = _TREE_CLONE | _TREE_CLOEXEC
    flags |= 0 if path else _AT_EMPTY_PATH
    flags |= _AT_RECURSIVE if recursive else 0
    flags |= 0 if follow else _AT_NOFOLLOW
    return syscall("open_tree", dirfd, path, flags)


def set_attributes(
    mount_fd: int, attributes: int, *, propagation: int = 0, recursive: bool = False
) -> None:
    value = struct.pack("QQQQ", attributes, 0, propagation, 0)
    flags = _AT_EMPTY_PATH | (_AT_RECURSIVE if recursive else 0)
    syscall("mount_setattr", mount_fd, "", flags, value, len(value))


def attach(mount_fd: int, target_fd: int) -> None:
    """Attach a detached mount on the very file that *target_fd* stands for."""
    syscall("move_mount", mount_fd, "", target_fd, "", _MOVE_FROM_FD | _MOVE_TO_FD)


def open_in_root(root: int, path: str, flags: int) -> int:
    """openat2: links and ".." stay below *root*; magic links of /proc are refused (ELOOP)."""
    how = struct.pack("QQQ", flags | os.O_CLOEXEC, 0, _IN_ROOT | _NO_MAGICLINKS)
    while True:
        try:
            return syscall("openat2", root, path or ".", how, len(how))
        except OSError as error:
            # openat2(2): EAGAIN if ".." could not be checked against a rename under way
            if error.errno != errno.EAGAIN:
                raise


def pivot_root(new: str, old: str) -> None:
    syscall("pivot_root", new, old)


def close_on_exec_from(first: int) -> None:
    syscall("close_range", first, 0xFFFFFFFF, _CLOSE_RANGE_CLOEXEC)


def close_from(first: int) -> None:
    syscall("close_range", first, 0xFFFFFFFF, 0)


def stop_ignoring(number: int) -> None:
    """
    Give a signal its default action.

    Not through glibc, which refuses its own two; posix_spawn(3) leaves these ignored.
    """
    action = bytes(32)  # struct kernel_sigaction: handler, flags, restorer, mask
    syscall("rt_sigaction", number, action, None, 8)


def permitted_capabilities() -> int:
    data = ctypes.create_string_buffer(24)
    header = struct.pack("Ii", _CAPABILITY_VERSION_3, 0)
    number = ctypes.c_long(_NUMBERS["capget"])
    if _libc.syscall(number, ctypes.c_char_p(header), data) < 0:
        raise _fail("capget")
    low, high = struct.unpack_from("I", data, 4)[0], struct.unpack_from("I", data, 16)[0]
    return int(low | high << 32)


def set_capabilities(effective: int, permitted: int) -> None:
    """Inheritable capabilities become none (CVE-2022-24769)."""
    low, high = 0xFFFFFFFF, 32
    data = struct.pack(
        "6I", effective & low, permitted & low, 0, effective >> high, permitted >> high, 0
    )
    syscall("capset", struct.pack("Ii", _CAPABILITY_VERSION_3, 0), data)


def drop_bounding(keep: int) -> None:
    """Take every capability out of the bounding set but those in the mask *keep*."""
    for number in range(64):
        if keep >> number & 1:
            continue
        try:
            prctl(PR_CAPBSET_DROP, number)
        except OSError as error:
            if error.errno == errno.EINVAL:  # past the kernel's last capability
                return
            raise


def load_filter(program: bytes) -> None:
    """Confine this process and what it executes to a seccomp *program*."""
    code = ctypes.create_string_buffer(program, len(program))
    descriptor = struct.pack("HxxxxxxQ", len(program) // 8, ctypes.addressof(code))
    syscall("seccomp", _SECCOMP_SET_MODE_FILTER, 0, descriptor)


def new_session_keyring() -> None:
    """Leave the caller's session keyring, so that its keys are not the command's."""
    try:
        syscall("keyctl", _KEYCTL_JOIN_SESSION_KEYRING, None)
    except OSError as error:
        # A kernel without keys has none to leave; under Docker's filter keyctl is EPERM.
        if error.errno not in (errno.ENOSYS, errno.EPERM):
            raise
