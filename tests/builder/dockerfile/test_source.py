"""Errors that show their place."""

from __future__ import annotations

import pytest

from builder.dockerfile.source import DockerfileError, SourceFile, Span
from ocispec.errors import Invalid, NotFound

SIX = SourceFile("Dockerfile", b"FROM a\nRUN b\nRUN c\nRUN d\nRUN e\nRUN f\n")


def test_one_line_is_drawn_with_four_around_it() -> None:
    drawn = SIX.draw(Span("Dockerfile", 3, 3))

    assert drawn == (
        "Dockerfile:3\n"
        "--------------------\n"
        "   1 |     FROM a\n"
        "   2 |     RUN b\n"
        "   3 | >>> RUN c\n"
        "   4 |     RUN d\n"
        "   5 |     RUN e\n"
        "--------------------"
    )


def test_several_lines_are_drawn_with_two_around_them() -> None:
    drawn = SIX.draw(Span("Dockerfile", 4, 5))

    assert drawn.splitlines()[2:-1] == [
        "   3 |     RUN c",
        "   4 | >>> RUN d",
        "   5 | >>> RUN e",
        "   6 |     RUN f",
    ]


@pytest.mark.parametrize(
    ("text", "span", "expected"),
    [
        (b"", (1, 1), []),
        (b"FROM a", (1, 1), ["   1 | >>> FROM a"]),
        (b"FROM a\n", (7, 9), []),
        (b"\xef\xbb\xbfFROM a\r\n", (1, 1), ["   1 | >>> FROM a"]),
        (b"FROM \x1b[31m\xff\n", (1, 1), ["   1 | >>> FROM \ufffd[31m\ufffd"]),
        (b"x" * 500, (1, 1), ["   1 | >>> " + "x" * 300 + "…"]),
    ],
    ids=["empty file", "no newline", "beyond the end", "BOM and CRLF", "control bytes", "long"],
)
def test_odd_text_is_drawn_safely(text: bytes, span: tuple[int, int], expected: list[str]) -> None:
    drawn = SourceFile("D", text).draw(Span("D", *span))

    assert expected == drawn.splitlines()[2:-1]


def test_a_very_long_instruction_is_drawn_in_part() -> None:
    source = SourceFile("D", b"RUN x\n" * 1000)

    assert len(source.draw(Span("D", 1, 1000)).splitlines()) < 60


def test_an_error_has_place_reason_drawing_and_hint() -> None:
    error = SIX.error(Span("Dockerfile", 2, 2), "no such thing", hint="try another")

    assert isinstance(error, Invalid)
    assert error.message.startswith("Dockerfile:2: no such thing\nDockerfile:2\n-----")
    assert error.reason == "no such thing"
    assert error.span == Span("Dockerfile", 2, 2)
    assert error.hint == "try another"


def test_what_is_raised_at_a_span_gets_its_place() -> None:
    with pytest.raises(DockerfileError) as caught, SIX.at(Span("Dockerfile", 5, 5)):
        raise Invalid("bad word", hint="quote it")

    assert caught.value.span.first == 5
    assert caught.value.reason == "bad word"
    assert caught.value.hint == "quote it"


def test_a_place_is_given_once() -> None:
    inner = SIX.error(Span("Dockerfile", 1, 1), "first")

    with pytest.raises(DockerfileError) as caught, SIX.at(Span("Dockerfile", 5, 5)):
        raise inner

    assert caught.value is inner


def test_other_errors_pass_through() -> None:
    with pytest.raises(NotFound), SIX.at(Span("Dockerfile", 5, 5)):
        raise NotFound("gone")


def test_a_span_reads_as_file_and_line() -> None:
    assert str(Span("a/Dockerfile", 3, 9)) == "a/Dockerfile:3"
