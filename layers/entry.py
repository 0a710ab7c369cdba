"""One member of a layer, as it stands in the tar and on disk (image-spec layer.md)."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from layers.attributes import is_exported

Kind = Literal["file", "dir", "link", "symlink", "char", "block", "fifo"]

WHITEOUT: Final = ".wh."  # before a name: the name is gone (layer.md, "Whiteouts")
OPAQUE: Final = ".wh..wh..opq"  # in a directory: everything below it is gone
META: Final = ".wh..wh."  # before the names that AUFS kept for itself

SECOND: Final = 1_000_000_000  # in nanoseconds


@dataclass(frozen=True, slots=True)
class Entry:
    """
    A file, directory, link or node at ``path``: relative, without "." or "..", "" for the root.

    ``target`` is the text of a symlink, or the path of what a hard link ("link") shares.
    """

    path: str
    kind: Kind
    mode: int = 0o644  # permission bits, setuid, setgid, sticky
    uid: int = 0
    gid: int = 0
    size: int = 0  # bytes of a file; 0 for everything else
    mtime_ns: int = 0
    target: str = ""
    major: int = 0
    minor: int = 0
    xattrs: Mapping[str, bytes] = field(default_factory=dict, hash=False)


def encoded(path: str) -> bytes:
    """As os.fsencode, at half its cost for most paths."""
    return path.encode() if path.isascii() else os.fsencode(path)


def only_exported(entry: Entry) -> Entry:
    """*entry* without the extended attributes that a layer does not carry."""
    carries = entry.kind in ("file", "dir")  # the kernel allows user.* on nothing else
    if not entry.xattrs or (carries and all(map(is_exported, entry.xattrs))):
        return entry
    kept = {name: entry.xattrs[name] for name in entry.xattrs if carries and is_exported(name)}
    return replace(entry, xattrs=kept)
