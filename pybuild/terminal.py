"""Joins this process's terminal with a container's."""

from __future__ import annotations

import fcntl
import os
import select
import signal
import struct
import termios
import tty
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

from runner.spec import Process

if TYPE_CHECKING:
    from types import FrameType

_BLOCK: Final = 1 << 16


def serve(process: Process, source: int | None, target: int) -> None:
    """
    Copy between *process*'s terminal and the descriptors *source* and *target* until it ends.

    A *source* that is a terminal gives up its line editing meanwhile: keys such as Ctrl-C go to
    the container, whose terminal makes signals of them. None is no input.
    """
    master = process.terminal
    if master is None:
        return
    with _raw(source), _resized(master, target):
        try:
            _copy(master, source, target)
        finally:
            os.close(master)


def _copy(master: int, source: int | None, target: int) -> None:
    readers = [master] if source is None else [master, source]
    while True:
        ready, _, _ = select.select(readers, [], [])
        if master in ready:
            try:
                data = os.read(master, _BLOCK)
            except OSError:  # EIO: the last process has closed the other side
                return
            if not data:
                return
            _write_all(target, data)
        if source is not None and source in ready:
            data = os.read(source, _BLOCK)
            if not data:
                readers.remove(source)
                data = b"\x04"  # what a terminal sends for the end of input
            with suppress(OSError):
                _write_all(master, data)


def _write_all(fd: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(fd, view) :]


@contextmanager
def _raw(fd: int | None) -> Iterator[None]:
    if fd is None or not os.isatty(fd):
        yield
        return
    before = termios.tcgetattr(fd)
    try:
        tty.setraw(fd)
        yield
    finally:
        termios.tcsetattr(fd, termios.TCSADRAIN, before)


@contextmanager
def _resized(master: int, target: int) -> Iterator[None]:
    """The container's terminal has the size of *target*, also when that changes."""
    if not os.isatty(target):
        yield
        return

    def resize(number: int, frame: FrameType | None) -> None:
        del number, frame
        size = fcntl.ioctl(target, termios.TIOCGWINSZ, bytes(struct.calcsize("HHHH")))
        with suppress(OSError):  # it may have ended meanwhile
            fcntl.ioctl(master, termios.TIOCSWINSZ, size)

    resize(0, None)
    before = signal.signal(signal.SIGWINCH, resize)
    try:
        yield
    finally:
        signal.signal(signal.SIGWINCH, before)
