"""
What nothing names any more is removed, while others are at work.

Live is what can be reached from index.json, from the cache records that are kept, and from the
leases of sessions that live. Marking, and moving the rest to trash/, happen under the exclusive gc
lock, which sessions hold shared for each pin and each rename: so gc sees a pin, or ran before it.
The slow part, removing the trash, needs no lock.
"""

from __future__ import annotations

import os
import time
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any, Final, NamedTuple

from layers.locks import is_held, locked
from layers.remove import remove_tree
from layers.store import Store
from ocispec import canonical, mediatypes
from ocispec.content import read_small
from ocispec.digest import ChainID, Digest, next_chain_id
from ocispec.errors import Corrupt, Invalid, NotFound
from ocispec.model import MAX_DOCUMENT, Descriptor, ImageConfig, Index, Manifest

_RECORDS: Final = ("keys", "epochs")
_DEPTH: Final = 8  # of indexes in indexes


class Policy(NamedTuple):
    """Which cache records are kept: those used within *max_age* seconds; None keeps all."""

    max_age: float | None = None
    unnamed_images: bool = False  # True: images that lost their name are forgotten first


class Freed(NamedTuple):
    """What gc removed."""

    bytes: int  # of blobs and snapshots
    blobs: int
    snapshots: int
    records: int
    images: tuple[Digest, ...]  # that had no name


class _Live(NamedTuple):
    blobs: set[str]  # digests
    snapshots: set[str]  # names


def collect(store: Store, policy: Policy | None = None, *, dry_run: bool = False) -> Freed:
    """
    Remove what is not live; by default every cache record is kept.

    With *dry_run* nothing is removed, and the answer is what would be.
    """
    policy = policy or Policy()
    root = store.root
    # In this order, as whoever changes a name takes them.
    with locked(root / "images.lock", exclusive=True), locked(root / "gc.lock", exclusive=True):
        forgotten = tuple(image.digest for image in store.images.unnamed())
        if not policy.unnamed_images:
            forgotten = ()
        live = _Live(set(), set())
        _mark_leases(root, live)
        for image in store.images.entries():
            if image.digest not in forgotten or str(image.digest) in live.blobs:
                _mark_image(store, image, live, 0)
        stale = _mark_records(store, policy, live)
        doomed = list(_dead(root, live))
        if not dry_run:
            if forgotten:
                store.images.forget(frozenset(forgotten), holding_locks=True)
            for record in stale:
                record.unlink(missing_ok=True)
            freed = _account(doomed, stale, forgotten)
            for path in doomed:
                path.rename(root / "trash" / f"{path.name}-{os.urandom(4).hex()}")
            _reclaim(root)
        else:
            freed = _account(doomed, stale, forgotten)
    if not dry_run:
        _empty_trash(root)
    return freed


def _mark_leases(root: Path, live: _Live) -> None:
    """What living sessions pinned. A lease is alive as long as its owner holds its lock."""
    for lease in (root / "leases").iterdir():
        if not is_held(lease):
            continue
        for line in lease.read_text("ascii").splitlines():
            kind, _, name = line.partition(":")
            if kind == "snapshot":
                live.snapshots.add(name)
                live.snapshots.update(_below(root, name))
            else:
                live.blobs.add(line)


def _mark_image(store: Store, blob: Descriptor, live: _Live, depth: int) -> None:
    """*blob* and all that it refers to; what is missing or damaged leads nowhere."""
    live.blobs.add(str(blob.digest))
    with suppress(NotFound, Corrupt, Invalid):
        if blob.media_type in mediatypes.INDEXES and depth < _DEPTH:
            index = Index.decode(read_small(store, blob, MAX_DOCUMENT), blob.media_type)
            for child in index.manifests:
                _mark_image(store, child, live, depth + 1)
        elif blob.media_type in mediatypes.MANIFESTS:
            manifest = Manifest.decode(read_small(store, blob, MAX_DOCUMENT), blob.media_type)
            live.blobs.update(str(child.digest) for child in manifest.children())
            config = ImageConfig.decode(read_small(store, manifest.config, MAX_DOCUMENT))
            chain: ChainID | None = None
            for diff_id in config.diff_ids:
                chain = next_chain_id(chain, diff_id)
                live.snapshots.add(Digest(chain).hex)


def _mark_records(store: Store, policy: Policy, live: _Live) -> list[Path]:
    """Mark what the kept cache records name; the others, and those that lack a part, are stale."""
    now = time.time()
    stale = []
    for folder in _RECORDS:
        for name, data in store.records(folder):
            path = store.root / folder / name
            with suppress(FileNotFoundError):
                old = policy.max_age is not None and now - path.stat().st_mtime >= policy.max_age
                named = None if old else _named_blobs(data)
                if named is None or not all(store.path(Digest(d)).exists() for d in named):
                    stale.append(path)
                else:
                    live.blobs.update(named)
    return stale


def _named_blobs(data: bytes) -> list[str] | None:
    """The blobs of a record's layers; None if it is damaged."""
    try:
        layers: list[dict[str, Any]] = canonical.decode_object(data, "record")["layers"]
        return [str(Digest(layer["blob"]["digest"])) for layer in layers]
    except (Invalid, KeyError, TypeError):
        return None


def _dead(root: Path, live: _Live) -> Iterator[Path]:
    for folder in (root / "blobs").iterdir():
        for path in folder.iterdir():
            if f"{folder.name}:{path.name}" not in live.blobs:
                yield path
    for path in (root / "snapshots").iterdir():
        if path.name not in live.snapshots:
            yield path


def _below(root: Path, snapshot: str) -> list[str]:
    try:
        return (root / "snapshots" / snapshot / "lowers").read_text("ascii").split()
    except (FileNotFoundError, NotADirectoryError):
        return []


def _account(doomed: Iterable[Path], stale: list[Path], forgotten: tuple[Digest, ...]) -> Freed:
    size = blobs = snapshots = 0
    for path in doomed:
        if path.is_dir():
            snapshots += 1
            size += _tree_size(path)
        else:
            blobs += 1
            size += path.lstat().st_size
    return Freed(size, blobs, snapshots, len(stale), forgotten)


def _tree_size(root: Path) -> int:
    """Bytes that the files below *root* take on disk; what is deeper than a path is not counted."""
    size = 0
    pending = [str(root)]
    while pending:
        with suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                size += entry.stat(follow_symlinks=False).st_blocks * 512
                if entry.is_dir(follow_symlinks=False):
                    pending.append(entry.path)
    return size


def _reclaim(root: Path) -> None:
    """Move away the scratch space and the leases of sessions whose process died."""
    for scratch in (root / "tmp").iterdir():
        if not is_held(root / "leases" / scratch.name):
            scratch.rename(root / "trash" / f"tmp-{scratch.name}-{os.urandom(4).hex()}")
    for lease in (root / "leases").iterdir():
        if not is_held(lease):
            lease.unlink(missing_ok=True)


def _empty_trash(root: Path) -> None:
    for path in (root / "trash").iterdir():
        # Another gc may be removing the same trash.
        with suppress(FileNotFoundError):
            remove_tree(path)
