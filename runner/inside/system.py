"""/proc, /sys and /dev of a sandbox, and what of them is masked."""

from __future__ import annotations

import errno
import os
import stat

from runner.inside import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

DIRECTORIES = ("proc", "sys", "dev")  # must be directories in the image, or missing

_NOTHING_SPECIAL = linux.NOSUID | linux.NODEV | linux.NOEXEC
# Linux, Documentation/admin-guide/devices.txt
_DEVICES = {
    "null": (1, 3),
    "zero": (1, 5),
    "full": (1, 7),
    "random": (1, 8),
    "urandom": (1, 9),
    "tty": (5, 0),
}
_LINKS = {
    "fd": "/proc/self/fd",
    "stdin": "/proc/self/fd/0",
    "stdout": "/proc/self/fd/1",
    "stderr": "/proc/self/fd/2",
    "ptmx": "pts/ptmx",
    "core": "/proc/kcore",
}


class Root:
    """Descriptors of what was mounted: used instead of paths, which the image could bend."""

    def __init__(self, root: int, proc: int, sys: int, dev: int, pts: int) -> None:
        self.root = root
        self.proc = proc
        self.sys = sys
        self.dev = dev
        self.pts = pts


def mount_all(root: int, shm_size: int, attributes: int) -> Root:
    """
    Mount them on *root*. The process must be in the sandbox's pid, ipc and network namespace.

    *attributes* are what every mount gets that a command can write to.
    """
    proc = linux.new_mount("proc", (("source", "proc"),), _NOTHING_SPECIAL)
    _attach(proc, root, "proc")
    read_only = _NOTHING_SPECIAL | linux.RDONLY
    sys = linux.new_mount("sysfs", (("source", "sysfs"),), read_only)
    _attach(sys, root, "sys")
    _mount_if_known("cgroup2", read_only, sys, "fs/cgroup")
    dev = linux.new_mount(
        "tmpfs", (("source", "tmpfs"), ("mode", "755"), ("size", "65536k")), linux.NOSUID
    )
    _attach(dev, root, "dev")
    _fill_dev(dev)
    if attributes & linux.NODEV:
        _admit_devices(dev)
        linux.set_attributes(dev, attributes)
    options = (("source", "devpts"), ("ptmxmode", "0666"), ("mode", "0620"), ("gid", "5"))
    pts = linux.new_mount("devpts", options, linux.NOSUID | linux.NOEXEC)
    _attach(pts, dev, "pts")
    shm = linux.new_mount(
        "tmpfs", (("source", "shm"), ("mode", "1777"), ("size", str(shm_size))), _NOTHING_SPECIAL
    )
    _attach(shm, dev, "shm")
    os.close(shm)
    _mount_if_known("mqueue", _NOTHING_SPECIAL, dev, "mqueue")
    return Root(root, proc, sys, dev, pts)


def mask(root: Root, masked: Sequence[str], read_only: Sequence[str]) -> None:
    """Hide *masked* paths and make *read_only* ones so, where they exist."""
    empty = linux.new_mount(
        "tmpfs",
        (("source", "tmpfs"), ("nr_inodes", "2"), ("mode", "555")),
        _NOTHING_SPECIAL | linux.RDONLY,
    )
    for path in masked:
        if (target := _existing(root, path)) is None:
            continue
        if stat.S_ISDIR(os.fstat(target).st_mode):
            cover = linux.clone_tree("", empty)
        else:
            # Our own node: the image's /dev/null may be anything (runc, CVE-2025-31133).
            cover = linux.clone_tree("null", root.dev)
            linux.set_attributes(cover, linux.RDONLY)
        _cover(cover, target)
    os.close(empty)
    for path in read_only:
        if (target := _existing(root, path)) is None:
            continue
        same = linux.clone_tree("", target, recursive=True)
        linux.set_attributes(same, _NOTHING_SPECIAL | linux.RDONLY, recursive=True)
        _cover(same, target)


def _fill_dev(dev: int) -> None:
    for name, target in _LINKS.items():
        os.symlink(target, name, dir_fd=dev)
    for name in ("shm", "pts", "mqueue"):
        os.mkdir(name, 0o755, dir_fd=dev)
    umask = os.umask(0)
    for name, (major, minor) in _DEVICES.items():
        os.mknod(name, stat.S_IFCHR | 0o666, os.makedev(major, minor), dir_fd=dev)
    os.umask(umask)


def _admit_devices(dev: int) -> None:
    """Give each node a mount of its own, so that they still work when *dev* becomes nodev."""
    for name in _DEVICES:
        node = linux.clone_tree(name, dev)
        target = linux.open_in_root(dev, name, os.O_PATH | os.O_NOFOLLOW)
        _cover(node, target)


def _mount_if_known(kind: str, attributes: int, parent: int, name: str) -> None:
    """What a kernel may be built without, or a container around us may deny."""
    try:
        mount_fd = linux.new_mount(kind, (("source", kind),), attributes)
    except OSError as error:
        if error.errno in (errno.ENODEV, errno.EPERM):
            return
        raise
    _attach(mount_fd, parent, name)
    os.close(mount_fd)


def _attach(mount_fd: int, parent: int, name: str) -> None:
    flags = os.O_PATH | os.O_NOFOLLOW | os.O_DIRECTORY
    try:
        target = linux.open_in_root(parent, name, flags)
        linux.attach(mount_fd, target)
    except OSError as error:
        code = error.errno or errno.EIO
        raise OSError(code, f"mount on /{name}: {os.strerror(code)}") from None
    os.close(target)


def _existing(root: Root, path: str) -> int | None:
    """
    *path* below our own /proc or /sys, None if this kernel does not have it.

    Not looked up from the root: another mount could be in between (runc, CVE-2025-52881).
    """
    first, _, rest = path.lstrip("/").partition("/")
    base = {"proc": root.proc, "sys": root.sys}.get(first)
    try:
        if base is None:
            return linux.open_in_root(root.root, path, os.O_PATH | os.O_NOFOLLOW)
        return linux.open_in_root(base, rest, os.O_PATH | os.O_NOFOLLOW)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return None
        raise


def _cover(mount_fd: int, target: int) -> None:
    linux.attach(mount_fd, target)
    os.close(target)
    os.close(mount_fd)
