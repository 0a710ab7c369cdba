"""A layer's blob -> a directory, checked to the last byte."""

from __future__ import annotations

import os
from pathlib import Path

from layers.apply import apply
from layers.compress import decompressor
from layers.inroot import DIRECTORY
from layers.store import Store
from ocispec.content import VerifiedReader
from ocispec.errors import Corrupt
from ocispec.model import Layer


def apply_verified(
    layer: Layer, directory: Path, lower_fd: int | None, store: Store, *, prefix: str = "trusted"
) -> None:
    """
    Unpack *layer* into the empty *directory*, in overlay's form, on top of *lower_fd*.

    Corrupt if the blob is not what its digest says, or its tar not what the DiffID says. After an
    error what is there is to be thrown away.
    """
    raw = VerifiedReader(store.open(layer.blob), layer.blob)
    root = os.open(directory, DIRECTORY)
    try:
        tar = decompressor(layer.blob.media_type, raw)
        try:
            applied = apply(tar, root, prefix=prefix, lower_fd=lower_fd)
        finally:
            tar.close()
    finally:
        os.close(root)
        raw.close()
    if not raw.verified:
        raise Corrupt(f"blob {layer.blob.digest}: it was not read to its end")
    if applied.diff_id != layer.diff_id:
        raise Corrupt(
            f"layer {layer.blob.digest}: unpacks to {applied.diff_id}, not to {layer.diff_id}",
            hint="the image's config and its layers do not belong together",
        )
