"""
Layers whose times are capped at SOURCE_DATE_EPOCH (reproducible-builds.org, "clamping").

The cache keeps layers with the times they were made with; a capped one is made from such a layer
when an image asks for it, and is remembered. So a cached build, an uncached one and another
machine's agree to the bit, and another epoch invalidates nothing.
"""

from __future__ import annotations

from builder.stack import Made
from layers.clamp import clamp
from layers.session import Session
from layers.store import Store
from ocispec import canonical
from ocispec.errors import Invalid
from ocispec.model import Layer

FOLDER = "epochs"


def capped(made: Made, epoch: int, store: Store, session: Session) -> Layer:
    """The layer of *made* with no time after *epoch*, seconds since 1970; it is pinned."""
    if made.newest <= epoch:
        return made.layer
    name = f"{made.layer.diff_id.hex}-{epoch}"
    known = _read(store, name)
    if known is not None and session.pin(known.blob.digest):
        return known
    layer = clamp(made.layer, epoch, store, session).layer
    session.put_record(FOLDER, name, canonical.encode_sorted({"layers": [layer.json()]}))
    return layer


def _read(store: Store, name: str) -> Layer | None:
    data = store.read_record(FOLDER, name)
    if data is None:
        return None
    try:
        (layer,) = canonical.decode_object(data, "epoch record")["layers"]
        return Layer.from_json(layer)
    except (Invalid, KeyError, TypeError, ValueError):
        return None  # damaged: it is made again
