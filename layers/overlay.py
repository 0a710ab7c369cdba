"""
Snapshots on overlayfs: a directory a layer, stacked by the kernel.

    snapshots/<chain>/fs        the layer in overlay's own form (0:0 devices, opaque xattrs)
    snapshots/<chain>/lowers    the snapshots below, topmost first, one a line
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Final

from layers.apply import apply
from layers.compress import decompressor
from layers.diff import diff
from layers.durable import write_file
from layers.layerwrite import LayerWriter, WrittenLayer
from layers.linux import (
    MOUNT_ATTR_NODEV,
    MOUNT_ATTR_NOSUID,
    MOUNT_ATTR_RDONLY,
    FsOption,
    fsmount_new,
)
from layers.locks import locked
from layers.ondisk import exported_xattrs
from layers.session import Session
from layers.snapshots import Draft, Mount, SnapshotID, chain_of, snapshot_id
from layers.store import Store
from ocispec.content import VerifiedReader
from ocispec.digest import next_chain_id
from ocispec.errors import Corrupt
from ocispec.model import Layer

_DIRECTORY: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# With index, redirect_dir or metacopy an upper directory is no longer a layer by itself (kernel,
# overlayfs.rst); xino would make inode numbers differ from the lower file system's.
OPTIONS: Final = ("index=off", "metacopy=off", "redirect_dir=off", "xino=off")
_STRIPES: Final = 64  # lock files for unpacking; two chains may share one


class Overlay:
    """Snapshots over the ``snapshots/`` folder of the store at *root*, for the real root user."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._snapshots = root / "snapshots"

    def prepare(self, parent: SnapshotID | None, session: Session) -> Draft:
        path = session.scratch("draft")
        upper = path / "upper"
        upper.mkdir()
        (path / "work").mkdir(0o711)
        with self.view(parent) as below:
            _copy_metadata(below, upper)
        return Draft(parent, path, upper)

    def mounts(self, draft: Draft) -> tuple[Mount, ...]:
        lowers = tuple(f"lowerdir+={path}" for path in self._lowers(draft.parent))
        upper = (f"upperdir={draft.upper}", f"workdir={draft.path / 'work'}")
        options = (*lowers, *upper, *OPTIONS, *_no_uuid(self._root), "volatile")
        return (Mount("overlay", "overlay", "/", options),)

    @contextmanager
    def view(self, snapshot: SnapshotID | None) -> Iterator[int]:
        # An empty directory at the bottom: overlayfs wants two directories without an upper one,
        # and a first layer may have marks of deletion that only a mount makes invisible.
        mount = _mount_view(self._lowers(snapshot))
        try:
            # fsmount(2) gives an O_PATH descriptor, of which attributes cannot be read.
            fd = os.open(".", _DIRECTORY, dir_fd=mount)
            try:
                yield fd
            finally:
                os.close(fd)
        finally:
            os.close(mount)

    def seal(self, draft: Draft, session: Session) -> tuple[SnapshotID, WrittenLayer]:
        with LayerWriter(session) as writer, self.view(draft.parent) as below:
            upper = os.open(draft.upper, _DIRECTORY)
            try:
                diff(upper, below, writer)
            finally:
                os.close(upper)
            written = writer.finish()
        snapshot = _next(draft.parent, written.layer)
        self._publish(draft.upper, draft.parent, snapshot, session)
        session.remove_scratch(draft.path)
        return snapshot, written

    def discard(self, draft: Draft) -> None:
        from layers.remove import remove_tree

        remove_tree(draft.path)

    def unpack(
        self, parent: SnapshotID | None, layer: Layer, store: Store, session: Session
    ) -> SnapshotID:
        snapshot = _next(parent, layer)
        if session.pin_snapshot(snapshot):
            return snapshot
        lock = self._root / "locks" / f"unpack-{int(snapshot[:8], 16) % _STRIPES}"
        with locked(lock, exclusive=True):
            if not session.pin_snapshot(snapshot):
                self._unpack(parent, layer, snapshot, store, session)
        return snapshot

    def _unpack(
        self,
        parent: SnapshotID | None,
        layer: Layer,
        snapshot: SnapshotID,
        store: Store,
        session: Session,
    ) -> None:
        path = session.scratch("unpack")
        try:
            tree = path / "fs"
            tree.mkdir()
            with self.view(parent) as below:
                _copy_metadata(below, tree)
                root = os.open(tree, _DIRECTORY)
                try:
                    _apply_verified(layer, root, None if parent is None else below, store)
                finally:
                    os.close(root)
            self._publish(tree, parent, snapshot, session)
        finally:
            session.remove_scratch(path)

    def _publish(
        self, tree: Path, parent: SnapshotID | None, snapshot: SnapshotID, session: Session
    ) -> None:
        path = session.scratch("snapshot")
        tree.rename(path / "fs")
        below = [] if parent is None else [parent, *self._below(parent)]
        write_file(path / "lowers", "".join(f"{name}\n" for name in below).encode())
        session.publish_tree(path, snapshot)

    def _below(self, snapshot: SnapshotID) -> list[SnapshotID]:
        text = (self._snapshots / snapshot / "lowers").read_text("ascii")
        return [SnapshotID(line) for line in text.split()]

    def _lowers(self, snapshot: SnapshotID | None) -> list[Path]:
        """The directories of the stack, topmost first; an empty one is the last."""
        names = [] if snapshot is None else [snapshot, *self._below(snapshot)]
        return [*(self._snapshots / name / "fs" for name in names), self._root / "empty"]


def _next(parent: SnapshotID | None, layer: Layer) -> SnapshotID:
    return snapshot_id(next_chain_id(chain_of(parent), layer.diff_id))


def _apply_verified(layer: Layer, root: int, below: int | None, store: Store) -> None:
    raw = VerifiedReader(store.open(layer.blob), layer.blob)
    tar = decompressor(layer.blob.media_type, raw)
    try:
        applied = apply(tar, root, lower_fd=below)
    finally:
        tar.close()
    if applied.diff_id != layer.diff_id:
        raise Corrupt(
            f"layer {layer.blob.digest}: unpacks to {applied.diff_id}, not to {layer.diff_id}",
            hint="the image's config and its layers do not belong together",
        )


def _mount_view(lowers: list[Path]) -> int:
    if len(lowers) == 1:
        # Nothing but the empty directory: it is its own view.
        return os.open(lowers[0], _DIRECTORY)
    fds: list[int] = []
    attributes = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV
    options: list[FsOption] = []
    for option in OPTIONS:
        key, _, value = option.partition("=")
        options.append((key, value))
    try:
        fds.extend(os.open(path, _DIRECTORY) for path in lowers)
        named: list[FsOption] = [("lowerdir+", fd) for fd in fds]
        try:
            return fsmount_new("overlay", [*options, *named], attributes)
        except OSError as error:
            # Descriptors are taken from Linux 6.13 on, names from 6.8 on.
            if error.errno != errno.EINVAL:
                raise
        named = [("lowerdir+", str(path)) for path in lowers]
        return fsmount_new("overlay", [*options, *named], attributes)
    finally:
        for fd in fds:
            os.close(fd)


@cache
def _no_uuid(root: Path) -> tuple[str, ...]:
    """``uuid=null`` where the kernel has it (6.6): else overlayfs marks the upper directory."""
    lowers: list[FsOption] = [("lowerdir+", str(root / name)) for name in ("empty", "locks")]
    try:
        os.close(fsmount_new("overlay", [("uuid", "null"), *lowers], MOUNT_ATTR_RDONLY))
    except OSError:
        return ()
    return ("uuid=null",)


def _copy_metadata(source: int, target: Path) -> None:
    """Give the directory *target* the mode, owner, times and attributes of *source*."""
    status = os.fstat(source)
    os.chown(target, status.st_uid, status.st_gid)
    target.chmod(stat.S_IMODE(status.st_mode))
    for name, value in exported_xattrs(source).items():
        os.setxattr(target, name, value)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
