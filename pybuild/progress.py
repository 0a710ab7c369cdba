"""Events of a build as lines: as BuildKit prints them, JSON, quiet. The live form is in tty.py."""

from __future__ import annotations

import re
import sys
import time
from collections import deque
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, Protocol, TextIO

from builder.events import Event, Notice, StepEnded, StepOutput, StepStarted, Warned
from ocispec.errors import Usage

KINDS: Final = ("auto", "plain", "tty", "quiet", "json", "rawjson")
_REMEMBERED: Final = 50  # lines of a step's output that are shown when it fails
# ECMA-48 control sequences, such as colours, and operating system commands, such as titles.
_ESCAPES: Final = r"\x1b\[[0-?]*[ -/]*[@-~]|\x1b\][^\x07\x1b]*(?:\x07|\x1b\\)"


class Display(Protocol):
    """Something that shows events; called from several threads, one at a time."""

    def on_event(self, event: Event) -> None: ...

    def close(self) -> None:
        """The build is over, one way or the other."""


@contextmanager
def shown(kind: str) -> Iterator[Display]:
    """A display of *kind* on standard error. Usage for a kind that there is not."""
    display = _Locked(_display(kind, sys.stderr))
    try:
        yield display
    finally:
        display.close()


def _display(kind: str, out: TextIO) -> Display:
    if kind not in KINDS:
        raise Usage(f"invalid progress type {kind!r}", hint=f"one of {', '.join(KINDS[:-1])}")
    if kind == "quiet":
        return Quiet(out)
    if kind in ("json", "rawjson"):
        return Json(out)
    if kind == "tty" or (kind == "auto" and out.isatty()):
        from pybuild.tty import Terminal

        return Terminal(out)
    return Plain(out)


class _Locked:
    """Lets one thread at a time through to the display."""

    def __init__(self, display: Display) -> None:
        import threading

        self._display = display
        self._lock = threading.Lock()

    def on_event(self, event: Event) -> None:
        with self._lock:
            self._display.on_event(event)

    def close(self) -> None:
        with self._lock:
            self._display.close()


class Lines:
    """Cuts the output of steps into lines; a stream's last line may lack its end."""

    def __init__(self) -> None:
        self._open: dict[tuple[int, int], bytes] = {}

    def add(self, event: StepOutput) -> list[str]:
        """The lines that *event* completes."""
        key = (event.step, event.stream)
        *lines, rest = (self._open.pop(key, b"") + event.data).split(b"\n")
        if rest:
            self._open[key] = rest
        return [_text(line) for line in lines]

    def rest(self, step: int) -> list[str]:
        """What is left of a step that ended."""
        keys = [key for key in self._open if key[0] == step]
        return [_text(self._open.pop(key)) for key in keys]


class Plain:
    """Every event as a line with its step's number, as ``--progress=plain`` of BuildKit."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines = Lines()
        self._started: dict[int, float] = {}
        self._first = True

    def on_event(self, event: Event) -> None:
        match event:
            case StepStarted():
                self._started[event.step] = time.monotonic()
                blank = "" if self._first else "\n"
                self._first = False
                self._print(f"{blank}#{event.step} {visible(event.title)}")
            case StepOutput():
                self._output(event.step, self._lines.add(event))
            case Notice():
                self._print(f"#{event.step} {visible(event.text)}")
            case Warned():
                place = f" ({event.place})" if event.place else ""
                self._print(f"WARN: {visible(event.text)}{place}")
            case StepEnded():
                self._output(event.step, self._lines.rest(event.step))
                self._print(f"#{event.step} {outcome(event)}")
        if not isinstance(event, StepOutput):
            self._out.flush()

    def close(self) -> None:
        self._out.flush()

    def _output(self, step: int, lines: list[str]) -> None:
        after = time.monotonic() - self._started.get(step, time.monotonic())
        for line in lines:
            self._out.write(f"#{step} {after:.3f} {line}\n")
        if lines:
            self._out.flush()

    def _print(self, text: str) -> None:
        self._out.write(text + "\n")


class Json:
    """One JSON object a line, for programs."""

    def __init__(self, out: TextIO) -> None:
        self._out = out

    def on_event(self, event: Event) -> None:
        import json

        document: dict[str, object] = {"event": type(event).__name__, "time": time.time()}
        for name, value in zip(event._fields, event, strict=True):
            document[name] = value.decode(errors="replace") if isinstance(value, bytes) else value
        self._out.write(json.dumps(document) + "\n")
        self._out.flush()

    def close(self) -> None:
        self._out.flush()


class Quiet:
    """Nothing, but for what a step said before it failed."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines = Lines()
        self._last: dict[int, deque[str]] = {}

    def on_event(self, event: Event) -> None:
        match event:
            case StepOutput():
                last = self._last.setdefault(event.step, deque(maxlen=_REMEMBERED))
                last.extend(self._lines.add(event))
            case StepEnded():
                last = self._last.pop(event.step, deque())
                last.extend(self._lines.rest(event.step))
                if event.error:
                    self._out.writelines(f"{line}\n" for line in last)
                    self._out.flush()
            case _:
                pass

    def close(self) -> None:
        self._out.flush()


def outcome(event: StepEnded) -> str:
    """``CACHED``, ``DONE 0.3s`` or ``ERROR: …``."""
    if event.error:
        return f"ERROR: {visible(event.error)}"
    return "CACHED" if event.cached else f"DONE {event.seconds:.1f}s"


def visible(text: str) -> str:
    """*text* without control characters: a Dockerfile must not drive a terminal."""
    if text.isprintable():
        return text
    text = re.sub(_ESCAPES, "", text).expandtabs()
    return "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)


def _text(line: bytes) -> str:
    # A carriage return rewrites the line on a terminal; in a log the last state is what counts.
    return line.rstrip(b"\r").rpartition(b"\r")[2].decode(errors="replace")
