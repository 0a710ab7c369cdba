"""A tiny root file system made from a static busybox, and ways to run something in it."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.spec import Exit, Mount, Runner, Sandbox

BUSYBOX = Path("/bin/busybox")  # Debian's busybox-static
_OPTIONS = ("index=off", "metacopy=off", "redirect_dir=off", "xino=off", "uuid=null", "volatile")


def busybox_root(root: Path) -> None:
    """Fill the directory *root* with /bin/busybox under all its names, users and a /tmp."""
    binaries = root / "bin"
    binaries.mkdir(parents=True)
    shutil.copy(BUSYBOX, binaries / "busybox")
    names = subprocess.run([BUSYBOX, "--list"], capture_output=True, text=True, check=True).stdout
    for name in names.split():
        if name != "busybox":
            (binaries / name).symlink_to("busybox")
    (root / "etc").mkdir()
    (root / "etc/passwd").write_text("root:x:0:0::/root:/bin/sh\napp:x:1000:1000::/:/bin/sh\n")
    (root / "etc/group").write_text("root:x:0:\napp:x:1000:\n")
    (root / "root").mkdir(mode=0o700)
    (root / "tmp").mkdir()
    (root / "tmp").chmod(0o1777)
    for path in (root, binaries, root / "etc"):
        path.chmod(0o755)


@dataclass(frozen=True, slots=True)
class TinyRoot:
    """An overlay over *lowers*, top first; what a command writes is in upper/."""

    directory: Path
    lowers: tuple[Path, ...]

    @classmethod
    def make(cls, directory: Path, *lowers: Path) -> TinyRoot:
        for name in ("upper", "work", "top"):
            (directory / name).mkdir(parents=True)
        return cls(directory, (directory / "top", *lowers))

    @property
    def top(self) -> Path:
        """The uppermost lower layer, for what a test adds to the image."""
        return self.directory / "top"

    @property
    def upper(self) -> Path:
        return self.directory / "upper"

    def fresh(self) -> TinyRoot:
        """The same layers without what an earlier command left: an upper directory is used once."""
        for name in ("upper", "work"):
            shutil.rmtree(self.directory / name)
            (self.directory / name).mkdir()
        return self

    def mount(self) -> Mount:
        layers = [f"lowerdir+={path}" for path in self.lowers]
        ends = (f"upperdir={self.upper}", f"workdir={self.directory / 'work'}")
        return Mount("overlay", "overlay", "/", (*layers, *ends, *_OPTIONS))

    def sandbox(self, *argv: str, **changes: Any) -> Sandbox:
        return Sandbox(**{"argv": argv, "root": (self.mount(),), "env": ("PATH=/bin",), **changes})

    def shell(self, script: str, **changes: Any) -> Sandbox:
        return self.sandbox("sh", "-c", script, **changes)

    def left(self) -> list[str]:
        """What the command left in the layer, sorted."""
        return sorted(str(path.relative_to(self.upper)) for path in self.upper.rglob("*"))


@dataclass(frozen=True, slots=True)
class Result:
    exit: Exit
    stdout: str
    stderr: str

    @property
    def status(self) -> int:
        return self.exit.status


def run(runner: Runner, sandbox: Sandbox, stdin: bytes = b"", limit: float = 60.0) -> Result:
    """Run to the end; TimeoutError after *limit* seconds, so that a test cannot hang."""
    with (
        tempfile.TemporaryFile() as given,
        tempfile.TemporaryFile() as out,
        tempfile.TemporaryFile() as err,
    ):
        given.write(stdin)
        given.seek(0)
        process = runner.start(sandbox, given.fileno(), out.fileno(), err.fileno())
        if process.terminal is not None:
            os.close(process.terminal)
        try:
            end = process.wait(limit)
        except TimeoutError:
            process.kill(9)
            process.wait()
            raise
        out.seek(0)
        err.seek(0)
        return Result(end, _text(out.read()), _text(err.read()))


def _text(data: bytes) -> str:
    return data.decode(errors="surrogateescape")
