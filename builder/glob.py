"""
Shell patterns as Go's filepath.Match reads them.

Every one of Go's corners is kept, for a COPY must take the files BuildKit's takes: ``*`` and
``?`` do not cross a ``/`` but a class may (``[^a]``); ``?`` and a class take a whole UTF-8
character, yet ``*`` moves byte by byte, so that ``*??`` matches the one character "€".
"""

from __future__ import annotations

from typing import NamedTuple

from ocispec.errors import Invalid

_SEPARATOR = ord("/")
_INVALID = 0xFFFD  # what Go takes a byte for that is not UTF-8


class _Class(NamedTuple):
    negated: bool
    ranges: tuple[tuple[int, int], ...]


class _Chunk(NamedTuple):
    """What stands between two stars: literal bytes, None for ``?``, classes."""

    star: bool  # a star before it
    items: tuple[int | _Class | None, ...]


class Glob:
    """*pattern*, checked once. Invalid if it is malformed (Go's ErrBadPattern)."""

    def __init__(self, pattern: str) -> None:
        self._chunks = _chunks(pattern)

    def matches(self, name: str) -> bool:
        """True if the whole of *name* matches."""
        rest = name.encode("utf-8", "surrogateescape")
        for index, chunk in enumerate(self._chunks):
            last = index == len(self._chunks) - 1
            if chunk.star and not chunk.items:
                return _SEPARATOR not in rest
            end = _matched(chunk.items, rest, 0)
            if end is None or (last and end != len(rest)):
                end = _later(chunk, rest, last) if chunk.star else None
            if end is None:
                return False
            rest = rest[end:]
        return not rest


def match(pattern: str, name: str) -> bool:
    """True if *name* matches *pattern*. Invalid if *pattern* is malformed."""
    return Glob(pattern).matches(name)


def has_wildcard(pattern: str) -> bool:
    """True if *pattern* has an unescaped ``*``, ``?`` or ``[``."""
    escaped = False
    for c in pattern:
        if escaped:
            escaped = False
        elif c == "\\":
            escaped = True
        elif c in "*?[":
            return True
    return False


def _later(chunk: _Chunk, rest: bytes, last: bool) -> int | None:
    """Where *chunk* ends if its star takes one byte or more: the first place that will do."""
    for start in range(1, len(rest) + 1):
        if rest[start - 1] == _SEPARATOR:
            return None
        end = _matched(chunk.items, rest, start)
        if end is not None and not (last and end != len(rest)):
            return end
    return None


def _matched(items: tuple[int | _Class | None, ...], name: bytes, at: int) -> int | None:
    """Where *items* end in *name* if they begin at *at*."""
    for item in items:
        if at >= len(name):
            return None
        if item is None:
            if name[at] == _SEPARATOR:
                return None
            at += _decoded(name, at)[1]
        elif isinstance(item, _Class):
            rune, width = _decoded(name, at)
            if any(low <= rune <= high for low, high in item.ranges) == item.negated:
                return None
            at += width
        elif name[at] == item:
            at += 1
        else:
            return None
    return at


def _chunks(pattern: str) -> list[_Chunk]:
    text = pattern.encode("utf-8", "surrogateescape")
    chunks: list[_Chunk] = []
    at = 0
    while at < len(text):
        star = text[at] == ord("*")
        while text[at : at + 1] == b"*":
            at += 1
        end = _chunk_end(text, at)
        chunks.append(_Chunk(star, _items(text[at:end], pattern)))
        at = end
    return chunks


def _chunk_end(text: bytes, at: int) -> int:
    """The next star that is not in brackets; a "]" ends those even where it cannot end a class."""
    in_class = False
    while at < len(text):
        c = text[at : at + 1]
        if c == b"\\":
            at += 1
        elif c == b"[":
            in_class = True
        elif c == b"]":
            in_class = False
        elif c == b"*" and not in_class:
            return at
        at += 1
    return len(text)


def _items(chunk: bytes, pattern: str) -> tuple[int | _Class | None, ...]:
    items: list[int | _Class | None] = []
    at = 0
    while at < len(chunk):
        c = chunk[at : at + 1]
        if c == b"[":
            parsed, at = _class(chunk, at + 1, pattern)
            items.append(parsed)
            continue
        if c == b"\\":
            at += 1
            if at == len(chunk):
                raise _bad(pattern, "it ends with a backslash")
        items.append(None if c == b"?" else chunk[at])
        at += 1
    return tuple(items)


def _class(chunk: bytes, at: int, pattern: str) -> tuple[_Class, int]:
    """The class whose ``[`` is before *at*, and where it ends."""
    negated = chunk[at : at + 1] == b"^"
    at += negated
    ranges: list[tuple[int, int]] = []
    while not (ranges and chunk[at : at + 1] == b"]"):
        low, at = _class_rune(chunk, at, pattern)
        high = low
        if chunk[at : at + 1] == b"-":
            high, at = _class_rune(chunk, at + 1, pattern)
        ranges.append((low, high))
    return _Class(negated, tuple(ranges)), at + 1


def _class_rune(chunk: bytes, at: int, pattern: str) -> tuple[int, int]:
    if chunk[at : at + 1] in (b"", b"-", b"]"):
        raise _bad(pattern, "a class is empty, open, or has a - or ] that is not escaped")
    if chunk[at : at + 1] == b"\\":
        at += 1
    rune, width = _decoded(chunk, at)
    if (rune == _INVALID and width == 1) or at + width >= len(chunk):
        raise _bad(pattern, "a class is open or not UTF-8")
    return rune, at + width


def _decoded(text: bytes, at: int) -> tuple[int, int]:
    """The character at *at* and its width; Go's utf8.DecodeRune, so one byte if it is invalid."""
    if at >= len(text):
        return _INVALID, 1
    lead = text[at]
    if lead < 0x80:
        return lead, 1
    width = 2 if lead < 0xE0 else 3 if lead < 0xF0 else 4
    try:
        return ord(text[at : at + width].decode("utf-8")), width
    except (UnicodeDecodeError, TypeError):
        return _INVALID, 1


def _bad(pattern: str, why: str) -> Invalid:
    return Invalid(f"syntax error in pattern {pattern!r}: {why}")
