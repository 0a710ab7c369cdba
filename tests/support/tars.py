"""Tars made by hand, also such as no honest writer makes."""

from __future__ import annotations

import io
from collections.abc import Mapping

END = bytes(1024)
FILE, LINK, SYMLINK, CHAR, BLOCK, DIR, FIFO = (b"0", b"1", b"2", b"3", b"4", b"5", b"6")


def header(
    name: bytes,
    type_: bytes = FILE,
    size: int = 0,
    *,
    link: bytes = b"",
    mode: int = 0o644,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 1_600_000_000,
    major: int = 0,
    minor: int = 0,
    magic: bytes = b"ustar\x0000",
    fields: Mapping[int, bytes] | None = None,
) -> bytes:
    """One header block; *fields* overwrites bytes at offsets before the checksum is taken."""
    block = bytearray(512)

    def put(at: int, data: bytes) -> None:
        block[at : at + len(data)] = data

    put(0, name)
    put(100, b"%07o" % mode)
    put(108, b"%07o" % uid if uid < 8**7 else b"\x80" + uid.to_bytes(7, "big"))
    put(116, b"%07o" % gid)
    put(124, b"%011o" % size if size < 8**11 else b"\x80" + size.to_bytes(11, "big"))
    put(136, b"%011o" % mtime)
    put(156, type_)
    put(157, link)
    put(257, magic)
    put(329, b"%07o" % major)
    put(337, b"%07o" % minor)
    for at, data in (fields or {}).items():
        put(at, data)
    put(148, b" " * 8)
    put(148, b"%06o\0 " % sum(block))
    return bytes(block)


def padded(data: bytes) -> bytes:
    return data + bytes(-len(data) % 512)


def pax(records: Mapping[bytes, bytes] | bytes, type_: bytes = b"x") -> bytes:
    """An extended header; *records* as bytes are taken as they are."""
    if not isinstance(records, bytes):
        records = b"".join(record(key, value) for key, value in records.items())
    return header(b"PaxHeader", type_, len(records)) + padded(records)


def record(key: bytes, value: bytes) -> bytes:
    rest = b" " + key + b"=" + value + b"\n"
    length = len(rest)
    while len(str(length)) + len(rest) != length:
        length = len(str(length)) + len(rest)
    return str(length).encode() + rest


def member(
    name: bytes | str,
    type_: bytes = FILE,
    data: bytes = b"",
    *,
    link: bytes | str = b"",
    mode: int | None = None,
    uid: int = 0,
    gid: int = 0,
    mtime: int = 1_600_000_000,
    major: int = 0,
    minor: int = 0,
    size: int | None = None,
    records: Mapping[bytes, bytes] | None = None,
) -> bytes:
    """A member with its data; what does not fit a header goes into GNU long names."""
    name = name.encode() if isinstance(name, str) else name
    link = link.encode() if isinstance(link, str) else link
    blocks = b""
    if records:
        blocks += pax(records)
    if len(name) > 100:
        blocks += header(b"././@LongLink", b"L", len(name) + 1) + padded(name + b"\0")
    if len(link) > 100:
        blocks += header(b"././@LongLink", b"K", len(link) + 1) + padded(link + b"\0")
    blocks += header(
        name[:100],
        type_,
        len(data) if size is None else size,
        link=link[:100],
        mode=(0o755 if type_ == DIR else 0o644) if mode is None else mode,
        uid=uid,
        gid=gid,
        mtime=mtime,
        major=major,
        minor=minor,
    )
    return blocks + padded(data)


def tar(*members: bytes) -> io.BytesIO:
    return io.BytesIO(b"".join(members) + END)
