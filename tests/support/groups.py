"""The control groups that runners make."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path


def abandoned_groups() -> list[Path]:
    """Those that nobody holds any more. Runners of other processes may have some at any time."""
    return [path for path in Path("/sys/fs/cgroup").glob("**/pybuild-*") if not _is_held(path)]


def _is_held(path: Path) -> bool:
    try:
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    except FileNotFoundError:
        return True  # it was, until now
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(fd)
    return False
