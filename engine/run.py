"""``run``: an image and options become a sandbox; its exit status comes back."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from builder.execute.place import Owner, Place
from builder.execute.run import make_cwd
from builder.lower.state import PATH, env_pairs
from engine import images
from engine.engine import Engine
from layers.session import Session
from layers.snapshots import Draft, SnapshotID, Snapshots
from ocispec.digest import Digest
from ocispec.errors import Invalid, Usage
from ocispec.model import Layer
from runner.capabilities import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from runner.netfiles import hosts_file, resolv_conf
from runner.spec import HOST_NETWORK, NO_NETWORK, Exit, Limits, Mount, Process, Sandbox
from runner.users import lookup_user

if TYPE_CHECKING:
    from types import FrameType

FORWARDED: Final = (
    *(signal.SIGTERM, signal.SIGHUP, signal.SIGQUIT),
    *(signal.SIGUSR1, signal.SIGUSR2, signal.SIGWINCH),
)


NO_LIMITS: Final = Limits()


@dataclass(frozen=True, slots=True)
class RunRequest:
    """An image and how to run it; what is None or empty is the image's own."""

    image: str
    argv: tuple[str, ...] = ()
    entrypoint: tuple[str, ...] | None = None  # () is none at all
    env: tuple[str, ...] = ()  # NAME=value
    user: str | None = None
    workdir: str | None = None
    hostname: str = ""
    network: str = "host"  # host, none
    volumes: tuple[str, ...] = ()  # /host:/in/the/container[:ro]
    add_hosts: tuple[tuple[str, str], ...] = ()
    read_only: bool = False
    terminal: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    limits: Limits = NO_LIMITS
    timeout: float | None = None  # seconds
    resolv_conf: bytes = b""


def run(
    engine: Engine,
    request: RunRequest,
    stdin: int,
    stdout: int,
    stderr: int,
    *,
    attach: Callable[[Process], None] | None = None,
) -> Exit:
    """
    Run *request* on three open descriptors until it ends; what it wrote is thrown away.

    *attach* is called with the started process, to serve its terminal; it returns when that ends.
    NotFound for an image that is not there, Invalid for options that make no sense.
    """
    image = images.find(engine.store, request.image)
    with engine.store.session() as session, ExitStack() as undo:
        snapshots = engine.snapshots()
        parent = _unpacked(engine, session, image, snapshots)
        draft = snapshots.prepare(parent, session)
        undo.callback(snapshots.discard, draft)
        sandbox = _sandbox(request, image.config.config, snapshots, parent, draft)
        process = engine.runner().start(sandbox, stdin, stdout, stderr)
        return _wait(process, request, attach)


def _unpacked(
    engine: Engine, session: Session, image: images.StoredImage, snapshots: Snapshots
) -> SnapshotID | None:
    snapshot: SnapshotID | None = None
    pairs = zip(image.config.diff_ids, image.manifest.layers, strict=True)
    for diff_id, blob in pairs:
        layer = Layer(diff_id, Digest(diff_id), blob)
        snapshot = snapshots.unpack(snapshot, layer, engine.store, session)
    return snapshot


def _sandbox(
    request: RunRequest,
    config: Mapping[str, object],
    snapshots: Snapshots,
    parent: SnapshotID | None,
    draft: Draft,
) -> Sandbox:
    argv = command(request, config)
    user_spec = request.user if request.user is not None else str(config.get("User") or "")
    cwd = _working_directory(request, config)
    with snapshots.view(parent) as root:
        user = lookup_user(root, user_spec)
        # As docker: one that is not there is made, and is root's.
        make_cwd(draft, Place(root), cwd, Owner(0, 0), time.time_ns())
    hostname = request.hostname or os.urandom(6).hex()
    own_network = request.network == "none"
    mounts = tuple(
        Mount(mount.type, mount.source, mount.target, mount.options)
        for mount in snapshots.mounts(draft)
    )
    return Sandbox(
        argv=argv,
        root=mounts,
        env=_environment(request, config, user.home, hostname),
        cwd=cwd,
        uid=user.uid,
        gid=user.gid,
        groups=user.groups,
        mounts=tuple(_volume(text) for text in request.volumes),
        namespaces=NO_NETWORK if own_network else HOST_NETWORK,
        capabilities=_capabilities(request.cap_add, request.cap_drop),
        hostname=hostname,
        read_only=request.read_only,
        hosts=hosts_file(hostname, request.add_hosts),
        resolv_conf=resolv_conf(request.resolv_conf, shares_network=not own_network),
        terminal=request.terminal,
        timeout=request.timeout,
        limits=request.limits,
    )


def command(request: RunRequest, config: Mapping[str, object]) -> tuple[str, ...]:
    """
    Entrypoint and command, as docker joins them.

    Another entrypoint forgets the image's command, which was meant for its own.
    """
    own_entrypoint = _texts(config.get("Entrypoint"))
    entrypoint = own_entrypoint if request.entrypoint is None else request.entrypoint
    own_command = _texts(config.get("Cmd")) if request.entrypoint is None else ()
    argv = (*entrypoint, *(request.argv or own_command))
    if not argv:
        raise Usage("no command specified", hint="the image has none: write one after its name")
    return argv


def _working_directory(request: RunRequest, config: Mapping[str, object]) -> str:
    if request.workdir and not request.workdir.startswith("/"):
        raise Usage(
            f"the working directory {request.workdir!r} is invalid", hint="write an absolute path"
        )
    return os.path.join("/", request.workdir or str(config.get("WorkingDir") or ""))


def _texts(value: object) -> tuple[str, ...]:
    if value is None:
        return ()
    if not isinstance(value, list) or not all(isinstance(text, str) for text in value):
        raise Invalid("the image's config has a command that is not a list of strings")
    return tuple(value)


def _environment(
    request: RunRequest, config: Mapping[str, object], home: str, hostname: str
) -> tuple[str, ...]:
    env = {"PATH": PATH, "HOSTNAME": hostname, "HOME": home}
    if request.terminal:
        env["TERM"] = "xterm"
    env |= env_pairs(config)
    env |= {name: value for name, _, value in (pair.partition("=") for pair in request.env)}
    return tuple(f"{name}={value}" for name, value in env.items())


def _volume(text: str) -> Mount:
    source, colon, rest = text.partition(":")
    target, _, options = rest.partition(":")
    if not colon or not source.startswith("/") or not target.startswith("/"):
        raise Usage(
            f"invalid volume {text!r}",
            hint="write /absolute/path:/in/the/container, :ro at the end",
        )
    if not Path(source).exists():
        raise Usage(f"volume source {source} does not exist")
    known = {"": (), "rw": (), "ro": ("ro",)}
    if options not in known:
        raise Usage(f"invalid volume option {options!r}", hint="ro and rw are known")
    return Mount("bind", source, target, ("rbind", *known[options]))


def _capabilities(add: Sequence[str], drop: Sequence[str]) -> frozenset[str]:
    def named(names: Sequence[str]) -> frozenset[str]:
        chosen: set[str] = set()
        for name in names:
            full = "CAP_" + name.upper().removeprefix("CAP_")
            if full == "CAP_ALL":
                chosen |= ALL_CAPABILITIES
            elif full in ALL_CAPABILITIES:
                chosen.add(full)
            else:
                raise Usage(f"unknown capability {name!r}")
        return frozenset(chosen)

    added, dropped = named(add), named(drop)
    if added == ALL_CAPABILITIES:
        return added - dropped
    return (DEFAULT_CAPABILITIES - dropped) | added


def _wait(process: Process, request: RunRequest, attach: Callable[[Process], None] | None) -> Exit:
    """Wait for the end; signals that come here meanwhile go to the command."""

    def forward(number: int, frame: FrameType | None) -> None:  # noqa: ARG001 - the handler's form
        process.kill(number)

    before = {number: signal.signal(number, forward) for number in FORWARDED}
    if not request.terminal:
        before[signal.SIGINT] = signal.signal(signal.SIGINT, forward)
    try:
        if attach is not None:
            attach(process)
        return process.wait()
    except BaseException:
        process.kill(signal.SIGKILL)
        process.wait()
        raise
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
