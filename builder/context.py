"""
Where COPY takes files from: the build context, or the filesystem of another step.

Both answer with the same Picked values; digests are over names, kinds, modes, link targets, bytes
and capabilities, never over times. A context's owners do not count (its files become root's), a
stage's do.
"""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

from builder import glob
from builder.execute.copy import Source, kept_xattrs, refuse_devices
from builder.ignore import Ignore
from builder.scanning import scan_rule
from builder.selection import Listing, Picked, real, split_wildcards
from layers.tree import Tree, TreeEntry, Verdict, fingerprint
from ocispec.digest import Digest

_IGNORED: Final = "the file is not in the build context, or .dockerignore excludes it"


class LocalContext:
    """
    A directory on this machine, without what its .dockerignore excludes.

    It is listed once, on first use. *index* is the file of its stat index, or None.
    """

    def __init__(self, root: Path, ignore: Ignore, index: Path | None) -> None:
        self.tree = Tree(root, index)
        self._ignore = ignore
        self._lock = threading.Lock()  # guards _listing and the tree's index
        self._listing: Listing | None = None

    def select(self, sources: Sequence[str]) -> list[list[Picked]]:
        """What each of *sources* selects, with the digests of its files known."""
        if not sources:
            return []
        with self._lock:
            if self._listing is None:
                self._listing = Listing(self.tree.scan(scan_rule(self._ignore)))
            found = [self._listing.pick(source, _IGNORED) for source in sources]
            picked = [one for several in found for one in several]
            for one in picked:
                refuse_devices(one)
            self.tree.digests(_entries(picked))
        return found

    def source(self, picked: Picked) -> Source:
        return Source(picked, self.tree, keep_owner=False)

    def save(self) -> None:
        """Keep the stat index for the next build."""
        with self._lock:
            self.tree.save()

    def fingerprint(self) -> str | None:
        """tree.fingerprint() of the whole context, None if it is too young; "" if nobody asked."""
        with self._lock:
            if self._listing is None:
                return ""
            entries = self._listing.entries
            return fingerprint(entries) if self.tree.are_settled(entries) else None


class StageFiles:
    """The filesystem of another step, mounted read-only below the open directory *root*."""

    def __init__(self, root: int) -> None:
        self._root = root
        self.tree = Tree(Path(f"/proc/self/fd/{root}"), None)

    def select(self, sources: Sequence[str]) -> list[list[Picked]]:
        """What each of *sources* selects, with the digests of its files known."""
        matches = [self._matches(source) for source in sources]
        places = [self._real(match) for several in matches for match in several]
        listing = Listing(self.tree.scan(_only(places)))
        found = [[listing.at(self._real(match), match) for match in several] for several in matches]
        self.tree.digests(_entries([one for several in found for one in several]))
        return found

    def source(self, picked: Picked) -> Source:
        return Source(picked, self.tree, keep_owner=True)

    def _matches(self, source: str) -> list[str]:
        """*source* itself, or the paths that its wildcards match, sorted."""
        start, pattern = split_wildcards(source)
        if not pattern:
            return [start]
        found = [self._real(start)]
        for part in pattern.split("/"):
            found = [
                f"{parent}/{name}".lstrip("/")
                for parent in found
                for name in self._names(parent)
                if glob.match(part, name)
            ]
        return sorted(found, key=os.fsencode)

    def _names(self, path: str) -> list[str]:
        # A link is no directory here, and none is on the way: each was opened like this before.
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
        try:
            fd = os.open(path or ".", flags, dir_fd=self._root)
        except (FileNotFoundError, NotADirectoryError):
            return []
        try:
            return os.listdir(fd)
        finally:
            os.close(fd)

    def _real(self, path: str) -> str:
        return real(path, self._link_of)

    def _link_of(self, path: str) -> str | None:
        try:
            return os.readlink(path, dir_fd=self._root)
        except OSError:
            # Not a link, or not there; a missing file is reported by who looks for it.
            return None


def digest(found: Iterable[Sequence[Picked]], *, owners: bool) -> Digest:
    """
    The digest of what was selected; *owners* and all attributes count for a stage's files.

    Fields end with a NUL, which no path and no link target can hold, and each record has the
    same number of fields: so no two selections give the same bytes.
    """
    hasher = hashlib.sha256()
    names: dict[tuple[int, int], str] = {}  # of files that have several: the first
    for several in found:
        for picked in several:
            hasher.update(_record(picked, owners, names))
    return Digest("sha256:" + hasher.hexdigest())


def _record(picked: Picked, owners: bool, names: dict[tuple[int, int], str]) -> bytes:
    start = len(picked.path) + 1 if picked.path else 0
    lines = [f"pick\0{picked.name}\0{len(picked.below)}\0"]
    if picked.entry is not None:
        lines.append(_fields(picked.entry, "", owners, names))
    lines.extend(_fields(entry, entry.path[start:], owners, names) for entry in picked.below)
    return "".join(lines).encode("utf-8", "surrogateescape")


def _fields(entry: TreeEntry, path: str, owners: bool, names: dict[tuple[int, int], str]) -> str:
    content = entry.digest
    if entry.status.st_nlink > 1 and entry.kind == "file":
        # Two names of one file are copied as such; what other names it has does not matter.
        first = names.setdefault((entry.dev, entry.ino), entry.path)
        if first != entry.path:
            content = f"{content}={first}"
    line = f"{path}\0{entry.kind}\0{entry.mode:o}\0{entry.target}\0{content}\0"
    xattrs = kept_xattrs(entry, owners)
    if xattrs:
        line += "".join(f"{k}={v.hex()}," for k, v in sorted(xattrs.items()))
    return f"{line}\0{entry.uid}\0{entry.gid}\0{entry.rdev}\0" if owners else f"{line}\0"


def _entries(picked: Sequence[Picked]) -> list[TreeEntry]:
    return [
        entry
        for one in picked
        for entry in ((one.entry, *one.below) if one.entry is not None else one.below)
    ]


def _only(places: Sequence[str]) -> Callable[[str, bool], Verdict]:
    """Scan *places* and what is below them; of their parents only the way there."""
    above = {place[:at] for place in places for at, c in enumerate(place) if c == "/"}
    wanted = set(places)

    def verdict(path: str, is_directory: bool) -> Verdict:
        if "" in wanted or path in wanted:
            return Verdict.INCLUDE
        if is_directory and path in above:
            return Verdict.DESCEND
        parent = path
        while parent := parent.rpartition("/")[0]:
            if parent in wanted:
                return Verdict.INCLUDE
        return Verdict.EXCLUDE

    return verdict
