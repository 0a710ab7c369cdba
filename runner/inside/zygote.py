"""
The zygote: one thread, everything imported, forks a monitor for each request.

Forking from the builder itself would copy its memory map and whatever locks its threads hold.
"""

from __future__ import annotations

import gc
import os
import signal
import socket
import sys

from runner.inside import cgroup, linux, monitor
from runner.inside.request import CONTROL, INTERPRETER

_MAX_DESCRIPTORS = 253  # unix(7), SCM_MAX_FD


def main() -> None:
    """Serve until the other end of the control socket is closed."""
    linux.close_from(INTERPRETER + 1)
    # Whoever finds /proc/self/exe in the image executes this interpreter: not any more.
    linux.set_attributes(INTERPRETER, linux.RDONLY | linux.NOSUID | linux.NODEV | linux.NOEXEC)
    _freeze_imports()
    _reset_signals()
    gc.disable()
    gc.freeze()
    shared = cgroup.Shared.enter()
    control = socket.socket(fileno=CONTROL)
    flags = socket.MSG_CMSG_CLOEXEC
    while True:
        data, received, _, _ = socket.recv_fds(control, 1, _MAX_DESCRIPTORS, flags)
        if not data:
            shared.leave()
            return
        if os.fork() == 0:
            control.close()
            os.close(INTERPRETER)
            monitor.run(received, shared)
        for fd in received:
            os.close(fd)


def _freeze_imports() -> None:
    """
    From here on, an import finds what is loaded, or nothing.

    After pivot_root a module that is looked up by path would come from the image, and run as PID 1
    with every capability.
    """
    sys.path[:] = []
    sys.path_hooks[:] = []
    sys.path_importer_cache.clear()
    sys.meta_path[:] = []


def _reset_signals() -> None:
    """Block all, which forked processes need from the first instruction on; let none be ignored."""
    signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
    for number in range(1, signal.NSIG):
        if number not in (signal.SIGKILL, signal.SIGSTOP):
            linux.stop_ignoring(number)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # so that the kernel reaps the monitors
