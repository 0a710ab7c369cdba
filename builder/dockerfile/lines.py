"""Physical lines to logical ones: continuations, comments, blank lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from builder.dockerfile.directives import BOM, Directive, read_directives
from builder.dockerfile.heredocs import Heredoc, read_bodies
from builder.dockerfile.source import SourceFile, Span
from builder.dockerfile.words import SPACE

_LONGEST = 65535  # bytes; Go's bufio.Scanner, and so BuildKit, reads no longer line


class LogicalLine(NamedTuple):
    """
    One instruction's text, joined.

    Blanks before it are gone; those of continuation lines are kept. *comments* stand above it,
    without their ``#``; those between its lines have vanished. *last* is before any heredoc body.
    """

    text: str
    first: int
    last: int
    comments: tuple[str, ...] = ()
    blank_inside: bool = False  # a blank line after a continuation: BuildKit warns of it


class LineReader:
    """Reads *source* line by line. Not UTF-8? The bytes survive (surrogateescape)."""

    def __init__(self, source: SourceFile) -> None:
        self._source = source
        self._lines = _physical(source)
        self.directives: tuple[Directive, ...] = read_directives(source, self._lines)
        self.escape = next((d.value for d in self.directives if d.name == "escape"), "\\")
        self._next = len(self.directives)  # each is one line, and they come first

    @property
    def count(self) -> int:
        """How many lines the file has."""
        return len(self._lines)

    def read(self) -> LogicalLine | None:
        """The next instruction, or None at the end."""
        comments: list[str] = []
        while self._next < len(self._lines):
            line = self._lines[self._next].rstrip("\r\n").lstrip(SPACE)
            self._next += 1
            if line.startswith("#"):
                comments.append(line[1:].strip(SPACE))
            elif line:
                return self._joined(line, tuple(comments))
        return None

    def bodies(self, heredocs: Sequence[Heredoc], span: Span) -> tuple[tuple[Heredoc, ...], Span]:
        """
        The bodies of *heredocs*, which begin at the next line, and *span* with them in it.
        DockerfileError if a terminator is missing.
        """
        read = read_bodies(heredocs, self._lines, self._next)
        if read is None:
            names = ", ".join(heredoc.name for heredoc in heredocs)
            hint = (
                f"end the body with a line that is only the name: {names} "
                "(if no heredoc is meant, as in $((1 << 2)), leave out the blank after <<)"
            )
            raise self._source.error(span, "unterminated heredoc", hint)
        whole, self._next = read
        return whole, span._replace(last=self._next)

    def _joined(self, line: str, comments: tuple[str, ...]) -> LogicalLine:
        first = self._next
        blank_inside = False
        text, continues = self._uncontinued(line)
        while continues and self._next < len(self._lines):
            line = self._lines[self._next].rstrip("\r\n")
            self._next += 1
            bare = line.lstrip(SPACE)
            if not bare:
                blank_inside = True
            elif not bare.startswith("#"):
                part, continues = self._uncontinued(line)
                text += part
        return LogicalLine(text, first, self._next, comments, blank_inside)

    def _uncontinued(self, line: str) -> tuple[str, bool]:
        """*line* without the escape at its end, and whether there was one."""
        bare = line.rstrip(" \t")
        # BuildKit looks one character back and no further: "a\\" ends the instruction, and so
        # does "a\\\", whose last backslash is not escaped.
        if bare.endswith(self.escape) and bare[-2:-1] != self.escape:
            return bare[:-1], True
        return line, False


def _physical(source: SourceFile) -> list[str]:
    data = source.text.removeprefix(BOM)
    lines = data.decode("utf-8", "surrogateescape").split("\n")
    if len(data) > _LONGEST:
        for number, line in enumerate(lines, 1):
            if len(line.encode("utf-8", "surrogateescape")) > _LONGEST:
                raise source.error(
                    Span(source.path, number, number),
                    f"dockerfile line greater than max allowed size of {_LONGEST}",
                    hint="break the line with continuations",
                )
    last = lines.pop()
    whole = [line + "\n" for line in lines]
    return [*whole, last] if last else whole
