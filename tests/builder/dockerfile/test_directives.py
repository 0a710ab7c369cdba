"""Parser directives."""

from __future__ import annotations

import pytest

from builder.dockerfile.directives import read_directives, syntax
from builder.dockerfile.source import DockerfileError, SourceFile


def _pairs(text: str) -> list[tuple[str, str, int]]:
    source = SourceFile("Dockerfile", text.encode())
    found = read_directives(source, text.splitlines(keepends=True))
    return [(directive.name, directive.value, directive.span.first) for directive in found]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("# escape=`\n", [("escape", "`", 1)]),
        ("#escape=\\\n", [("escape", "\\", 1)]),
        ("  #  ESCAPE  =  `  \r\n", [("escape", "`", 1)]),
        ("# syntax=docker/dockerfile:1\n", [("syntax", "docker/dockerfile:1", 1)]),
        (
            "# syntax=a\n# check=skip=all;error=true\n# escape=`\n",
            [("syntax", "a", 1), ("check", "skip=all;error=true", 2), ("escape", "`", 3)],
        ),
        ("# syntax = a b \n", [("syntax", "a b", 1)]),
        ("# a comment\n# escape=`\n", []),
        ("\n# escape=`\n", []),
        ("# unknown=1\n# escape=`\n", []),
        ("FROM x\n# escape=`\n", []),
        ("# escape=\n", []),
        ("# syntax=a\n\n# escape=`\n", [("syntax", "a", 1)]),
        ("#! escape=`\n", []),
        ("", []),
    ],
)
def test_directives_are_the_lines_at_the_top(
    text: str, expected: list[tuple[str, str, int]]
) -> None:
    assert expected == _pairs(text)


@pytest.mark.parametrize("key", ["escape", "syntax", "check"])
def test_a_directive_given_twice_is_an_error(key: str) -> None:
    with pytest.raises(DockerfileError, match=f"only one {key} parser directive") as caught:
        _pairs(f"# {key}=`\n# {key.upper()}=`\n")

    assert caught.value.span.first == 2


@pytest.mark.parametrize("value", ["x", "``", "\\\\", "/"])
def test_the_escape_is_a_backslash_or_a_backtick(value: str) -> None:
    with pytest.raises(DockerfileError, match="does not match ` or "):
        _pairs(f"# escape={value}\n")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"# syntax=docker/dockerfile:1\nFROM x\n", "docker/dockerfile:1"),
        (b"\xef\xbb\xbf# syntax=a\n", "a"),
        (b"#!/usr/bin/env x\n# syntax=a\n", "a"),
        (b"// syntax=a more\n", "a"),
        (b"# check=skip=all\n# syntax=a\n", "a"),
        (b"FROM x\n# syntax=a\n", ""),
        (b"\xff\n", ""),
        (b"", ""),
    ],
)
def test_the_front_end_is_looked_for_in_more_places(text: bytes, expected: str) -> None:
    assert expected == syntax(text)
