"""What is wrong in a store: nothing, whatever was killed there."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

from support.building import Builder
from support.stores import left_over
from support.trees import listing

from layers.store import Store
from ocispec import mediatypes
from ocispec.content import read_small
from ocispec.model import MAX_DOCUMENT, Descriptor, Manifest


def problems(root: Path, scratch: Path) -> list[str]:
    """
    Damaged blobs, names of images that are not whole, snapshots that are not what their layers say.

    To be called when nobody works in the store; *scratch*, on its file system, must not be there.
    """
    store = Store.at(root)
    found = [f"blob {digest} is damaged" for digest in store.check()]
    for ref, image in store.images.names():
        missing = [blob.digest for blob in _blobs(store, image) if not store.has(blob)]
        found += [f"{ref} lacks blob {digest}" for digest in missing]
        if not found and not _unpacks_alike(root, image, scratch):
            found.append(f"a snapshot of {ref} is not what its layers say")
    return found


def left_behind(root: Path) -> list[str]:
    """What killed processes left that a prune should have taken away."""
    return left_over(root)


def whole_listing(root: Path) -> dict[str, tuple[object, ...]]:
    """The listing of the tree at *root*, which may be a descriptor's link in /proc."""
    status = root.stat()
    return {**listing(root), "": (status.st_mode, status.st_uid, status.st_gid)}


def _blobs(store: Store, image: Descriptor) -> list[Descriptor]:
    if not store.has(image):
        return [image]
    assert image.media_type in mediatypes.MANIFESTS
    data = read_small(store, image, MAX_DOCUMENT)
    return [image, *Manifest.decode(data, image.media_type).children()]


def _unpacks_alike(root: Path, image: Descriptor, scratch: Path) -> bool:
    """Do the snapshots that are there show what a store that has the blobs only unpacks?"""
    Store.at(scratch)
    for folder in (root / "blobs").iterdir():
        place = scratch / "blobs" / folder.name
        shutil.copytree(folder, place, copy_function=os.link, dirs_exist_ok=True)
    try:
        with Builder(root).root(image) as shown, Builder(scratch).root(image) as right:
            return whole_listing(shown) == whole_listing(right)
    finally:
        shutil.rmtree(scratch)
