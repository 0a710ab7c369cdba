"""A terminal of the sandbox's own devpts."""

from __future__ import annotations

import fcntl
import os
import struct

from runner.inside import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runner.inside.system import Root

# asm-generic/ioctls.h; termios of Python 3.11 does not have them
_TIOCSPTLCK = 0x40045431
_TIOCGPTPEER = 0x5441


def open_pair(root: Root, uid: int) -> tuple[int, int]:
    """Both sides of a new terminal, master first. It is the sandbox's /dev/console, too."""
    flags = os.O_RDWR | os.O_NOCTTY | os.O_CLOEXEC
    master = os.open("ptmx", flags, dir_fd=root.pts)
    fcntl.ioctl(master, _TIOCSPTLCK, struct.pack("i", 0))
    # Not by the name that ptsname(3) gives: by then it may be another's (runc, CVE-2025-52565).
    slave = fcntl.ioctl(master, _TIOCGPTPEER, flags)
    os.fchown(slave, uid, -1)
    os.close(os.open("console", os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=root.dev))
    target = linux.open_in_root(root.dev, "console", os.O_PATH | os.O_NOFOLLOW)
    console = linux.clone_tree("0", root.pts)  # the first of a new devpts
    linux.attach(console, target)
    for fd in (target, console):
        os.close(fd)
    return master, slave
