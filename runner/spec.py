"""What the runner is told and what it answers: a Sandbox, a Process, an Exit. Plain data."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol

from runner.capabilities import DEFAULT_CAPABILITIES

# Namespaces that are new for each sandbox; without "network" the host's network is used.
# The value of a name is None for a new namespace, or the path of one to join.
NO_NETWORK: Mapping[str, str | None] = dict.fromkeys(
    ("mount", "pid", "ipc", "uts", "cgroup", "network")
)
HOST_NETWORK: Mapping[str, str | None] = dict.fromkeys(("mount", "pid", "ipc", "uts", "cgroup"))

# moby, oci/defaults.go: what leaks or controls the host through /proc and /sys.
MASKED_PATHS = (
    "/proc/acpi",
    "/proc/asound",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
)
READONLY_PATHS = (
    "/proc/bus",
    "/proc/fs",
    "/proc/irq",
    "/proc/sys",
    "/proc/sysrq-trigger",
)

SETUP_FAILED = 125  # the sandbox could not be made; docker's status for it
TIMED_OUT = 124  # as timeout(1)
NOT_EXECUTABLE = 126  # as a shell
NOT_FOUND = 127  # as a shell


@dataclass(frozen=True, slots=True)
class Mount:
    """
    A mount in the runtime-spec's terms.

    *type* is ``bind``, ``tmpfs`` or ``overlay``. The source of a bind is a host path, or ``fd:N``
    for a file or directory that the caller of start() holds open as descriptor N; N may be closed
    when start() has returned. Options of a bind: ``ro``, ``nosuid``, ``nodev``, ``noexec``,
    ``rbind``; of a tmpfs these and ``size=``, ``mode=``, ``uid=``, ``gid=``, ``nr_inodes=``; of an
    overlay what fsconfig(2) takes: ``lowerdir+=/path`` (top first), ``upperdir=``, ``workdir=``,
    ``volatile``, ``index=off``, ….
    """

    type: str
    source: str
    target: str  # absolute, inside the root
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Limits:
    """Cgroup limits; None is no limit."""

    memory: int | None = None  # bytes
    swap: int | None = None  # bytes, beside memory
    pids: int | None = None
    cpus: float | None = None  # of one processor


@dataclass(frozen=True, slots=True)
class Sandbox:
    """All the runner needs to know of one command, and all it is told."""

    argv: tuple[str, ...]
    root: tuple[Mount, ...]  # one mount, target "/": an overlay or a bind
    env: tuple[str, ...] = ()  # NAME=value
    cwd: str = "/"  # must exist
    uid: int = 0
    gid: int = 0
    groups: tuple[int, ...] = ()
    mounts: tuple[Mount, ...] = ()  # on top of root, /proc, /sys and /dev, in this order
    namespaces: Mapping[str, str | None] = field(
        default_factory=lambda: dict(NO_NETWORK), hash=False
    )
    capabilities: frozenset[str] = DEFAULT_CAPABILITIES
    seccomp: bool = True  # the default profile
    no_new_privs: bool = False  # as Docker: sudo works
    hostname: str = "buildkitsandbox"
    read_only: bool = False  # the root; mounts have their own "ro"
    # RLIMIT names without the prefix, in lower case ("nofile"), to (soft, hard); -1 is unlimited
    rlimits: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)
    hosts: bytes | None = None  # /etc/hosts, read-only; None: the image's own
    resolv_conf: bytes | None = None  # /etc/resolv.conf, read-only; None: the image's own
    terminal: bool = False  # a new terminal is stdin, stdout and stderr
    timeout: float | None = None  # seconds from start to the end of the whole tree
    grace: float = 0.0  # seconds between SIGTERM and SIGKILL when the time is up
    shm_size: int = 64 << 20  # bytes of /dev/shm
    limits: Limits = Limits()
    masked_paths: tuple[str, ...] = MASKED_PATHS
    readonly_paths: tuple[str, ...] = READONLY_PATHS


@dataclass(frozen=True, slots=True)
class Exit:
    """How a sandbox ended."""

    status: int  # as a shell reports it: 128+n for signal n; 124, 125, 126, 127 as above
    error: str = ""  # why the command was not executed, or why it was ended
    oom: bool = False  # the memory limit killed a process of the sandbox
    maxrss: int = 0  # bytes, of the largest process
    user: float = 0.0  # seconds of CPU of the whole tree
    system: float = 0.0  # seconds of CPU of the whole tree


class Process(Protocol):
    """A sandbox that was started."""

    @property
    def pid(self) -> int:
        """The host's process id of the sandbox's PID 1; 0 if it came to none."""

    @property
    def terminal(self) -> int | None:
        """The master side of the sandbox's terminal, if one was asked for; the caller closes it."""

    def wait(self, timeout: float | None = None) -> Exit:
        """
        The end, once every process of the sandbox is gone. TimeoutError after *timeout* seconds.

        Output pipes are at their end then, too. May be called again, and from many threads.
        """

    def kill(self, signal: int) -> None:
        """
        Send *signal* to the command's process group; SIGKILL ends the whole sandbox.

        Nothing happens if the sandbox has ended.
        """


class Runner(Protocol):
    """Something that starts sandboxes; start() may be called from many threads."""

    def start(self, sandbox: Sandbox, stdin: int, stdout: int, stderr: int) -> Process:
        """
        Start *sandbox* on three open descriptors, which stay the caller's.

        What goes wrong before the command is executed is in the Exit, not raised. Invalid for a
        Sandbox that makes no sense, Unsupported for one that this runner cannot have. The sandbox
        dies with the calling process, and with the Process value.
        """

    def warm(self) -> None:
        """Get ready for the first start(), which then waits for nothing."""

    def close(self) -> None:
        """Give back what start() shared between sandboxes. Sandboxes still running go on."""
