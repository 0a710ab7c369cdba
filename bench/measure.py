"""What a command costs: time on the wall, and processor time of all it starts."""

from __future__ import annotations

import ctypes
import os
import statistics
import sys
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

_PR_SET_CHILD_SUBREAPER = 36


@dataclass(frozen=True, slots=True)
class Cost:
    wall: float  # seconds
    cpu: float  # seconds of user and system time

    def __add__(self, other: Cost) -> Cost:
        return Cost(self.wall + other.wall, self.cpu + other.cpu)


def adopt_orphans() -> None:
    """Let processes whose parent ended become our children, so that their time is counted."""
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.prctl(_PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0):
        raise OSError(ctypes.get_errno(), "prctl(PR_SET_CHILD_SUBREAPER)")


def cost_of(argv: Sequence[str], log: Path, settings: Mapping[str, str]) -> Cost:
    """
    Run *argv* to its end, with *settings* in its environment; what it prints goes to *log*.

    Call adopt_orphans() first. Nothing else may have child processes that end meanwhile.
    """
    start = time.perf_counter()
    with log.open("wb") as out:
        null = os.open(os.devnull, os.O_RDONLY)
        actions = [(os.POSIX_SPAWN_DUP2, null, 0)]
        actions += [(os.POSIX_SPAWN_DUP2, out.fileno(), stream) for stream in (1, 2)]
        # posix_spawn, so that no fork of this process enters the figure.
        pid = os.posix_spawnp(
            argv[0], list(argv), {**environment(), **settings}, file_actions=actions
        )
        os.close(null)
    _, status, usage = os.wait4(pid, 0)
    wall = time.perf_counter() - start
    if status:
        sys.exit(f"{' '.join(argv)}: wait status {status}\n{log.read_text(errors='replace')}")
    return Cost(wall, usage.ru_utime + usage.ru_stime + _time_of_orphans())


def environment() -> dict[str, str]:
    """The caller's, without PYTHON* settings: a user's Python keeps its compiled modules."""
    return {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}


def median(costs: Sequence[Cost]) -> Cost:
    return Cost(
        statistics.median(cost.wall for cost in costs),
        statistics.median(cost.cpu for cost in costs),
    )


def _time_of_orphans() -> float:
    total = 0.0
    while True:
        try:
            pid, _, usage = os.wait4(-1, os.WNOHANG)
        except ChildProcessError:
            return total
        if not pid:  # the registry, which lives on
            return total
        total += usage.ru_utime + usage.ru_stime
