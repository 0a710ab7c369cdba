"""The programs that are compared, each with a store of its own below one directory."""

from __future__ import annotations

import shutil
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.measure import Cost, cost_of

NAME = "bench"


class Builder(Protocol):
    @property
    def name(self) -> str: ...

    def version(self) -> tuple[str, ...]: ...

    def reset(self) -> None:
        """Begin with an empty store."""
        ...

    def add_base(self, rootfs: Path, name: str) -> None: ...

    def build(self, context: Path, *, cache: bool = True) -> Cost: ...

    def save(self, archive: Path) -> Cost:
        """Write the image that was built last as an OCI archive."""
        ...

    def push(self, registry: str, name: str) -> Cost: ...


@dataclass(frozen=True, slots=True)
class Pybuild:
    place: Path

    @property
    def name(self) -> str:
        return "pybuild"

    def version(self) -> tuple[str, ...]:
        return (str(Path(sys.executable).with_name("pybuild")), "version")

    def reset(self) -> None:
        shutil.rmtree(self._store, ignore_errors=True)

    def add_base(self, rootfs: Path, name: str) -> None:
        self._run("import", str(rootfs), name)

    def build(self, context: Path, *, cache: bool = True) -> Cost:
        fresh = () if cache else ("--no-cache",)
        return self._run("build", *fresh, "-t", NAME, str(context))

    def save(self, archive: Path) -> Cost:
        return self._run("save", "-o", str(archive), NAME)

    def push(self, registry: str, name: str) -> Cost:
        target = f"{registry}/{name}"
        return self._run("tag", NAME, target) + self._run("push", target)

    @property
    def _store(self) -> Path:
        return self.place / "pybuild"

    def _run(self, *args: str) -> Cost:
        command = (self.version()[0], *args)
        return cost_of(command, self.place / "pybuild.log", {"PYBUILD_ROOT": str(self._store)})


@dataclass(frozen=True, slots=True)
class Buildah:
    """With layers kept as a cache and runc, so that a RUN is as isolated as ours."""

    place: Path

    @property
    def name(self) -> str:
        return "buildah"

    def version(self) -> tuple[str, ...]:
        return ("buildah", "version")

    def reset(self) -> None:
        if self._store.exists():
            self._run("rm", "--all")
            self._run("rmi", "--all", "--force")
        shutil.rmtree(self._store, ignore_errors=True)

    def add_base(self, rootfs: Path, name: str) -> None:
        context = self.place / "import"
        context.mkdir(exist_ok=True)
        shutil.copy(rootfs, context / "rootfs.tar")
        (context / "Dockerfile").write_text("FROM scratch\nADD rootfs.tar /\n")
        self._bud(context, name)
        shutil.rmtree(context)

    def build(self, context: Path, *, cache: bool = True) -> Cost:
        return self._bud(context, NAME, *(() if cache else ("--no-cache",)))

    def save(self, archive: Path) -> Cost:
        return self._run("push", "-q", NAME, f"oci-archive:{archive}:{NAME}")

    def push(self, registry: str, name: str) -> Cost:
        target = f"docker://{registry}/{name}"
        return self._run("push", "-q", "--tls-verify=false", NAME, target)

    @property
    def _store(self) -> Path:
        return self.place / "buildah"

    def _bud(self, context: Path, name: str, *options: str) -> Cost:
        how = ("--layers", "--isolation", "oci", "--runtime", "runc", "--pull-never")
        return self._run("bud", *how, *options, "-t", name, str(context))

    def _run(self, *args: str) -> Cost:
        store = ("--root", str(self._store / "root"), "--runroot", str(self._store / "run"))
        command = ("buildah", *store, "--storage-driver", "overlay", *args)
        return cost_of(command, self.place / "buildah.log", {})
