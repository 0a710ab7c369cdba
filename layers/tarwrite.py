"""
The header blocks of a tar, byte for byte the same for the same entry.

POSIX ustar where it can say it all, else a pax extended header before it (pax(1), "pax Extended
Header"). No names of users, no access times: nothing that a rebuild could change.
"""

from __future__ import annotations

import os
from typing import Final

from layers.entry import SECOND, Entry, Kind, encoded
from ocispec.errors import Invalid, Unsupported

BLOCK: Final = 512
END: Final = bytes(2 * BLOCK)
XATTR: Final = "SCHILY.xattr."

_TYPES: Final[dict[Kind, bytes]] = {
    "file": b"0",
    "link": b"1",
    "symlink": b"2",
    "char": b"3",
    "block": b"4",
    "dir": b"5",
    "fifo": b"6",
}
_MAGIC: Final = b"ustar\x0000" + bytes(64)  # then user and group name: none
_NODEV: Final = b"0000000\0" * 2
_NO_LINK: Final = bytes(100)
_TAIL: Final = _NO_LINK + _MAGIC + _NODEV + bytes(167)
_MAX_ID: Final = 8**7 - 1
_MAX_NUMBER: Final = 8**11 - 1
_MAX_OWNERS: Final = 4096


def padding(size: int) -> int:
    """How many zeros follow *size* bytes of data."""
    return -size % BLOCK


class TarWriter:
    """Makes headers; remembers the fields that most entries share."""

    def __init__(self) -> None:
        self._owners: dict[tuple[int, int, int], tuple[bytes, int]] = {}
        self._tail_sums = {type_: sum(type_ + _TAIL) for type_ in _TYPES.values()}

    def header(self, entry: Entry) -> bytes:
        """The header blocks of *entry*; its data and padding() follow."""
        name = _name(entry)
        if b"\0" in name or "\0" in entry.target:
            raise Invalid(f"{entry.path!r}: a NUL in a path")
        seconds = entry.mtime_ns // SECOND
        if (
            len(name) <= len(_NO_LINK)
            and not entry.target
            and not entry.xattrs
            and name.isascii()
            and 0 <= seconds <= _MAX_NUMBER
            and entry.size <= _MAX_NUMBER
            and entry.uid <= _MAX_ID
            and entry.gid <= _MAX_ID
            and entry.kind in ("file", "dir")
        ):
            return self._plain(name, entry, seconds)
        return _extended(name, entry, seconds)

    def _plain(self, name: bytes, entry: Entry, seconds: int) -> bytes:
        owner, owner_sum = self._owner(entry.mode, entry.uid, entry.gid)
        numbers = b"%011o\0%011o\0" % (entry.size, seconds)
        type_ = _TYPES[entry.kind]
        # The checksum is taken over the header with eight blanks in its own place.
        total = sum(name) + owner_sum + sum(numbers) + 8 * 32 + self._tail_sums[type_]
        return b"%b%b%b%06o\0 %b%b" % (name.ljust(100, b"\0"), owner, numbers, total, type_, _TAIL)

    def _owner(self, mode: int, uid: int, gid: int) -> tuple[bytes, int]:
        known = self._owners.get((mode, uid, gid))
        if known is None:
            if len(self._owners) >= _MAX_OWNERS:
                self._owners.clear()
            text = b"%07o\0%07o\0%07o\0" % (mode, uid, gid)
            known = self._owners[mode, uid, gid] = (text, sum(text))
        return known


def _name(entry: Entry) -> bytes:
    if entry.kind == "dir":
        return encoded(entry.path) + b"/" if entry.path else b"./"
    return encoded(entry.path)


def _extended(name: bytes, entry: Entry, seconds: int) -> bytes:
    pax: dict[bytes, bytes] = {}
    short, prefix = _split(name)
    if not name.isascii() or not short:
        pax[b"path"] = name
        short, prefix = _stand_in(name), b""
    link = encoded(entry.target)
    if len(link) > len(_NO_LINK) or not link.isascii():
        pax[b"linkpath"] = link
        link = _stand_in(link)

    def number(key: bytes, value: int, most: int) -> int:
        if 0 <= value <= most:
            return value
        pax[key] = b"%d" % value
        return 0

    uid = number(b"uid", entry.uid, _MAX_ID)
    gid = number(b"gid", entry.gid, _MAX_ID)
    size = number(b"size", entry.size, _MAX_NUMBER)
    mtime = number(b"mtime", seconds, _MAX_NUMBER)
    for key, value in entry.xattrs.items():
        pax[os.fsencode(XATTR + key)] = value
    main = _block(
        short,
        b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (entry.mode, uid, gid, size, mtime),
        _TYPES[entry.kind],
        link,
        _devices(entry),
        prefix,
    )
    return _pax_header(short, pax, entry.path) + main if pax else main


def _split(name: bytes) -> tuple[bytes, bytes]:
    """*name* as (name, prefix) of ustar; an empty name if it does not fit."""
    if len(name) <= 100:
        return name, b""
    # The prefix must not be empty, nor may the rest; a directory's last slash is no place to split.
    at = name.rfind(b"/", 1, min(len(name) - 1, 156))
    if at < 0 or len(name) - at - 1 > 100:
        return b"", b""
    return name[at + 1 :], name[:at]


def _stand_in(name: bytes) -> bytes:
    """What a reader without pax gets to see."""
    return bytes(byte for byte in name[-100:] if byte < 128).lstrip(b"/") or b"_"


def _devices(entry: Entry) -> bytes:
    if entry.kind not in ("char", "block"):
        return _NODEV
    if entry.major > _MAX_ID or entry.minor > _MAX_ID:
        raise Unsupported(f"{entry.path!r}: device {entry.major}:{entry.minor} is out of range")
    return b"%07o\0%07o\0" % (entry.major, entry.minor)


def _pax_header(name: bytes, pax: dict[bytes, bytes], path: str) -> bytes:
    records = b"".join(_record(key, pax[key], path) for key in sorted(pax))
    base = name.rstrip(b"/").rpartition(b"/")[2][:80]
    size = len(records)
    fields = b"%07o\0%07o\0%07o\0%011o\0%011o\0" % (0o644, 0, 0, size, 0)
    header = _block(b"PaxHeaders.0/" + base, fields, b"x", b"", _NODEV, b"")
    return header + records + bytes(padding(size))


def _record(key: bytes, value: bytes, path: str) -> bytes:
    if b"=" in key:
        # A reader takes the key up to the first "="; Go's archive/tar refuses such keys too.
        raise Unsupported(
            f"{path!r}: the extended attribute {os.fsdecode(key)!r} cannot be put in a tar",
            hint='remove the attribute: its name has a "="',
        )
    rest = b" %b=%b\n" % (key, value)
    length = len(rest) + len(str(len(rest)))
    if len(str(length)) > len(str(len(rest))):  # counting its own digits made one digit more
        length += 1
    return b"%d%b" % (length, rest)


def _block(
    name: bytes, numbers: bytes, type_: bytes, link: bytes, devices: bytes, prefix: bytes
) -> bytes:
    head = name.ljust(100, b"\0") + numbers
    tail = type_ + link.ljust(100, b"\0") + _MAGIC + devices + prefix.ljust(167, b"\0")
    return b"%b%06o\0 %b" % (head, sum(head) + 8 * 32 + sum(tail), tail)
