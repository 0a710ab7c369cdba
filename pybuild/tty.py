"""The live form of a build's progress, by rich; which is imported when a step takes its time."""

from __future__ import annotations

import threading
import time
from collections import deque
from typing import TYPE_CHECKING, Final, TextIO

from builder.events import Event, Notice, StepEnded, StepOutput, StepStarted, Warned
from pybuild.progress import Lines, outcome, visible

if TYPE_CHECKING:
    from rich.console import Group
    from rich.live import Live

_LINES: Final = 6  # of output below each step that runs
_REMEMBERED: Final = 50
_PATIENCE: Final = 0.15  # seconds that a step may take before the live form is worth its import


class _Running:
    def __init__(self, title: str) -> None:
        self.title = title
        self.started = time.monotonic()
        self.last: deque[str] = deque(maxlen=_REMEMBERED)


class Terminal:
    """Steps that ended as lines; those that run below them, with the end of their output."""

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._lines = Lines()
        self._running: dict[int, _Running] = {}
        self._live: Live | None = None
        self._lock = threading.RLock()  # guards all of this from the timer's thread
        self._timer: threading.Timer | None = None
        self._over = False

    def on_event(self, event: Event) -> None:
        with self._lock:
            self._show(event)

    def close(self) -> None:
        with self._lock:
            self._over = True
            if self._timer is not None:
                self._timer.cancel()
            if self._live is not None:
                self._live.stop()
                self._live = None
            self._out.flush()

    def _show(self, event: Event) -> None:
        match event:
            case StepStarted():
                self._running[event.step] = _Running(visible(event.title))
                self._wait()
            case StepOutput():
                self._output(event)
            case StepEnded():
                self._ended(event)
            case Warned():
                place = f" ({event.place})" if event.place else ""
                self._print(f"WARN: {visible(event.text)}{place}")
            case Notice():
                if event.step in self._running:
                    self._running[event.step].last.append(visible(event.text))

    def _wait(self) -> None:
        """Go live in a moment, if a step then still runs: most cached builds are over before."""
        if self._live is None and self._timer is None:
            self._timer = threading.Timer(_PATIENCE, self._waited)
            self._timer.daemon = True
            self._timer.start()

    def _waited(self) -> None:
        with self._lock:
            self._timer = None
            if self._running and not self._over:
                self._refresh()

    def _output(self, event: StepOutput) -> None:
        step = self._running.get(event.step)
        if step is not None:
            step.last.extend(map(visible, self._lines.add(event)))

    def _ended(self, event: StepEnded) -> None:
        step = self._running.pop(event.step, None)
        if step is None:
            return
        step.last.extend(map(visible, self._lines.rest(event.step)))
        if event.error:
            for line in step.last:
                self._print(f"    {line}")
        mark = " => ERROR" if event.error else " => CACHED" if event.cached else " =>"
        seconds = "" if event.cached or event.error else f"  {outcome(event).removeprefix('DONE ')}"
        self._print(f"{mark} {step.title}{seconds}")

    def _print(self, text: str) -> None:
        if self._live is None:
            self._out.write(text + "\n")
            return
        from rich.text import Text

        self._live.console.print(Text(text), soft_wrap=True)

    def _refresh(self) -> None:
        if self._live is None:
            from rich.console import Console
            from rich.live import Live

            console = Console(file=self._out, highlight=False)
            self._live = Live(
                self._group(),
                console=console,
                refresh_per_second=8,
                transient=True,
                redirect_stdout=False,
                redirect_stderr=False,
                vertical_overflow="crop",
                get_renderable=self._group,
            )
            self._live.start()

    def _group(self) -> Group:
        from rich.console import Group
        from rich.text import Text

        now = time.monotonic()
        shown: list[Text] = []
        for step in list(self._running.values()):
            shown.append(
                Text(
                    f" => {step.title}  {now - step.started:.1f}s",
                    no_wrap=True,
                    overflow="ellipsis",
                )
            )
            lines = list(step.last)[-_LINES:]
            shown += [
                Text(f" => => {line}", style="dim", no_wrap=True, overflow="ellipsis")
                for line in lines
            ]
        return Group(*shown)
