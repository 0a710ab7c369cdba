"""
An untrusted layer tar -> one overlayfs layer directory.

The directory holds what this layer adds; deletions become what overlayfs reads as such
(overlayfs.rst, "whiteouts and opaque directories"). Names are looked up as they would be in the
merged tree: first in this layer, then in what is below. Nothing outside the directory is touched.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from layers.entry import META, OPAQUE, SECOND, WHITEOUT, Entry, only_exported
from layers.identity import ContentHash, Identity, neutral
from layers.inroot import DIRECTORY, remove_tree, resolve
from layers.merged import Merged
from layers.ondisk import (
    by_fd,
    entry_of,
    exported_xattrs,
    make_node,
    replace_xattrs,
    status_of,
    write_metadata,
)
from layers.readahead import ReadAhead
from layers.sparse import SparseData
from layers.tarread import DEFAULT_LIMITS, Limits, tar_entries
from ocispec.content import Readable
from ocispec.digest import DiffID, Digest
from ocispec.errors import Invalid

_CHUNK: Final = 1 << 20
_NEW: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MAX_NOTES: Final = 1000


@dataclass(frozen=True, slots=True)
class Applied:
    """What a layer was, once it is on disk."""

    entries: int
    implicit: tuple[str, ...]  # directories made for want of an entry, the first thousand
    skipped: tuple[str, ...]  # what was left out, and why; the first thousand
    diff_id: DiffID  # of every byte of the tar, to its end
    identity: Digest  # as LayerWriter has it
    newest: int  # the latest mtime of an entry, seconds
    size: int  # bytes of the tar


def apply(
    tar: Readable,
    root_fd: int,
    *,
    prefix: str = "trusted",
    lower_fd: int | None = None,
    limits: Limits = DEFAULT_LIMITS,
) -> Applied:
    """
    Unpack *tar* into the empty directory *root_fd*, as a layer on top of *lower_fd*.

    *lower_fd* is the merged tree below, read-only; None if this is the first layer. Nobody else may
    reach *root_fd* meanwhile. After an error what is there is to be thrown away. Invalid for a
    hostile or malformed tar.
    """
    with ReadAhead(tar) as source:
        unpack = _Unpack(root_fd, lower_fd, prefix)
        try:
            for entry, data in tar_entries(source, limits):
                unpack.add(entry, data)
        finally:
            unpack.close()
        return Applied(
            unpack.entries,
            tuple(unpack.merged.implicit),
            tuple(unpack.skipped),
            DiffID(source.digest()),
            unpack.identity.digest(),
            unpack.newest,
            source.size,
        )


class _Unpack:
    def __init__(self, root_fd: int, lower_fd: int | None, prefix: str) -> None:
        self.merged = Merged(root_fd, lower_fd, prefix)
        self.entries = 0
        self.newest = 0
        self.skipped: list[str] = []
        self.identity = Identity()
        self._root = root_fd
        self._parent: str | None = None  # where merged stands, as the tar has it
        self._time = 0  # of that directory, before anything was made in it
        # The topmost layer's root directory is what the merged tree shows.
        root = Entry("", "dir", 0o755)
        if lower_fd is not None:
            xattrs = exported_xattrs(by_fd(lower_fd))
            root = entry_of("", os.fstat(lower_fd), xattrs=xattrs)
        write_metadata(root_fd, root)

    def add(self, entry: Entry, data: Readable) -> None:
        self.entries += 1
        self.newest = max(self.newest, entry.mtime_ns // SECOND)
        if entry.xattrs:
            entry = self._only_exported(entry)
        try:
            content = self._make(entry, data)
        except NotADirectoryError as error:
            raise Invalid(f"tar: {entry.path!r}: a parent of it is no directory") from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise Invalid(f"tar: {entry.path!r}: too many symlinks on the way") from error
            if error.errno is None:  # not a failed system call: the source's own
                raise
            raise OSError(error.errno, error.strerror, entry.path) from error
        self.identity.add(entry, content)

    def close(self) -> None:
        self._leave()
        self.merged.home()

    def _make(self, entry: Entry, data: Readable) -> str:
        """Make what *entry* says; the digest of a file's content, "" if there is none."""
        parent, _, name = entry.path.rpartition("/")
        if WHITEOUT in entry.path and self._is_mark(entry, parent, name):
            return _digest(entry, data) if entry.size else ""
        match entry.kind:
            case "file":
                return self._file(entry, parent, name, data)
            case "dir":
                self._directory(entry, parent, name)
            case "link":
                self._link(entry, parent, name)
            case "symlink" | "fifo" | "char" | "block":
                self._node(entry, parent, name)
        return ""

    def _enter(self, parent: str) -> None:
        """Let merged stand in *parent*, which is made if nobody has it."""
        if parent == self._parent:
            return
        self._leave()
        resolve(self.merged, f"{parent}/_", make=self._make_parent, follow_last=False)
        self._parent = parent
        self._time = os.fstat(self.merged.fd).st_mtime_ns

    def _leave(self) -> None:
        """Entries made in a directory changed its time: give it back what its own entry said."""
        if self._parent is not None:
            os.utime(self.merged.fd, ns=(self._time, self._time))
            self._parent = None

    def _make_parent(self, name: str, path: str, of_link: bool) -> None:
        if of_link:
            raise Invalid(f"tar: an entry below a link to {path!r}, which is not there")
        self.merged.mkdir(name)

    def _directory(self, entry: Entry, parent: str, name: str) -> None:
        if not entry.path:
            self._leave()
            replace_xattrs(self._root, entry)
            write_metadata(self._root, entry)
            return
        self._enter(parent)
        fd = self.merged.new_directory(name)
        try:
            replace_xattrs(fd, entry)
            write_metadata(fd, entry)
        finally:
            os.close(fd)

    def _file(self, entry: Entry, parent: str, name: str, data: Readable) -> str:
        self._enter(parent)
        try:
            fd = os.open(name, _NEW, 0o600, dir_fd=self.merged.fd)
        except FileExistsError:
            remove_tree(name, self.merged.fd)
            fd = os.open(name, _NEW, 0o600, dir_fd=self.merged.fd)
        try:
            content = _write(fd, entry, data) if entry.size else ""
            write_metadata(fd, entry)
        finally:
            os.close(fd)
        return content

    def _node(self, entry: Entry, parent: str, name: str) -> None:
        if entry.kind == "char" and not (entry.major or entry.minor):
            raise Invalid(f"tar: {entry.path!r} is device 0:0, which overlayfs reads as a deletion")
        self._enter(parent)
        try:
            make_node(self.merged.fd, name, entry)
        except FileExistsError:
            remove_tree(name, self.merged.fd)
            make_node(self.merged.fd, name, entry)

    def _link(self, entry: Entry, parent: str, name: str) -> None:
        """
        A hard link. What it links to is never followed, and may be in the tree below.

        Owner, mode and times are those of the file that is there already (as in GNU tar).
        """
        target_parent, _, target = entry.target.rpartition("/")
        self._enter(target_parent)
        if not self.merged.bring_up(target):
            raise Invalid(f"tar: {entry.path!r} is a hard link to {entry.target!r}, no file there")
        source = os.dup(self.merged.fd)
        try:
            self._enter(parent)
            try:
                self._link_from(source, target, name)
            except FileExistsError:
                own = os.stat(name, dir_fd=self.merged.fd, follow_symlinks=False)
                if os.path.samestat(own, os.stat(target, dir_fd=source, follow_symlinks=False)):
                    return
                remove_tree(name, self.merged.fd)
                self._link_from(source, target, name)
        finally:
            os.close(source)

    def _link_from(self, source: int, target: str, name: str) -> None:
        fd = self.merged.fd
        os.link(target, name, src_dir_fd=source, dst_dir_fd=fd, follow_symlinks=False)

    def _is_mark(self, entry: Entry, parent: str, name: str) -> bool:
        """Do as *entry* says if it is the mark of a deletion; False if it is no mark."""
        for directory in parent.split("/"):
            if directory.startswith(META):
                self._skip(entry.path, "what AUFS keeps for itself")
                return True
            if directory.startswith(WHITEOUT):
                raise Invalid(f"tar: {entry.path!r}: a directory named as a deletion")
        if not name.startswith(WHITEOUT):
            return False
        if name == OPAQUE:
            self._hide_all(parent)
        elif name.startswith(META):
            self._skip(entry.path, "what AUFS keeps for itself")
        elif (target := name.removeprefix(WHITEOUT)) in ("", ".", ".."):
            raise Invalid(f"tar: {entry.path!r} deletes nothing that has a name")
        elif self._enter_lower(parent):
            self._hide(target)
        return True

    def _enter_lower(self, parent: str) -> bool:
        """Enter *parent*; False if there is nothing below it that could be hidden."""
        self._leave()

        def stop(_: str, path: str, __: bool) -> None:
            raise FileNotFoundError(path)

        try:
            resolve(self.merged, f"{parent}/_", make=stop, follow_last=False)
        except FileNotFoundError:
            return False
        self._parent = parent
        self._time = os.fstat(self.merged.fd).st_mtime_ns
        return self.merged.lower is not None

    def _hide(self, name: str) -> None:
        """
        Hide what the tree below has as *name* where merged stands.

        Never what this layer has (image-spec layer.md: "whiteout files MUST only apply to resources
        in lower/parent layers"), wherever the whiteout stands in the tar.
        """
        if status_of(name, self.merged.lower) is None:
            return
        own = status_of(name, self.merged.fd)
        if own is None:
            os.mknod(name, stat.S_IFCHR, 0, dir_fd=self.merged.fd)
        elif stat.S_ISDIR(own.st_mode):
            fd = os.open(name, DIRECTORY, dir_fd=self.merged.fd)
            try:
                self.merged.make_opaque(fd, name)
            finally:
                os.close(fd)

    def _hide_all(self, directory: str) -> None:
        if not self._enter_lower(directory) or self.merged.lower is None:
            return
        if self.merged.is_root():
            # overlayfs does not look for the opaque mark at the root of a layer.
            lower = os.open(".", DIRECTORY, dir_fd=self.merged.lower)
            try:
                names = os.listdir(lower)
            finally:
                os.close(lower)
            for name in sorted(names, key=os.fsencode):
                self._hide(name)
        else:
            self.merged.mark_opaque(self.merged.fd)
        self._leave()  # what is visible below has changed

    def _only_exported(self, entry: Entry) -> Entry:
        kept = only_exported(entry)
        for name in entry.xattrs.keys() - kept.xattrs.keys():
            self._skip(entry.path, name)
        return kept

    def _skip(self, path: str, what: str) -> None:
        if len(self.skipped) < _MAX_NOTES:
            self.skipped.append(f"{path}: {what}")


def _digest(entry: Entry, data: Readable) -> str:
    hashing = ContentHash(entry.path)
    while chunk := data.read(_CHUNK):
        hashing.update(chunk)
    return hashing.hexdigest()


def _write(fd: int, entry: Entry, data: Readable) -> str:
    """Write *data* to *fd*, holes as holes; the digest of the content."""
    if entry.size <= _CHUNK and not isinstance(data, SparseData):
        content = data.read(entry.size)
        _write_all(fd, content)
        return hashlib.sha256(neutral(entry.path, content)).hexdigest()
    hashing = ContentHash(entry.path)
    while True:
        if isinstance(data, SparseData) and (hole := data.hole()):
            os.lseek(fd, hole, os.SEEK_CUR)
            for size in _chunks(hole):
                hashing.update(bytes(size))
        chunk = data.read(_CHUNK)
        if not chunk:
            break
        hashing.update(chunk)
        _write_all(fd, chunk)
    if isinstance(data, SparseData):
        os.ftruncate(fd, entry.size)
    return hashing.hexdigest()


def _write_all(fd: int, data: bytes) -> None:
    done = os.write(fd, data)
    while done < len(data):
        done += os.write(fd, memoryview(data)[done:])


def _chunks(size: int) -> Iterator[int]:
    while size:
        yield min(size, _CHUNK)
        size -= min(size, _CHUNK)
