"""
ADD of a local archive: it is unpacked into a directory of its own, then copied from there.

So everything a tar can do (links through which later members go, members named twice) happens
inside that directory, under the rules that image layers are unpacked with.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NamedTuple

from layers.apply import apply
from layers.compress import sniff
from layers.entry import WHITEOUT
from layers.session import Session
from layers.streams import plain_tar
from layers.tarread import tar_entries
from layers.tree import Tree
from ocispec.content import Readable
from ocispec.errors import Corrupt, Invalid

_HEAD: Final = 512  # bytes; enough for every magic number, a tar header among them


def is_archive(path: str) -> bool:
    """True if the file at host *path* is a tar, plain or compressed, whatever its name."""
    with open(path, "rb") as file:  # noqa: PTH123 - a /proc/self/fd path is no use as a Path
        try:
            return sniff(_first(plain_tar(file))) == "tar"
        except (Invalid, Corrupt, EOFError, OSError, ValueError):
            # Not what its first bytes look like: an ordinary file, and copied as one.
            return False


def _first(stream: Readable) -> bytes:
    head = b""
    while len(head) < _HEAD and (more := stream.read(_HEAD - len(head))):
        head += more
    return head


class Unpacked(NamedTuple):
    """The tree that was in an archive, and which of its directories have an entry there."""

    tree: Tree
    named: frozenset[str]


@contextmanager
def unpacked(path: str, session: Session) -> Iterator[Unpacked]:
    """What is in the archive at host *path*; gone from disk when the context ends."""
    named = _named_directories(path)
    directory = session.scratch("unpack")
    try:
        root = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            with open(path, "rb") as file:  # noqa: PTH123 - as above
                apply(plain_tar(file), root)
        finally:
            os.close(root)
        yield Unpacked(Tree(directory, None), named)
    finally:
        session.remove_scratch(directory)


def _named_directories(path: str) -> frozenset[str]:
    """
    The directories that have an entry in the archive.

    An archive is not a layer: a name that would delete something there is a file's name here.
    """
    named: set[str] = set()
    with open(path, "rb") as file:  # noqa: PTH123 - as above
        for entry, _ in tar_entries(plain_tar(file)):
            if any(name.startswith(WHITEOUT) for name in entry.path.split("/")):
                raise Invalid(
                    f"{entry.path!r}: a layer cannot hold a name that starts with {WHITEOUT!r}",
                    hint="rename it in the archive, or use --unpack=false",
                )
            if entry.kind == "dir":
                named.add(entry.path)
    return frozenset(named)
