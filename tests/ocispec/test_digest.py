from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocispec.digest import ChainID, DiffID, Digest, chain_id, next_chain_id
from ocispec.errors import Invalid

EMPTY = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_the_digest_of_nothing_is_the_known_one() -> None:
    assert Digest.of(b"") == f"sha256:{EMPTY}"


def test_a_digest_has_an_algorithm_and_digits() -> None:
    digest = Digest(f"sha256:{EMPTY}")

    assert (digest.algorithm, digest.hex) == ("sha256", EMPTY)


def test_sha512_is_a_digest_too() -> None:
    assert Digest("sha512:" + "0" * 128).algorithm == "sha512"


@pytest.mark.parametrize(
    "text",
    [
        "",
        EMPTY,
        "sha256:",
        f"sha256:{EMPTY[:-1]}",
        f"sha256:{EMPTY}0",
        f"sha256:{EMPTY.upper()}",
        f"SHA256:{EMPTY}",
        f"sha256-{EMPTY}",
        f"sha512:{EMPTY}",
        f"md5:{EMPTY[:32]}",
        f"sha256:{EMPTY}\n",
        f" sha256:{EMPTY}",
        f"sha256:{EMPTY[:-1]}٣",
        f"sha256:{EMPTY[:-1]}/",
        "sha256:../../../etc/passwd",
        f"sha256:{EMPTY[:-4]}%2f",
        f"sha256:sha256:{EMPTY}",
    ],
    ids=ascii,
)
def test_r11_anything_else_is_no_digest(text: str) -> None:
    with pytest.raises(Invalid):
        Digest(text)


def test_the_message_shows_only_so_much() -> None:
    with pytest.raises(Invalid) as caught:
        Digest("x" * 10_000)

    assert len(caught.value.message) < 300


@given(st.text(max_size=100))
def test_any_text_is_a_digest_or_invalid(text: str) -> None:
    with pytest.raises(Invalid):
        Digest(text)


@given(st.binary(max_size=100))
def test_a_digest_is_its_text(data: bytes) -> None:
    digest = Digest.of(data)

    assert Digest(str(digest)) == digest == "sha256:" + hashlib.sha256(data).hexdigest()


def test_the_chain_of_one_layer_is_its_diff_id() -> None:
    layer = DiffID(Digest.of(b"a"))

    assert str(chain_id([layer])) == str(layer)


def test_a_chain_is_made_as_the_spec_says() -> None:
    a, b, c = (DiffID(Digest.of(data)) for data in (b"a", b"b", b"c"))
    two = "sha256:" + hashlib.sha256(f"{a} {b}".encode()).hexdigest()
    three = "sha256:" + hashlib.sha256(f"{two} {c}".encode()).hexdigest()

    assert [chain_id([a, b]), chain_id([a, b, c])] == [two, three]


def test_chains_grow_layer_by_layer() -> None:
    layers = [DiffID(Digest.of(bytes([number]))) for number in range(5)]
    chain: ChainID | None = None
    for layer in layers:
        chain = next_chain_id(chain, layer)

    assert chain == chain_id(layers)


def test_no_layers_have_no_chain() -> None:
    with pytest.raises(ValueError, match="empty stack"):
        chain_id([])
