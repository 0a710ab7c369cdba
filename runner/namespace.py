"""The runner of this package: Linux namespaces, by a zygote."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import threading
import time
from typing import Any

from ocispec.errors import Unavailable, Unsupported
from runner import wire
from runner.spec import SETUP_FAILED, Exit, Sandbox
from runner.zygote import Zygote

_MAX_MESSAGE = 1 << 16
_LOST = {"status": SETUP_FAILED, "error": "the monitor of the sandbox was killed"}
# SIGSTOP would stop PID 1 instead of the command, and SIGCHLD means something else to it.
_CAN_BE_SENT = frozenset(signal.valid_signals()) - {signal.SIGSTOP, signal.SIGCHLD}


class NamespaceRunner:
    """A Runner. Safe to use from many threads: the lock guards the zygote and the line to it."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._zygote: Zygote | None = None

    def start(self, sandbox: Sandbox, stdin: int, stdout: int, stderr: int) -> NamespaceProcess:
        request, extra = wire.encode(sandbox)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            with theirs:
                file = wire.in_memory(request)
                try:
                    self._send([file, theirs.fileno(), stdin, stdout, stderr, *extra])
                finally:
                    os.close(file)
            return NamespaceProcess(ours, terminal=sandbox.terminal)
        except BaseException:
            ours.close()
            raise

    def warm(self) -> None:
        """Start the zygote now, so that the first start() finds it ready."""
        with self._lock:
            if self._zygote is None:
                self._zygote = Zygote()

    def close(self) -> None:
        with self._lock:
            if self._zygote is not None:
                self._zygote.close()
                self._zygote = None

    def _send(self, descriptors: list[int]) -> None:
        with self._lock:
            if self._zygote is None:
                self._zygote = Zygote()
            try:
                self._zygote.send(descriptors)
            except Unavailable:
                # Something ended it since the last time; a new one may do.
                self._zygote.close()
                self._zygote = None
                self._zygote = Zygote()
                self._zygote.send(descriptors)


class NamespaceProcess:
    """A Process: the line to the sandbox's monitor. The lock guards reading from it."""

    def __init__(self, line: socket.socket, *, terminal: bool) -> None:
        self._line = line
        self._lock = threading.Lock()
        self._exit: Exit | None = None
        # Guards the line against being closed under a kill(), which may come from a signal handler
        # of the very thread that is in wait().
        self._sending = threading.RLock()
        self.pid = 0
        self.terminal: int | None = None
        while self._exit is None and not (self.pid and (self.terminal is not None or not terminal)):
            self._receive()

    def wait(self, timeout: float | None = None) -> Exit:
        deadline = None if timeout is None else time.monotonic() + timeout
        if not self._lock.acquire(timeout=-1 if timeout is None else timeout):
            raise TimeoutError("the sandbox has not ended")
        try:
            while self._exit is None:
                if deadline is not None and not _readable(self._line, deadline):
                    raise TimeoutError("the sandbox has not ended")
                self._receive()
            return self._exit
        finally:
            self._lock.release()

    def kill(self, signal: int) -> None:
        if signal not in _CAN_BE_SENT:
            raise Unsupported(f"signal {signal} cannot be sent to a sandbox")
        with self._sending:
            if self._exit is None:
                # The monitor may have ended this moment; its last message is still to be read.
                with contextlib.suppress(BrokenPipeError, ConnectionResetError):
                    self._line.send(str(int(signal)).encode())

    def _receive(self) -> None:
        flags = socket.MSG_CMSG_CLOEXEC
        data, descriptors, _, _ = socket.recv_fds(self._line, _MAX_MESSAGE, 1, flags)
        if descriptors:
            (self.terminal,) = descriptors
            return
        message: dict[str, Any] = json.loads(data) if data else _LOST
        if "pid" in message:
            self.pid = message["pid"]
            return
        with self._sending:
            self._exit = Exit(**message)
            self._line.close()


def _readable(line: socket.socket, deadline: float) -> bool:
    poll = select.poll()
    poll.register(line, select.POLLIN)
    return bool(poll.poll(max(0.0, deadline - time.monotonic()) * 1000))
