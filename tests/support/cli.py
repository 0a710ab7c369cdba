"""The real command, as a user runs it: a process of its own with a store of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

COMMAND = Path(sys.executable).with_name("pybuild")


@dataclass(frozen=True, slots=True)
class Result:
    status: int
    stdout: str
    stderr: str

    @property
    def line(self) -> str:
        """What was printed on standard output, when that is one line."""
        (line,) = self.stdout.splitlines()
        return line


@dataclass(frozen=True, slots=True)
class Cli:
    """``pybuild`` with PYBUILD_ROOT as *root*; each call is one process."""

    root: Path
    env: Mapping[str, str] = field(default_factory=dict)
    prefix: tuple[str, ...] = ()  # a program that starts the command, such as faketime

    def __call__(
        self,
        *args: str | Path,
        stdin: bytes = b"",
        cwd: Path | None = None,
        status: int | None = 0,
        limit: float = 600,
    ) -> Result:
        """Run to the end; an AssertionError unless it ends with *status* (None: any)."""
        done = subprocess.run(
            self.argv(*args),
            input=stdin,
            capture_output=True,
            cwd=cwd,
            env=self.environment(),
            timeout=limit,
            check=False,
        )
        out, err = (text.decode(errors="surrogateescape") for text in (done.stdout, done.stderr))
        assert status in (None, done.returncode), f"{args}: status {done.returncode}\n{out}\n{err}"
        return Result(done.returncode, out, err)

    def start(self, *args: str | Path) -> subprocess.Popen[bytes]:
        """Start it in a process group of its own, silent; the caller waits for it or kills it."""
        return subprocess.Popen(
            self.argv(*args),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            env=self.environment(),
            start_new_session=True,
        )

    def with_env(self, **env: str) -> Cli:
        return replace(self, env={**self.env, **env})

    def at(self, root: Path) -> Cli:
        """The same command on another store."""
        return replace(self, root=root)

    def argv(self, *args: str | Path) -> Sequence[str]:
        return (*self.prefix, str(COMMAND), *map(str, args))

    def environment(self) -> dict[str, str]:
        """The machine's own, less what would change what a build gives."""
        kept = {name: value for name, value in os.environ.items() if name not in _CHANGES_BUILDS}
        return {**kept, "PYBUILD_ROOT": str(self.root), **self.env}


_CHANGES_BUILDS = frozenset({"SOURCE_DATE_EPOCH", "DOCKER_CONFIG", "NO_COLOR", "PYTHONUNBUFFERED"})
