"""The command: what is done between the last fork and execve, all of it inside the sandbox."""

from __future__ import annotations

import errno
import fcntl
import os
import resource
import signal
import stat
import termios

from runner.inside import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import NoReturn

    from runner.inside.request import Request

_DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_CAP_SYS_ADMIN = 1 << 21
_SETUP_FAILED, _NOT_EXECUTABLE, _NOT_FOUND = 125, 126, 127  # see runner/spec.py


class Stopped(Exception):
    """The command was not executed."""

    def __init__(self, status: int, text: str) -> None:
        super().__init__(text)
        self.status = status
        self.text = text


def execute(request: Request, stdio: tuple[int, int, int]) -> NoReturn:
    """Become the command. Stopped, or OSError for what a sandbox must be able to do."""
    os.setsid()
    _take_stdio(request, stdio)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())  # init has blocked all
    for name, number, soft, hard in request["rlimits"]:
        try:
            resource.setrlimit(number, (soft, hard))
        except (ValueError, OSError) as error:  # Python makes ValueError of EPERM, too
            raise Stopped(_SETUP_FAILED, f"resource limit {name}: {error}") from None
    os.umask(0o022)
    _take_identity(request)
    environment = dict(entry.split("=", 1) for entry in request["env"])
    _confine(request)
    linux.close_on_exec_from(3)
    _execute(request["argv"], environment)


def _take_stdio(request: Request, stdio: tuple[int, int, int]) -> None:
    for number, fd in enumerate(stdio):
        os.dup2(fd, number)
        # Else the user could not open /dev/stdout, which leads to a pipe of root's.
        if request["uid"] and stat.S_ISFIFO(os.fstat(number).st_mode):
            os.fchown(number, request["uid"], -1)
    if request["terminal"]:
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)


def _take_identity(request: Request) -> None:
    """
    The user, the capabilities and the working directory.

    The directory is entered before the privileges are gone, as runc does: images have a WORKDIR
    that their USER may not enter.
    """
    linux.new_session_keyring()
    keep = request["capabilities"] & linux.permitted_capabilities()
    linux.drop_bounding(keep)
    denied = _enter(request["cwd"], may_be_denied=True)
    os.setgroups(request["groups"])
    os.setresgid(request["gid"], request["gid"], request["gid"])
    if request["no_new_privs"]:
        linux.prctl(linux.PR_SET_NO_NEW_PRIVS, 1)
    else:
        # Loading a filter takes CAP_SYS_ADMIN then; it is given up right afterwards.
        linux.prctl(linux.PR_SET_KEEPCAPS, 1)
    os.setresuid(request["uid"], request["uid"], request["uid"])
    if denied:
        _enter(request["cwd"], may_be_denied=False)


def _enter(path: str, *, may_be_denied: bool) -> bool:
    """
    Change to *path*; whether that was denied.

    A link in it leads nowhere outside, and magic links nowhere at all: /proc/self/fd/7 may be a
    directory of the host (runc, CVE-2024-21626).
    """
    root = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        directory = linux.open_in_root(root, path, os.O_PATH | os.O_DIRECTORY)
        os.fchdir(directory)
        os.close(directory)
        if not os.getcwd().startswith("/"):
            raise Stopped(_SETUP_FAILED, f"working directory {path}: outside of the root")
    except OSError as error:
        if may_be_denied and error.errno == errno.EACCES:
            return True
        status = _status(error)
        code = error.errno or errno.EIO
        raise Stopped(status, f"working directory {path}: {os.strerror(code)}") from None
    finally:
        os.close(root)
    return False


def _confine(request: Request) -> None:
    """The filter as late as may be: it need not allow what came before."""
    permitted = linux.permitted_capabilities()
    keep = request["capabilities"] & permitted
    if request["filter"]:
        if not request["no_new_privs"]:
            lasting = _CAP_SYS_ADMIN & permitted
            linux.set_capabilities(lasting | keep, lasting | keep)
        linux.load_filter(bytes.fromhex(request["filter"]))
    if request["uid"]:
        keep = 0
    linux.set_capabilities(keep, keep)


def _execute(argv: list[str], environment: dict[str, str]) -> NoReturn:
    name = argv[0]
    if "/" in name:
        candidates = [name]
    else:
        path = environment.get("PATH", _DEFAULT_PATH)
        candidates = [f"{directory}/{name}" for directory in path.split(":") if directory]
    worst: OSError = FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), name)
    for candidate in candidates:
        try:
            os.execve(candidate, argv, environment)
        except OSError as error:
            # execvp(3): go on past what is not there or not allowed, but remember the latter.
            if error.errno == errno.EACCES:
                worst = error
            elif error.errno not in (errno.ENOENT, errno.ENOTDIR):
                worst = error
                break
            elif "/" in name:
                worst = error
    what = os.strerror(worst.errno or errno.EIO)
    if worst.errno == errno.ENOENT and "/" not in name:
        what = "not found in PATH"
    raise Stopped(_status(worst), f"{name}: {what}")


def _status(error: OSError) -> int:
    return _NOT_FOUND if error.errno in (errno.ENOENT, errno.ENOTDIR) else _NOT_EXECUTABLE
