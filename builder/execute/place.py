"""
Where files go in a filesystem that exists: links followed in its root, parents kept or made.

A change lists the parents of everything in it, with the metadata they have: an engine that
unpacks layers into separate directories would else make them anew (BuildKit issue 154).
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Mapping
from typing import NamedTuple

from builder.selection import real
from layers.attributes import is_exported
from layers.entry import Entry
from ocispec.errors import Invalid


class Owner(NamedTuple):
    uid: int
    gid: int


class Place:
    """A read-only filesystem below *root*, an open directory that this class does not close."""

    def __init__(self, root: int) -> None:
        self._root = root

    def lstat(self, path: str) -> os.stat_result | None:
        """The status of *path*, whose parents hold no links; None if it is not there."""
        try:
            return os.stat(path or ".", dir_fd=self._root, follow_symlinks=False)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError as error:
            if error.errno != errno.ENAMETOOLONG:
                raise
            raise Invalid(f"/{path}: the name is too long for a file system") from error

    def real(self, path: str) -> str:
        """*path* with all links followed inside the root; what is missing is kept as written."""
        return real(path, self._link_of)

    def directory(self, path: str, status: os.stat_result) -> Entry:
        """The entry that leaves the directory *path* as it is."""
        return Entry(
            path=path,
            kind="dir",
            mode=stat.S_IMODE(status.st_mode),
            uid=status.st_uid,
            gid=status.st_gid,
            mtime_ns=status.st_mtime_ns,
            xattrs=self._xattrs(path),
        )

    def _link_of(self, path: str) -> str | None:
        try:
            return os.readlink(path, dir_fd=self._root)
        except OSError:
            # Not a link, or not there: both are what they are called.
            return None

    def _xattrs(self, path: str) -> Mapping[str, bytes]:
        place = f"/proc/self/fd/{self._root}/{path}"
        names = filter(is_exported, os.listxattr(place, follow_symlinks=False))
        return {name: os.getxattr(place, name, follow_symlinks=False) for name in names}


def parents(place: Place, path: str, owner: Owner, mode: int, mtime_ns: int) -> dict[str, Entry]:
    """
    An entry for each directory above *path*, by path.

    Those that exist stay as they are; missing ones get *owner*, *mode* and *mtime_ns*. The parents
    of *path* hold no links (see Place.real). NotADirectoryError if one is something else.
    """
    entries: dict[str, Entry] = {}
    exists = True
    parts = path.split("/")[:-1]
    for depth in range(1, len(parts) + 1):
        parent = "/".join(parts[:depth])
        status = place.lstat(parent) if exists else None
        if status is None:
            exists = False
            entries[parent] = made_directory(parent, owner, mode, mtime_ns)
        elif stat.S_ISDIR(status.st_mode):
            entries[parent] = place.directory(parent, status)
        else:
            raise NotADirectoryError(20, os.strerror(20), "/" + parent)
    return entries


def made_directory(path: str, owner: Owner, mode: int, mtime_ns: int) -> Entry:
    """A new directory."""
    return Entry(path=path, kind="dir", mode=mode, uid=owner.uid, gid=owner.gid, mtime_ns=mtime_ns)
