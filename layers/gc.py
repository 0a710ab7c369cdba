"""
What nothing names any more is removed, while others are at work.

Live is what can be reached from index.json, from the cache records that are kept, and from the
leases of sessions that live. Marking, and moving the rest to trash/, happen under the exclusive gc
lock, which sessions hold shared for each pin and each rename: so gc sees a pin, or ran before it.
What takes long needs no lock: documents are read once before, and the trash is removed after.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from layers.locks import is_held, locked
from layers.marking import Graph, Live, Records
from layers.remove import remove_tree
from layers.store import Store
from ocispec.digest import Digest

_CACHES: Final = ("statindex", "answers")  # of files that keep nothing alive


class Policy(NamedTuple):
    """What goes beside that which nothing names."""

    max_age: float | None = None  # seconds; cache records not used for as long go; None keeps all
    unnamed_images: bool = False  # images that lost their name go, unless a session uses them


class Freed(NamedTuple):
    """What gc removed."""

    bytes: int  # of blobs and snapshots
    blobs: int
    snapshots: int
    records: int
    images: tuple[Digest, ...]  # that had no name


class _Found(NamedTuple):
    """What is to go, as it was marked under the lock."""

    images: tuple[Digest, ...]
    records: list[Path]
    blobs: list[Path]
    snapshots: list[Path]


def collect(
    store: Store, policy: Policy | None = None, *, now: float | None = None, dry_run: bool = False
) -> Freed:
    """
    Remove what is not live; by default every cache record is kept.

    *now* is the time that ages are reckoned from, in seconds since 1970. With *dry_run* nothing is
    removed, and the answer is what would be.
    """
    policy = policy or Policy()
    now = time.time() if now is None else now
    graph, records = Graph(store), Records(store)
    _mark(graph, records, policy, now)  # once without the locks, so that most is read by then
    root = store.root
    # In this order, as whoever changes a name takes them.
    with locked(root / "images.lock", exclusive=True), locked(root / "gc.lock", exclusive=True):
        found = _mark(graph, records, policy, now)
        sizes = {path: path.stat().st_size for path in found.blobs}
        trash: Mapping[Path, Path] = {}
        if not dry_run:
            if found.images:
                store.images.forget(frozenset(found.images), holding_locks=True)
            for record in found.records:
                record.unlink(missing_ok=True)
            trash = _throw_away(root, (*found.blobs, *found.snapshots))
            _reclaim(root)
    size = sum(sizes.values())
    size += sum(_tree_size(trash.get(path, path)) for path in found.snapshots)
    if not dry_run:
        _empty_trash(root)
    return Freed(size, len(found.blobs), len(found.snapshots), len(found.records), found.images)


def _mark(graph: Graph, records: Records, policy: Policy, now: float) -> _Found:
    store = graph.store
    live = Live(set(), set())
    graph.mark_leases(live)
    unnamed = {image.digest for image in store.images.unnamed()} if policy.unnamed_images else set()
    unnamed -= live.blobs
    for image in store.images.entries():
        if image.digest not in unnamed:
            graph.mark(image, live)
    blobs = _blobs(store.root)
    too_old = None if policy.max_age is None else now - policy.max_age
    stale = records.mark(live, blobs.keys(), too_old)
    stale += _unused(store.root, too_old)
    snapshots = list((store.root / "snapshots").iterdir())
    return _Found(
        tuple(sorted(unnamed)),
        stale,
        [path for digest, path in blobs.items() if digest not in live.blobs],
        [path for path in snapshots if path.name not in live.snapshots],
    )


def _blobs(root: Path) -> dict[str, Path]:
    """What is among the blobs, by digest."""
    return {
        f"{folder.name}:{path.name}": path
        for folder in (root / "blobs").iterdir()
        if folder.is_dir()
        for path in folder.iterdir()
    }


def _unused(root: Path, too_old: float | None) -> list[Path]:
    """The files of caches that nobody wrote since the time *too_old*."""
    if too_old is None:
        return []
    unused = []
    for folder in _CACHES:
        for path in (root / folder).iterdir():
            with suppress(FileNotFoundError):
                if path.stat().st_mtime <= too_old:
                    unused.append(path)
    return unused


def _throw_away(root: Path, paths: Iterable[Path]) -> dict[Path, Path]:
    """Move *paths* to the trash; where each is now."""
    # New names: with something added, one of a stranger's might be too long.
    moved = {path: root / "trash" / os.urandom(16).hex() for path in paths}
    for path, target in moved.items():
        path.rename(target)
    return moved


def _reclaim(root: Path) -> None:
    """Move away the scratch space and the leases of sessions whose process died."""
    # A file in tmp/ without a session is a new index.json; we hold its lock, so its writer died.
    scratch = (root / "tmp").iterdir()
    _throw_away(root, [path for path in scratch if not is_held(root / "leases" / path.name)])
    for lease in (root / "leases").iterdir():
        if not is_held(lease):
            lease.unlink(missing_ok=True)


def _tree_size(root: Path) -> int:
    """Bytes that the tree takes on disk; what is deeper than a path may be long is not counted."""
    size = 0
    pending = [str(root)]
    while pending:
        # Another gc may be removing the same trash.
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
                    size += status.st_blocks * 512
                else:
                    size += status.st_blocks * 512 // max(status.st_nlink, 1)
    return size


def _empty_trash(root: Path) -> None:
    for path in (root / "trash").iterdir():
        remove_tree(path)
