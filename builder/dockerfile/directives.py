"""Parser directives: the ``# key=value`` lines at the very top."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from builder.dockerfile.source import SourceFile, Span
from builder.dockerfile.words import SPACE

BOM = b"\xef\xbb\xbf"

# \s is ASCII, as in Go's regexp.
_FORM = r"([a-zA-Z][a-zA-Z0-9]*)[\t\n\f\r ]*=[\t\n\f\r ]*(.+?)[\t\n\f\r ]*"
_KEYS = ("syntax", "escape", "check")


class Directive(NamedTuple):
    """*name* is lower case: syntax, escape or check."""

    name: str
    value: str
    span: Span


def read_directives(source: SourceFile, lines: Sequence[str]) -> tuple[Directive, ...]:
    """
    The directives that *lines* begin with.

    The first line that is not one ends them: a comment, a blank line, an unknown key.
    DockerfileError if one is given twice or the escape is not one of the two.
    """
    found: dict[str, Directive] = {}
    for number, line in enumerate(lines, 1):
        pair = _directive(line, "#")
        if pair is None:
            break
        name, value = pair
        span = Span(source.path, number, number)
        if name in found:
            raise source.error(span, f"only one {name} parser directive can be used")
        if name == "escape" and value not in ("\\", "`"):
            raise source.error(span, f"invalid escape token '{value}' does not match ` or \\")
        found[name] = Directive(name, value, span)
    return tuple(found.values())


def syntax(text: bytes) -> str:
    """
    The front end image that *text* asks for, or "".

    BuildKit looks in more places than for other directives (parser/directives.go, DetectSyntax):
    behind a ``#!`` line, and in ``//`` comments; so front ends for other languages can be named.
    """
    rest = text.removeprefix(BOM)
    if rest.startswith(b"#!"):
        rest = rest.partition(b"\n")[2]
    lines = rest.decode("utf-8", "replace").split("\n")
    for mark in ("#", "//"):
        for line in lines:
            pair = _directive(line, mark)
            if pair is None:
                break
            if pair[0] == "syntax":
                return pair[1].partition(" ")[0]
    return ""


def _directive(line: str, mark: str) -> tuple[str, str] | None:
    stripped = line.rstrip("\r\n").lstrip(SPACE)
    if not stripped.startswith(mark):
        return None
    match = re.fullmatch(_FORM, stripped[len(mark) :].lstrip(SPACE))
    if match is None or match[1].lower() not in _KEYS:
        return None
    return match[1].lower(), match[2]
