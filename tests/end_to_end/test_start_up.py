"""A build that finds everything in the cache is answered before heavy packages are loaded."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from support.building import write_tree
from support.cli import Cli
from support.endtoend import NEEDS_ROOT

HEAVY = {
    *("typer", "click", "rich", "requests", "urllib3", "zstandard", "isal", "cryptography"),
    *("dockerfile_parse", "ctypes", "subprocess", "multiprocessing", "asyncio", "tempfile"),
    *("shutil", "argparse", "logging", "socket", "ssl", "http", "tarfile", "zlib", "gzip"),
    *("inspect", "sqlite3", "difflib", "runner", "registry_client", "attest"),
}
DOCKERFILE = """\
# syntax=docker/dockerfile:1
ARG BASE=busybox
FROM $BASE AS first
RUN echo made >/made
WORKDIR /here
COPY --chown=app . ./

FROM $BASE
COPY --from=first /made /made
ADD f /g
RUN <<EOT
cat /made
EOT
ENV A=b
USER app
HEALTHCHECK CMD true
CMD ["cat", "/made"]
"""


def loaded(cli: Cli, *args: str | Path) -> set[str]:
    """The packages that ``pybuild`` with *args* loads, as the interpreter itself tells."""
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "pybuild", *map(str, args)],
        env=cli.environment(),
        capture_output=True,
        text=True,
        check=True,
    )
    lines = [line for line in done.stderr.splitlines() if line.startswith("import time:")]
    return {line.rpartition("|")[2].strip().partition(".")[0] for line in lines}


@NEEDS_ROOT
@pytest.mark.parametrize(
    "args",
    [["-q"], ["--progress=plain"], ["-q", "-t", "x:1", "--jobs=4"], ["-q", "--timestamp", "5"]],
    ids=" ".join,
)
def test_a_cached_build_loads_nothing_heavy(busybox: Cli, tmp_path: Path, args: list[str]) -> None:
    context = write_tree(tmp_path / "context", {"Dockerfile": DOCKERFILE, "f": "x", "d/e": "y"})
    busybox("build", *args, context)

    found = loaded(busybox, "build", *args, context)

    assert "builder" in found
    assert found & HEAVY == set()


def test_what_is_looked_for_would_be_found(cli: Cli) -> None:
    assert loaded(cli, "images") >= {"typer", "inspect"}
