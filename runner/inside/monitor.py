"""
The monitor of one sandbox: outside of it, between the caller and its PID 1.

Holds the deadline, the line to the caller, and what must be taken away at the end.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import signal
import socket
import struct
import time

from runner.inside import cgroup, init, linux, rootfs

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from runner.inside.request import Request

_SETUP_FAILED, _TIMED_OUT = 125, 124  # see runner/spec.py
_KILLED = 128 + signal.SIGKILL
_NEW = {
    "pid": linux.NEWPID,
    "ipc": linux.NEWIPC,
    "uts": linux.NEWUTS,
    "network": linux.NEWNET,
}
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 0x1  # linux/sockios.h, linux/if.h
_FIXED = 5  # request, line to the caller, and three for the command


def run(received: list[int], shared: cgroup.Shared) -> NoReturn:
    """*received*: the request's file, the line to the caller, stdin, stdout, stderr, the rest."""
    line = socket.socket(fileno=received[1])
    answer: dict[str, object] = {"status": _SETUP_FAILED, "error": "", "oom": False}
    try:
        with open(received[0], "rb") as file:  # noqa: PTH123
            request: Request = json.load(file)
        answer |= _run(request, received, line, shared)
    except BaseException as error:  # noqa: BLE001
        # Nothing may unwind into the zygote's code, of which this process is a copy.
        answer["error"] = init.explain(error)
    _tell(line, answer)
    os._exit(0)


def _run(
    request: Request, received: list[int], line: socket.socket, shared: cgroup.Shared
) -> dict[str, object]:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)  # the zygote ignores it
    extra = dict(zip(request["fds"], received[_FIXED:], strict=True))
    sources = rootfs.open_sources(request, extra)
    stdio = received[2], received[3], received[4]
    group = shared.group(request["limits"])
    try:
        placeholders = rootfs.prepare(request, sources)
        try:
            _enter_namespaces(request)
            pid, status = _fork_init(request, sources, stdio, line, group)
            try:
                for fd in (*stdio, *extra.values()):
                    os.close(fd)
                _tell(line, {"pid": pid})
                why = _watch(pid, line, request["timeout"], request["grace"])
            finally:
                os.kill(pid, signal.SIGKILL)  # nothing new to one that has ended
                usage = os.wait4(pid, 0)[2]
            answer = _answer(os.read(status, select.PIPE_BUF), why, request["timeout"])
        finally:
            placeholders.remove()
        answer["oom"] = group.ran_out_of_memory()
    finally:
        group.remove()
    answer |= {"maxrss": usage.ru_maxrss << 10, "user": usage.ru_utime, "system": usage.ru_stime}
    return answer


def _tell(line: socket.socket, message: dict[str, object]) -> None:
    with contextlib.suppress(BrokenPipeError, ConnectionResetError):  # the caller is gone
        line.send(json.dumps(message).encode())


def _enter_namespaces(request: Request) -> None:
    namespaces = request["namespaces"]
    for name, path in namespaces.items():
        if name in _NEW and path is not None:
            fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            linux.setns(fd, _NEW[name])
            os.close(fd)
    new = [name for name, path in namespaces.items() if name in _NEW and path is None]
    linux.unshare(sum(_NEW[name] for name in new))
    if "network" in new:
        _raise_loopback()
    if "uts" in new:
        linux.sethostname(os.fsencode(request["hostname"]))


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as control:
        fcntl.ioctl(control, _SIOCSIFFLAGS, struct.pack("16sh22x", b"lo", _IFF_UP))


def _fork_init(
    request: Request,
    sources: rootfs.Sources,
    stdio: tuple[int, int, int],
    line: socket.socket,
    group: cgroup.Group,
) -> tuple[int, int]:
    """The host's process id of PID 1, and where the line of its end is read."""
    alive, holding = os.pipe2(os.O_CLOEXEC)
    status, reporting = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        os.close(holding)
        os.close(status)
        given = init.Inherited(line, alive, reporting, stdio, group.joins)
        init.run(request, sources, given, devices=group.filters_devices)
    os.close(alive)
    os.close(reporting)
    return pid, status  # and holding stays open as long as this process lives


def _watch(pid: int, line: socket.socket, timeout: float | None, grace: float) -> str:
    """Until PID 1 has ended: pass signals on, keep the deadline. Why it was ended, if it was."""
    pidfd = os.pidfd_open(pid)
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.register(line, select.POLLIN)
    deadline = None if timeout is None else time.monotonic() + timeout
    why = ""
    while True:
        left = None if deadline is None else max(0.0, deadline - time.monotonic()) * 1000
        ready = {fd for fd, _ in poll.poll(left)}
        if pidfd in ready:
            os.close(pidfd)
            return why
        if not ready and why != "timeout" and grace:
            deadline, why = time.monotonic() + grace, "timeout"
            signal.pidfd_send_signal(pidfd, signal.SIGTERM)
        elif not ready:
            deadline, why = None, "timeout"
            signal.pidfd_send_signal(pidfd, signal.SIGKILL)
        else:
            number = int(line.recv(16) or signal.SIGKILL)  # at its end: the caller is gone
            why = why or ("killed" if number == signal.SIGKILL else "")
            if number == signal.SIGKILL:
                poll.unregister(line)
            signal.pidfd_send_signal(pidfd, number)


def _answer(said: bytes, why: str, timeout: float | None) -> dict[str, object]:
    if why == "timeout":
        return {"status": _TIMED_OUT, "error": f"timed out after {timeout:g} s"}
    if said:
        status, _, error = said.decode(errors="surrogateescape").partition(" ")
        return {"status": int(status), "error": error}
    if why == "killed":
        return {"status": _KILLED, "error": ""}
    return {"status": _KILLED, "error": "PID 1 of the sandbox was killed"}
