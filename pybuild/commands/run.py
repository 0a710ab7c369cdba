"""``run``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from engine import images
from engine.engine import Engine
from engine.run import RunRequest, run
from ocispec.errors import NotFound, Usage
from ocispec.platform import host
from ocispec.reference import Reference
from pybuild import places
from pybuild.commands.opening import open_engine
from pybuild.commands.registries import pull
from pybuild.failures import guarded, tell
from pybuild.units import added_host, size_in_bytes
from runner.spec import SETUP_FAILED, Limits


class RunOptions(NamedTuple):
    """The options of ``run``, as they were written."""

    image: str
    argv: tuple[str, ...] = ()
    env: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    volumes: tuple[str, ...] = ()
    workdir: str | None = None
    user: str | None = None
    entrypoint: str | None = None
    network: str = "host"
    hostname: str = ""
    add_hosts: tuple[str, ...] = ()
    read_only: bool = False
    interactive: bool = False
    terminal: bool = False
    cap_add: tuple[str, ...] = ()
    cap_drop: tuple[str, ...] = ()
    memory: str | None = None
    cpus: float | None = None
    pids_limit: int | None = None
    timeout: float | None = None
    pull: str = "missing"


def run_command(root: str | None, options: RunOptions) -> int:
    """The status of the command; 125 if it could not be started, as docker's."""
    return guarded(lambda: _run(root, options), failed=SETUP_FAILED)


def _run(root: str | None, options: RunOptions) -> int:
    request = _request(options)
    if options.terminal and options.interactive and not sys.stdin.isatty():
        raise Usage("the input device is not a terminal", hint="leave -t out")
    with open_engine(root) as engine:
        _have_image(engine, options)
        if options.terminal:
            from pybuild.terminal import serve

            with open(os.devnull, "r+b", buffering=0) as null:  # noqa: PTH123 - a device
                source = sys.stdin.fileno() if options.interactive else None
                fd = null.fileno()
                ended = run(
                    *(engine, request, fd, fd, fd),
                    attach=lambda process: serve(process, source, sys.stdout.fileno()),
                )
        else:
            with open(os.devnull, "rb", buffering=0) as null:  # noqa: PTH123 - a device
                stdin = sys.stdin.fileno() if options.interactive else null.fileno()
                ended = run(engine, request, stdin, sys.stdout.fileno(), sys.stderr.fileno())
    if ended.error:
        tell(ended.error)
    return ended.status


def _request(options: RunOptions) -> RunRequest:
    if options.network not in ("host", "none"):
        raise Usage(f"network mode {options.network!r} is not built yet", hint="host or none")
    entrypoint = options.entrypoint
    memory = None if options.memory is None else size_in_bytes(options.memory, "--memory")
    return RunRequest(
        image=options.image,
        argv=options.argv,
        entrypoint=None if entrypoint is None else (entrypoint,) if entrypoint else (),
        env=tuple(_environment(options.env_files, options.env)),
        user=options.user,
        workdir=options.workdir,
        hostname=options.hostname,
        network=options.network,
        volumes=options.volumes,
        add_hosts=tuple(added_host(text) for text in options.add_hosts),
        read_only=options.read_only,
        terminal=options.terminal,
        cap_add=options.cap_add,
        cap_drop=options.cap_drop,
        limits=Limits(memory=memory, pids=options.pids_limit, cpus=options.cpus),
        timeout=options.timeout,
        resolv_conf=places.resolv_conf(),
    )


def _environment(files: Sequence[str], pairs: Sequence[str]) -> list[str]:
    """NAME=value of each; a name without a value takes this process's, or is left out."""
    lines = [line for name in files for line in Path(name).read_text().splitlines()]
    words = [line.lstrip() for line in lines if line.strip() and not line.lstrip().startswith("#")]
    found = []
    for text in (*words, *pairs):
        name, equals, value = text.partition("=")
        if not name or (equals and any(c.isspace() for c in name)):
            raise Usage(f"invalid environment variable {text!r}", hint="write NAME=VALUE")
        given = value if equals else places.environment(name)
        if given is not None:
            found.append(f"{name}={given}")
    return found


def _have_image(engine: Engine, options: RunOptions) -> None:
    """Pull the image as ``--pull`` says: if it is missing, always, or never."""
    if options.pull not in ("missing", "always", "never"):
        raise Usage(f"invalid value {options.pull!r} for --pull", hint="missing, always or never")
    if options.pull != "always":
        try:
            images.find(engine.store, options.image)
            return
        except NotFound:
            if options.pull == "never":
                raise
            print(f"Unable to find image {options.image!r} locally", file=sys.stderr)
    ref = Reference.parse(options.image).with_default_tag()
    pull(engine, ref, host(), quiet=False, say=lambda line: print(line, file=sys.stderr))
