"""
Filesystems that can be mounted: a stack of unpacked layers, and drafts on top of one.

A snapshot is known by the ChainID of its layers, so equal stacks are one snapshot. A draft is a
writable filesystem on a snapshot; it ends in seal(), which makes it the next snapshot and its
layer, or in discard(). Nothing here is ever mounted where a path leads: a view is a descriptor,
and a draft's mounts are described for the runner, which mounts them in a namespace of its own.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NewType, Protocol

from layers.durable import write_file
from layers.layerwrite import WrittenLayer
from layers.linux import rename_noreplace
from layers.locks import locked
from layers.session import Session
from layers.store import Store
from ocispec.digest import ChainID, Digest, next_chain_id
from ocispec.errors import Unsupported
from ocispec.model import Layer

SnapshotID = NewType("SnapshotID", str)  # the ChainID's hex digits

_LOCKS: Final = 64
_FORM: Final = "snapshots.form"  # says which of these the store's snapshots are
_OVERLAY, _OVERLAY_USER, _COPIES = "overlay", "overlay userxattr", "copies"


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


def next_snapshot(parent: SnapshotID | None, layer: Layer) -> SnapshotID:
    """The snapshot of *layer* on *parent*."""
    chain = None if parent is None else ChainID(Digest(f"sha256:{parent}"))
    return SnapshotID(next_chain_id(chain, layer.diff_id).hex)


def unpack_once(
    root: Path,
    snapshot: SnapshotID,
    session: Session,
    make: Callable[[SnapshotID, Path], None],
) -> SnapshotID:
    """
    *snapshot*, pinned; made by ``make(snapshot, scratch)`` unless it is in the store at *root*.

    Who else wants it meanwhile, in this process or another, waits.
    """
    if session.pin_snapshot(snapshot):
        return snapshot
    # Two snapshots may share a lock file: then one waits for nothing, but the files stay few.
    lock = root / "locks" / f"unpack-{int(snapshot[:8], 16) % _LOCKS}"
    with locked(lock, exclusive=True):
        if not session.pin_snapshot(snapshot):
            scratch = session.scratch("unpack")
            try:
                make(snapshot, scratch)
            finally:
                session.remove_scratch(scratch)
    return snapshot


def snapshots_for(store: Store) -> Snapshots:
    """
    The snapshots of *store*: on overlayfs if it is to be had, else copies.

    The first use decides, since one kind does not understand what the other has written.
    Unsupported if overlayfs is no longer to be had.
    """
    from layers.overlay import Overlay, is_available
    from layers.plaincopy import PlainCopy

    record = store.root / _FORM
    user = not _may_write_trusted(store.root / "empty")
    wanted = _OVERLAY_USER if user else _OVERLAY
    try:
        form = record.read_text("ascii").strip()
    except FileNotFoundError:
        with store.session() as session:
            form = wanted if is_available(store.root, session, user=user) else _COPIES
            form = _decide(record, form, session)
    if form == _COPIES:
        return PlainCopy(store.root)
    if form != wanted:
        raise Unsupported(
            f"the snapshots in {store.root} were made with other privileges ({form})",
            hint="use the store as the user it was made by, or name another with --root",
        )
    return Overlay(store.root, user=user)


def _decide(record: Path, form: str, session: Session) -> str:
    """Write *form* to *record*, unless another process did; what it is then."""
    temporary = session.tmp / "form"
    write_file(temporary, f"{form}\n".encode())
    try:
        rename_noreplace(temporary, record)
    except FileExistsError:
        return record.read_text("ascii").strip()
    return form


def _may_write_trusted(path: Path) -> bool:
    """True for the real root: ``trusted.`` is out of reach in a user namespace (xattr(7))."""
    try:
        os.removexattr(path, "trusted.overlay.opaque")
    except OSError as error:
        if error.errno == errno.ENODATA:
            return True
        if error.errno in (errno.EPERM, errno.EACCES, errno.EOPNOTSUPP):
            return False
        raise
    return True
