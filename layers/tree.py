"""
A directory of this machine: what is in it, and the digests of its files, read only when needed.

A file is read again when anything that stat(2) tells of it differs from the index, or when it was
so young when it was read that a later change could have left no trace.
"""

from __future__ import annotations

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from enum import Enum
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING, Final

from layers import statindex
from layers.inroot import Descent
from layers.treeread import (
    CHUNK,
    NO_XATTRS,
    SMALL,
    CheckedFile,
    changed,
    denied,
    hash_file,
    is_same,
    open_file,
    xattrs_of,
)

if TYPE_CHECKING:
    from layers.entry import Kind
    from ocispec.content import Readable

_TRIES: Final = 3
_SECOND: Final = 1_000_000_000  # in nanoseconds
# How old a time stamp must be for a change to get another one. The kernel's clock for files ticks
# every 10 ms at most; a file system that keeps whole seconds (ext3; FAT: every other one) shows
# itself by the stamp.
_TICK: Final = 50_000_000
_COARSE_TICK: Final = 2 * _SECOND
_TYPE: Final = 0o170000  # of st_mode; stat.S_IFMT() is a call
_KINDS: Final[Mapping[int, Kind]] = {
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}


class Verdict(Enum):
    """What a selection says of a path."""

    INCLUDE = 0
    EXCLUDE = 1  # with everything below it
    DESCEND = 2  # left out, unless something below it is included


Select = Callable[[str, bool], Verdict]  # path, is it a directory


class TreeEntry:
    """
    A file, directory, link or node at *path*: relative, without "." or "..".

    The digest (SHA-256, hex) and the xattrs of a file are known after Tree.digests().
    """

    __slots__ = ("digest", "kind", "path", "status", "target", "xattrs")

    # By hand: a data class with a field for each property takes three times as long to make.
    def __init__(self, path: str, kind: Kind, status: os.stat_result, target: str = "") -> None:
        self.path = path
        self.kind = kind
        self.status = status
        self.target = target  # the text of a symlink
        self.xattrs = NO_XATTRS
        self.digest: str | None = None

    def __repr__(self) -> str:
        return f"TreeEntry({self.path!r}, {self.kind!r})"

    @property
    def mode(self) -> int:
        """Permission bits, setuid, setgid, sticky."""
        return self.status.st_mode & 0o7777

    @property
    def size(self) -> int:
        return self.status.st_size

    @property
    def mtime_ns(self) -> int:
        return self.status.st_mtime_ns

    @property
    def uid(self) -> int:
        return self.status.st_uid

    @property
    def gid(self) -> int:
        return self.status.st_gid

    @property
    def dev(self) -> int:
        return self.status.st_dev

    @property
    def ino(self) -> int:
        return self.status.st_ino

    @property
    def nlink(self) -> int:
        return self.status.st_nlink

    @property
    def rdev(self) -> int:
        return self.status.st_rdev


class Tree:
    """
    The directory *root*, with the stat index in the file *index*, or none.

    scan() and digests() are for one thread at a time, read() for any number. *keep_bytes* is how
    much of what is hashed stays in memory for read(); *now* gives nanoseconds since 1970.
    """

    def __init__(
        self,
        root: Path,
        index: Path | None,
        *,
        keep_bytes: int = 64 << 20,
        now: Callable[[], int] = time.time_ns,
    ) -> None:
        self.root = root
        self._index = index
        self._now = now
        self._scanned_at = 0
        self._files: list[TreeEntry] = []  # of the last scan
        self._is_recalled = True  # the index was asked for them
        self._is_changed = False  # the index has to be written
        self._keep_bytes = self._may_keep = keep_bytes
        self._kept: dict[str, bytes] = {}
        self._linked: dict[tuple[int, int], TreeEntry] = {}  # hashed, and known by more names

    def scan(self, select: Select | None = None) -> list[TreeEntry]:
        """
        Everything below root that *select* includes, sorted by the bytes of the paths.

        Nothing below an excluded directory is looked at. Sockets are left out. Denied, naming the
        path, for a directory that may not be read.
        """
        self._scanned_at = self._now()
        entries = _Scan(select).run(self.root)
        self._files = [entry for entry in entries if entry.kind == "file"]
        self._is_recalled = False
        self._linked = {}
        self._kept = {}
        self._may_keep = self._keep_bytes
        return entries

    def digests(self, entries: Iterable[TreeEntry]) -> None:
        """
        Fill in the digests and xattrs of the files among *entries*, which come from scan().

        Denied for a file that may not be read; Corrupt for one that does not stop changing.
        """
        if not self._is_recalled:
            self._is_recalled = True
            if self._index is not None:
                self._recall(self._index, self._files)
        for entry in entries:
            if entry.digest is None and entry.kind == "file":
                self._take_digest(entry)

    def read(self, entry: TreeEntry) -> Readable | bytes:
        """
        The bytes of the file *entry*, which are those that its digest was taken of.

        Corrupt if it was changed since, from here or on reading to the end. The caller closes.
        """
        kept = self._kept.get(entry.path)
        if kept is not None:
            return kept
        fd = open_file(self.root, entry.path)
        is_certain = self._is_settled(entry.status) and is_same(os.fstat(fd), entry.status)
        file = CheckedFile(fd, entry.path, entry.status, None if is_certain else entry.digest)
        if entry.size > SMALL:
            return file
        try:
            data = file.read(entry.size + 1)
            while chunk := file.read(CHUNK):
                data += chunk
            return data
        finally:
            file.close()

    def are_settled(self, entries: Iterable[TreeEntry]) -> bool:
        """True if no change after the scan can leave all that is in fingerprint() as it is."""
        return all(self._is_settled(entry.status) for entry in entries)

    def save(self) -> None:
        """Write the index, if it is not as it was."""
        if self._index is None or not self._is_changed:
            return
        files = self._files
        # What is too young is as good as unknown: it is read again the next time.
        digests = [
            entry.digest
            if entry.digest is not None and self._is_settled(entry.status)
            else statindex.UNKNOWN
            for entry in files
        ]
        table = statindex.Table(
            statindex.joined([entry.path for entry in files]),
            statindex.rows([entry.status for entry in files]),
            "".join(digests),
            {number: entry.xattrs for number, entry in enumerate(files) if entry.xattrs},
        )
        statindex.save(self._index, table)
        self._is_changed = False

    def _recall(self, index: Path, files: list[TreeEntry]) -> None:
        """Take from the index what it knows of *files*."""
        table = statindex.load(index)
        if table is None:
            self._is_changed = True
            return
        paths = [entry.path for entry in files]
        stats = statindex.rows([entry.status for entry in files])
        if stats == table.rows and statindex.joined(paths) == table.paths:
            found: Iterable[tuple[TreeEntry, int]] = zip(files, range(len(files)), strict=True)
        else:
            self._is_changed = True
            found = ((files[i], row) for i, row in statindex.known(table, paths, stats))
        digests, xattrs = table.digests, table.xattrs
        for entry, row in found:
            digest = digests[row * 64 : row * 64 + 64]
            if digest != statindex.UNKNOWN:
                entry.digest = digest
                if row in xattrs:
                    entry.xattrs = xattrs[row]

    def _is_settled(self, status: os.stat_result) -> bool:
        """True if a change after the scan gives the file another ctime than *status* has."""
        ctime = status.st_ctime_ns
        return ctime < self._scanned_at - (_TICK if ctime % _SECOND else _COARSE_TICK)

    def _take_digest(self, entry: TreeEntry) -> None:
        twin = self._linked.get((entry.dev, entry.ino)) if entry.nlink > 1 else None
        if twin is not None and is_same(twin.status, entry.status):
            entry.digest, entry.xattrs = twin.digest, twin.xattrs
        else:
            self._hash(entry)
        if self._is_settled(entry.status):
            self._is_changed = True

    def _hash(self, entry: TreeEntry) -> None:
        for attempt in range(_TRIES):
            fd = open_file(self.root, entry.path, carefully=attempt > 0)
            try:
                if attempt:
                    # It changed after it was listed: from here on it is what it is now.
                    entry.status = os.fstat(fd)
                digest, data = hash_file(fd, entry.size)
                xattrs = xattrs_of(fd)
                is_stable = is_same(os.fstat(fd), entry.status)
            except IsADirectoryError as error:
                raise changed(entry.path) from error
            finally:
                os.close(fd)
            if is_stable:
                break
        else:
            raise changed(entry.path)
        entry.digest, entry.xattrs = digest, xattrs
        if entry.nlink > 1:
            self._linked[entry.dev, entry.ino] = entry
        if data is not None and len(data) <= self._may_keep:
            self._may_keep -= len(data)
            self._kept[entry.path] = data


def fingerprint(entries: Sequence[TreeEntry]) -> str:
    """
    A digest of all that stat(2) and readlink(2) tell of *entries*.

    As long as it is the same so is every file, if they were settled when it was taken first.
    """
    hasher = hashlib.sha256(statindex.joined([entry.path for entry in entries]))
    hasher.update(b"\0\0" + statindex.rows([entry.status for entry in entries]))
    hasher.update(statindex.joined([e.target for e in entries if e.kind == "symlink"]))
    return hasher.hexdigest()


class _Scan:
    """One walk over a tree, by descriptors."""

    def __init__(self, select: Select | None) -> None:
        self._select = select
        self._entries: list[TreeEntry] = []
        self._pending: list[TreeEntry] = []  # directories on the way to here, not listed so far

    def run(self, root: Path) -> list[TreeEntry]:
        fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with Descent(fd) as walk:
                self._walk(walk)
        finally:
            os.close(fd)
        return _sorted(self._entries)

    def _walk(self, walk: Descent) -> None:
        # The directories that the walk is in, and what is still to be entered in each.
        stack: list[tuple[TreeEntry | None, list[tuple[TreeEntry, Verdict]]]]
        stack = [(None, self._list(walk.fd, ""))]
        while stack:
            entry, directories = stack[-1]
            if directories:
                below, verdict = directories.pop()
                if verdict is Verdict.DESCEND:
                    self._pending.append(below)
                stack.append((below, self._enter(walk, below)))
                continue
            stack.pop()
            if entry is not None:
                walk.up()
                if self._pending and self._pending[-1] is entry:
                    self._pending.pop()

    def _enter(self, walk: Descent, entry: TreeEntry) -> list[tuple[TreeEntry, Verdict]]:
        try:
            fd = walk.down(entry.path.rpartition("/")[2])
            entry.xattrs = xattrs_of(fd)
            return self._list(fd, f"{entry.path}/")
        except PermissionError as error:
            raise denied(entry.path) from error
        except (FileNotFoundError, NotADirectoryError) as error:
            raise changed(entry.path) from error

    def _list(self, fd: int, prefix: str) -> list[tuple[TreeEntry, Verdict]]:
        """List what is in the directory *fd*; the directories that are to be entered."""
        select, include, lstat = self._select, Verdict.INCLUDE, os.stat
        found: list[TreeEntry] = []
        directories: list[tuple[TreeEntry, Verdict]] = []
        # In order, so that what is read one after the other later lies together in memory, too.
        for name in sorted(os.listdir(fd)):
            path = prefix + name
            try:
                status = lstat(name, dir_fd=fd, follow_symlinks=False)
            except FileNotFoundError:
                continue  # removed since: as if it had never been
            type_ = status.st_mode & _TYPE
            if type_ == stat.S_IFDIR:
                verdict = include if select is None else select(path, True)
                if verdict is Verdict.EXCLUDE:
                    continue
                entry = TreeEntry(path, "dir", status)
                directories.append((entry, verdict))
                if verdict is not include:
                    continue
            elif select is not None and select(path, False) is not include:
                continue
            elif type_ == stat.S_IFREG:
                entry = TreeEntry(path, "file", status)
            elif type_ == stat.S_IFLNK:
                entry = TreeEntry(path, "symlink", status, os.readlink(name, dir_fd=fd))
            elif type_ in _KINDS:
                entry = TreeEntry(path, _KINDS[type_], status)
            else:
                continue  # a socket is of no use without its process
            found.append(entry)
        if found:
            self._entries += self._pending
            self._pending.clear()
            self._entries += found
        return directories[::-1]


def _sorted(entries: list[TreeEntry]) -> list[TreeEntry]:
    """*entries* by the bytes of their paths."""
    try:
        # Of valid UTF-8 the bytes have the order of the code points.
        "".join([entry.path for entry in entries]).encode()
    except UnicodeEncodeError:
        return sorted(entries, key=lambda entry: os.fsencode(entry.path))
    return sorted(entries, key=attrgetter("path"))
