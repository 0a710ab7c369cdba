"""What the command line takes from its surroundings: the only module that reads them."""

from __future__ import annotations

import os
from pathlib import Path


def store_root(option: str | None) -> Path:
    """The store: ``--root``, else PYBUILD_ROOT, else the user's data directory."""
    given = option or os.environ.get("PYBUILD_ROOT")
    if given:
        return Path(given).absolute()
    if os.geteuid() == 0:
        return Path("/var/lib/pybuild")
    data = os.environ.get("XDG_DATA_HOME")
    return (Path(data) if data else Path.home() / ".local/share") / "pybuild"


def docker_config() -> Path:
    """Docker's config file: DOCKER_CONFIG, else ~/.docker."""
    given = os.environ.get("DOCKER_CONFIG")
    return (Path(given) if given else Path.home() / ".docker") / "config.json"


def resolv_conf() -> bytes:
    """This machine's resolver configuration; empty if it has none."""
    from runner.netfiles import RESOLVED, is_stub_only

    try:
        text = Path("/etc/resolv.conf").read_bytes()
        return Path(RESOLVED).read_bytes() if is_stub_only(text) else text
    except FileNotFoundError:
        return b""


def environment(name: str) -> str | None:
    """The variable *name*; None if it is not set."""
    return os.environ.get(name)
