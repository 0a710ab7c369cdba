"""
What was known of a directory's files at the last build, so that unchanged ones are not read again.

One flat file, loaded whole: the status of each file, the digest of its bytes, its capability. It
is a cache: anything that does not load is an empty index.
"""

from __future__ import annotations

import marshal
import os
from pathlib import Path
from typing import Final, NamedTuple

_VERSION: Final = 1
_HEAD: Final = b"pybuild stat index\n"


class Known(NamedTuple):
    """A file as it was: the first five fields say if it is the same now."""

    size: int
    mtime_ns: int
    ctime_ns: int
    ino: int
    mode: int
    digest: str  # hex of SHA-256
    capability: bytes  # the xattr security.capability; b"" if there is none


def load(path: Path) -> dict[str, tuple[int, int, int, int, int, str, bytes]]:
    """The index in *path* by relative path; empty if it is missing or damaged."""
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return {}
    if not data.startswith(_HEAD):
        return {}
    try:
        version, known = marshal.loads(data[len(_HEAD) :])
    except (ValueError, EOFError, TypeError):
        return {}
    return known if version == _VERSION and isinstance(known, dict) else {}


def save(path: Path, known: dict[str, tuple[int, int, int, int, int, str, bytes]]) -> None:
    """Write the index beside *path* and rename it: readers see the old one or the new one."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}-{os.urandom(4).hex()}")
    try:
        temporary.write_bytes(_HEAD + marshal.dumps((_VERSION, known)))
        temporary.rename(path)
    finally:
        temporary.unlink(missing_ok=True)
