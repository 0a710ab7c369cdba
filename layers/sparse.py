"""
Sparse members of a tar: the maps of GNU tar's formats, and their data with the holes filled.

GNU tar manual, appendix "Storing Sparse Files": the old format (type "S") and the pax formats 0.0,
0.1 and 1.0. Maps come from a hostile archive, so each is checked against the sizes given.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from ocispec.content import Readable
from ocispec.errors import Invalid, Unsupported

_CHUNK: Final = 1 << 20
_MAX_SEGMENTS: Final = 200_000
_MAX_SIZE: Final = 1 << 62

Segment = tuple[int, int]  # offset and length of data; between them are holes
Number = Callable[[bytes], int]


@dataclass(frozen=True, slots=True)
class PaxSparse:
    """What pax records say of a sparse file; no segments if the map stands before the data."""

    name: bytes | None
    size: int
    segments: list[Segment] | None


class SparseData:
    """Reads a sparse file: *stored* where there is data, zeros where there is none."""

    def __init__(self, stored: Readable, segments: Sequence[Segment], size: int) -> None:
        self._stored = stored
        self._runs: list[tuple[bool, int]] = []  # (is data, length), last first
        at = 0
        for offset, length in segments:
            self._runs.append((False, offset - at))
            self._runs.append((True, length))
            at = offset + length
        self._runs.append((False, size - at))
        self._runs.reverse()

    def read(self, size: int = -1, /) -> bytes:
        """What comes next; a first read gives 512 bytes or all there are, as of a plain file."""
        size = _CHUNK if size < 0 else size
        data = self._read(size)
        while data and (short := min(size, 512) - len(data)) > 0 and (more := self._read(short)):
            data += more
        return data

    def hole(self) -> int:
        """How many zeros come next; they are passed over."""
        run = self._next()
        if run is None or run[0]:
            return 0
        self._advance(run[1])
        return run[1]

    def close(self) -> None:
        """Nothing is held."""

    def _read(self, size: int) -> bytes:
        run = self._next()
        if run is None:
            return b""
        is_data, length = run
        wanted = min(length, size, _CHUNK)
        data = self._stored.read(wanted) if is_data else bytes(wanted)
        self._advance(len(data))
        return data

    def _next(self) -> tuple[bool, int] | None:
        while self._runs and not self._runs[-1][1]:
            self._runs.pop()
        return self._runs[-1] if self._runs else None

    def _advance(self, size: int) -> None:
        is_data, length = self._runs[-1]
        self._runs[-1] = (is_data, length - size)


def checked(segments: list[Segment], size: int, stored: int) -> list[Segment]:
    """*segments*; Invalid unless they are in order, within *size*, and *stored* bytes in all."""
    at = total = 0
    for offset, length in segments:
        if offset < at or length < 0 or offset + length > size:
            raise Invalid("tar: a sparse map that is out of order or out of its file")
        at = offset + length
        total += length
    if total != stored:
        raise Invalid(f"tar: a sparse map of {total} bytes over {stored} bytes of data")
    return segments


def old_gnu(
    header: bytes, next_block: Callable[[], bytes], number: Number
) -> tuple[list[Segment], int]:
    """(segments, size) of a member of type "S"; *next_block* gives the rest of a long map."""
    segments: list[Segment] = []
    size = number(header[483:495])
    _old_entries(header[386:482], segments, number)
    more = header[482]
    while more:
        block = next_block()
        if not block:
            raise Invalid("tar: it ends in the middle of a sparse map")
        _old_entries(block[:504], segments, number)
        more = block[504]
    if not 0 <= size < _MAX_SIZE:
        raise Invalid(f"tar: a sparse file of {size} bytes")
    return segments, size


def _old_entries(table: bytes, segments: list[Segment], number: Number) -> None:
    for at in range(0, len(table), 24):
        if not table[at + 12]:  # an empty length ends the table
            return
        segments.append((number(table[at : at + 12]), number(table[at + 12 : at + 24])))
        if len(segments) > _MAX_SEGMENTS:
            raise Invalid(f"tar: a sparse file of more than {_MAX_SEGMENTS} segments")


def is_sparse(pax: Mapping[bytes, bytes]) -> bool:
    return any(key.startswith(b"GNU.sparse.") for key in pax)


def from_pax(pax: Mapping[bytes, bytes], records: Sequence[tuple[bytes, bytes]]) -> PaxSparse:
    """*records* are those of *pax* in their order: format 0.0 repeats its keys."""
    version = (pax.get(b"GNU.sparse.major", b"0"), pax.get(b"GNU.sparse.minor", b"0"))
    name = pax.get(b"GNU.sparse.name") or None
    size = decimal(pax.get(b"GNU.sparse.realsize", pax.get(b"GNU.sparse.size", b"")))
    if version == (b"1", b"0"):
        return PaxSparse(name, size, None)
    if version[0] != b"0":
        raise Unsupported("tar: a sparse file in a format newer than 1.0")
    if b"GNU.sparse.map" in pax:
        numbers = pax[b"GNU.sparse.map"].split(b",") if pax[b"GNU.sparse.map"] else []
        return PaxSparse(name, size, _pairs(numbers))
    keys = (b"GNU.sparse.offset", b"GNU.sparse.numbytes")
    pairs = [record for record in records if record[0] in keys]
    if any(key != keys[at % 2] for at, (key, _) in enumerate(pairs)):
        raise Invalid("tar: a sparse map whose offsets and lengths do not alternate")
    return PaxSparse(name, size, _pairs([value for _, value in pairs]))


def map_in_data(take_block: Callable[[], bytes], stored: int) -> tuple[list[Segment], int]:
    """(segments, bytes used) of a map in format 1.0, which stands before the data."""
    text = b""
    used = 0
    wanted = 1  # lines: a count, then two for each segment
    while text.count(b"\n") < wanted:
        if used >= stored or used >= _CHUNK:
            raise Invalid("tar: a sparse map without an end")
        text += take_block()
        used += 512
        if wanted == 1 and b"\n" in text:
            count = decimal(text.partition(b"\n")[0])
            if count > _MAX_SEGMENTS:
                raise Invalid(f"tar: a sparse file of {count} segments")
            wanted += 2 * count
    return _pairs(text.split(b"\n")[1:wanted]), used


def decimal(text: bytes) -> int:
    """The number in *text*; Invalid if it is none, or no size a file can have."""
    # int() alone would take signs, blanks and underscores.
    if not text.isdigit() or len(text) > 20 or int(text) >= _MAX_SIZE:
        raise Invalid(f"tar: {text[:40]!r} is no size")
    return int(text)


def _pairs(numbers: Sequence[bytes]) -> list[Segment]:
    if len(numbers) % 2 or len(numbers) > 2 * _MAX_SEGMENTS:
        raise Invalid("tar: a sparse map of an odd or too great number of fields")
    return [(decimal(numbers[at]), decimal(numbers[at + 1])) for at in range(0, len(numbers), 2)]
