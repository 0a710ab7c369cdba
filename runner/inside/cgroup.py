"""
Control groups, version 1 and 2: a device filter for all sandboxes, and limits for one.

Every group is a directory named pybuild-…, locked by its owner as long as that lives, so that what
a killed owner left can be told and taken away.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import select

from runner.inside import devices

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Collection, Mapping
    from typing import TypeAlias

    from runner.inside.request import LimitsRequest

    Files: TypeAlias = list[tuple[str, str]]  # name and value, in the order to write

_PREFIX = "pybuild-"
_PERIOD = 100_000  # microseconds
_MOMENT = 200  # milliseconds


class Hierarchies:
    """The directories of this process's own groups, in version 2 and in those of version 1."""

    def __init__(self, unified: str | None, controllers: Mapping[str, str], top: str = "") -> None:
        self.unified = unified
        self.controllers = controllers
        self.top = top  # where version 2 is mounted


class Shared:
    """What all sandboxes of a zygote have in common: the devices that they may use."""

    def __init__(self, hierarchies: Hierarchies) -> None:
        self._hierarchies = hierarchies
        self._program: int | None = None
        self._directory: Directory | None = None

    @classmethod
    def enter(cls) -> Shared:
        """
        Put this process, and so all that it forks, under the device filter if there can be one.

        Entering once costs less than moving every sandbox: a move waits for all processors.
        """
        with open("/proc/self/mountinfo") as info, open("/proc/self/cgroup") as membership:  # noqa: PTH123
            shared = cls(find(info.read(), membership.read()))
        for way in (shared._enter_version_2, shared._enter_version_1):
            # Whatever the reason, there is then another way, and the last one needs no group:
            # sandboxes without a filter get no device nodes but those of /dev.
            with contextlib.suppress(OSError):
                way()
                break
        return shared

    @property
    def filters_devices(self) -> bool:
        return self._directory is not None

    def leave(self) -> None:
        """Back to where enter() came from, so that the group can be removed."""
        if self._directory is not None:
            parent = f"{os.path.dirname(self._directory.path)}/cgroup.procs"
            file = os.open(parent, os.O_WRONLY | os.O_CLOEXEC)
            os.write(file, b"0")
            os.close(file)
            self._directory.wait_until_empty()
            self._directory.remove()

    def group(self, limits: LimitsRequest) -> Group:
        """A group with *limits*, to be removed by the caller; without any, it is none."""
        settings = settings_for(limits)
        if not settings:
            return Group([], filters_devices=self.filters_devices)
        one, two = self._hierarchies.controllers, self._hierarchies.unified
        group = Group([], filters_devices=self.filters_devices)
        try:
            if settings.keys() <= one.keys():
                for name, files in settings.items():
                    group.add(Directory(one[name])).apply(files[0])
            elif two is not None:
                parent = parent_for(two, self._hierarchies.top, settings.keys())
                directory = group.add(Directory(parent))
                if self._program is not None:
                    devices.attach(self._program, directory.fd)
                for files in settings.values():
                    directory.apply(files[1])
            else:
                raise _unavailable(settings)
        except OSError:
            group.remove()
            raise
        return group

    def _enter_version_2(self) -> None:
        if self._hierarchies.unified is None:
            raise OSError(errno.ENOENT, "no cgroup version 2")
        directory = Directory(self._hierarchies.unified)
        try:
            self._program = devices.load()
            devices.attach(self._program, directory.fd)
            os.write(directory.procs, b"0")
        except OSError:
            directory.remove()
            raise
        self._directory = directory

    def _enter_version_1(self) -> None:
        if "devices" not in self._hierarchies.controllers:
            raise OSError(errno.ENOENT, "no devices controller")
        directory = Directory(self._hierarchies.controllers["devices"])
        try:
            directory.write("devices.deny", "a")
            for rule in devices.rules():
                directory.write("devices.allow", rule)
            os.write(directory.procs, b"0")
        except OSError:
            directory.remove()
            raise
        self._directory = directory


class Group:
    """The groups of one sandbox, beside the shared one."""

    def __init__(self, directories: list[Directory], *, filters_devices: bool) -> None:
        self._directories = directories
        self.filters_devices = filters_devices

    @property
    def joins(self) -> list[int]:
        return [directory.procs for directory in self._directories]

    def add(self, directory: Directory) -> Directory:
        self._directories.append(directory)
        return directory

    def ran_out_of_memory(self) -> bool:
        return any(
            directory.counter("memory.oom_control", "oom_kill")  # version 1
            or directory.counter("memory.events", "oom_kill")
            for directory in self._directories
        )

    def remove(self) -> None:
        for directory in self._directories:
            directory.remove()


def find(mountinfo: str, membership: str) -> Hierarchies:
    """From the texts of /proc/self/mountinfo and /proc/self/cgroup; see cgroups(7)."""
    own = {}
    for line in membership.splitlines():
        _, names, path = line.split(":", 2)
        own.update(dict.fromkeys(names.split(","), path))
    unified, top = None, ""
    controllers: dict[str, str] = {}
    for line in mountinfo.splitlines():
        before, _, after = line.partition(" - ")
        root, point = before.split(" ")[3:5]
        kind, _, options = after.split(" ")[:3]
        if kind == "cgroup2" and "" in own and unified is None:
            unified, top = _below(point, root, own[""]), point
        elif kind == "cgroup":
            for name in own.keys() & set(options.split(",")):
                controllers.setdefault(name, _below(point, root, own[name]))
    return Hierarchies(unified, controllers, top)


def _below(point: str, root: str, path: str) -> str:
    rest = path.removeprefix(root.rstrip("/")).strip("/")
    return f"{point}/{rest}" if rest else point


class Directory:
    """A group that we made, locked; *procs* is what a process writes 0 to, to enter it."""

    def __init__(self, parent: str) -> None:
        sweep(parent)
        while True:  # until a sweep has not found it before it was locked
            self.path = f"{parent}/{_PREFIX}{os.urandom(6).hex()}"
            os.mkdir(self.path)
            with contextlib.suppress(FileNotFoundError):
                self.fd = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
                fcntl.flock(self.fd, fcntl.LOCK_SH)
                if os.path.exists(self.path):
                    break
                os.close(self.fd)
        self.procs = os.open("cgroup.procs", os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.fd)

    def write(self, name: str, value: str) -> None:
        file = os.open(name, os.O_WRONLY | os.O_CLOEXEC, dir_fd=self.fd)
        try:
            os.write(file, value.encode())
        except OSError as error:
            code = error.errno or errno.EIO
            raise OSError(code, f"{name} = {value}: {os.strerror(code)}", self.path) from None
        finally:
            os.close(file)

    def apply(self, files: Files) -> None:
        for name, value in files:
            self.write(name, value)

    def counter(self, name: str, key: str) -> int:
        """The number after *key* in the file *name*; 0 if there is none."""
        with contextlib.suppress(FileNotFoundError):
            file = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
            text = os.read(file, 4096).decode()
            os.close(file)
            for line in text.splitlines():
                if line.startswith(f"{key} "):
                    return int(line.split()[1])
        return 0

    def wait_until_empty(self) -> None:
        """For a moment, at most: monitors that have told the end may still be ending themselves."""
        file = os.open("cgroup.procs", os.O_RDONLY | os.O_CLOEXEC, dir_fd=self.fd)
        processes = os.read(file, 4096).split()
        os.close(file)
        for process in processes:
            with contextlib.suppress(ProcessLookupError):
                pidfd = os.pidfd_open(int(process))
                poll = select.poll()
                poll.register(pidfd, select.POLLIN)
                ended = poll.poll(_MOMENT)
                os.close(pidfd)
                if not ended:  # a sandbox that goes on; the next sweep gets the group
                    return

    def remove(self) -> None:
        os.close(self.procs)
        _remove(self.path)
        os.close(self.fd)


def settings_for(limits: LimitsRequest) -> dict[str, tuple[Files, Files]]:
    """Files and values by controller, for version 1 and for version 2, in the order to write."""
    memory, swap, pids, cpus = limits["memory"], limits["swap"], limits["pids"], limits["cpus"]
    settings: dict[str, tuple[Files, Files]] = {}
    if memory is not None or swap is not None:
        one, two = [], [("memory.oom.group", "1")]
        if memory is not None:
            one.append(("memory.limit_in_bytes", str(memory)))
            two.append(("memory.max", str(memory)))
        if swap is not None:
            two.append(("memory.swap.max", str(swap)))
            if memory is not None:  # version 1 has the sum only
                one.append(("memory.memsw.limit_in_bytes", str(memory + swap)))
        settings["memory"] = one, two
    if pids is not None:
        file = ("pids.max", str(pids + 1))  # and our PID 1
        settings["pids"] = [file], [file]
    if cpus is not None:
        quota = str(int(cpus * _PERIOD))
        settings["cpu"] = (
            [("cpu.cfs_period_us", str(_PERIOD)), ("cpu.cfs_quota_us", quota)],
            [("cpu.max", f"{quota} {_PERIOD}")],
        )
    return settings


def parent_for(own: str, top: str, controllers: Collection[str]) -> str:
    """The nearest group from *own* upwards whose children may have *controllers*."""
    path = own
    while True:
        with contextlib.suppress(OSError):
            _enable(path, controllers)
            return path
        if path == top:
            raise _unavailable(controllers)
        path = os.path.dirname(path)


def _enable(path: str, controllers: Collection[str]) -> None:
    file = f"{path}/cgroup.subtree_control"
    with open(file) as enabled:  # noqa: PTH123
        missing = set(controllers).difference(enabled.read().split())
    if missing:
        # EBUSY if the group has processes of its own (cgroups(7), "no internal processes")
        with open(file, "w") as enabled:  # noqa: PTH123
            enabled.write(" ".join(f"+{name}" for name in sorted(missing)))


def _unavailable(controllers: Collection[str]) -> OSError:
    names = ", ".join(sorted(controllers))
    return OSError(errno.ENOTSUP, f"limits: no cgroup controller that we may use for {names}")


def sweep(parent: str) -> None:
    """Remove groups whose owners are gone."""
    for name in os.listdir(parent):
        if not name.startswith(_PREFIX):
            continue
        path = f"{parent}/{name}"
        with contextlib.suppress(FileNotFoundError):
            fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                continue
            else:
                _remove(path)
            finally:
                os.close(fd)


def _remove(path: str) -> None:
    # EBUSY: a process of it is still ending. The next sweep gets it.
    try:
        os.rmdir(path)
    except OSError as error:
        if error.errno not in (errno.EBUSY, errno.ENOENT):
            raise
