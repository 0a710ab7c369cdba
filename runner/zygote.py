"""Starts the zygote and hands it requests; runner/inside/zygote.py is the other end."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import socket
import sys

from ocispec.errors import Unavailable, Unsupported
from runner.inside import linux
from runner.inside.request import CONTROL, INTERPRETER

_BOOTSTRAP = (
    "import sys; sys.path.append(sys.argv[1]); from runner.inside.zygote import main; main()"
)
_FIRST_SAFE = 10  # above the numbers that the zygote gets its descriptors under


class Zygote:
    """One zygote process. It ends when this value is closed, or with this process."""

    def __init__(self) -> None:
        executable = os.path.realpath(sys.executable)
        self._messages = os.memfd_create("pybuild-zygote-stderr", os.MFD_CLOEXEC)
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        try:
            interpreter = _read_only_clone(executable)
            try:
                self.pid = _spawn(executable, interpreter, theirs.fileno(), self._messages)
            finally:
                os.close(interpreter)
        except (OSError, Unsupported):
            self._control.close()
            os.close(self._messages)
            raise
        finally:
            theirs.close()

    def send(self, descriptors: list[int]) -> None:
        """Hand over a request. Unavailable if the zygote has ended."""
        try:
            socket.send_fds(self._control, [b"r"], descriptors)
        except (BrokenPipeError, ConnectionResetError):
            size = os.fstat(self._messages).st_size
            said = os.pread(self._messages, 4096, max(0, size - 4096)).decode(errors="replace")
            last = said.strip().rpartition("\n")[2]
            raise Unavailable(f"the process that starts sandboxes has ended: {last}") from None

    def close(self) -> None:
        self._control.close()
        os.close(self._messages)
        os.waitpid(self.pid, 0)


def _read_only_clone(executable: str) -> int:
    """
    A descriptor of *executable* on a mount that nobody can write to.

    A sandbox that gets hold of its interpreter by /proc/self/exe could overwrite the host's, else
    (runc, CVE-2019-5736).
    """
    try:
        clone = linux.clone_tree(executable)
        linux.set_attributes(clone, linux.RDONLY | linux.NOSUID | linux.NODEV)
    except OSError as error:
        if error.errno in (errno.EPERM, errno.ENOSYS):
            raise Unsupported(
                f"cannot make sandboxes here: {error.strerror}",
                hint="it takes root with CAP_SYS_ADMIN, and Linux 5.12",
            ) from error
        raise
    return clone


def _spawn(executable: str, interpreter: int, control: int, messages: int) -> int:
    root = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    null = os.open(os.devnull, os.O_RDWR | os.O_CLOEXEC)
    # Copies above all the numbers that are to be taken, so that none is overwritten too early.
    wanted = {0: null, 1: null, 2: messages, CONTROL: control, INTERPRETER: interpreter}
    copies = {
        number: fcntl.fcntl(fd, fcntl.F_DUPFD_CLOEXEC, _FIRST_SAFE) for number, fd in wanted.items()
    }
    try:
        return os.posix_spawn(
            f"/proc/self/fd/{copies[INTERPRETER]}",
            # The name is where Python finds its library from; -I -S: no environment, no site.
            [executable, "-I", "-S", "-c", _BOOTSTRAP, root],
            # A private build of Python may find its own library by this only.
            {name: os.environ[name] for name in ("LD_LIBRARY_PATH",) if name in os.environ},
            file_actions=[(os.POSIX_SPAWN_DUP2, fd, number) for number, fd in copies.items()],
            setsid=True,  # ^C at the caller's terminal is the caller's to pass on
            setsigdef=[signal.SIGPIPE],
        )
    finally:
        os.close(null)
        for fd in copies.values():
            os.close(fd)
