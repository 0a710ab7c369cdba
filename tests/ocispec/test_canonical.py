from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocispec import canonical
from ocispec.errors import Invalid

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=20)
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | TEXT,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(TEXT, inner, max_size=4),
    max_leaves=20,
)
OBJECTS = st.dictionaries(TEXT, JSON, max_size=5)


@given(OBJECTS)
def test_what_is_written_is_read(value: dict[str, object]) -> None:
    assert canonical.decode_object(canonical.encode(value), "it") == value


@given(OBJECTS)
def test_the_sorted_form_says_the_same(value: dict[str, object]) -> None:
    assert canonical.decode_object(canonical.encode_sorted(value), "it") == value


@given(OBJECTS)
def test_the_sorted_form_does_not_depend_on_the_order(value: dict[str, object]) -> None:
    turned = dict(reversed(value.items()))

    assert canonical.encode_sorted(turned) == canonical.encode_sorted(value)


def test_the_form_has_no_blanks_and_keeps_the_order() -> None:
    assert canonical.encode({"b": [1, 2], "a": "ä/<"}) == '{"b":[1,2],"a":"ä/<"}'.encode()


def test_the_sorted_form_is_ascii() -> None:
    assert canonical.encode_sorted({"b": 1, "a": "ä"}) == b'{"a":"\\u00e4","b":1}'


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"null",
        b"[]",
        b'"text"',
        b"{",
        b"{} {}",
        b'{"a":1,}',
        b"\xff\xfe{}",
        b'{"a":"\xff"}',
        b"[" * 100_000,
        b'{"a":' * 100_000,
        b'{"a":1,"a":1}',
        b'{"a":{"b":1,"b":2}}',
        b'{"a":[{"b":1,"b":2}]}',
        b'{"a":1,"\\u0061":2}',
    ],
    ids=range(15),
)
def test_r13_what_is_not_one_plain_object_is_invalid(data: bytes) -> None:
    with pytest.raises(Invalid, match="the thing"):
        canonical.decode_object(data, "the thing")


def test_keys_that_differ_in_case_are_two_keys() -> None:
    assert canonical.decode_object(b'{"a":1,"A":2}', "it") == {"a": 1, "A": 2}


def test_numbers_that_json_does_not_have_are_not_written() -> None:
    with pytest.raises(ValueError, match="JSON"):
        canonical.encode({"a": float("nan")})


@given(st.binary(max_size=60))
def test_any_bytes_are_an_object_or_invalid(data: bytes) -> None:
    try:
        value = canonical.decode_object(data, "it")
    except Invalid:
        return

    assert isinstance(value, dict)
    assert value == json.loads(data)


@pytest.mark.parametrize("text", ['"\\ud800"', "NaN", "-Infinity", "1e999"])
def test_what_cannot_be_written_again_is_not_read(text: str) -> None:
    with pytest.raises(Invalid):
        canonical.decode_object(b'{"a":' + text.encode() + b"}", "it")


def test_a_whole_surrogate_pair_is_a_character() -> None:
    assert {"a": "😀"} == canonical.decode_object(b'{"a":"\\ud83d\\ude00"}', "it")
