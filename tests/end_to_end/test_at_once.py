"""Several commands at work in one store at the same time."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path

from support.building import write_tree
from support.cli import Cli
from support.endtoend import NEEDS_ROOT, Machine, faults
from support.registry import open_registry

pytestmark = NEEDS_ROOT

DOCKERFILE = """\
FROM busybox AS left
RUN for n in $(seq 50); do echo $n >/left.$n; done
FROM busybox AS right
COPY src /src
RUN cat /src/* | md5sum >/right
FROM busybox
ARG N=none
COPY --from=left /left.* /all/
COPY --from=right /right /all/
RUN ls /all >/list && echo $N >/number
CMD ["cat", "/number"]
"""
SOURCES = {f"src/{number}": f"{number}" * 999 for number in range(50)}


def all_of(cli: Cli, *commands: Sequence[str | Path]) -> list[str]:
    """The errors of *commands*, started together; each must work."""
    running = [
        subprocess.Popen(
            cli.argv(*words),
            env=cli.environment(),
            stdout=subprocess.DEVNULL,
            stderr=subprocess.PIPE,
            text=True,
        )
        for words in commands
    ]
    ended = [(process.communicate()[1], process.returncode) for process in running]
    return [said for said, status in ended if status != 0]


def ids(cli: Cli, *names: str) -> set[str]:
    return {json.loads(cli("inspect", name).stdout)[0]["Id"] for name in names}


def test_builds_of_one_dockerfile_with_an_epoch_make_one_image(
    busybox: Cli, tmp_path: Path
) -> None:
    context = write_tree(tmp_path / "context", {"Dockerfile": DOCKERFILE, **SOURCES})
    names = [f"same:{number}" for number in range(5)]
    before = Machine.of(busybox.root)

    cli = busybox.with_env(SOURCE_DATE_EPOCH="1500000000")
    failed = all_of(cli, *[("build", "-q", "-t", name, context) for name in names])

    assert failed == []
    assert len(ids(busybox, *names)) == 1
    assert faults(busybox.root) == {}
    assert Machine.of(busybox.root) == before


def test_builds_that_share_stages_and_all_write_one_name(busybox: Cli, tmp_path: Path) -> None:
    context = write_tree(tmp_path / "context", {"Dockerfile": DOCKERFILE, **SOURCES})
    builds = [
        ("build", "-q", "-t", f"n:{number}", "-t", "last", "--build-arg", f"N={number}", context)
        for number in range(5)
    ]

    assert all_of(busybox, *builds) == []
    said = [busybox("run", f"n:{number}").line for number in range(5)]
    assert said == [f"{number}" for number in range(5)]
    assert ids(busybox, "last") <= ids(busybox, *[f"n:{number}" for number in range(5)])
    assert faults(busybox.root) == {}


def test_builds_runs_pulls_and_prunes_do_not_disturb_one_another(
    busybox: Cli, tmp_path: Path
) -> None:
    context = write_tree(tmp_path / "context", {"Dockerfile": DOCKERFILE, **SOURCES})
    with open_registry(tmp_path / "registry") as registry:
        name = f"{registry.name}/far:1"
        busybox("build", "-q", "-t", name, "--build-arg", "N=far", context)
        busybox("push", name)
        busybox("rmi", name)
        for turn in range(3):
            failed = all_of(
                busybox,
                ("prune", "--all", "--force"),
                ("build", "-q", "-t", "a", "--build-arg", f"N={turn}", context),
                ("pull", name),
                ("run", "busybox", "sh", "-c", "sleep 0.3; ls /bin/cat"),
                ("build", "-q", "-t", "b", "--no-cache", "--build-arg", f"N={turn}", context),
                ("prune", "--force"),
                ("save", "-o", tmp_path / "saved.tar", "busybox"),
                ("prune", "--all", "--force"),
            )

            assert failed == []
            assert [busybox("run", image).line for image in ("a", "b", name)] == [
                *(str(turn), str(turn)),
                "far",
            ]
        busybox("prune", "--all", "--force")
    assert faults(busybox.root) == {}
