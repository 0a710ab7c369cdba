"""
Reads a tar that nobody vouches for: from a registry, an archive, a build context.

Understands ustar, V7, GNU long names, pax headers (local and global), base-256 numbers and sparse
files. Where readers are known to differ on what a member is (Go's archive/tar, GNU tar), it
refuses rather than chooses: a scanner must not see other files than the container does.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from layers.entry import Entry, Kind
from layers.sparse import (
    SparseData,
    checked,
    decimal,
    from_pax,
    is_sparse,
    map_in_data,
    old_gnu,
)
from layers.tarfields import (
    check_sum,
    device_of,
    id_of,
    mtime_of,
    number,
    pax_records,
    size_of,
    xattrs_of,
)
from layers.tarwrite import BLOCK, padding
from ocispec.content import Readable
from ocispec.errors import Invalid, Unsupported

_CHUNK: Final = 1 << 20
_MAX_OWNERS: Final = 4096
_ZEROS: Final = bytes(BLOCK)
_MAX_COMPONENT: Final = 255  # NAME_MAX
_KINDS: Final[dict[bytes, Kind]] = {
    b"0": "file",
    b"\0": "file",
    b"7": "file",
    b"S": "file",
    b"1": "link",
    b"2": "symlink",
    b"3": "char",
    b"4": "block",
    b"5": "dir",
    b"6": "fifo",
}


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tar may ask of its reader."""

    entries: int = 10_000_000
    path: int = 4095  # bytes: PATH_MAX without its NUL
    extended: int = 1 << 20  # bytes of one pax header or long name
    sparse: int = 1 << 36  # bytes that all sparse files may have when their holes are filled


DEFAULT_LIMITS: Final = Limits()


def tar_entries(raw: Readable, limits: Limits = DEFAULT_LIMITS) -> Iterator[tuple[Entry, Readable]]:
    """
    The members of the tar in *raw*, each with its data.

    Paths are relative and free of "." and ".."; a link's target is text, a hard link's a path as
    above. The data must be read before the next member is asked for; what is left is skipped.
    After the last member *raw* is read to its end, so that whoever hashes it has seen all bytes.
    Invalid for a malformed or hostile tar, Unsupported for a kind of member that is not known.
    """
    return _Reader(raw, limits).entries()


class _Input:
    """Exact reads from *raw*, through one buffer."""

    def __init__(self, raw: Readable) -> None:
        self._raw = raw
        self._buffer = b""
        self._at = 0

    def take(self, size: int) -> bytes:
        """Exactly *size* bytes; Invalid if there are fewer."""
        end = self._at + size
        if end <= len(self._buffer):
            data = self._buffer[self._at : end]
            self._at = end
            return data
        parts = []
        while size:
            part = self.some(size)
            if not part:
                raise Invalid("tar: it ends in the middle of a member")
            parts.append(part)
            size -= len(part)
        return b"".join(parts)

    def some(self, size: int) -> bytes:
        """At most *size* bytes, and at least one before the end."""
        if self._at >= len(self._buffer):
            self._buffer = self._raw.read(_CHUNK)
            self._at = 0
        data = self._buffer[self._at : self._at + size]
        self._at += len(data)
        return data

    def block(self) -> bytes:
        """The next block; b"" at the end."""
        data = self._buffer[self._at : self._at + BLOCK]
        if len(data) == BLOCK:
            self._at += BLOCK
            return data
        head = self.some(BLOCK)
        return head + self.take(BLOCK - len(head)) if head else b""

    def drain(self) -> None:
        self._buffer = b""
        self._at = 0
        while self._raw.read(_CHUNK):
            pass


class _Data:
    """What one member holds, without its padding."""

    __slots__ = ("_input", "_padding", "left")

    def __init__(self, source: _Input, size: int) -> None:
        self._input = source
        self._padding = padding(size)
        self.left = size

    def read(self, size: int = -1, /) -> bytes:
        if size < 0 or size > self.left:
            size = self.left
        if not size:
            return b""
        data = self._input.take(size) if size <= _CHUNK else self._input.some(size)
        if not data:
            raise Invalid("tar: it ends in the middle of a member")
        self.left -= len(data)
        return data

    def close(self) -> None:
        """Nothing is held."""

    def finish(self) -> None:
        """Pass over what is left, and the padding."""
        while self.left:
            self.read(_CHUNK)
        self._input.take(self._padding)
        self._padding = 0


@dataclass(slots=True)
class _Pending:
    """What extended headers say about the member that follows them."""

    pax: dict[bytes, bytes]
    records: list[tuple[bytes, bytes]]  # as they came: GNU.sparse.offset occurs many times
    name: bytes | None = None  # GNU 'L'
    link: bytes | None = None  # GNU 'K'

    def is_empty(self) -> bool:
        return not self.records and self.name is None and self.link is None


class _Reader:
    def __init__(self, raw: Readable, limits: Limits) -> None:
        self._input = _Input(raw)
        self._limits = limits
        self._global: dict[bytes, bytes] = {}
        self._sparse_left = limits.sparse
        self._owners: dict[bytes, tuple[int, int, int]] = {}  # fields -> mode, uid, gid

    def entries(self) -> Iterator[tuple[Entry, Readable]]:
        count = 0
        pending = _Pending(dict(self._global), [])
        while header := self._header():
            type_ = header[156:157]
            if type_ in (b"x", b"g", b"L", b"K"):
                self._extend(type_, header, pending)
                if type_ == b"g":
                    pending.pax = self._global | dict(pending.records)
                continue
            count += 1
            if count > self._limits.entries:
                raise Invalid(f"tar: more than {self._limits.entries} members")
            entry, data, stored = self._member(header, pending)
            yield entry, data
            stored.finish()
            if self._global or not pending.is_empty():
                pending = _Pending(dict(self._global), [])
        if not pending.is_empty():
            raise Invalid("tar: an extended header without a member")
        self._input.drain()

    def _header(self) -> bytes:
        """The next header block; b"" at the end of the archive."""
        header = self._input.block()
        if header == _ZEROS:
            # Two are the end. One and then the end of the file is borne; one in the middle is not:
            # GNU tar stops there, others go on.
            if self._input.block() not in (b"", _ZEROS):
                raise Invalid("tar: a single zero block between members")
            return b""
        if header:
            check_sum(header)
        return header

    def _extend(self, type_: bytes, header: bytes, pending: _Pending) -> None:
        size = size_of(header)
        if size > self._limits.extended:
            raise Invalid(f"tar: an extended header of {size} bytes")
        data = self._input.take(size + padding(size))[:size]
        if type_ == b"L":
            pending.name = data.rstrip(b"\0")
        elif type_ == b"K":
            pending.link = data.rstrip(b"\0")
        elif type_ == b"x":
            if pending.records:
                raise Invalid("tar: two pax headers before one member")
            pending.records = pax_records(data)
            pending.pax.update(pending.records)
        else:
            self._global.update(pax_records(data))
            for key in self._global:
                # A name or a size for every member makes no sense but as a trap: Go's reader
                # ignores global headers, GNU tar obeys them.
                if key in (b"path", b"linkpath", b"size") or key.startswith(b"GNU.sparse."):
                    raise Invalid(f"tar: a global pax header with {os.fsdecode(key)!r}")

    def _member(self, header: bytes, pending: _Pending) -> tuple[Entry, Readable, _Data]:
        """The entry, its data, and the data as it is stored, which is the same but for holes."""
        type_ = header[156:157]
        kind = _KINDS.get(type_)
        if kind is None:
            raise Unsupported(f"tar: a member of the unknown type {type_!r}")
        pax = pending.pax
        name, link = self._names(header, pending)
        size = decimal(pax[b"size"]) if pax.get(b"size") else size_of(header)
        if kind == "file" and name.endswith(b"/"):
            # V7 had no type for directories. Later types have; there readers differ.
            if type_ != b"\0" or size:
                raise Invalid(f"tar: {os.fsdecode(name)[:200]!r} is a file and ends in a slash")
            kind = "dir"
        if kind != "file":
            size = 0  # as in Go's archive/tar: no data follows, whatever the size field says
        data: Readable
        stored = data = _Data(self._input, size)
        if type_ == b"S" or (pax and is_sparse(pax)):
            if kind != "file":
                raise Invalid(f"tar: a sparse {kind}")
            name, size, stored, data = self._sparse(header, pending, name, size)
        path = self._path(name)
        if not path and kind != "dir":
            raise Invalid(f"tar: the root of the archive is a {kind}")
        mode, uid, gid = self._owner(header, pax)
        major, minor = device_of(header) if kind in ("char", "block") else (0, 0)
        entry = Entry(
            path,
            kind,
            mode,
            uid,
            gid,
            size,
            mtime_of(pax.get(b"mtime"), header[136:148]),
            self._target(kind, link, path) if kind in ("symlink", "link") else "",
            major,
            minor,
            xattrs_of(pax) if pax else {},
        )
        return entry, data, stored

    def _owner(self, header: bytes, pax: dict[bytes, bytes]) -> tuple[int, int, int]:
        """(mode, uid, gid); few combinations occur in one tar."""
        fields = header[100:124]
        known = None if pax else self._owners.get(fields)
        if known is None:
            uid = id_of(pax.get(b"uid"), fields[8:16])
            gid = id_of(pax.get(b"gid"), fields[16:])
            known = (number(fields[:8]) & 0o7777, uid, gid)
            if not pax and len(self._owners) < _MAX_OWNERS:
                self._owners[fields] = known
        return known

    def _names(self, header: bytes, pending: _Pending) -> tuple[bytes, bytes]:
        name = header[:100].partition(b"\0")[0]
        link = header[157:257].partition(b"\0")[0] if header[157] else b""
        if header[345] and header[257:263] == b"ustar\0":
            name = header[345:500].partition(b"\0")[0] + b"/" + name
        if pending.is_empty() and not self._global:
            return name, link
        for key, long in ((b"path", pending.name), (b"linkpath", pending.link)):
            if long is not None and pending.pax.get(key, long) != long:
                # Go's archive/tar takes the one, GNU tar the other.
                raise Invalid("tar: two different long names for one member")
        name = pending.pax.get(b"path") or pending.name or name
        link = pending.pax.get(b"linkpath") or pending.link or link
        return name, link

    def _path(self, name: bytes) -> str:
        if len(name) > self._limits.path:
            raise Invalid(f"tar: a path of {len(name)} bytes")
        if b"\0" in name:
            raise Invalid(f"tar: a NUL in the path {name[:100]!r}")
        if not name:
            raise Invalid("tar: a member without a name")
        if len(name) <= _MAX_COMPONENT and not (
            name[0] in b"./" or b"//" in name or b"/." in name or not name.isascii()
        ):
            return name.decode().rstrip("/")  # most paths: nothing in it to look at
        parts = [part for part in name.split(b"/") if part not in (b"", b".")]
        if b".." in parts:
            raise Invalid(f'tar: ".." in the path {os.fsdecode(name)[:200]!r}')
        if any(len(part) > _MAX_COMPONENT for part in parts):
            raise Invalid(f"tar: a name of more than {_MAX_COMPONENT} bytes")
        return os.fsdecode(b"/".join(parts))

    def _target(self, kind: Kind, link: bytes, path: str) -> str:
        if kind == "symlink":
            # Stored as it is, wherever it points: only who follows it decides (real images have
            # "../../../../etc/pki/…").
            if not link or len(link) > self._limits.path or b"\0" in link:
                raise Invalid(f"tar: {path!r} is a symlink to nothing that can be named")
            return os.fsdecode(link)
        if kind == "link":
            target = self._path(link)
            if not target:
                raise Invalid(f"tar: {path!r} is a hard link to the root")
            return target
        return ""

    def _sparse(
        self, header: bytes, pending: _Pending, name: bytes, stored: int
    ) -> tuple[bytes, int, _Data, SparseData]:
        """(name, size with holes, data as stored, data with holes)."""
        if header[156:157] == b"S":
            segments, size = old_gnu(header, self._input.block, number)
        else:
            found = from_pax(pending.pax, pending.records)
            name, size = found.name or name, found.size
            if found.segments is None:
                segments, used = map_in_data(lambda: self._input.take(BLOCK), stored)
                stored -= used
            else:
                segments = found.segments
        checked(segments, size, stored)
        self._sparse_left -= size
        if self._sparse_left < 0:
            raise Invalid(
                f"tar: sparse files of more than {self._limits.sparse} bytes",
                hint="a small archive of huge files is a common attack",
            )
        data = _Data(self._input, stored)
        return name, size, data, SparseData(data, segments, size)
