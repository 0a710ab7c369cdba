"""
A directory of the host as a sorted list of entries, and the digests of its files.

With a stat index, only files whose status changed are read: size, both times to the nanosecond,
inode and mode. The change time cannot be set back by a program, so an edit that keeps size and
mtime is still seen. A file whose status is as young as the moment it was read ("racily clean", as
git says) could change again within one clock tick, so its digest is not kept for the next build.
"""

from __future__ import annotations

import enum
import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterable, Mapping
from io import FileIO
from pathlib import Path
from typing import Final, NamedTuple

from layers import statindex
from layers.entry import Kind, is_exported
from ocispec.content import Readable
from ocispec.errors import Conflict, Denied

_KEEP: Final = 256 << 10  # bytes; a larger file is read again when it is needed
_CHUNK: Final = 1 << 20
# The kernel stamps files from a clock that ticks every 1 to 10 ms (CONFIG_HZ).
_TICK_NS: Final = 20_000_000
_NONE: Final[Mapping[str, bytes]] = {}
_KINDS: Final[Mapping[int, Kind]] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "dir",
    stat.S_IFLNK: "symlink",
    stat.S_IFCHR: "char",
    stat.S_IFBLK: "block",
    stat.S_IFIFO: "fifo",
}


class Verdict(enum.Enum):
    """What becomes of a path in a scan."""

    INCLUDE = 1
    DESCEND = 2  # a directory that counts only if something below it is included
    EXCLUDE = 3


Select = Callable[[str, bool], Verdict]  # relative path, is it a directory


class TreeEntry(NamedTuple):
    """One name below the root. A named tuple, since there may be a hundred thousand."""

    path: str  # relative
    kind: Kind
    mode: int  # permission bits
    uid: int
    gid: int
    size: int
    mtime_ns: int
    ctime_ns: int
    dev: int
    ino: int
    nlink: int
    rdev: int
    target: str  # of a symlink, else ""


class Facts(NamedTuple):
    """What only reading a file tells."""

    digest: str  # hex of SHA-256
    xattrs: Mapping[str, bytes]


class Tree:
    """
    The tree below *root*; *index* is the file of its stat index, or None.

    With *all_xattrs* every attribute that belongs to a layer is read, else file capabilities only.
    Not for several threads at once.
    """

    def __init__(
        self,
        root: Path,
        index: Path | None,
        *,
        all_xattrs: bool = False,
        keep_bytes: int = 64 << 20,
    ) -> None:
        self.root = root
        self._index = index
        self._all_xattrs = all_xattrs
        self._budget = keep_bytes
        self._old: dict[str, tuple[int, int, int, int, int, str, bytes]] | None = None
        self._changed = False
        self._facts: dict[str, Facts] = {}
        self._racy: set[str] = set()
        self._bytes: dict[str, bytes] = {}

    def scan(self, select: Select | None) -> list[TreeEntry]:
        """
        Every entry that *select* includes, sorted by the bytes of its path; sockets are left out.

        Nothing is opened but directories. Denied, with the path, if one cannot be read.
        """
        found: list[TreeEntry] = []
        passed: dict[str, TreeEntry] = {}
        pending = [""]
        while pending:
            self._scan_directory(pending.pop(), select, found, passed, pending)
        if passed:
            found.extend(_needed(found, passed))
        return _sorted(found)

    def digests(self, entries: Iterable[TreeEntry]) -> None:
        """Learn the facts of *entries*: digests of files, attributes of what has them."""
        if self._old is None:
            self._old = {} if self._index is None else statindex.load(self._index)
        old, facts = self._old, self._facts
        for entry in entries:
            path = entry.path
            if path in facts:
                continue
            if entry.kind == "file":
                known = old.get(path)
                if known is not None and known[:5] == (*entry[5:8], entry.ino, entry.mode):
                    capability = known[6]
                    xattrs = {"security.capability": capability} if capability else _NONE
                    facts[path] = Facts(known[5], xattrs)
                else:
                    self._read_facts(entry)
            elif self._all_xattrs and entry.kind != "symlink":
                facts[path] = Facts("", self._xattrs(self._place(path)))

    def facts(self, entry: TreeEntry) -> Facts:
        """What digests() learnt of *entry*; empty for what has no content."""
        return self._facts.get(entry.path, _NO_FACTS)

    def read(self, entry: TreeEntry) -> Readable | bytes:
        """
        The bytes of a file, the very ones that its digest is of; the caller closes.

        Conflict if it is not the file any more that was scanned.
        """
        kept = self._bytes.pop(entry.path, None)
        if kept is not None:
            return kept
        file = self._open(entry)
        if _status(os.fstat(file.fileno())) != _status_of(entry):
            file.close()
            raise _changed(entry.path)
        digest = self._facts[entry.path].digest if entry.path in self._racy else None
        return _Checked(file, entry, digest)

    def save(self) -> None:
        """Write the stat index, if it changed: what this build did not look at is kept."""
        if self._index is not None and self._changed and self._old is not None:
            statindex.save(self._index, self._old)
            self._changed = False

    def _scan_directory(
        self,
        directory: str,
        select: Select | None,
        found: list[TreeEntry],
        passed: dict[str, TreeEntry],
        pending: list[str],
    ) -> None:
        prefix = f"{directory}/" if directory else ""
        try:
            with os.scandir(self._place(directory)) as names:
                for name in names:
                    path = prefix + name.name
                    status = name.stat(follow_symlinks=False)
                    kind = _KINDS.get(stat.S_IFMT(status.st_mode))
                    if kind is None:
                        continue  # a socket means nothing once its process is gone
                    verdict = Verdict.INCLUDE if select is None else select(path, kind == "dir")
                    if verdict is Verdict.EXCLUDE:
                        continue
                    target = os.readlink(name.path) if kind == "symlink" else ""
                    entry = _entry(path, kind, status, target)
                    if verdict is Verdict.INCLUDE:
                        found.append(entry)
                    else:
                        passed[path] = entry
                    if kind == "dir":
                        pending.append(path)
        except PermissionError as error:
            raise Denied(
                f"cannot read directory {directory or '.'}: {error.strerror}",
                hint="make it readable, or name it in .dockerignore",
            ) from error

    def _read_facts(self, entry: TreeEntry) -> None:
        hasher = hashlib.sha256()
        now_ns = time.time_ns()
        with self._open(entry) as file:
            if _status(os.fstat(file.fileno())) != _status_of(entry):
                raise _changed(entry.path)
            keep = entry.size <= _KEEP and entry.size <= self._budget
            if keep:
                data = file.read(entry.size + 1)
                hasher.update(data)
                seen = len(data)
                self._bytes[entry.path] = data
                self._budget -= entry.size
            else:
                seen = 0
                while chunk := file.read(_CHUNK):
                    hasher.update(chunk)
                    seen += len(chunk)
            xattrs = self._xattrs(file.fileno())
            if seen != entry.size or _status(os.fstat(file.fileno())) != _status_of(entry):
                raise _changed(entry.path)
        digest = hasher.hexdigest()
        self._facts[entry.path] = Facts(digest, xattrs)
        if max(entry.mtime_ns, entry.ctime_ns) >= now_ns - _TICK_NS:
            self._racy.add(entry.path)
            self._forget(entry.path)
        elif self._old is not None:
            capability = xattrs.get("security.capability", b"")
            self._old[entry.path] = (*entry[5:8], entry.ino, entry.mode, digest, capability)
            self._changed = True

    def _forget(self, path: str) -> None:
        if self._old and self._old.pop(path, None) is not None:
            self._changed = True

    def _open(self, entry: TreeEntry) -> FileIO:
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            return FileIO(os.open(self._place(entry.path), flags), closefd=True)
        except PermissionError as error:
            raise Denied(
                f"cannot read {entry.path}: {error.strerror}",
                hint="make it readable, or name it in .dockerignore",
            ) from error
        except FileNotFoundError as error:
            raise _changed(entry.path) from error

    def _xattrs(self, file: int | str) -> Mapping[str, bytes]:
        names = os.listxattr(file)
        if not names:
            return _NONE
        wanted = is_exported if self._all_xattrs else "security.capability".__eq__
        return {name: os.getxattr(file, name) for name in names if wanted(name)} or _NONE

    def _place(self, path: str) -> str:
        return f"{self.root}/{path}" if path else str(self.root)


class _Checked:
    """A file that must be at its end what it was at its beginning."""

    def __init__(self, file: FileIO, entry: TreeEntry, digest: str | None) -> None:
        self._file = file
        self._entry = entry
        self._digest = digest
        self._hash = None if digest is None else hashlib.sha256()

    def read(self, size: int = -1, /) -> bytes:
        data = self._file.read(size)
        if self._hash is not None:
            self._hash.update(data)
        if not data and size:
            self._check()
        return data

    def close(self) -> None:
        self._file.close()

    def _check(self) -> None:
        same = _status(os.fstat(self._file.fileno())) == _status_of(self._entry)
        if not same or (self._hash is not None and self._hash.hexdigest() != self._digest):
            raise _changed(self._entry.path)


_NO_FACTS: Final = Facts("", _NONE)


def _entry(path: str, kind: Kind, status: os.stat_result, target: str) -> TreeEntry:
    return TreeEntry(
        path,
        kind,
        stat.S_IMODE(status.st_mode),
        status.st_uid,
        status.st_gid,
        status.st_size,
        status.st_mtime_ns,
        status.st_ctime_ns,
        status.st_dev,
        status.st_ino,
        status.st_nlink,
        status.st_rdev,
        target,
    )


def _status(status: os.stat_result) -> tuple[int, int, int, int]:
    return (status.st_size, status.st_mtime_ns, status.st_ctime_ns, status.st_ino)


def _status_of(entry: TreeEntry) -> tuple[int, int, int, int]:
    return (entry.size, entry.mtime_ns, entry.ctime_ns, entry.ino)


def _needed(found: list[TreeEntry], passed: Mapping[str, TreeEntry]) -> list[TreeEntry]:
    """The passed directories that something included lies in."""
    needed: dict[str, TreeEntry] = {}
    for entry in found:
        parent = entry.path.rpartition("/")[0]
        while parent in passed and parent not in needed:
            needed[parent] = passed[parent]
            parent = parent.rpartition("/")[0]
    return list(needed.values())


def _sorted(entries: list[TreeEntry]) -> list[TreeEntry]:
    """By the bytes of the path: the order of code points, but for names that are not UTF-8."""
    try:
        "".join(entry.path for entry in entries).encode()
    except UnicodeEncodeError:
        return sorted(entries, key=lambda entry: os.fsencode(entry.path))
    entries.sort()
    return entries


def _changed(path: str) -> Conflict:
    return Conflict(
        f"{path} changed while the build was reading it",
        hint="build again when it is still, or name it in .dockerignore",
    )
