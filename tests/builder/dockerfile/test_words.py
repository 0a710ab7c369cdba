"""Quotes and variables, as BuildKit reads them."""

from __future__ import annotations

import re

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from builder.dockerfile.words import expand, expand_words
from ocispec.errors import Invalid

ENV = {"A": "x", "B": "", "P": "/usr/lib/libfoo.so.1", "S": "one two", "K": "한국어", "X1": "é"}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain", "plain"),
        ("", ""),
        ("$A", "x"),
        ("${A}", "x"),
        ("$A$A", "xx"),
        ("a$A-b", "ax-b"),
        ("$Ab", ""),
        ("${A}b", "xb"),
        ("$K!", "한국어!"),
        ("${K}", "한국어"),
        ("$NONE", ""),
        ("${NONE}", ""),
        ("$", "$"),
        ("$ A", "$ A"),
        ("a$", "a$"),
        ("$.", "$."),
        ("$(date)", "$(date)"),
        ("$1st", "st"),
        ("$12", ""),
        ("$$A", "A"),
        ("$?x", "x"),
        ("$@-$*-$#-$!-$0", "----"),
        ("s p a c e", "s p a c e"),
    ],
)
def test_a_reference_gives_the_value_or_nothing(text: str, expected: str) -> None:
    assert expected == expand(text, ENV)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("'$A'", "$A"),
        ("'a\"b'", 'a"b'),
        ("'a\\'", "a\\"),
        ("''", ""),
        ('"$A"', "x"),
        ('"a b"', "a b"),
        ('"it\'s"', "it's"),
        ('"\\$A"', "$A"),
        ('"\\""', '"'),
        ('"\\\\"', "\\"),
        ('"\\n"', "\\n"),
        ("\\$A", "$A"),
        ("\\\\$A", "\\x"),
        ("a\\ b", "a b"),
        ("\\'a\\'", "'a'"),
        ("end\\", "end"),
        ("a\"b\"'c'd", "abcd"),
        ('"${A:-"q"}"', "x"),
        ('"${NONE:-"q r"}"', "q r"),
    ],
)
def test_quotes_and_escapes_are_removed(text: str, expected: str) -> None:
    assert expected == expand(text, ENV)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${A:-d} ${B:-d} ${C:-d}", "x d d"),
        ("${A-d} ${B-d} ${C-d}", "x  d"),
        ("${A:+d} ${B:+d} ${C:+d}", "d  "),
        ("${A+d} ${B+d} ${C+d}", "d d "),
        ("${A:?m} ${A?m} ${B?m}", "x x "),
        ("${C:-}", ""),
        ("${C:-$A}", "x"),
        ("${C:-${D:-${A}}}", "x"),
        ("${C:-'$A'}", "$A"),
        ("${C:-a\\}b}", "a}b"),
        ("${C:-}}", "}"),
        ("${A:+${B:+no}-$A}", "-x"),
        ("${C:-é한}", "é한"),
    ],
)
def test_a_modifier_chooses_between_the_value_and_a_word(text: str, expected: str) -> None:
    assert expected == expand(text, ENV)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("${P#*/}", "usr/lib/libfoo.so.1"),
        ("${P##*/}", "libfoo.so.1"),
        ("${P%/*}", "/usr/lib"),
        ("${P%%/*}", ""),
        ("${P%.*}", "/usr/lib/libfoo.so"),
        ("${P%%.*}", "/usr/lib/libfoo"),
        ("${P#nothing}", "/usr/lib/libfoo.so.1"),
        ("${P#}", "/usr/lib/libfoo.so.1"),
        ("${P%}", "/usr/lib/libfoo.so.1"),
        ("${P##}", "/usr/lib/libfoo.so.1"),
        ("${P#$A}", "/usr/lib/libfoo.so.1"),
        ("${P#????}", "/lib/libfoo.so.1"),
        ("${P%.?}", "/usr/lib/libfoo.so"),
        ("${P#[/]}", "/usr/lib/libfoo.so.1"),
        ("${X1#?}", ""),
        ("${X1%?}", ""),
        ("${NONE#*}", ""),
        ("${P:#*/}", "usr/lib/libfoo.so.1"),
    ],
)
def test_a_prefix_or_suffix_is_cut_off(text: str, expected: str) -> None:
    assert expected == expand(text, ENV)


@pytest.mark.parametrize(
    ("value", "text", "expected"),
    [
        ("()[]{}^$.*?|\\x", "${V#()[]{\\}^$.\\*\\?|\\\\}", "x"),
        ("xx**", "${V%%\\**}", "xx"),
        ("a***yy*", "${V%%\\**\\*}", "a"),
        ("???y", "${V#?\\?}", "?y"),
        ("xxyy", "${V#*x*y}", "y"),
        ("xxyy", "${V##*x*y}", ""),
        ("a/b", "${V#a\\/}", "b"),
    ],
)
def test_a_pattern_can_escape_its_own_characters(value: str, text: str, expected: str) -> None:
    assert expected == expand(text, {"V": value})


@pytest.mark.parametrize(
    ("env", "text", "expected"),
    [
        ({"V": "/tmp/tmp/a"}, "${V/tmp/x}", "/x/tmp/a"),
        ({"V": "/tmp/tmp/a"}, "${V//tmp/x}", "/x/x/a"),
        ({"V": "/tmp/tmp/a"}, "${V//tmp/}", "///a"),
        ({"V": "/tmp/tmp/a", "N": "/tmp"}, "${V//$N/}", "/a"),
        ({"V": "/a/foo/b/c", "N": "/?/", "R": "/"}, "${V//$N/$R}", "/foo/c"),
        ({"V": "/foo*/*/*.txt", "N": "\\*/"}, "${V/$N/.} ${V//$N/.}", "/foo.*/*.txt /foo..*.txt"),
        ({"V": "/tmp/a"}, "${V//\\//\\/}", "\\/tmp\\/a"),
        ({"V": "abc"}, "${V/*/x}", "x"),
        ({"V": "abc"}, "${V//*/x}", "x"),
        ({"V": "xy", "N": ""}, "${V/$N/w}", "wxy"),
        ({"V": "xy", "N": ""}, "${V//$N/w}", "wxwyw"),
        ({"V": "xy"}, "${V///}", "xy"),
        ({}, "${V/a/b}", ""),
        ({"V": "a.b.c"}, "${V//./-}", "a-b-c"),
        ({"V": "a"}, "${V/a/\\1}", "\\1"),
    ],
)
def test_a_pattern_is_replaced(env: dict[str, str], text: str, expected: str) -> None:
    assert expected == expand(text, env)


@pytest.mark.parametrize(
    ("replacement", "expected"),
    [("\\$", "\\$"), ("'$0'", "[a]"), ("'$$'", "$"), ("'$1'", ""), ("'${0}'", "[a]"), ("'$'", "$")],
)
def test_replacing_all_reads_dollars_as_go_does(replacement: str, expected: str) -> None:
    """BuildKit hands the replacement to Regexp.ReplaceAllString, which has its own variables."""
    expected = expected.replace("[a]", "a")

    assert expected == expand("${V//a/" + replacement + "}", {"V": "a"})
    assert replacement.strip("'") == expand("${V/a/" + replacement + "}", {"V": "a"})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("${", "missing '}'"),
        ("${A", "missing '}'"),
        ("${A:", "missing '}'"),
        ("${A:-", "missing '}'"),
        ("${A#", "missing '}'"),
        ("${A/x", "missing '/' in ${}"),
        ("${A/x/y", "missing '}'"),
        ("${A//x}", "missing '/' in ${}"),
        ("${}", "bad substitution"),
        ("${{A}}", "bad substitution"),
        ("${:-x}", "bad substitution"),
        ("${A=x}", "unsupported modifier (=)"),
        ("${A:=x}", "unsupported modifier (:=)"),
        ("${A:0:3}", "unsupported modifier (:0)"),
        ("${A^^}", "unsupported modifier (^)"),
        ("${A#\\x}", "invalid escape '\\x'"),
        ("'open", "matching single-quote"),
        ('"open', "matching double-quote"),
        ('"open\\"', "matching double-quote"),
        ("${C:-'x}", "missing '}'"),
        ("${B:?}", "B: is not allowed to be empty"),
        ("${C:?}", "C: is not allowed to be unset"),
        ("${C?}", "C: is not allowed to be unset"),
        ("${C:?set $A}", "C: set x"),
    ],
)
def test_a_malformed_word_is_invalid(text: str, message: str) -> None:
    with pytest.raises(Invalid, match=re.escape(message)) as caught:
        expand(text, ENV)

    assert caught.value.message.startswith("failed to process ")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a b", ["a", "b"]),
        ("  a\tb\n", ["a", "b"]),
        ("$S", ["one", "two"]),
        ('"$S"', ["one two"]),
        ("x$S", ["xone", "two"]),
        ("'a b' c", ["a b", "c"]),
        ("a\\ b c", ["a b", "c"]),
        ("a'b c'd", ["ab cd"]),
        ("'' a", ["a"]),
        ("", []),
        ("$B", []),
        ("a\u00a0b", ["a", "b"]),
        ("a\x1cb", ["a\x1cb"]),
        ("80 $NONE 81", ["80", "81"]),
        ("${NONE:-a b}", ["a", "b"]),
        ("<<  EOF x", ["<<  EOF", "x"]),
        ("a <b", ["a", "<b"]),
    ],
)
def test_what_an_unquoted_variable_gives_is_split(text: str, expected: list[str]) -> None:
    assert expected == expand_words(text, ENV)


def test_the_escape_can_be_a_backtick() -> None:
    assert expand("`$A C:\\x", ENV, escape="`") == "$A C:\\x"
    assert expand('"`""', ENV, escape="`") == '"'


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("$A$C", "x$C"),
        ("${C}", "${C}"),
        ("${C:-d}", "${C:-d}"),
        ("${C##*/}", "${C##*/}"),
        ("${C/a/b}", "${C/a/b}"),
        ("${A:-d}", "x"),
    ],
)
def test_references_to_unset_variables_can_be_kept(text: str, expected: str) -> None:
    assert expected == expand(text, ENV, keep_unset=True)


def test_quotes_can_be_kept() -> None:
    assert expand("'a' \"$A\" \\\\q", ENV, raw_quotes=True) == "'a' \"x\" \\q"
    assert expand("a\\ b", ENV, raw_escapes=True) == "a\\ b"


def test_without_quoting_only_variables_and_escapes_mean_something() -> None:
    """The body of a COPY heredoc."""
    assert expand("'$A' \"$A\" it's \\$A", ENV, quotes=False) == "'x' \"x\" it's $A"


def test_every_name_that_was_looked_up_is_told() -> None:
    found: list[str] = []
    missing: list[str] = []

    expand("$A ${B:-$C} ${D#x} '$E'", ENV, found=found.append, missing=missing.append)

    assert found == ["A", "B"]
    assert missing == ["C", "D"]


def test_a_row_of_stars_does_not_take_for_ever() -> None:
    pattern = "*a" * 30

    assert expand("${V#" + pattern + "c}", {"V": "a" * 200 + "b"}) == "a" * 200 + "b"


def test_a_thousand_nested_variables_are_refused() -> None:
    with pytest.raises(Invalid, match="nested too deeply"):
        expand("${C:-" * 1000 + "x" + "}" * 1000, {})


_SYNTAX = st.text(st.sampled_from("aAé0_ $${}}:-+?#%/*\\\\'\"<`\n\udc80"), max_size=40)


@given(_SYNTAX, st.sampled_from("\\`"), st.booleans(), st.booleans(), st.booleans())
@example("${A//\\", "\\", False, False, False)
def test_nothing_but_invalid_is_raised(
    text: str, escape: str, raw_quotes: bool, raw_escapes: bool, keep: bool
) -> None:
    for read in (expand, expand_words):
        try:
            read(
                text,
                ENV,
                escape=escape,
                raw_quotes=raw_quotes,
                raw_escapes=raw_escapes,
                keep_unset=keep,
            )
        except Invalid:
            continue


@given(st.text(max_size=30))
def test_single_quotes_keep_anything_else(text: str) -> None:
    quoted = "'" + text.replace("'", "") + "'"

    assert text.replace("'", "") == expand(quoted, ENV)


@given(st.text(st.sampled_from("ab*?/."), max_size=8), st.text(st.sampled_from("ab/."), max_size=8))
def test_a_suffix_is_a_prefix_backwards(pattern: str, value: str) -> None:
    env = {"V": value, "W": value[::-1], "P": pattern, "Q": pattern[::-1]}

    for modifier in ("", "%"):
        cut = expand("${V%" + modifier + "$P}", env)
        other = expand("${W#" + modifier.replace("%", "#") + "$Q}", env)

        assert cut == other[::-1]


@given(
    st.text(st.sampled_from("ab*?"), max_size=7),
    st.text(st.sampled_from("ab"), max_size=9),
)
def test_patterns_cut_what_a_plain_search_would_cut(pattern: str, value: str) -> None:
    ends = [end for end in range(len(value) + 1) if _matches(pattern, value[:end])]
    shortest = value[min(ends) :] if ends else value
    longest = value[max(ends) :] if ends else value

    assert shortest == expand("${V#$P}", {"V": value, "P": pattern})
    assert longest == expand("${V##$P}", {"V": value, "P": pattern})


def _matches(pattern: str, text: str) -> bool:
    if not pattern:
        return not text
    if pattern[0] == "*":
        return any(_matches(pattern[1:], text[at:]) for at in range(len(text) + 1))
    return bool(text) and pattern[0] in ("?", text[0]) and _matches(pattern[1:], text[1:])
