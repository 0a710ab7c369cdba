"""Ctrl-C, a polite end and a rude one: no process, no mount, nothing half done stays behind."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.building import write_tree
from support.cli import Cli
from support.endtoend import NEEDS_ROOT, Machine, content, faults
from support.registry import open_registry

pytestmark = NEEDS_ROOT

PATIENCE = 20.0
SLEEP = f"sleep {100_000_000 + os.getpid()}"  # not that of another run of the tests
DOCKERFILE = f"""\
FROM busybox
RUN echo done before >/before
RUN touch /half; ({SLEEP} & {SLEEP} | {SLEEP}) & wait; {SLEEP}
"""
FINISHED = "FROM busybox\nRUN echo done before >/before\nCMD cat /before\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "context", {"Dockerfile": DOCKERFILE})


def until(condition: Callable[[], bool], what: str) -> None:
    """Wait for another process: nothing tells us, so look again and again."""
    end = time.monotonic() + PATIENCE
    while not condition():
        assert time.monotonic() < end, f"not within {PATIENCE} s: {what}"
        time.sleep(0.01)


def sleepers() -> list[str]:
    """The processes of the long RUN, whoever their parent is by now."""
    found = []
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            if os.fsencode(SLEEP.replace(" ", "\0")) in (folder / "cmdline").read_bytes():
                found.append(folder.name)
        except (FileNotFoundError, ProcessLookupError):
            continue  # it ended meanwhile
    return found


@pytest.fixture
def machine(busybox: Cli) -> Iterator[None]:
    """The mounts and processes after the test are those before it."""
    assert sleepers() == []
    before = Machine.of(busybox.root)
    yield
    until(lambda: Machine.of(busybox.root) == before, f"{Machine.of(busybox.root)} is {before}")


def start(cli: Cli, *args: str | Path) -> subprocess.Popen[str]:
    """The command in a process group of its own, as a shell starts it, with its messages."""
    return subprocess.Popen(
        cli.argv(*args),
        env=cli.environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        process_group=0,
    )


def working(cli: Cli, context: Path) -> subprocess.Popen[str]:
    """A build that has come to its long RUN."""
    build = start(cli, "build", "--progress=plain", "-t", "half", context)
    until(lambda: len(sleepers()) >= 3, "RUN is at work")
    return build


@pytest.mark.parametrize("to_all", [True, False], ids=["to the group", "to the command alone"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
@pytest.mark.usefixtures("machine")
def test_an_interrupted_build_ends_all_that_it_started(
    busybox: Cli, context: Path, number: signal.Signals, to_all: bool
) -> None:
    busybox("build", "-t", "earlier", write_tree(context.with_name("c"), {"Dockerfile": FINISHED}))
    before = content(busybox.root)
    build = working(busybox, context)

    (os.killpg if to_all else os.kill)(build.pid, number)
    output, messages = build.communicate(timeout=PATIENCE)

    assert 128 + number == build.returncode
    assert sleepers() == []
    assert output == ""
    assert "Traceback" not in messages
    assert content(busybox.root) == before
    assert faults(busybox.root) == {}


@pytest.mark.usefixtures("machine")
def test_the_next_build_goes_on_from_what_was_done(busybox: Cli, context: Path) -> None:
    build = working(busybox, context)
    build.send_signal(signal.SIGINT)
    build.communicate(timeout=PATIENCE)
    (context / "Dockerfile").write_text(FINISHED)

    done = busybox("build", "--progress=plain", "-t", "whole", context)

    assert done.stderr.count("CACHED") == 2  # FROM, and the RUN that had ended
    assert busybox("run", "whole").stdout == "done before\n"


@pytest.mark.usefixtures("machine")
def test_what_a_killed_build_started_dies_with_it(busybox: Cli, context: Path) -> None:
    build = working(busybox, context)

    build.kill()
    build.communicate(timeout=PATIENCE)

    until(lambda: sleepers() == [], "RUN ends")
    busybox("prune", "--force")
    assert faults(busybox.root) == {}


@pytest.mark.usefixtures("machine")
def test_a_program_that_is_run_dies_with_a_killed_command(busybox: Cli) -> None:
    run = start(busybox, "run", "busybox", "sh", "-c", f"{SLEEP} & {SLEEP} & {SLEEP}")
    until(lambda: len(sleepers()) == 3, "it is at work")

    run.kill()
    run.communicate(timeout=PATIENCE)

    until(lambda: sleepers() == [], "it ends")
    busybox("prune", "--force")
    assert faults(busybox.root) == {}


@pytest.mark.usefixtures("machine")
def test_an_interrupted_pull_leaves_no_name(busybox: Cli, tmp_path: Path) -> None:
    other = busybox.at(tmp_path / "other")
    other("images")
    before = content(other.root)
    with open_registry(tmp_path / "registry") as registry:
        name = f"{registry.name}/large:1"
        context = write_tree(tmp_path / "context", {"Dockerfile": "FROM scratch\nCOPY f /\n"})
        (context / "f").write_bytes(os.urandom(100 << 20))
        busybox("build", "-t", name, context)
        busybox("push", name)
        pull = start(other, "pull", name)
        until(lambda: any((other.root / "tmp").iterdir()), "something comes")
        pull.send_signal(signal.SIGINT)
        messages = pull.communicate(timeout=PATIENCE)[1]

        assert (pull.returncode, "Traceback" in messages) == (130, False)
        assert content(other.root)["index.json"] == before["index.json"]
        assert faults(other.root) == {}
        other("pull", name)
        assert faults(other.root) == {}
