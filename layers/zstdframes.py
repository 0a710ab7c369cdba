"""Where the frames of a zstd stream begin and end, without decoding (RFC 8878, section 3.1)."""

from __future__ import annotations

from collections.abc import Generator
from typing import Final

_MAGIC: Final = 0xFD2FB528
_SKIPPABLE: Final = 0x184D2A50  # to …5F


class FrameWalker:
    """Is fed a stream in pieces of any size; knows whether it ends between two frames."""

    def __init__(self) -> None:
        self.is_between = False  # no bytes at all are no stream
        self._buffer = bytearray()
        self._skip = 0  # bytes of no interest that are still to come
        self._steps = self._walk()
        self._wanted = next(self._steps)

    def feed(self, data: bytes) -> None:
        """The next bytes. What is no zstd is left for the decoder to refuse."""
        position = 0
        while position < len(data):
            if self._skip:
                step = min(self._skip, len(data) - position)
                self._skip -= step
                position += step
            else:
                step = min(self._wanted - len(self._buffer), len(data) - position)
                self._buffer += data[position : position + step]
                position += step
                self.is_between = False
            if not self._skip and len(self._buffer) == self._wanted:
                header = int.from_bytes(self._buffer, "little")
                self._buffer.clear()
                self._wanted = self._steps.send(header)

    def _walk(self) -> Generator[int, int, None]:
        """Yields how many bytes it wants to see, once those to skip are gone; is sent them."""
        while True:
            magic = yield 4
            if magic & 0xFFFFFFF0 == _SKIPPABLE:
                self._skip = yield 4
            elif magic == _MAGIC:
                yield from self._frame()
            else:
                while True:
                    yield 1 << 62
            while self._skip:
                yield 0
            self.is_between = True

    def _frame(self) -> Generator[int, int, None]:
        descriptor = yield 1
        content_size = (0, 2, 4, 8)[descriptor >> 6]
        single_segment = descriptor >> 5 & 1
        if single_segment and not content_size:
            content_size = 1
        rest = (0, 1, 2, 4)[descriptor & 3] + content_size + (1 - single_segment)
        if rest:
            yield rest
        last = False
        while not last:
            block = yield 3
            last = bool(block & 1)
            kind = block >> 1 & 3
            self._skip = 1 if kind == 1 else block >> 3
        if descriptor >> 2 & 1:
            self._skip += 4
