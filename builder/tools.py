"""What steps are executed with: the store, snapshots, a runner, the context, a clock."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from builder.cache import Cache
from builder.context import LocalContext
from builder.events import OnEvent
from builder.stack import Stack
from layers.session import Session
from layers.snapshots import SnapshotID, Snapshots
from layers.store import Store
from ocispec.errors import Cancelled
from runner.spec import Process, Runner


@dataclass(frozen=True, slots=True)
class StepSettings:
    """How the commands of a build run, as the command line has it; never part of a key."""

    network: str = "default"  # default, none, host
    add_hosts: tuple[tuple[str, str], ...] = ()  # name, address
    shm_size: int = 64 << 20  # bytes
    rlimits: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)
    resolv_conf: bytes = b""  # of this machine


class Running:
    """The processes that run now, so that a failure or Ctrl-C can end them. Guards its set."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[Process] = set()
        self._stopped = False

    def add(self, process: Process) -> None:
        """Note *process*; it is killed at once if the build was stopped meanwhile."""
        with self._lock:
            self._processes.add(process)
            stopped = self._stopped
        if stopped:
            process.kill(9)

    def remove(self, process: Process) -> None:
        with self._lock:
            self._processes.discard(process)

    def stop(self) -> None:
        """Kill what runs, and what will be added."""
        with self._lock:
            self._stopped = True
            processes = list(self._processes)
        for process in processes:
            process.kill(9)

    def check(self) -> None:
        """Raise Cancelled if the build was stopped."""
        with self._lock:
            if self._stopped:
                raise Cancelled("the build was stopped")


@dataclass(frozen=True, slots=True)
class Tools:
    """Everything with an effect that a build's steps need; shared by its threads."""

    store: Store
    session: Session
    cache: Cache
    snapshots: Callable[[], Snapshots]  # opened on first use
    runner: Callable[[], Runner]  # started on first use
    context: LocalContext
    on_event: OnEvent
    clock: Callable[[], float]  # seconds since 1970
    platform: str
    settings: StepSettings
    running: Running = field(default_factory=Running)

    def unpacked(self, stack: Stack) -> SnapshotID | None:
        """The snapshot of *stack*, pinned; layers that are only in their tars are unpacked."""
        snapshots = self.snapshots()
        have = stack
        while have.snapshot is not None and not self.session.pin_snapshot(have.snapshot):
            have = have.parent()
        parent = None if have.snapshot is None else SnapshotID(have.snapshot)
        for made in stack.layers[len(have.layers) :]:
            self.running.check()
            parent = snapshots.unpack(parent, made.layer, self.store, self.session)
        return parent
