from __future__ import annotations

import hashlib
import io

import pytest
from contracts.content_contract import ContentContract
from hypothesis import given
from hypothesis import strategies as st
from support.images import Memory

from ocispec.content import VerifiedReader, read_small
from ocispec.digest import Digest
from ocispec.errors import Corrupt, NotFound
from ocispec.model import Descriptor
from ocispec.reference import Reference

GOOD = Descriptor.of("x/y", b"good bytes")


class TestMemoryIsContent(ContentContract):
    """The content of tests keeps the contract, so that it may stand in for a store."""

    @pytest.fixture
    def content(self) -> Memory:
        return Memory()

    @pytest.fixture
    def name(self) -> Reference:
        return Reference("example.com", "some/app", "v1")


@given(st.binary(max_size=100), st.lists(st.integers(1, 40), min_size=1))
def test_right_bytes_are_read_in_any_pieces(data: bytes, sizes: list[int]) -> None:
    reader = VerifiedReader(io.BytesIO(data), Descriptor.of("x/y", data))
    came = [reader.read(size) for size in sizes]
    rest = reader.read()

    assert b"".join(came) + rest == data
    assert reader.verified


@pytest.mark.parametrize(
    ("came", "message"),
    [
        (b"", "read 0 of 10 bytes"),
        (b"good byte", "read 9 of 10 bytes"),
        (b"good bytes!", "more than its 10 bytes"),
        (b"evil bytes", "the bytes hash to"),
        (b"x" * 10_000_000, "more than its 10 bytes"),
    ],
    ids=["nothing", "short", "long", "wrong", "very long"],
)
@pytest.mark.parametrize("size", [1, 3, 10, 1 << 20, -1])
def test_r12_wrong_bytes_are_found_out(came: bytes, message: str, size: int) -> None:
    reader = VerifiedReader(io.BytesIO(came), GOOD)
    with pytest.raises(Corrupt, match=message):
        list(iter(lambda: reader.read(size), b""))

    assert not reader.verified


def test_a_reader_that_is_not_read_to_its_end_has_verified_nothing() -> None:
    reader = VerifiedReader(io.BytesIO(b"good bytes"), GOOD)
    reader.read(10)

    assert not reader.verified


def test_sha512_is_verified_by_sha512() -> None:
    blob = Descriptor("x/y", Digest("sha512:" + hashlib.sha512(b"abc").hexdigest()), 3)

    assert VerifiedReader(io.BytesIO(b"abc"), blob).read() == b"abc"
    with pytest.raises(Corrupt):
        VerifiedReader(io.BytesIO(b"abd"), blob).read()


def test_leaving_a_reader_closes_what_it_reads() -> None:
    raw = io.BytesIO(b"good bytes")
    with VerifiedReader(raw, GOOD):
        pass

    assert raw.closed


def test_a_small_blob_is_read_whole() -> None:
    content = Memory()
    blob = content.add("x/y", b"abc")

    assert read_small(content, blob, 3) == b"abc"


def test_r14_a_blob_that_claims_too_much_is_not_opened() -> None:
    with pytest.raises(Corrupt, match="more than the 3 allowed"):
        read_small(Memory(), Descriptor.of("x/y", b"abcd"), 3)


def test_a_blob_that_is_not_there_is_not_found() -> None:
    with pytest.raises(NotFound):
        read_small(Memory(), GOOD, 100)
