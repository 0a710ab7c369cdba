"""A Sandbox as the request that the zygote reads."""

from __future__ import annotations

import json
import os
import resource

from ocispec.errors import Invalid, Unsupported
from runner import capabilities, seccomp
from runner.inside.request import TYPE_CHECKING
from runner.spec import Mount, Sandbox

if TYPE_CHECKING:
    from runner.inside.request import MountRequest, Request

_NAMESPACES = frozenset(("mount", "pid", "ipc", "uts", "cgroup", "network"))
_ALWAYS_NEW = ("mount", "pid")
_MOUNT_TYPES = frozenset(("bind", "tmpfs", "overlay"))
_BIND_OPTIONS = frozenset(
    ("ro", "rw", "bind", "rbind", "nosuid", "suid", "nodev", "dev", "noexec", "exec")
)


def encode(sandbox: Sandbox) -> tuple[bytes, list[int]]:
    """The request, and the descriptors that it refers to. Invalid, Unsupported: see Runner."""
    _check(sandbox)
    (root,) = sandbox.root
    numbers = sorted(
        {
            int(mount.source.removeprefix("fd:"))
            for mount in (root, *sandbox.mounts)
            if mount.type == "bind" and mount.source.startswith("fd:")
        }
    )
    files = {"/etc/hosts": sandbox.hosts, "/etc/resolv.conf": sandbox.resolv_conf}
    program = seccomp.program(sandbox.capabilities) if sandbox.seccomp else b""
    request: Request = {
        "argv": list(sandbox.argv),
        "env": list(sandbox.env),
        "cwd": sandbox.cwd,
        "uid": sandbox.uid,
        "gid": sandbox.gid,
        "groups": list(sandbox.groups),
        "root": _mount(root),
        "mounts": [_mount(mount) for mount in sandbox.mounts],
        "fds": numbers,
        "namespaces": dict(sandbox.namespaces),
        "capabilities": capabilities.mask(sandbox.capabilities),
        "filter": program.hex(),
        "no_new_privs": sandbox.no_new_privs,
        "hostname": sandbox.hostname,
        "read_only": sandbox.read_only,
        "rlimits": [
            (name, _rlimit(name), soft, hard) for name, (soft, hard) in sandbox.rlimits.items()
        ],
        "files": {path: data.hex() for path, data in files.items() if data is not None},
        "terminal": sandbox.terminal,
        "timeout": sandbox.timeout,
        "grace": sandbox.grace,
        "shm_size": sandbox.shm_size,
        "limits": {
            "memory": sandbox.limits.memory,
            "swap": sandbox.limits.swap,
            "pids": sandbox.limits.pids,
            "cpus": sandbox.limits.cpus,
        },
        "masked_paths": list(sandbox.masked_paths),
        "readonly_paths": list(sandbox.readonly_paths),
    }
    return json.dumps(request).encode(), numbers


def in_memory(data: bytes) -> int:
    """A descriptor from which *data* is read; the caller closes."""
    file = os.memfd_create("pybuild-request", os.MFD_CLOEXEC)
    view = memoryview(data)
    while view:
        view = view[os.write(file, view) :]
    os.lseek(file, 0, os.SEEK_SET)
    return file


def _mount(mount: Mount) -> MountRequest:
    return {
        "type": mount.type,
        "source": mount.source,
        "target": mount.target,
        "options": list(mount.options),
    }


def _rlimit(name: str) -> int:
    number = getattr(resource, f"RLIMIT_{name.upper()}", None)
    if not isinstance(number, int):
        raise Invalid(f"unknown resource limit: {name!r}", hint="see setrlimit(2) for the names")
    return number


def _check(sandbox: Sandbox) -> None:
    if len(sandbox.root) != 1 or sandbox.root[0].target != "/":
        raise Invalid("a sandbox needs one root mount, on /")
    if not sandbox.argv or not sandbox.argv[0]:
        raise Invalid("a sandbox needs a command")
    for entry in sandbox.env:
        if "=" not in entry or entry.startswith("="):
            raise Invalid(f"not a NAME=value: {entry!r}")
    for mount in (*sandbox.root, *sandbox.mounts):
        if mount.type not in _MOUNT_TYPES:
            raise Unsupported(f"mount type {mount.type!r}", hint="bind, tmpfs or overlay")
        if not mount.target.startswith("/"):
            raise Invalid(f"mount target {mount.target!r} is not absolute")
        if mount.type == "bind":
            _check_bind(mount)
    unknown = set(sandbox.namespaces) - _NAMESPACES
    if unknown:
        raise Unsupported(f"namespaces: {', '.join(sorted(unknown))}")
    for name in _ALWAYS_NEW:
        if sandbox.namespaces.get(name, "") is not None:
            raise Unsupported(f"the {name} namespace must be a new one")
    _check_strings(sandbox)


def _check_bind(mount: Mount) -> None:
    unknown = set(mount.options) - _BIND_OPTIONS
    if unknown:
        raise Invalid(f"options of a bind: {', '.join(sorted(unknown))}")
    kind, _, number = mount.source.partition(":")
    if not mount.source.startswith("/") and not (kind == "fd" and number.isdecimal()):
        raise Invalid(f"bind source {mount.source!r} is neither absolute nor fd:N")


def _check_strings(sandbox: Sandbox) -> None:
    """The kernel reads strings up to a NUL, so one with a NUL means something else to it."""
    strings = [*sandbox.argv, *sandbox.env, sandbox.cwd, sandbox.hostname]
    for mount in (*sandbox.root, *sandbox.mounts):
        strings += [mount.source, mount.target, *mount.options]
    if any("\0" in string for string in strings):
        raise Invalid("a NUL character in a command, its environment or a path")
