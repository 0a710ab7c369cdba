"""How arguments are cut."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile.arguments import (
    blank_separated,
    command,
    duration,
    first_word,
    json_strings,
    listed,
    pairs,
    quoted_words,
)
from ocispec.errors import Invalid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ('["a", "b"]', ("a", "b")),
        ("[]", ()),
        (' [ "a" ] ', ("a",)),
        ('["\\u00e9\\n"]', ("é\n",)),
        ('["\\ud83d\\ude00"]', ("😀",)),
        ('["\\ud800"]', ("\ufffd",)),
        ('["a\udcff"]', ("a\udcff",)),
        ("[a]", None),
        ("['a']", None),
        ('["a",]', None),
        ('["a"] b', None),
        ('["a\tb"]', None),
        ("[NaN]", None),
        ("[", None),
        ("[ -f x ] && y", None),
        ("[" * 100_000, None),
        ("[" + "1" * 5000 + "]", None),
        ("a", None),
        ("", None),
    ],
)
def test_what_is_not_json_is_for_the_shell(text: str, expected: tuple[str, ...] | None) -> None:
    assert expected == json_strings(text)


@pytest.mark.parametrize("text", ["[1]", '["a", 1]', "[null]", "[[]]", '[["a"]]', '["a", {}]'])
def test_an_array_of_anything_but_strings_is_invalid(text: str) -> None:
    with pytest.raises(Invalid, match="arrays must be comprised of strings only"):
        json_strings(text)


def test_a_command_is_json_or_one_text() -> None:
    assert command('["a", "b c"]') == (("a", "b c"), True)
    assert command('echo "a"') == (('echo "a"',), False)
    assert command("") == ((), False)
    assert command("[]") == ((), True)


def test_a_list_is_json_or_split_at_blanks() -> None:
    assert listed('["a b"]') == (("a b",), True)
    assert listed('"a b" \t c') == (('"a', 'b"', "c"), False)
    assert listed("") == ((), False)


def test_blanks_are_ascii() -> None:
    assert blank_separated("a\t\v\f\r b\u00a0c\x1cd") == ["a", "b\u00a0c\x1cd"]
    assert first_word("RUN\t a  b") == ("RUN", "a  b")
    assert first_word("RUN") == ("RUN", "")
    assert first_word("") == ("", "")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", ["a", "b"]),
        ("'a b' c", ["'a b'", "c"]),
        ('a="b c"d e', ['a="b c"d', "e"]),
        ("a\\ b c", ["a\\ b", "c"]),
        ("a\\", ["a"]),
        ('"a\\" b" c', ['"a\\" b"', "c"]),
        ("'a\\' b", ["'a\\'", "b"]),
        ("'' b", ["''", "b"]),
        ("a 'open b", ["a", "'open b"]),
        ("", []),
    ],
)
def test_quoted_blanks_do_not_split(text: str, expected: list[str]) -> None:
    assert expected == quoted_words(text, "\\")


def test_the_escape_of_words_is_a_parameter() -> None:
    assert quoted_words("a` b c\\ d", "`") == ["a` b", "c\\", "d"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a=b", ((("a", "b"),), False)),
        ("a=b c='d e' f=", ((("a", "b"), ("c", "'d e'"), ("f", "")), False)),
        ("a=b=c", ((("a", "b=c"),), False)),
        ("a b c", ((("a", "b c"),), True)),
        ("a  b=c 'd", ((("a", "b=c 'd"),), True)),
        ("a\tb", ((("a", "b"),), True)),
        ("a =b", ((("a", "=b"),), True)),
    ],
)
def test_names_and_values_have_two_forms(
    text: str, expected: tuple[tuple[tuple[str, str], ...], bool]
) -> None:
    assert expected == pairs("ENV", text, "\\")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "ENV requires at least one argument"),
        ("a", "ENV must have two arguments"),
        ("a=b c", 'can\'t find = in "c"'),
        ("=b", "ENV names can not be blank"),
        ("a=b =c", "ENV names can not be blank"),
    ],
)
def test_other_forms_are_invalid(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        pairs("ENV", text, "\\")


@pytest.mark.parametrize(
    ("text", "nanoseconds"),
    [
        ("", 0),
        ("0", 0),
        ("0s", 0),
        ("1s", 10**9),
        ("1m30s", 90 * 10**9),
        ("1.5h", 5400 * 10**9),
        (".5s", 5 * 10**8),
        ("1.s", 10**9),
        ("+2m", 120 * 10**9),
        ("1ms", 10**6),
        ("1000us", 10**6),
        ("1000µs", 10**6),
        ("1000000ns", 10**6),
        ("1s1s", 2 * 10**9),
    ],
)
def test_a_duration_is_written_as_in_go(text: str, nanoseconds: int) -> None:
    assert nanoseconds == duration("interval", text)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1", "invalid duration"),
        ("s", "invalid duration"),
        ("1x", "invalid duration"),
        ("1s ", "invalid duration"),
        ("-1s", "invalid duration"),
        ("1e3s", "invalid duration"),
        ("٣s", "invalid duration"),
        ("9999999h", "invalid duration"),
        ("9" * 5000 + "s", "invalid duration"),
        ("999us", "cannot be less than 1ms"),
        ("1ns", "cannot be less than 1ms"),
    ],
)
def test_other_durations_are_invalid(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=message):
        duration("interval", text)


@given(st.text(max_size=30))
def test_any_text_is_cut_or_invalid(text: str) -> None:
    for cut in (
        lambda: command(text),
        lambda: listed(text),
        lambda: pairs("ENV", text, "\\"),
        lambda: duration("timeout", text),
    ):
        with contextlib.suppress(Invalid):
            cut()


@given(st.text(st.sampled_from("ab \t'\"\\"), max_size=20))
def test_words_lose_nothing_but_blanks(text: str) -> None:
    words = quoted_words(text, "\\")

    kept = "".join(words).replace(" ", "").replace("\t", "")
    assert text.replace(" ", "").replace("\t", "").startswith(kept)
