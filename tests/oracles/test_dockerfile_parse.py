"""
Our lines against dockerfile-parse, an independent reader, on the dialect that both know.

It has no heredocs, takes a blank line inside a continuation for the end, and does not know that
``\\\\`` at the end of a line is no continuation; on all else the two must agree.
"""

from __future__ import annotations

from io import BytesIO
from pathlib import Path

import pytest
from dockerfile_parse import DockerfileParser
from hypothesis import given
from hypothesis import strategies as st
from support.goldens import TESTDATA

from builder.dockerfile.arguments import first_word
from builder.dockerfile.lines import LineReader
from builder.dockerfile.source import SourceFile

pytestmark = pytest.mark.oracle

_SHARED = ("classic", "multistage")


def _ours(text: bytes) -> list[tuple[str, int, int, str]]:
    reader = LineReader(SourceFile("Dockerfile", text))
    found: list[tuple[str, int, int, str]] = []
    while (line := reader.read()) is not None:
        keyword, rest = first_word(line.text.strip())
        found.append((keyword.upper(), line.first, line.last, rest))
    return found


def _theirs(text: bytes) -> list[tuple[str, int, int, str]]:
    parser = DockerfileParser(fileobj=BytesIO(text))
    return [
        (item["instruction"], item["startline"] + 1, item["endline"] + 1, item["value"].strip())
        for item in parser.structure
        if item["instruction"] != "COMMENT"
    ]


@pytest.mark.parametrize("name", _SHARED)
def test_files_are_read_alike(name: str) -> None:
    text = Path(TESTDATA / "dockerfiles" / f"{name}.Dockerfile").read_bytes()

    assert _theirs(text) == _ours(text)


_WORD = st.text(st.characters(codec="utf-8", categories=("L", "N", "P", "S")), min_size=1).map(
    lambda word: word.replace("\\", "").replace("`", "").replace("#", "") or "x"
)
_BLANK = st.text(st.sampled_from(" \t"), min_size=1, max_size=3)
_COMMENT = st.builds(lambda blank, word: f"{blank}# {word}", st.just("") | _BLANK, _WORD)


@st.composite
def _instruction(draw: st.DrawFn, escape: str) -> list[str]:
    keyword = draw(st.sampled_from(["FROM", "run", "Copy", "ENV", "FOO"]))
    lines = [draw(st.just("") | _BLANK) + keyword + draw(_BLANK) + draw(_WORD)]
    for _ in range(draw(st.integers(0, 3))):
        lines[-1] += draw(st.just("") | _BLANK) + escape + draw(st.just("") | _BLANK)
        lines += draw(st.lists(_COMMENT, max_size=2))
        lines.append(draw(st.just("") | _BLANK) + draw(_WORD))
    return lines


@st.composite
def _file(draw: st.DrawFn) -> bytes:
    escape = draw(st.sampled_from("\\`"))
    lines: list[str] = draw(st.sampled_from([[], ["# syntax=docker/dockerfile:1"]]))
    if escape == "`" or draw(st.booleans()):
        lines = [*lines, f"# escape={escape}"]
    for _ in range(draw(st.integers(0, 5))):
        lines = [*lines, *draw(st.lists(_COMMENT | st.just(""), max_size=2))]
        lines += draw(_instruction(escape))
    return draw(st.sampled_from(["\n", "\r\n"])).join([*lines, ""]).encode()


@given(_file())
def test_generated_files_are_read_alike(text: bytes) -> None:
    assert _theirs(text) == _ours(text)
