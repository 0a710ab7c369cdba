"""PID 1 of a sandbox: makes the root, starts the command, reaps, passes signals on."""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket

from runner.inside import command, linux, rootfs, terminal

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from runner.inside.request import Request
    from runner.inside.rootfs import Sources

_SETUP_FAILED = 125  # see runner/spec.py


class Inherited:
    """Descriptors that the monitor hands down."""

    def __init__(
        self,
        client: socket.socket,
        alive: int,
        status: int,
        stdio: tuple[int, int, int],
        cgroups: list[int],
    ) -> None:
        self.client = client
        self.alive = alive  # at its end when the monitor is gone
        self.status = status  # takes the one line of how the command ended
        self.stdio = stdio
        self.cgroups = cgroups  # cgroup.procs files to join


def run(request: Request, sources: Sources, given: Inherited, *, devices: bool) -> NoReturn:
    """Does not return: the kernel ends the rest of the pid namespace with it."""
    try:
        text = _run(request, sources, given, devices=devices)
    except command.Stopped as stopped:
        text = f"{stopped.status} {stopped.text}"
    except BaseException as error:  # noqa: BLE001
        # Nothing may unwind into the monitor's code, of which this process is a copy.
        text = f"{_SETUP_FAILED} {explain(error)}"
    os.write(given.status, text.encode(errors="surrogateescape")[: select.PIPE_BUF])
    os._exit(0)


def explain(error: BaseException) -> str:
    if isinstance(error, OSError) and error.strerror:
        return f"{error.strerror}: {error.filename}" if error.filename else error.strerror
    return f"{type(error).__name__}: {error}"


def _run(request: Request, sources: Sources, given: Inherited, *, devices: bool) -> str:
    _tie_to(given.alive)
    for group in given.cgroups:
        os.write(group, b"0")
    namespaces = request["namespaces"]
    linux.unshare(linux.NEWNS | (linux.NEWCGROUP if "cgroup" in namespaces else 0))
    linux.mount(None, b"/", None, linux.MS_REC | linux.MS_SLAVE, None)
    mounted = rootfs.build(request, sources, devices=devices)
    stdio = given.stdio
    if request["terminal"]:
        master, slave = terminal.open_pair(mounted, request["uid"])
        socket.send_fds(given.client, [b"terminal"], [master])
        os.close(master)
        stdio = (slave, slave, slave)
    given.client.close()
    rootfs.pivot(mounted.root)
    pid = _start(request, stdio)
    given.status = _close_all_but(given.status)
    return _supervise(pid)


def _tie_to(alive: int) -> None:
    linux.prctl(linux.PR_SET_PDEATHSIG, signal.SIGKILL)
    # Died before that? Then the other end of the pipe is closed; a poll says so at once.
    poll = select.poll()
    poll.register(alive, 0)
    if poll.poll(0):
        os._exit(_SETUP_FAILED)
    linux.prctl(linux.PR_SET_NAME, b"pybuild-init")
    # Hides this process's /proc/1/{exe,root,cwd,environ,fd} from the command.
    linux.prctl(linux.PR_SET_DUMPABLE, 0)


def _start(request: Request, stdio: tuple[int, int, int]) -> int:
    """The command's process id, once it has been executed."""
    reading, writing = os.pipe2(os.O_CLOEXEC)
    pid = os.fork()
    if pid == 0:
        try:
            command.execute(request, stdio)
        except command.Stopped as stopped:
            text = f"{stopped.status} {stopped.text}"
        except BaseException as error:  # noqa: BLE001
            text = f"{_SETUP_FAILED} {explain(error)}"
        os.write(writing, text.encode(errors="surrogateescape")[: select.PIPE_BUF])
        os._exit(_SETUP_FAILED)
    os.close(writing)
    for fd in set(stdio):
        os.close(fd)
    said = os.read(reading, select.PIPE_BUF)  # at its end when execve has closed it
    os.close(reading)
    if said:
        status, _, what = said.decode(errors="surrogateescape").partition(" ")
        raise command.Stopped(int(status), what)
    return pid


def _close_all_but(fd: int) -> int:
    """Keep *fd*, and nothing else that the command might come to through this process."""
    first = 3
    if fd != first:
        os.dup2(fd, first, inheritable=False)
    linux.close_from(first + 1)
    return first


def _supervise(pid: int) -> str:
    """Reap whatever ends, until it is the command; pass every other signal on to its group."""
    signals = signal.valid_signals()
    while True:
        number = signal.sigwait(signals)
        if number != signal.SIGCHLD:
            _pass_on(pid, number)
            continue
        while (ended := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG)) is not None:
            if ended.si_pid == pid:
                killed = ended.si_code != os.CLD_EXITED
                return f"{ended.si_status + 128 if killed else ended.si_status} "


def _pass_on(pid: int, number: int) -> None:
    with contextlib.suppress(ProcessLookupError):  # it has just ended: SIGCHLD is next
        os.killpg(pid, number)
