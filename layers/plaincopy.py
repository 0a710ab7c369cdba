"""
Snapshots as whole trees, copied: for file systems that overlayfs cannot write to.

    snapshots/<chain>/fs        all of the filesystem, not only what its last layer adds

Blocks are shared where the file system can do that (btrfs, xfs). A layer is what overlayfs would
have made of the same changes, but for two cases in which overlayfs leaves the rules of POSIX: a
file that was only opened for writing is not changed here; a change to a file is seen under all of
its names.
"""

from __future__ import annotations

import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from layers.changes import Manifest, collect, merge, remember
from layers.copytree import copy_tree
from layers.diff import diff
from layers.inroot import DIRECTORY
from layers.layerwrite import LayerWriter, WrittenLayer
from layers.linux import MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY, bind_fd
from layers.session import Session
from layers.snapshots import Draft, Mount, SnapshotID, next_snapshot, unpack_once
from layers.store import Store
from ocispec.errors import Unsupported
from ocispec.model import Layer

_VIEW: Final = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
_PREFIX: Final = "user"  # of overlay's marks in what is never mounted as one


class PlainCopy:
    """Snapshots in the store at *root*. Threads may share it; a draft is sealed where it began."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()  # guards the manifests
        self._manifests: dict[Path, Manifest] = {}  # of drafts

    def prepare(self, parent: SnapshotID | None, session: Session) -> Draft:
        path = session.scratch("draft")
        tree = path / "fs"
        self._copy(parent, tree, path)
        with _opened(tree) as root:
            manifest = remember(root)
        with self._lock:
            self._manifests[path] = manifest
        return Draft(parent, path, tree)

    def mounts(self, draft: Draft) -> tuple[Mount, ...]:
        return (Mount("bind", str(draft.upper), "/", ("rw",)),)

    @contextmanager
    def view(self, snapshot: SnapshotID | None) -> Iterator[int]:
        place = self._place(snapshot)
        try:
            mount = bind_fd(str(place), attrs=_VIEW)
        except OSError:
            # It takes privileges to make even this mount; nobody writes through a view.
            mount = os.open(place, DIRECTORY)
        try:
            fd = os.open(".", DIRECTORY, dir_fd=mount)
            try:
                yield fd
            finally:
                os.close(fd)
        finally:
            os.close(mount)

    def seal(self, draft: Draft, session: Session) -> tuple[SnapshotID, WrittenLayer]:
        with self._lock:
            manifest = self._manifests[draft.path]
        changed = draft.path / "changed"
        changed.mkdir()
        with self.view(draft.parent) as below, _opened(changed) as upper:
            with _opened(draft.upper) as root:
                collect(root, manifest, below, upper)
            with LayerWriter(session) as writer:
                diff(upper, below, writer, prefix=_PREFIX)
                written = writer.finish()
        snapshot = next_snapshot(draft.parent, written.layer)
        self._publish(draft.upper, snapshot, session)
        self.discard(draft)
        return snapshot, written

    def discard(self, draft: Draft) -> None:
        from layers.remove import remove_tree

        with self._lock:
            self._manifests.pop(draft.path, None)
        remove_tree(draft.path)

    def unpack(
        self, parent: SnapshotID | None, layer: Layer, store: Store, session: Session
    ) -> SnapshotID:
        def make(snapshot: SnapshotID, scratch: Path) -> None:
            from layers.unpack import apply_verified

            change, tree = scratch / "layer", scratch / "fs"
            change.mkdir()
            with self.view(parent) as below:
                lower = None if parent is None else below
                try:
                    apply_verified(layer, change, lower, store, prefix=_PREFIX)
                except PermissionError as error:
                    # overlayfs refuses 0:0 devices, which a layer directory has for what it
                    # deletes (fs/overlayfs/dir.c, ovl_mknod).
                    raise Unsupported(
                        f"layer {layer.blob.digest} cannot be unpacked in {self._root}: {error}",
                        hint="put the store on another file system with --root",
                    ) from error
            self._copy(parent, tree, scratch)
            with _opened(change) as source, _opened(tree) as target:
                merge(source, target)
            self._publish(tree, snapshot, session)

        return unpack_once(self._root, next_snapshot(parent, layer), session, make)

    def _copy(self, parent: SnapshotID | None, tree: Path, scratch: Path) -> None:
        links = scratch / "links"
        tree.mkdir()
        links.mkdir()
        with self.view(parent) as below, _opened(tree) as root:
            copy_tree(below, root, links)
        for link in links.iterdir():
            link.unlink()
        links.rmdir()

    def _publish(self, tree: Path, snapshot: SnapshotID, session: Session) -> None:
        path = session.scratch("snapshot")
        # Set-user-ID programs of an image are not for the users of this machine (CVE-2021-41091).
        path.chmod(0o700)
        tree.rename(path / "fs")
        session.publish_tree(path, snapshot)

    def _place(self, snapshot: SnapshotID | None) -> Path:
        if snapshot is None:
            return self._root / "empty"
        return self._root / "snapshots" / snapshot / "fs"


@contextmanager
def _opened(directory: Path) -> Iterator[int]:
    fd = os.open(directory, DIRECTORY)
    try:
        yield fd
    finally:
        os.close(fd)
