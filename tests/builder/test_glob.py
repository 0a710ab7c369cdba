"""Shell patterns as Go reads them."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.glob import Glob, has_wildcard, match
from ocispec.errors import Invalid


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        ("abc", "abc", True),
        ("abc", "abcd", False),
        ("", "", True),
        ("", "a", False),
        ("*", "", True),
        ("*", "abc", True),
        ("*", "a/b", False),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("*x", "xxx", True),
        ("**", "abc", True),
        ("a**b", "axb", True),
        ("?", "a", True),
        ("?", "/", False),
        ("?", "", False),
        ("a?b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a[^a]b", "a☺b", True),
        ("a[^a]b", "a/b", True),
        ("a[/]b", "a/b", True),
        ("[a-ζ]*", "α", True),
        ("*[a-ζ]", "A", False),
        ("[z-a]", "b", False),
        ("[!a]", "!", True),
        ("[*?]", "?", True),
        ("[\\]a]", "]", True),
        ("[\\-]", "-", True),
        ("[x\\-z]", "y", False),
        ("[\\-x]", "-", True),
        ("a]", "a]", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("\\[a]", "[a]", True),
        ("\\a", "a", True),
        ("*??", "€", True),
        ("??", "€", False),
        ("[\ufffd]", "\udcff", True),
        ("\udcff*", "\udcffx", True),
        ("?", "\udcff", True),
    ],
)
def test_a_name_matches_as_in_go(pattern: str, name: str, expected: bool) -> None:
    assert expected is match(pattern, name)


@pytest.mark.parametrize(
    "pattern",
    [
        "[",
        "[^",
        "[a",
        "[^bc",
        "[a\\",
        "a[",
        "*[",
        "x*y[",
        "[]a]",
        "[^]a]",
        "a/[]",
        "[-]",
        "[x-]",
        "[-x]",
        "[a-b-c]",
        "[[:b:",
        "[\udcff]",
        "\\",
        "a\\",
    ],
)
@pytest.mark.parametrize("name", ["a", "", "zzz"])
def test_a_malformed_pattern_is_invalid_whatever_it_is_matched_with(
    pattern: str, name: str
) -> None:
    with pytest.raises(Invalid, match="syntax error in pattern"):
        match(pattern, name)


@pytest.mark.parametrize(
    ("pattern", "expected"),
    [
        ("a", False),
        ("a*", True),
        ("?", True),
        ("[a]", True),
        ("a\\*", False),
        ("\\\\*", True),
        ("\\", False),
        ("]", False),
        ("", False),
    ],
)
def test_a_wildcard_is_one_that_is_not_escaped(pattern: str, expected: bool) -> None:
    assert expected is has_wildcard(pattern)


def test_many_stars_do_not_take_for_ever() -> None:
    assert not match("*a" * 50 + "b", "a" * 300)


_TOKEN = st.one_of(
    st.sampled_from(["*", "?", "/", "a", "b", "\\*", "\\a", "é", "€"]),
    st.sampled_from(["[ab]", "[^a]", "[a-c]", "[^é]", "[\\]/]", "[é-€]"]),
)
_NAME = st.text(st.sampled_from("aabc/é€]*"), max_size=8)


@given(st.lists(_TOKEN.filter(lambda token: token != "*"), max_size=7), _NAME)
def test_without_stars_characters_are_matched_one_by_one(tokens: list[str], name: str) -> None:
    assert _reference(tokens, name.encode()) == match("".join(tokens), name)


@given(st.lists(_TOKEN, max_size=7), st.text(st.sampled_from("aabc/]*"), max_size=8))
def test_for_ascii_names_nothing_else_matches(tokens: list[str], name: str) -> None:
    assert _reference(tokens, name.encode()) == match("".join(tokens), name)


@given(st.text(st.sampled_from("a[]^-\\*?/é\udcff"), max_size=10), st.text(max_size=6))
def test_nothing_but_invalid_is_raised(pattern: str, name: str) -> None:
    with contextlib.suppress(Invalid, UnicodeEncodeError):
        Glob(pattern).matches(name)


def _reference(tokens: list[str], name: bytes) -> bool:
    """A star tries every length, character by character; classes are spelt out."""
    if not tokens:
        return not name
    token, *rest = tokens
    if token == "*":
        lengths = range(len(name) + 1)
        return any(
            _reference(rest, name[length:]) for length in lengths if b"/" not in name[:length]
        )
    text = name.decode("utf-8", "replace")
    if not text:
        return False
    first, width = text[0], len(text[0].encode())
    if first == "\ufffd":
        width = 1
    classes = {
        "?": first != "/",
        "[ab]": first in "ab",
        "[^a]": first != "a",
        "[a-c]": first in "abc",
        "[^é]": first != "é",
        "[\\]/]": first in "]/",
        "[é-€]": "é" <= first <= "€",
    }
    if token in classes:
        return classes[token] and _reference(rest, name[width:])
    literal = token.removeprefix("\\").encode()
    return name.startswith(literal) and _reference(rest, name[len(literal) :])
