"""Physical lines to logical ones."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile.lines import LineReader, LogicalLine
from builder.dockerfile.source import DockerfileError, SourceFile


def _lines(text: str | bytes) -> list[LogicalLine]:
    data = text.encode() if isinstance(text, str) else text
    reader = LineReader(SourceFile("Dockerfile", data))
    lines: list[LogicalLine] = []
    while (line := reader.read()) is not None:
        lines.append(line)
    return lines


def _texts(text: str | bytes) -> list[tuple[str, int, int]]:
    return [(line.text, line.first, line.last) for line in _lines(text)]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a\nRUN b\n", [("FROM a", 1, 1), ("RUN b", 2, 2)]),
        ("FROM a", [("FROM a", 1, 1)]),
        ("", []),
        ("\n\n  \n", []),
        ("RUN a \\\n  b\n", [("RUN a   b", 1, 2)]),
        ("RUN a\\\nb\n", [("RUN ab", 1, 2)]),
        ("R\\\nUN a\n", [("RUN a", 1, 2)]),
        ("  RUN a \\\n", [("RUN a ", 1, 1)]),
        ("RUN a \\", [("RUN a ", 1, 1)]),
        ("RUN a \\\n\n  \n b\nRUN c\n", [("RUN a  b", 1, 4), ("RUN c", 5, 5)]),
        ("RUN a \\\n# no\n  # no\n b # yes\n", [("RUN a  b # yes", 1, 4)]),
        ("RUN a \\\n# no \\\n b\n", [("RUN a  b", 1, 3)]),
        ("RUN a # \\\n b\n", [("RUN a #  b", 1, 2)]),
        ("RUN a \\\n#", [("RUN a ", 1, 2)]),
        ("\\\nRUN a\n", [("RUN a", 1, 2)]),
        ("\\\n", [("", 1, 1)]),
        ("RUN a \\ \t\n b\n", [("RUN a  b", 1, 2)]),
        ("RUN a \\x\n", [("RUN a \\x", 1, 1)]),
        ("RUN a \\\\\nRUN b\n", [("RUN a \\\\", 1, 1), ("RUN b", 2, 2)]),
        ("RUN a \\\\\\\nRUN b\n", [("RUN a \\\\\\", 1, 1), ("RUN b", 2, 2)]),
        ("RUN a \\\r\n b\r\n", [("RUN a  b", 1, 2)]),
        ("\ufeffFROM a\n", [("FROM a", 1, 1)]),
        ("\ufeff# escape=`\nRUN a `\n b\n", [("RUN a  b", 2, 3)]),
        ("# escape=`\nRUN a \\\nRUN b\n", [("RUN a \\", 2, 2), ("RUN b", 3, 3)]),
        ("\u00a0RUN a\u2028b\n", [("RUN a\u2028b", 1, 1)]),
        (b"RUN \xff\n", [("RUN \udcff", 1, 1)]),
        ("RUN a\rb\n", [("RUN a\rb", 1, 1)]),
    ],
)
def test_lines_are_joined_as_buildkit_joins_them(
    text: str | bytes, expected: list[tuple[str, int, int]]
) -> None:
    assert expected == _texts(text)


@pytest.mark.parametrize("blanks", ["", " ", "\t", " \t "], ids=repr)
def test_blanks_after_a_backslash_still_continue_the_line(blanks: str) -> None:
    assert _texts(f"RUN a \\{blanks}\nb\n") == [("RUN a b", 1, 2)]


def test_a_blank_line_inside_is_remarked() -> None:
    blank_inside = [line.blank_inside for line in _lines("RUN a \\\n\n b\nRUN c \\\n# x\n d\n")]

    assert blank_inside == [True, False]


def test_comments_belong_to_the_instruction_below() -> None:
    lines = _lines("# syntax=x\n# one\n#two \nFROM a\n\n  # three\n\nRUN a \\\n# no\n b\nRUN c\n")

    assert [line.comments for line in lines] == [("one", "two"), ("three",), ()]


def test_a_line_may_have_65535_bytes() -> None:
    whole = "RUN " + "x" * 65531

    assert _texts(whole + "\n") == [(whole, 1, 1)]


@pytest.mark.parametrize("text", ["RUN " + "x" * 65532, "RUN " + "é" * 32766])
def test_a_longer_line_is_an_error(text: str) -> None:
    with pytest.raises(DockerfileError, match="greater than max allowed size") as caught:
        _lines("FROM a\n" + text)

    assert caught.value.span.first == 2


def test_a_long_instruction_on_short_lines_is_read() -> None:
    text = "RUN true" + " \\\n && true" * 20_000

    assert [(line.first, line.last) for line in _lines(text)] == [(1, 20_001)]


@given(st.lists(st.text(st.characters(codec="utf-8", exclude_characters="\\#\n\r"), max_size=20)))
def test_plain_lines_come_back_as_they_are(lines: list[str]) -> None:
    expected = [bare for line in lines if (bare := _without_leading_blanks(line))]

    assert expected == [line.text for line in _lines("FROM x\n" + "\n".join(lines))][1:]


@given(
    st.lists(st.text(st.characters(codec="ascii", categories=("L", "N")), min_size=1), min_size=1),
    st.sampled_from(["\n", "\r\n"]),
    st.sampled_from(["", "# note\n", "\n", "  # note\n\n"]),
)
def test_a_line_that_is_cut_anywhere_is_read_whole(
    parts: list[str], end: str, between: str
) -> None:
    text = f"\\{end}{between}".join(parts)

    lines = _lines("RUN " + text)

    assert ["RUN " + "".join(parts)] == [line.text for line in lines]
    assert text.count("\n") + 1 == lines[0].last


@given(st.binary(max_size=200))
def test_any_bytes_are_lines_or_an_error(data: bytes) -> None:
    try:
        lines = _lines(data)
    except DockerfileError:
        return

    assert sorted({line.first for line in lines}) == [line.first for line in lines]


def _without_leading_blanks(line: str) -> str:
    while line and line[0].isspace() and line[0] not in "\x1c\x1d\x1e\x1f":
        line = line[1:]
    return line
