"""
Filesystems that can be mounted: a stack of unpacked layers, and drafts on top of one.

A snapshot is known by the ChainID of its layers, so equal stacks are one snapshot. A draft is a
writable filesystem on a snapshot; it ends in seal(), which makes it the next snapshot and its
layer, or in discard(). Nothing here is ever mounted where a path leads: a view is a descriptor,
and a draft's mounts are described for the runner, which mounts them in a namespace of its own.
"""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import NewType, Protocol

from layers.layerwrite import WrittenLayer
from layers.session import Session
from layers.store import Store
from ocispec.digest import ChainID
from ocispec.model import Layer

SnapshotID = NewType("SnapshotID", str)  # the ChainID's hex digits


@dataclass(frozen=True, slots=True)
class Mount:
    """A mount in the OCI runtime-spec's terms."""

    type: str
    source: str
    target: str
    options: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Draft:
    """A writable filesystem on top of *parent*, in the scratch space of a session."""

    parent: SnapshotID | None
    path: Path  # all of it, removed by seal() and discard()
    upper: Path  # where changes land; new files may be put there before it is mounted


class Snapshots(Protocol):
    """Where snapshots live. What is published stays as long as something names it; see gc."""

    def prepare(self, parent: SnapshotID | None, session: Session) -> Draft:
        """A draft on *parent*, which is there and pinned; None is the empty filesystem."""

    def mounts(self, draft: Draft) -> tuple[Mount, ...]:
        """How the draft is mounted as a root, once and no more."""

    def view(self, snapshot: SnapshotID | None) -> AbstractContextManager[int]:
        """The filesystem, read-only, as a directory descriptor for as long as the context."""

    def seal(self, draft: Draft, session: Session) -> tuple[SnapshotID, WrittenLayer]:
        """Store what the draft changed as a layer; the draft, unmounted, is its snapshot."""

    def discard(self, draft: Draft) -> None:
        """Throw the draft away."""

    def unpack(
        self, parent: SnapshotID | None, layer: Layer, store: Store, session: Session
    ) -> SnapshotID:
        """
        The snapshot of *layer* on *parent*, unpacked from its blob unless it is there.

        Corrupt if the blob or its tar is not what the layer says. Processes that want the same
        one wait for the first.
        """


def snapshot_id(chain: ChainID) -> SnapshotID:
    """The snapshot of the stack *chain*."""
    return SnapshotID(chain.partition(":")[2])


def chain_of(snapshot: SnapshotID | None) -> ChainID | None:
    """The stack that *snapshot* is of."""
    from ocispec.digest import Digest

    return None if snapshot is None else ChainID(Digest(f"sha256:{snapshot}"))
