"""Small images in a store, and what a store holds."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from layers.session import Session
from layers.store import Store
from ocispec import mediatypes
from ocispec.digest import DiffID, Digest, chain_id
from ocispec.model import Descriptor, ImageConfig, Index, Manifest
from ocispec.platform import Platform

PLATFORM = Platform("linux", "amd64")


class SmallImage(NamedTuple):
    """An image whose layers are a few bytes that nobody unpacks."""

    root: Descriptor
    config: Descriptor
    layers: tuple[Descriptor, ...]
    diff_ids: tuple[DiffID, ...]

    @property
    def blobs(self) -> set[Digest]:
        return {blob.digest for blob in (self.root, self.config, *self.layers)}

    @property
    def chains(self) -> list[str]:
        """The names of its snapshots, base first."""
        count = len(self.diff_ids)
        return [Digest(chain_id(self.diff_ids[: n + 1])).hex for n in range(count)]


def put_image(session: Session, *words: str) -> SmallImage:
    """An image in the store of *session*, without a name, with a layer for each of *words*."""
    layers = tuple(session.put_bytes(mediatypes.OCI_LAYER_GZIP, w.encode()) for w in words)
    diff_ids = tuple(DiffID(Digest.of(f"tar of {word}".encode())) for word in words)
    config = session.put_bytes(mediatypes.OCI_CONFIG, ImageConfig(PLATFORM, diff_ids).encode())
    manifest = Manifest(config, layers).encode()
    root = session.put_bytes(mediatypes.OCI_MANIFEST, manifest)
    return SmallImage(root, config, layers, diff_ids)


def put_index(session: Session, *images: Descriptor) -> Descriptor:
    return session.put_bytes(mediatypes.OCI_INDEX, Index(images).encode())


def put_snapshot(session: Session, name: str, lowers: Sequence[str] = ()) -> None:
    """The snapshot *name* with one file in it, on top of *lowers*."""
    path = session.scratch("snapshot")
    (path / "fs").mkdir()
    (path / "fs" / "file").write_text(name)
    (path / "lowers").write_text("".join(f"{lower}\n" for lower in lowers))
    session.publish_tree(path, name)


def blobs(store: Store) -> set[Digest]:
    """What is among the blobs of *store*."""
    folders = (store.root / "blobs").iterdir()
    return {Digest(f"{folder.name}:{name}") for folder in folders for name in os.listdir(folder)}


def left_over(root: Path) -> list[str]:
    """What the work in the store at *root* left behind: nothing, when nobody is at work."""
    return [
        f"{folder}/{name}"
        for folder in ("tmp", "leases", "trash")
        for name in os.listdir(root / folder)
    ]
