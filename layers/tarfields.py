"""
The fields of tar headers, read strictly: what is no number, no time, no record is Invalid.

int() and its like take signs, blanks and underscores, which no other reader does.
"""

from __future__ import annotations

import os
from typing import Final
from zlib import adler32

from layers.entry import SECOND
from layers.sparse import decimal
from layers.tarwrite import XATTR
from ocispec.errors import Invalid

_MAX_ID: Final = 2**32 - 2  # -1 means "leave it" to chown(2)
_MAX_SECONDS: Final = 2**62
_MAX_XATTR: Final = 255  # XATTR_NAME_MAX


def check_sum(header: bytes) -> None:
    given = number(header[148:156])
    # The low half of Adler-32 is one more than the sum of the bytes, modulo 65521 (RFC 1950); 256
    # bytes sum up to less. Ten times as fast as sum().
    total = (adler32(header[:256]) & 0xFFFF) + (adler32(header[256:]) & 0xFFFF) - 2
    total += 8 * 32 - sum(header[148:156])
    if total != given:
        # Some old programs added signed bytes.
        rest = header[:148] + b" " * 8 + header[156:]
        if sum(byte - 256 if byte > 127 else byte for byte in rest) != given:
            raise Invalid(
                "tar: a header with a wrong checksum", hint="it is damaged, or it is no tar archive"
            )


def number(field: bytes) -> int:
    """A number in octal, or in GNU's base 256."""
    if field[0] >= 0x80:
        if field[0] == 0x80:
            return int.from_bytes(field[1:], "big")
        if field[0] == 0xFF:
            return int.from_bytes(field, "big", signed=True)
        raise Invalid(f"tar: {field!r} is no number")
    text = field.strip(b" \0")
    if not text:
        return 0
    try:
        # int() would take signs, underscores and "0o" too.
        return int(text, 8) if text.isdigit() else int("")
    except ValueError:
        raise Invalid(f"tar: {field!r} is no number") from None


def size_of(header: bytes) -> int:
    size = number(header[124:136])
    if not 0 <= size < 1 << 62:
        raise Invalid(f"tar: a member of {size} bytes")
    return size


def id_of(pax: bytes | None, field: bytes) -> int:
    value = decimal(pax) if pax else number(field)
    if not 0 <= value <= _MAX_ID:
        raise Invalid(f"tar: {value} is no user or group")
    return value


def mtime_of(pax: bytes | None, field: bytes) -> int:
    """Nanoseconds since 1970."""
    if not pax:
        seconds = number(field)
        if abs(seconds) > _MAX_SECONDS:
            raise Invalid(f"tar: {seconds} is no time")
        return seconds * SECOND
    text = pax.removeprefix(b"-")
    whole, _, part = text.partition(b".")
    if not whole.isdigit() or not (part or b"0").isdigit() or len(whole) > 18:
        raise Invalid(f"tar: {pax[:40]!r} is no time")
    value = int(whole) * SECOND + int(part[:9].ljust(9, b"0"))
    return -value if text != pax else value


def device_of(header: bytes) -> tuple[int, int]:
    major, minor = number(header[329:337]), number(header[337:345])
    if not (0 <= major < 1 << 12 and 0 <= minor < 1 << 20):
        raise Invalid(f"tar: {major}:{minor} is no device")
    return major, minor


def xattrs_of(pax: dict[bytes, bytes]) -> dict[str, bytes]:
    prefix = XATTR.encode()
    found = {os.fsdecode(key[len(prefix) :]): pax[key] for key in pax if key.startswith(prefix)}
    if any(not name or len(name) > _MAX_XATTR or "\0" in name for name in found):
        raise Invalid("tar: an extended attribute with an impossible name")
    return found


def pax_records(data: bytes) -> list[tuple[bytes, bytes]]:
    """The records of an extended header, in their order (pax(1), "pax Extended Header")."""
    records = []
    at = 0
    while at < len(data):
        blank = data.find(b" ", at, at + 20)
        length = data[at:blank] if blank > at else b""
        end = at + int(length) if length.isdigit() else 0
        key, equals, value = data[blank + 1 : end - 1].partition(b"=")
        if not blank < end <= len(data) or data[end - 1 : end] != b"\n" or not equals or not key:
            raise Invalid("tar: a malformed pax header")
        records.append((key, value))
        at = end
    return records
