"""WORKDIR: a directory with its missing parents, as BuildKit makes it for the current user."""

from __future__ import annotations

import stat

from builder.execute.copy import IMPLICIT_MODE, Item
from builder.execute.place import Owner, Place, made_directory, parents
from ocispec.errors import Invalid


def lay_out(path: str, place: Place, owner: Owner, now_ns: int) -> list[Item]:
    """The entries that make *path*; none if it is a directory already."""
    real = place.real(path)
    status = place.lstat(real)
    if status is not None:
        if not stat.S_ISDIR(status.st_mode):
            raise Invalid(f"WORKDIR {path}: /{real} is there and is not a directory")
        return []
    try:
        entries = parents(place, real, owner, IMPLICIT_MODE, now_ns)
    except NotADirectoryError as error:
        raise Invalid(f"WORKDIR {path}: {error.filename} is not a directory") from error
    entries[real] = made_directory(real, owner, IMPLICIT_MODE, now_ns)
    return [Item(entry) for entry in entries.values()]
