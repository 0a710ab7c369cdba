"""Base images made on this machine: nothing is pulled from a public registry."""

from __future__ import annotations

import functools
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from support.cli import Cli

_TOOL = Path(__file__).parents[2] / "tools/base"
_PROXIES = ("http_proxy", "https_proxy", "no_proxy")

BUSYBOX = "busybox"
DEBIAN = "debian:bookworm"


@functools.cache
def rootfs(image: str) -> Path:
    """The root file system of *image* as a tar; made on first use and kept between runs."""
    name = image.partition(":")[0]
    if name == "debian":
        missing = "root" if os.geteuid() else "" if shutil.which("debootstrap") else "debootstrap"
        if missing:
            pytest.skip(f"needs {missing}: debian:bookworm is made with debootstrap")
    done = subprocess.run([_TOOL, name], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


def import_base(cli: Cli, image: str) -> None:
    """Put *image* into the store of *cli*, if it is not there."""
    if cli("inspect", image, status=None).status:
        cli("import", "--change", 'CMD ["sh"]', rootfs(image), image)


def network_arguments() -> list[str]:
    """Arguments of ``build`` that let RUN reach the package registries as this machine does."""
    named = [name for name in _PROXIES if name in os.environ]
    return [word for name in named for word in ("--build-arg", name)]
