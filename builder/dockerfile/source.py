"""The text of a Dockerfile, places in it, and errors that show the place."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from ocispec.errors import Invalid, PybuildError

if TYPE_CHECKING:
    from types import TracebackType

_RULE = "-" * 20
_CONTEXT = 4  # lines shown around the span, as BuildKit does
_WIDEST = 300  # characters of one line that are shown
_LONGEST = 40  # lines of one span that are shown


class Span(NamedTuple):
    """Lines *first* to *last* of the file shown as *path*; lines count from 1."""

    path: str
    first: int
    last: int

    def __str__(self) -> str:
        return f"{self.path}:{self.first}"


class DockerfileError(Invalid):
    """
    A fault at *span*. *reason* is the bare sentence; the message has the place before it and the
    lines drawn under it.
    """

    def __init__(self, source: SourceFile, span: Span, reason: str, hint: str = "") -> None:
        super().__init__(f"{span}: {visible(reason)}\n{source.draw(span)}", visible(hint))
        self.span = span
        self.reason = reason


class SourceFile(NamedTuple):
    """*text* as it was read; *path* is what the reader of a message is shown."""

    path: str
    text: bytes

    def error(self, span: Span, reason: str, hint: str = "") -> DockerfileError:
        return DockerfileError(self, span, reason, hint)

    def placed(self, span: Span, error: PybuildError) -> PybuildError:
        """*error*, of its own kind, with the place before it and the lines drawn under it."""
        message = f"{span}: {visible(error.message)}\n{self.draw(span)}"
        return type(error)(message, visible(error.hint))

    def at(self, span: Span) -> At:
        """``with source.at(span):`` gives every Invalid raised inside its place."""
        return At(self, span)

    def draw(self, span: Span) -> str:
        """The lines of *span* marked with ``>>>``, and some around them."""
        lines = self.text.removeprefix(b"\xef\xbb\xbf").split(b"\n")
        if not lines[-1]:
            lines.pop()
        last = min(span.last, len(lines), span.first + _LONGEST)
        start, end = span.first, last
        padded = 0 if end == start else _CONTEXT // 2
        while padded < _CONTEXT and (start > 1 or end < len(lines)):
            if start > 1:
                start, padded = start - 1, padded + 1
            if end < len(lines):
                end, padded = end + 1, padded + 1
        drawn = [f"{self.path}:{span.first}", _RULE]
        for number in range(start, end + 1):
            mark = ">>>" if span.first <= number <= last else "   "
            line = lines[number - 1].decode("utf-8", "replace").rstrip("\r")
            shown = line if len(line) <= _WIDEST else line[:_WIDEST] + "…"
            drawn.append(f" {number:3} | {mark} {visible(shown)}".rstrip())
        drawn.append(_RULE)
        return "\n".join(drawn)


class At:
    """See SourceFile.at()."""

    __slots__ = ("_source", "_span")

    def __init__(self, source: SourceFile, span: Span) -> None:
        self._source = source
        self._span = span

    def __enter__(self) -> None:
        return None

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, Invalid) and not isinstance(error, DockerfileError):
            raise self._source.error(self._span, error.message, error.hint) from error


def visible(text: str) -> str:
    """*text* without control characters: a Dockerfile must not drive a terminal."""
    return "".join(
        c if c.isprintable() or c in "\t\n" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
