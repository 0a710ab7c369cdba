"""
The upper directory of an overlay -> the entries of a layer.

What is written is what a reader needs to make the merged tree again from the tree below, and no
more: a directory that was only copied up is left out, unless something below it is written. Then it
is written first, for an engine that unpacks each layer by itself would make a missing parent as
root's, mode 755 (moby/buildkit#154: /tmp lost its 1777).
"""

from __future__ import annotations

import os
import stat
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from typing import Final

from layers.attributes import is_exported
from layers.entry import SECOND, WHITEOUT, Entry
from layers.inroot import Descent
from layers.layerwrite import LayerWriter
from layers.ondisk import entry_of, exported_xattrs, is_whiteout, status_of, xattr_names
from ocispec.content import Readable
from ocispec.errors import Invalid, Unsupported

_CHUNK: Final = 1 << 20
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def diff(
    upper_fd: int,
    lower_fd: int | None,
    out: LayerWriter,
    *,
    prefix: str = "trusted",
    skip: AbstractSet[str] = frozenset(),
) -> None:
    """
    Write to *out* what the overlay directory *upper_fd* changes in the tree *lower_fd*.

    *lower_fd* is a read-only view of the tree that the upper was mounted over, None if it was
    empty. Paths in *skip* are left out with all below them. The upper must no longer be mounted.
    Invalid for a name that no layer can hold; Unsupported for an upper made with redirect_dir or
    metacopy.
    """
    with Descent(upper_fd) as upper:
        below = None if lower_fd is None else Descent(lower_fd, check=False)
        try:
            _Diff(upper, below, out, prefix, skip).run()
        finally:
            if below is not None:
                below.close()


@dataclass(slots=True)
class _Frame:
    """A directory on the way from the root to where the walk is."""

    entry: Entry  # to be written before anything in it
    names: list[str]  # still to visit, last first
    merged: bool  # the lower walk stands in the directory of the same path


class _Diff:
    def __init__(
        self,
        upper: Descent,
        lower: Descent | None,
        out: LayerWriter,
        prefix: str,
        skip: AbstractSet[str],
    ) -> None:
        self._upper = upper
        self._lower = lower
        self._out = out
        self._overlay = f"{prefix}.overlay."
        self._skip = skip
        self._frames: list[_Frame] = []
        self._written = 0  # how many of the frames' entries are in the layer
        self._links: dict[
            tuple[int, int], str
        ] = {}  # (device, inode) -> the path it was written as

    def run(self) -> None:
        self._root()
        while self._frames:
            frame = self._frames[-1]
            if frame.names:
                self._visit(frame, frame.names.pop())
                continue
            self._frames.pop()
            self._written = min(self._written, len(self._frames))
            if self._frames:
                self._upper.up()
                if frame.merged and self._lower is not None:
                    self._lower.up()

    def _root(self) -> None:
        fd = self._upper.fd
        exported, _ = self._xattrs("", fd)
        entry = entry_of("", os.fstat(fd), xattrs=exported)
        lower = Entry("", "dir", 0o755)
        if self._lower is not None:
            below = self._lower.fd
            lower = entry_of("", os.fstat(below), xattrs=exported_xattrs(below))
        # Its time alone changes with every file made in it, and engines keep no root entry.
        if _differs(entry, lower, times=False):
            self._out.add(entry)
        self._frames.append(_Frame(entry, self._names(), merged=self._lower is not None))
        self._written = 1

    def _visit(self, frame: _Frame, name: str) -> None:
        path = f"{frame.entry.path}/{name}" if frame.entry.path else name
        if path in self._skip:
            return
        fd = self._upper.fd
        status = os.stat(name, dir_fd=fd, follow_symlinks=False)
        lower_fd = self._lower.fd if frame.merged and self._lower is not None else None
        lower = status_of(name, lower_fd)
        if is_whiteout(status):
            self._whiteout(path, lower)
            return
        if name.startswith(WHITEOUT):
            raise Invalid(
                f"{path!r}: a layer cannot hold a name that starts with {WHITEOUT!r}",
                hint="image layers mark deleted files with such names; rename or remove the file",
            )
        if stat.S_ISDIR(status.st_mode):
            self._directory(path, name, status, lower)
        elif stat.S_ISREG(status.st_mode):
            self._file(path, name, status, lower)
        elif not stat.S_ISSOCK(status.st_mode):  # a socket is of no use without its process
            target = os.readlink(name, dir_fd=fd) if stat.S_ISLNK(status.st_mode) else ""
            if not self._is_known(path, status):
                self._write(entry_of(path, status, target=target, xattrs={}))

    def _directory(
        self, path: str, name: str, status: os.stat_result, lower: os.stat_result | None
    ) -> None:
        fd = self._upper.down(name)
        exported, overlay = self._xattrs(path, fd)
        entry = entry_of(path, status, xattrs=exported)
        below = lower is not None and stat.S_ISDIR(lower.st_mode)
        opaque = overlay.get("opaque") == b"y"
        merged = below and not opaque and self._lower is not None
        same = False
        if merged and self._lower is not None and lower is not None:
            lower_fd = self._lower.down(name)
            same = not _differs(entry, entry_of(path, lower, xattrs=exported_xattrs(lower_fd)))
        if not same:
            self._write(entry)
        if opaque and below:
            self._out.opaque(path)
        self._frames.append(_Frame(entry, self._names(), merged))
        self._written += not same

    def _file(
        self, path: str, name: str, status: os.stat_result, lower: os.stat_result | None
    ) -> None:
        fd = os.open(name, _READ, dir_fd=self._upper.fd)
        try:
            exported, overlay = self._xattrs(path, fd)
            if "whiteout" in overlay and not status.st_size:
                # The other form of a deletion (overlayfs.rst, "whiteouts and opaque directories").
                self._whiteout(path, lower)
            elif not self._is_known(path, status):
                entry = entry_of(path, status, xattrs=exported)
                # One byte more shows whether the file has grown.
                small = entry.size < _CHUNK
                self._write(entry, os.read(fd, entry.size + 1) if small else _File(fd))
        finally:
            os.close(fd)

    def _whiteout(self, path: str, lower: os.stat_result | None) -> None:
        # overlayfs also leaves marks for what the step itself made and removed.
        if lower is not None:
            self._flush()
            self._out.whiteout(path)

    def _is_known(self, path: str, status: os.stat_result) -> bool:
        """True if the file was written under another name, and now is as a link to that."""
        # The upper's own inode numbers: the merged tree's change when a file is copied up.
        if status.st_nlink == 1:
            return False
        first = self._links.setdefault((status.st_dev, status.st_ino), path)
        if first == path:
            return False
        mode, mtime = stat.S_IMODE(status.st_mode), status.st_mtime_ns
        self._write(
            Entry(path, "link", mode, status.st_uid, status.st_gid, mtime_ns=mtime, target=first)
        )
        return True

    def _write(self, entry: Entry, data: Readable | bytes | None = None) -> None:
        self._flush()
        self._out.add(entry, data)

    def _flush(self) -> None:
        """Write the directories above that were not written yet."""
        for frame in self._frames[self._written :]:
            self._out.add(frame.entry)
        self._written = len(self._frames)

    def _names(self) -> list[str]:
        return sorted(os.listdir(self._upper.fd), key=os.fsencode, reverse=True)

    def _xattrs(self, path: str, fd: int) -> tuple[dict[str, bytes], dict[str, bytes]]:
        """(what belongs to the layer, overlayfs's own "opaque" and "whiteout")."""
        exported: dict[str, bytes] = {}
        overlay: dict[str, bytes] = {}
        for name in xattr_names(fd):
            if is_exported(name):
                exported[name] = os.getxattr(fd, name)
            elif name.startswith(self._overlay):
                kind = name.removeprefix(self._overlay)
                if kind in ("redirect", "metacopy"):
                    raise Unsupported(
                        f"{path!r}: an overlay made with {kind} cannot be read as a layer",
                        hint="mount it with redirect_dir=off,metacopy=off",
                    )
                if kind in ("opaque", "whiteout"):
                    overlay[kind] = os.getxattr(fd, name)
        return exported, overlay


class _File:
    """Reads an open file; who opened it closes it."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def read(self, size: int = -1, /) -> bytes:
        return os.read(self._fd, _CHUNK if size < 0 else size)

    def close(self) -> None:
        """Not ours to close."""


def _differs(upper: Entry, lower: Entry, *, times: bool = True) -> bool:
    """True if the directory *upper* has other metadata than *lower*; a tar has whole seconds."""
    return (upper.mode, upper.uid, upper.gid, upper.xattrs) != (
        lower.mode,
        lower.uid,
        lower.gid,
        lower.xattrs,
    ) or (times and upper.mtime_ns // SECOND != lower.mtime_ns // SECOND)
