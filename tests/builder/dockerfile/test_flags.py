"""Flags of instructions."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile.flags import FLAGS, Flags, split_flags
from ocispec.errors import Invalid


@pytest.mark.parametrize(
    ("text", "flags", "rest"),
    [
        ("a b", [], "a b"),
        ("--a=b c", ["--a=b"], "c"),
        ("--a --b=1  c d", ["--a", "--b=1"], "c d"),
        ("--a=x y --b", ["--a=x"], "y --b"),
        ("--a='x y' z", ["--a=x y"], "z"),
        ('--a="x\\"y" z', ['--a=x"y'], "z"),
        ("--a=x\\ y z", ["--a=x y"], "z"),
        ("--a=''", ["--a="], ""),
        ("-- --a b", [], " --a b"),
        ("--a -- b", ["--a"], " b"),
        ("--", [], ""),
        ("-a b", [], "-a b"),
        ("- b", [], "- b"),
        ("", [], ""),
        ("--a\u00a0b", ["--a"], "b"),
        ("--a='open b", ["--a=open b"], ""),
        ("--a=\\", ["--a="], ""),
    ],
)
def test_flags_come_before_the_arguments(text: str, flags: list[str], rest: str) -> None:
    assert (flags, rest) == split_flags(text)


def test_a_flag_has_its_kind() -> None:
    flags = Flags(
        "COPY", ["--link", "--chown=1:2", "--exclude=a", "--exclude=b", "--parents=FALSE"]
    )

    assert flags.on("link")
    assert not flags.on("parents")
    assert flags.text("chown") == "1:2"
    assert flags.text("chmod") == ""
    assert flags.each("exclude") == ("a", "b")
    assert flags.maybe("parents") is False
    assert flags.maybe("unpack") is None


@pytest.mark.parametrize(
    ("keyword", "word", "message", "hint"),
    [
        ("COPY", "--chwon=1", "unknown flag: --chwon", "did you mean --chown?"),
        ("COPY", "--Link", "unknown flag: --Link", "did you mean --link?"),
        ("COPY", "--mount=x", "unknown flag: --mount", "--mount is a flag of RUN"),
        ("FROM", "--after=x", "unknown flag: --after", "FROM has --platform"),
        ("USER", "--x", "unknown flag: --x", "USER has no flags"),
        ("COPY", "--chown", "missing a value on flag: --chown", "write --chown=…"),
        ("COPY", "--link=", "missing a value on flag: --link", ""),
        ("COPY", "--link=1", "expecting boolean value for flag --link, not: 1", ""),
        ("ADD", "--from=x", "unknown flag: --from", "--from is a flag of COPY"),
        ("ADD", "--parents", "unknown flag: --parents", "--parents is a flag of COPY"),
        ("COPY", "--unpack", "unknown flag: --unpack", "--unpack is a flag of ADD"),
        ("COPY", "--=x", "unknown flag: --", "COPY has --chown"),
    ],
)
def test_a_flag_that_is_not_there_is_invalid(
    keyword: str, word: str, message: str, hint: str
) -> None:
    with pytest.raises(Invalid) as caught:
        Flags(keyword, [word])

    assert message == caught.value.message
    assert caught.value.hint.startswith(hint)


@pytest.mark.parametrize("word", ["--chown=1", "--link", "--from=a"])
def test_a_flag_may_stand_once(word: str) -> None:
    with pytest.raises(Invalid, match="duplicate flag specified: --"):
        Flags("COPY", [word, word])


def test_an_empty_value_is_a_value() -> None:
    assert Flags("FROM", ["--platform="]).text("platform", "default") == ""


@given(st.text(max_size=40))
def test_any_text_is_cut_somewhere(text: str) -> None:
    flags, rest = split_flags(text)

    assert text.endswith(rest)
    assert all(flag.startswith("--") for flag in flags)


@given(st.sampled_from(sorted(FLAGS)), st.lists(st.text(max_size=12), max_size=4))
def test_any_words_are_flags_or_invalid(keyword: str, words: list[str]) -> None:
    with contextlib.suppress(Invalid):
        Flags(keyword, [f"--{word}" for word in words])
