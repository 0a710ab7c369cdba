"""Heredocs: which words of a line start one, and what its body says."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from builder.dockerfile.words import expand_words
from ocispec.errors import Invalid


class Heredoc(NamedTuple):
    """
    ``[fd]<<[-]name`` and its body.

    *expand* is False if any of the name was quoted. *content* is the body as it stands, tabs and
    line ends included; *text* is what it says.
    """

    name: str
    content: str = ""
    expand: bool = True
    strip_tabs: bool = False  # "<<-"
    fd: int = 0

    @property
    def text(self) -> str:
        """The body, without the leading tabs if ``<<-`` was written."""
        if not self.strip_tabs:
            return self.content
        lines = self.content.split("\n")
        return "\n".join(line.lstrip("\t") for line in lines)


def heredocs_in(line: str) -> list[Heredoc]:
    """
    The heredocs that *line* starts, without bodies.

    A line that the lexer cannot read (an odd quote, a substitution only a shell knows) has none,
    as in BuildKit. The escape is always a backslash here: what is read is shell text.
    """
    if "<<" not in line:
        return []
    try:
        words = expand_words(line, {}, raw_quotes=True, raw_escapes=True, keep_unset=True)
    except Invalid:
        return []
    found = (parse_heredoc(word) for word in words)
    return [heredoc for heredoc in found if heredoc is not None]


def parse_heredoc(word: str) -> Heredoc | None:
    """The heredoc that *word* starts, or None; Invalid if its name is malformed."""
    fd, arrows, rest = word.partition("<<")
    if not arrows or (fd and not (fd.isascii() and fd.isdigit())):
        return None
    strip_tabs = rest.startswith("-")
    rest = rest.removeprefix("-").lstrip("\t\n\f\r ")
    if not rest or "<" in rest:
        return None
    names = expand_words(rest, {}, keep_unset=True)
    raw = expand_words(rest, {}, keep_unset=True, raw_quotes=True)
    if len(names) != 1 or len(raw) != 1:
        return None
    name = names[0]
    # Quotes that are in one reading and not in the other were quotes, not part of the name.
    quoted = _quotes(name) != _quotes(raw[0])
    return Heredoc(name, "", not quoted, strip_tabs, int(fd[:9] or 0))


def is_lone_heredoc(command: str) -> bool:
    """True if *command* is one heredoc and nothing else: its body is the command then."""
    try:
        return parse_heredoc(command) is not None
    except Invalid:
        return False


def read_bodies(
    heredocs: Sequence[Heredoc], lines: Sequence[str], start: int
) -> tuple[tuple[Heredoc, ...], int] | None:
    """
    *heredocs* with their bodies, which begin at ``lines[start]``, and the index after the last
    terminator; None if one is missing. *lines* have their line ends.
    """
    whole: list[Heredoc] = []
    for heredoc in heredocs:
        body: list[str] = []
        while True:
            if start == len(lines):
                return None
            line = lines[start]
            start += 1
            end = line.rstrip("\r\n")
            if (end.lstrip("\t") if heredoc.strip_tabs else end) == heredoc.name:
                break
            body.append(line)
        whole.append(heredoc._replace(content="".join(body)))
    return tuple(whole), start


def _quotes(text: str) -> int:
    return text.count("'") + text.count('"')
