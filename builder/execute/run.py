"""RUN: the command in a sandbox on top of its parent; what it wrote is the change."""

from __future__ import annotations

import os
import select
import shlex
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Final

from builder.execute.place import Owner, Place, parents
from builder.plan import Run
from builder.stack import Stack
from builder.tools import Tools
from layers.layerwrite import WrittenLayer
from layers.snapshots import Draft
from ocispec.errors import Failed
from runner.netfiles import hosts_file, resolv_conf
from runner.spec import HOST_NETWORK, NO_NETWORK, Exit, Mount, Sandbox
from runner.users import User, lookup_user

HOSTNAME: Final = "buildkitsandbox"
_CHUNK: Final = 1 << 16  # a pipe's size
OnOutput = Callable[[int, bytes], None]  # stream 1 or 2, bytes


def execute(op: Run, parent: Stack, tools: Tools, on_output: OnOutput) -> WrittenLayer:
    """
    Run *op*'s command on *parent*; its change is in the store when this returns.

    Failed with the command's status if it is not 0; the change is then thrown away.
    """
    snapshots = tools.snapshots()
    below = tools.unpacked(parent)
    draft = snapshots.prepare(below, tools.session)
    try:
        with snapshots.view(below) as root:
            user = lookup_user(root, op.user)
            owner = Owner(user.uid, user.gid)
            make_cwd(draft, Place(root), op.cwd, owner, int(tools.clock() * 1e9))
        mounts = tuple(
            Mount(mount.type, mount.source, mount.target, mount.options)
            for mount in snapshots.mounts(draft)
        )
        sandbox = _sandbox(op, user, mounts, _script_mounts(op, tools), tools)
        ended = _run(sandbox, tools, on_output)
        if ended.status:
            raise _failed(op, ended)
        return snapshots.seal(draft, tools.session)[1]
    except BaseException:
        snapshots.discard(draft)
        raise


def _sandbox(
    op: Run, user: User, root: tuple[Mount, ...], files: tuple[Mount, ...], tools: Tools
) -> Sandbox:
    settings = tools.settings
    network = settings.network if op.network == "default" else op.network
    env = [*op.env, *op.unkeyed_env]
    names = {pair.partition("=")[0] for pair in env}
    if "HOME" not in names:
        env.append(f"HOME={user.home}")
    own_network = network == "none"
    return Sandbox(
        argv=op.argv,
        root=root,
        env=tuple(env),
        cwd=op.cwd,
        uid=user.uid,
        gid=user.gid,
        groups=user.groups,
        mounts=files,
        namespaces=NO_NETWORK if own_network else HOST_NETWORK,
        hostname=HOSTNAME,
        hosts=hosts_file(HOSTNAME, settings.add_hosts),
        resolv_conf=resolv_conf(settings.resolv_conf, shares_network=not own_network),
        rlimits=settings.rlimits,
        shm_size=settings.shm_size,
    )


def _run(sandbox: Sandbox, tools: Tools, on_output: OnOutput) -> Exit:
    null = os.open("/dev/null", os.O_RDONLY | os.O_CLOEXEC)
    out_read, out_write = os.pipe2(os.O_CLOEXEC)
    err_read, err_write = os.pipe2(os.O_CLOEXEC)
    try:
        process = tools.runner().start(sandbox, null, out_write, err_write)
    except BaseException:
        for fd in (out_read, err_read):
            os.close(fd)
        raise
    finally:
        for fd in (null, out_write, err_write):
            os.close(fd)
    tools.running.add(process)
    try:
        _pump({out_read: 1, err_read: 2}, on_output)
        return process.wait()
    except BaseException:
        process.kill(9)
        process.wait()
        raise
    finally:
        tools.running.remove(process)
        os.close(out_read)
        os.close(err_read)


def _pump(streams: dict[int, int], on_output: OnOutput) -> None:
    """Pass on what comes from the pipes until both are at their end."""
    poll = select.poll()
    for fd in streams:
        poll.register(fd, select.POLLIN)
    left = len(streams)
    while left:
        for fd, _ in poll.poll():
            data = os.read(fd, _CHUNK)
            if data:
                on_output(streams[fd], data)
            else:
                poll.unregister(fd)
                left -= 1


def _failed(op: Run, ended: Exit) -> Failed:
    command = shlex.join(op.argv)
    why = f": {ended.error}" if ended.error else ""
    hint = ""
    if ended.oom:
        hint = "the command was killed because it used more memory than allowed"
    elif ended.status == 127 and not ended.error:
        hint = "the shell did not find a command: is its package installed in this stage?"
    return Failed(
        f'process "{command}" did not complete successfully: exit code: {ended.status}{why}',
        hint=hint,
        status=ended.status,
    )


def _script_mounts(op: Run, tools: Tools) -> tuple[Mount, ...]:
    """Heredocs that are scripts of their own, as files the command can execute."""
    mounts = []
    for file in op.stdin_files:
        path = Path(tools.session.scratch("script")) / "file"
        path.write_bytes(file.data)
        path.chmod(file.mode)
        mounts.append(Mount("bind", str(path), op.argv[0], ("ro",)))
    return tuple(mounts)


def make_cwd(draft: Draft, place: Place, cwd: str, owner: Owner, now_ns: int) -> None:
    """
    Make a working directory that is not there, as BuildKit's executor does.

    It goes straight into the draft's upper directory: overlayfs merges a directory there with the
    one below, so the parents are made with the metadata they have.
    """
    real = place.real(cwd)
    if not real or place.lstat(real) is not None:
        return
    for path, entry in parents(place, f"{real}/.", owner, 0o755, now_ns).items():
        target = draft.upper / path
        if target.is_dir():
            continue
        target.mkdir()
        os.chown(target, entry.uid, entry.gid)
        target.chmod(stat.S_IMODE(entry.mode))
        for name, value in entry.xattrs.items():
            os.setxattr(target, name, value)
        os.utime(target, ns=(entry.mtime_ns, entry.mtime_ns))
