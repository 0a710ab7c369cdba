"""
What COPY and ADD select: sources and wildcards, resolved inside their root.

Pure over a Listing: the same rules serve a build context and another stage's filesystem.
Links that a source's path goes through are followed as they would be inside the root, never
outside it; links inside a copied directory are copied.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Sequence
from typing import NamedTuple

from builder import glob
from layers.tree import TreeEntry
from ocispec.errors import Invalid, NotFound

MAX_LINKS = 255


def clean(path: str) -> str:
    """*path* relative to its root: no ``.``, no ``/`` at either end, ``..`` stops at the root."""
    parts: list[str] = []
    for part in path.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def real(path: str, link_of: Callable[[str], str | None]) -> str:
    """
    *path* with every link resolved in its root, the last component too.

    *link_of* gives the target of the link at a path, or None if there is no link. Invalid when
    links form a loop.
    """
    todo = clean(path).split("/")[::-1] if clean(path) else []
    done: list[str] = []
    links = 0
    while todo:
        part = todo.pop()
        if part == "..":
            del done[-1:]
            continue
        if part in ("", "."):
            continue
        target = link_of("/".join([*done, part]))
        if target is None:
            done.append(part)
            continue
        links += 1
        if links > MAX_LINKS:
            raise Invalid(f"too many levels of symbolic links in {path!r}")
        if target.startswith("/"):
            done.clear()
        todo.extend(reversed(target.split("/")))
    return "/".join(done)


def split_wildcards(source: str) -> tuple[str, str]:
    """
    *source*, cleaned, before and from its first component with a wildcard.

    Links are followed in the first part; the other is matched against what is below it.
    """
    parts = clean(source).split("/")
    first = next((i for i, part in enumerate(parts) if glob.has_wildcard(part)), len(parts))
    return "/".join(parts[:first]), "/".join(parts[first:])


class Picked(NamedTuple):
    """One source: its root entry (None for the root of everything) and what is below it."""

    name: str  # the last component of the source as it was written or matched
    entry: TreeEntry | None
    path: str  # where the root entry is; "" is the root of everything
    below: Sequence[TreeEntry]  # sorted; paths start with *path*

    @property
    def is_directory(self) -> bool:
        return self.entry is None or self.entry.kind == "dir"


class Listing:
    """Entries of one tree, sorted by the bytes of their paths, found by path."""

    def __init__(self, entries: Sequence[TreeEntry]) -> None:
        self.entries = entries
        self._paths: list[str] | None = None
        self._by_path: dict[str, TreeEntry] | None = None

    def get(self, path: str) -> TreeEntry | None:
        if self._by_path is None:
            self._by_path = {entry.path: entry for entry in self.entries}
        return self._by_path.get(path)

    def below(self, path: str) -> Sequence[TreeEntry]:
        """Everything under the directory *path*, sorted."""
        if not path:
            return self.entries
        if self._paths is None:
            self._paths = [entry.path for entry in self.entries]
        # "0" follows "/": one range holds all that starts with "path/".
        first = bisect_left(self._paths, _order(path + "/"), key=_order)
        last = bisect_left(self._paths, _order(path + "0"), key=_order)
        return self.entries[first:last]

    def pick(self, source: str, hint: str = "") -> list[Picked]:
        """
        What *source* selects; several for a wildcard, none for one that matches nothing.

        NotFound, with *hint*, if it has no wildcard and is not there.
        """
        start, pattern = split_wildcards(source)
        start = real(start, self._link_of)
        if not pattern:
            return [self.at(start, source, hint)]
        at = len(start) + 1 if start else 0
        depth = pattern.count("/")
        matches = [
            entry.path
            for entry in self.below(start)
            if entry.path.count("/", at) == depth and glob.match(pattern, entry.path[at:])
        ]
        return [self.at(real(match, self._link_of), match, hint) for match in matches]

    def at(self, path: str, source: str, hint: str = "") -> Picked:
        """What is at *path*, a real path, picked for *source*. NotFound if nothing is."""
        name = clean(source).rpartition("/")[2]
        if not path:
            return Picked(name, None, "", self.entries)
        entry = self.get(path)
        if entry is None:
            raise NotFound(f'"/{clean(source)}": not found', hint=hint)
        return Picked(name, entry, path, self.below(path) if entry.kind == "dir" else ())

    def _link_of(self, path: str) -> str | None:
        entry = self.get(path)
        return entry.target if entry is not None and entry.kind == "symlink" else None


def _order(path: str) -> bytes:
    return path.encode("utf-8", "surrogateescape")
