"""kill -9 at any moment of build, pull and prune, several at once on one store."""

from __future__ import annotations

import os
import random
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.building import write_tree
from support.cli import Cli
from support.endtoend import Machine
from support.registry import RunningRegistry, open_registry
from support.soundness import left_behind, problems

from layers.store import Store
from ocispec.reference import Reference

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces, overlayfs")

AT_ONCE = 4
DOCKERFILE = """\
FROM busybox AS a
ARG N
RUN mkdir /out && for i in $(seq 60); do echo $N.$i >/out/$i; done
FROM busybox
ARG N
COPY src /src
COPY --from=a /out /out
RUN echo $N >/n && cat /src/* | sha256sum >/sum
"""
IMAGES = range(4)


@pytest.fixture
def registry(tmp_path: Path) -> Iterator[RunningRegistry]:
    with open_registry(tmp_path / "registry") as running:
        yield running


@pytest.fixture
def context(tmp_path: Path) -> Path:
    chance = random.Random(0)
    files = {f"src/f{number}": chance.randbytes(20_000) for number in range(100)}
    return write_tree(tmp_path / "context", {"Dockerfile": DOCKERFILE, **files})


@pytest.mark.parametrize(
    ("seconds", "seed"),
    [
        (8, 0),
        pytest.param(45, 1, marks=pytest.mark.slow),
        pytest.param(45, 2, marks=pytest.mark.slow),
    ],
)
def test_commands_that_are_killed_leave_the_store_whole(
    busybox: Cli,
    context: Path,
    registry: RunningRegistry,
    tmp_path: Path,
    seconds: float,
    seed: int,
) -> None:
    remote = f"{registry.name}/remote:1"
    busybox("build", "-t", remote, "--build-arg", "N=remote", context)
    busybox("push", remote)
    chance = random.Random(seed)
    before = Machine.of(busybox.root)

    killed = _stress(
        lambda: busybox.start(*_some_command(chance, context, remote)), chance, seconds
    )

    assert killed > seconds
    assert _settled(busybox.root) == before
    assert problems(busybox.root, tmp_path / "scratch") == []
    for number in IMAGES:
        busybox("build", "-t", f"n{number}", "--build-arg", f"N={number}", context)
        assert busybox("run", f"n{number}", "cat", "/n").line == str(number)
    busybox("pull", remote)
    assert busybox("run", remote, "cat", "/out/7").line == "remote.7"
    assert problems(busybox.root, tmp_path / "scratch") == []
    busybox("prune", "--all", "--force")
    assert left_behind(busybox.root) == []
    assert Machine.of(busybox.root) == before


def test_builds_at_once_make_one_image(busybox: Cli, context: Path, tmp_path: Path) -> None:
    names = [f"x{number}" for number in range(AT_ONCE)]
    running = [busybox.start("build", "-t", name, "--build-arg", "N=1", context) for name in names]

    assert [process.wait() for process in running] == [0] * AT_ONCE
    sums = {busybox("run", name, "cat", "/sum", "/n").stdout for name in names}
    assert len(sums) == 1
    assert problems(busybox.root, tmp_path / "scratch") == []


def _settled(root: Path) -> Machine:
    """The machine when what belonged to killed commands has had its time to end, too."""
    end = time.monotonic() + 10
    while Machine.of(root).processes and time.monotonic() < end:
        time.sleep(0.05)
    return Machine.of(root)


def _truncate(blob: Path, _root: Path) -> None:
    blob.chmod(0o600)
    os.truncate(blob, blob.stat().st_size - 1)


def _remove(blob: Path, _root: Path) -> None:
    blob.unlink()


def _cut_snapshots(_blob: Path, root: Path) -> None:
    for path in (root / "snapshots").glob("*/fs/out/7"):
        path.unlink()


@pytest.mark.parametrize("damage", [_truncate, _remove, _cut_snapshots])
def test_damage_would_be_noticed(
    busybox: Cli, context: Path, tmp_path: Path, damage: Callable[[Path, Path], None]
) -> None:
    # If what was checked above could not fail, it would prove nothing.
    busybox("build", "-t", "x", "--build-arg", "N=1", context)
    store = Store.at(busybox.root)
    damage(store.path(store.resolve(Reference.parse("x:latest")).digest), busybox.root)

    assert problems(busybox.root, tmp_path / "scratch") != []


def _some_command(chance: random.Random, context: Path, remote: str) -> tuple[str, ...]:
    number = chance.choice(IMAGES)
    build = ("build", "-t", f"n{number}", "--build-arg", f"N={number}", str(context))
    return chance.choice(
        [
            *[build] * 4,
            ("build", "--no-cache", *build[1:]),
            ("pull", remote),
            ("pull", remote),
            ("rmi", "--force", chance.choice([remote, f"n{number}"])),
            ("prune", "--force"),
            ("prune", "--all", "--force"),
        ]
    )


def _stress(
    start: Callable[[], subprocess.Popen[bytes]], chance: random.Random, seconds: float
) -> int:
    """Keep AT_ONCE commands going, each killed at a moment of its own; how many were."""
    killed = 0
    end = time.monotonic() + seconds
    running: dict[subprocess.Popen[bytes], float] = {}
    while running or time.monotonic() < end:
        while len(running) < AT_ONCE and time.monotonic() < end:
            running[start()] = time.monotonic() + chance.expovariate(1 / 0.5)
        for process, moment in list(running.items()):
            if process.poll() is not None:
                del running[process]
            elif time.monotonic() > moment:
                killed += 1
                _kill(process, whole_group=chance.random() < 0.5)
                del running[process]
        time.sleep(0.005)
    return killed


def _kill(process: subprocess.Popen[bytes], *, whole_group: bool) -> None:
    if whole_group:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.kill()
    process.wait()
