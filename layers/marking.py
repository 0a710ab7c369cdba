"""What is alive in a store: everything that names, leases and cache records lead to."""

from __future__ import annotations

import os
from collections.abc import Set as AbstractSet
from contextlib import suppress
from pathlib import Path
from typing import Final, NamedTuple

from layers.locks import is_held
from layers.store import Store
from ocispec import canonical, mediatypes
from ocispec.content import read_small
from ocispec.digest import ChainID, Digest, next_chain_id
from ocispec.errors import Corrupt, Invalid, NotFound
from ocispec.model import MAX_DOCUMENT, Descriptor, ImageConfig, Index, Manifest

_RECORDS: Final = ("keys", "epochs")
_DOCUMENTS: Final = mediatypes.INDEXES | mediatypes.MANIFESTS
_LEASED_DOCUMENT: Final = 4 << 20  # bytes; a registry takes no larger manifest


class Live(NamedTuple):
    """What must stay; filled by those that mark."""

    blobs: set[str]  # digests
    snapshots: set[str]  # names


class _Leads(NamedTuple):
    """Where a document leads: it never changes, so it is read once."""

    manifests: tuple[Descriptor, ...]
    blobs: frozenset[str]
    snapshots: frozenset[str]


class Graph:
    """The images of *store*, read as they are reached and remembered."""

    def __init__(self, store: Store) -> None:
        self.store = store
        self._known: dict[Digest, _Leads] = {}

    def mark(self, root: Descriptor, live: Live) -> None:
        """*root* and all that it leads to. What is missing or damaged leads nowhere."""
        pending = [root]
        seen = set()
        while pending:
            blob = pending.pop()
            live.blobs.add(blob.digest)
            if blob.media_type in _DOCUMENTS and blob.digest not in seen:
                seen.add(blob.digest)
                # What fails now may be there the next time, so it is not remembered.
                with suppress(NotFound, Corrupt, Invalid):
                    pending += self._follow(blob, live)

    def mark_leases(self, live: Live) -> None:
        """What living sessions pinned. A lease is alive as long as its owner holds its lock."""
        for lease in (self.store.root / "leases").iterdir():
            if not is_held(lease):
                continue
            with suppress(FileNotFoundError):
                for line in lease.read_text("ascii").splitlines():
                    self._mark_pin(line, live)

    def _mark_pin(self, line: str, live: Live) -> None:
        kind, _, name = line.partition(":")
        if kind == "snapshot":
            _mark_snapshot(self.store.root, name, live)
            return
        with suppress(Invalid):
            digest = Digest(line)
            live.blobs.add(digest)
            document = self._leased_document(digest)
            if document is not None:
                self.mark(document, live)

    def _leased_document(self, digest: Digest) -> Descriptor | None:
        """The manifest or index that a leased blob is: who uses an image pins its root alone."""
        try:
            fd = os.open(self.store.path(digest), os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            size = os.fstat(fd).st_size
            if size > _LEASED_DOCUMENT or os.read(fd, 1) != b"{":
                return None
            fields = canonical.decode_object(b"{" + os.read(fd, size), "leased blob")
        except Invalid:
            return None
        finally:
            os.close(fd)
        media_type = fields.get("mediaType")
        if media_type is None:
            media_type = mediatypes.OCI_INDEX if "manifests" in fields else mediatypes.OCI_MANIFEST
        return Descriptor(str(media_type), digest, size)

    def _follow(self, blob: Descriptor, live: Live) -> tuple[Descriptor, ...]:
        leads = self._known.get(blob.digest)
        if leads is None:
            leads = self._known[blob.digest] = self._read(blob, live)
        live.blobs.update(leads.blobs)
        live.snapshots.update(leads.snapshots)
        return leads.manifests

    def _read(self, blob: Descriptor, live: Live) -> _Leads:
        data = read_small(self.store, blob, MAX_DOCUMENT)
        if blob.media_type in mediatypes.INDEXES:
            return _Leads(Index.decode(data, blob.media_type).manifests, frozenset(), frozenset())
        manifest = Manifest.decode(data, blob.media_type)
        blobs = frozenset(child.digest for child in manifest.children())
        # Before the config is read, which may be missing while the layers are there.
        live.blobs.update(blobs)
        config = ImageConfig.decode(read_small(self.store, manifest.config, MAX_DOCUMENT))
        chain: ChainID | None = None
        snapshots = set()
        for diff_id in config.diff_ids:
            chain = next_chain_id(chain, diff_id)
            snapshots.add(Digest(chain).hex)
        return _Leads((), blobs, frozenset(snapshots))


class _Parts(NamedTuple):
    """What a cache record names."""

    blobs: tuple[str, ...]
    snapshots: tuple[str, ...]


class Records:
    """The cache records of *store*, remembered as long as their files stay the same."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: dict[Path, tuple[tuple[int, int], _Parts | None]] = {}

    def mark(self, live: Live, blobs: AbstractSet[str], too_old: float | None) -> list[Path]:
        """
        Mark what the records name that are kept; the others.

        Those go that were last used at *too_old* or before, that lack one of *blobs*, or that
        cannot be read.
        """
        stale = []
        for path in self._paths():
            with suppress(FileNotFoundError):
                status = path.stat()
                old = too_old is not None and status.st_mtime <= too_old
                parts = None if old else self._parts(path, (status.st_ino, status.st_ctime_ns))
                if parts is None or not blobs >= set(parts.blobs):
                    stale.append(path)
                    continue
                live.blobs.update(parts.blobs)
                for name in parts.snapshots:
                    _mark_snapshot(self._store.root, name, live)
        return stale

    def _paths(self) -> list[Path]:
        root = self._store.root
        return [path for folder in _RECORDS for path in (root / folder).iterdir()]

    def _parts(self, path: Path, version: tuple[int, int]) -> _Parts | None:
        known = self._known.get(path)
        if known is None or known[0] != version:
            known = self._known[path] = version, _parts(path.read_bytes())
        return known[1]


def _parts(data: bytes) -> _Parts | None:
    """What the record *data* names; None if it cannot be read."""
    try:
        fields = canonical.decode_object(data, "record")
        blobs = [layer["blob"]["digest"] for layer in fields.get("layers", [])]
        blobs += fields.get("blobs", [])
        return _Parts(
            tuple(str(Digest(digest)) for digest in blobs),
            tuple(str(name) for name in fields.get("snapshots", [])),
        )
    except (Invalid, KeyError, TypeError):
        return None


def _mark_snapshot(root: Path, name: str, live: Live) -> None:
    """The snapshot *name* and those that it is stacked on."""
    live.snapshots.add(name)
    with suppress(FileNotFoundError, NotADirectoryError):
        lowers = (root / "snapshots" / name / "lowers").read_text("ascii")
        live.snapshots.update(lowers.split())
