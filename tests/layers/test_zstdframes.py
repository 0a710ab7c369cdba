from __future__ import annotations

import struct

import pytest
import zstandard
from hypothesis import given, settings
from hypothesis import strategies as st

from layers.zstdframes import FrameWalker


def _frame(data: bytes, *, checksum: bool = True, size: bool = True, level: int = 3) -> bytes:
    packer = zstandard.ZstdCompressor(level=level, write_checksum=checksum, write_content_size=size)
    if size:
        return packer.compress(data)
    stream = packer.compressobj()
    return stream.compress(data) + stream.flush()


FRAMES = {
    "empty": _frame(b""),
    "empty, without a checksum": _frame(b"", checksum=False, size=False),
    "small": _frame(b"data"),
    "size of 2 bytes": _frame(b"data" * 100),
    "size of 4 bytes": _frame(b"data" * 100_000),
    "of unknown size": _frame(b"data" * 100, size=False),
    "many blocks": _frame(bytes(range(256)) * 2000, level=1),
    "zeros": _frame(bytes(1 << 20)),
    "skippable": struct.pack("<II", 0x184D2A50, 3) + b"abc",
    "skippable and empty": struct.pack("<II", 0x184D2A5F, 0),
}


@pytest.mark.parametrize("frame", FRAMES.values(), ids=FRAMES.keys())
def test_the_stream_is_between_frames_only_at_the_end(frame: bytes) -> None:
    walker = FrameWalker()
    ends = []
    for place in range(len(frame)):
        walker.feed(frame[place : place + 1])
        ends.append(walker.is_between)

    assert [False] * (len(frame) - 1) + [True] == ends


@settings(max_examples=100, deadline=None)
@given(
    st.lists(st.sampled_from(sorted(FRAMES)), min_size=1, max_size=5),
    st.integers(1, 5000),
    st.integers(0, 8),
)
def test_the_size_of_the_pieces_changes_nothing(names: list[str], size: int, cut: int) -> None:
    stream = b"".join(FRAMES[name] for name in names)
    stream = stream[: len(stream) - cut]
    walker = FrameWalker()
    for start in range(0, len(stream), size):
        walker.feed(stream[start : start + size])
    ends = {0}
    for name in names:
        ends.add(max(ends) + len(FRAMES[name]))

    assert (len(stream) in ends - {0}) == walker.is_between


def test_no_bytes_are_no_stream() -> None:
    assert not FrameWalker().is_between


@given(st.binary())
def test_any_bytes_can_be_fed(data: bytes) -> None:
    walker = FrameWalker()
    walker.feed(data)
    walker.feed(b"")

    assert walker.is_between in (True, False)
