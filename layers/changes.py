"""
What was changed in a copy of a tree, as an overlay's upper directory; and the way back.

A copy is remembered by what stat(2) says of each entry, the ctime and the inode among it: an edit
that puts the mtime back is seen. The upper directory that is made of the changes is the one that
overlayfs would have, so that the layer is the same.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import Final, NamedTuple

from layers.copytree import copy_metadata
from layers.entry import Entry
from layers.inroot import Descent, remove_tree
from layers.ondisk import (
    entry_of,
    exported_xattrs,
    is_whiteout,
    replace_xattrs,
    status_of,
    write_metadata,
)

# On each directory of a copy, with its inode number: another directory that took its name, or its
# number when it was gone, does not have it.
_MARK: Final = "user.overlay.pybuild"
_OPAQUE: Final = "user.overlay.opaque"
_WHITEOUT: Final = "user.overlay.whiteout"
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CHUNK: Final = 1 << 20


class Seen(NamedTuple):
    """What stat(2) said of an entry."""

    mode: int
    uid: int
    gid: int
    size: int
    mtime_ns: int
    rdev: int
    ino: int
    nlink: int
    ctime_ns: int

    @classmethod
    def of(cls, status: os.stat_result) -> Seen:
        return cls(
            *(status.st_mode, status.st_uid, status.st_gid, status.st_size),
            *(status.st_mtime_ns, status.st_rdev, status.st_ino, status.st_nlink),
            status.st_ctime_ns,
        )


Manifest = Mapping[str, Mapping[str, Seen]]  # directory -> name in it -> what it was
_NOTHING: Final[Mapping[str, Seen]] = {}


def remember(root_fd: int) -> Manifest:
    """What is below *root_fd* now. Its directories are marked."""
    manifest: dict[str, dict[str, Seen]] = {}
    with Descent(root_fd) as walk:
        _mark(walk.fd)
        manifest[""] = _seen(walk.fd)
        stack = [("", _directories(manifest[""]))]
        while stack:
            parent, names = stack[-1]
            if names:
                name = names.pop()
                path = _join(parent, name)
                fd = walk.down(name)
                manifest[parent][name] = _mark(fd)
                manifest[path] = _seen(fd)
                stack.append((path, _directories(manifest[path])))
                continue
            stack.pop()
            if stack:
                walk.up()
    return manifest


def collect(root_fd: int, manifest: Manifest, below_fd: int, upper_fd: int) -> None:
    """
    Put what changed in *root_fd* since *manifest* into the empty directory *upper_fd*.

    *below_fd* is what *root_fd* was copied from. Files in the upper directory are links to those
    in *root_fd*. Its marks are those of ``userxattr`` overlays, and it is to be read as one; the
    marks of remember() are removed.
    """
    with Descent(root_fd) as walk, Descent(upper_fd) as upper:
        _Collect(walk, upper, manifest, below_fd).run()


def merge(layer_fd: int, root_fd: int) -> None:
    """Move what is in the layer directory *layer_fd*, in overlay's form, over *root_fd*."""
    with Descent(layer_fd) as layer, Descent(root_fd) as root:
        stack = [_merge_directory(layer.fd, root.fd)]
        while stack:
            entry, names = stack[-1]
            if names:
                _enter_merged(names.pop(), layer, root)
                stack.append(_merge_directory(layer.fd, root.fd))
                continue
            replace_xattrs(root.fd, entry)
            write_metadata(root.fd, entry)
            stack.pop()
            if stack:
                layer.up()
                root.up()


class _Frame:
    """A directory that the walk is in."""

    __slots__ = ("known", "name", "names", "path")

    def __init__(self, path: str, name: str, known: Mapping[str, Seen], fd: int) -> None:
        self.path = path
        self.name = name
        self.known = known
        self.names = sorted({*os.listdir(fd), *known})


class _Collect:
    def __init__(self, walk: Descent, upper: Descent, manifest: Manifest, below_fd: int) -> None:
        self._walk = walk
        self._upper = upper  # at or above where walk is: directories are made when needed
        self._manifest = manifest
        self._below = below_fd
        self._frames: list[_Frame] = []
        self._are_marked = False

    def run(self) -> None:
        self._are_marked = _take_mark(self._walk.fd) is not None
        self._frames.append(_Frame("", "", self._manifest[""], self._walk.fd))
        while self._frames:
            frame = self._frames[-1]
            if frame.names:
                self._visit(frame, frame.names.pop())
                continue
            if self._upper.depth == len(self._frames) - 1:
                copy_metadata(self._walk.fd, self._upper.fd)
                if self._upper.depth:
                    self._upper.up()
            self._frames.pop()
            if self._frames:
                self._walk.up()

    def _visit(self, frame: _Frame, name: str) -> None:
        fd = self._walk.fd
        before = frame.known.get(name)
        try:
            status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        except FileNotFoundError:
            _whiteout(name, self._made())
            return
        if stat.S_ISDIR(status.st_mode):
            self._directory(_join(frame.path, name), name, status, before)
        elif stat.S_ISSOCK(status.st_mode):
            if before is not None:
                _whiteout(name, self._made())
        elif before is None or self._is_changed(frame.path, name, status, before):
            os.link(name, name, src_dir_fd=fd, dst_dir_fd=self._made(), follow_symlinks=False)

    def _directory(self, path: str, name: str, status: os.stat_result, before: Seen | None) -> None:
        was_directory = before is not None and stat.S_ISDIR(before.mode)
        fd = self._walk.down(name)
        mark = _take_mark(fd)
        known = self._manifest[path] if was_directory else _NOTHING
        self._frames.append(_Frame(path, name, known, fd))
        if before is None or Seen.of(status) != before:
            self._made()
        if before is None or not was_directory:
            return
        if self._are_marked:
            is_the_one = mark == str(before.ino).encode()
        else:
            is_the_one = status.st_ino == before.ino
        if not is_the_one and _make_opaque(self._made()):
            self._frames[-1] = _Frame(path, name, _NOTHING, fd)

    def _is_changed(self, directory: str, name: str, status: os.stat_result, before: Seen) -> bool:
        now = Seen.of(status)
        if now == before:
            return False
        if now[:-2] != before[:-2] or now.nlink >= before.nlink or not stat.S_ISREG(now.mode):
            return True
        # Perhaps only another of its names was removed, which is no change of the file.
        return not self._is_as_below(_join(directory, name), name)

    def _is_as_below(self, path: str, name: str) -> bool:
        try:
            below = os.open(path, _READ, dir_fd=self._below)
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            return False
        try:
            fd = os.open(name, _READ, dir_fd=self._walk.fd)
            try:
                return exported_xattrs(fd) == exported_xattrs(below) and _same_bytes(fd, below)
            finally:
                os.close(fd)
        finally:
            os.close(below)

    def _made(self) -> int:
        """The upper directory for where the walk is; made if need be, with those above."""
        while self._upper.depth < len(self._frames) - 1:
            name = self._frames[self._upper.depth + 1].name
            os.mkdir(name, 0o700, dir_fd=self._upper.fd)
            self._upper.down(name)
        return self._upper.fd


def _join(directory: str, name: str) -> str:
    return f"{directory}/{name}" if directory else name


def _seen(fd: int) -> dict[str, Seen]:
    names = os.listdir(fd)
    return {name: Seen.of(os.stat(name, dir_fd=fd, follow_symlinks=False)) for name in names}


def _directories(seen: Mapping[str, Seen]) -> list[str]:
    return [name for name, was in seen.items() if stat.S_ISDIR(was.mode)]


def _mark(fd: int) -> Seen:
    """Mark the directory *fd*, where that can be; what it is then."""
    try:
        os.setxattr(fd, _MARK, str(os.fstat(fd).st_ino).encode())
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
    return Seen.of(os.fstat(fd))


def _take_mark(fd: int) -> bytes | None:
    try:
        mark = os.getxattr(fd, _MARK)
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        return None
    os.removexattr(fd, _MARK)
    return mark


def _make_opaque(fd: int) -> bool:
    """Let the upper directory *fd* hide the one below; False if it cannot have the mark."""
    try:
        os.setxattr(fd, _OPAQUE, b"y")
    except OSError as error:
        if error.errno != errno.EOPNOTSUPP:
            raise
        return False
    return True


def _is_opaque(fd: int) -> bool:
    try:
        return os.getxattr(fd, _OPAQUE) == b"y"
    except OSError as error:
        if error.errno not in (errno.ENODATA, errno.EOPNOTSUPP):
            raise
        return False


def _whiteout(name: str, fd: int) -> None:
    """Mark *name* as removed in the upper directory *fd*."""
    try:
        os.mknod(name, stat.S_IFCHR, 0, dir_fd=fd)
    except PermissionError:
        # overlayfs itself refuses such a device, for instance (fs/overlayfs/dir.c, ovl_mknod).
        file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600, dir_fd=fd)
        try:
            os.setxattr(file, _WHITEOUT, b"y")
        finally:
            os.close(file)


def _same_bytes(one: int, other: int) -> bool:
    while True:
        chunk = os.read(one, _CHUNK)
        if chunk != os.read(other, _CHUNK):
            return False
        if not chunk:
            return True


def _merge_directory(layer: int, root: int) -> tuple[Entry, list[str]]:
    """
    Move what is no directory from *layer* to *root*.

    What *layer* was before (moving files out gives it another time), and the directories in it.
    """
    entry = entry_of("", os.fstat(layer), xattrs=exported_xattrs(layer))
    directories = []
    for name in os.listdir(layer):
        status = os.stat(name, dir_fd=layer, follow_symlinks=False)
        if stat.S_ISDIR(status.st_mode):
            directories.append(name)
            continue
        remove_tree(name, root)
        if not is_whiteout(status):
            os.rename(name, name, src_dir_fd=layer, dst_dir_fd=root)
    return entry, directories


def _enter_merged(name: str, layer: Descent, root: Descent) -> None:
    opaque = _is_opaque(layer.down(name))
    below = status_of(name, root.fd)
    if below is not None and (opaque or not stat.S_ISDIR(below.st_mode)):
        remove_tree(name, root.fd)
        below = None
    if below is None:
        os.mkdir(name, 0o700, dir_fd=root.fd)
    root.down(name)
