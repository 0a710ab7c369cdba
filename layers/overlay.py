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
from functools import cached_property
from pathlib import Path
from typing import Final

from layers.diff import diff
from layers.inroot import DIRECTORY
from layers.layerwrite import LayerWriter, WrittenLayer
from layers.linux import MOUNT_ATTR_NODEV, MOUNT_ATTR_NOSUID, MOUNT_ATTR_RDONLY
from layers.ondisk import exported_xattrs
from layers.overlaymount import mount_overlay
from layers.session import Session
from layers.snapshots import Draft, Mount, SnapshotID, next_snapshot, unpack_once
from layers.store import Store
from ocispec.model import Layer

# With index, redirect_dir or metacopy an upper directory is no longer a layer by itself
# (overlayfs.rst); with xino inode numbers differ from the lower file system's.
_OPTIONS: Final = ("index=off", "metacopy=off", "redirect_dir=off", "xino=off")
# In a user namespace trusted.* is out of reach. userxattr turns redirect_dir and metacopy off, and
# fails if they are named (fs/overlayfs/params.c).
_USER_OPTIONS: Final = ("userxattr", "index=off", "xino=off")
_FULL: Final = (errno.ENOSPC, errno.EDQUOT, errno.EMFILE, errno.ENFILE, errno.ENOMEM)
_VIEW: Final = MOUNT_ATTR_RDONLY | MOUNT_ATTR_NOSUID | MOUNT_ATTR_NODEV


class Overlay:
    """
    Snapshots in the store at *root*. Threads and processes may share it.

    With *user* overlay's marks are in ``user.`` xattrs, for a user namespace; a store has either.
    """

    def __init__(self, root: Path, *, user: bool = False) -> None:
        self._root = root
        self._prefix = "user" if user else "trusted"
        self._options = _USER_OPTIONS if user else _OPTIONS

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
        # Nothing of a draft outlives a crash, so it need not be synced before seal() does.
        options = (*lowers, *upper, *self._options, *self._no_uuid, "volatile")
        return (Mount("overlay", "overlay", "/", options),)

    @contextmanager
    def view(self, snapshot: SnapshotID | None) -> Iterator[int]:
        lowers = self._lowers(snapshot)
        # A single directory could be shown as it is, but for marks of deletion: a first layer may
        # have some, and only a mount hides them.
        mount = os.open(lowers[0], DIRECTORY) if len(lowers) == 1 else self._mount_view(lowers)
        try:
            # fsmount(2) gives an O_PATH descriptor, of which xattrs cannot be read. It stays open:
            # without it the mount could not be copied into a sandbox (fs/namespace.c,
            # may_copy_tree).
            fd = os.open(".", DIRECTORY, dir_fd=mount)
            try:
                yield fd
            finally:
                os.close(fd)
        finally:
            os.close(mount)

    def seal(self, draft: Draft, session: Session) -> tuple[SnapshotID, WrittenLayer]:
        with LayerWriter(session) as writer, self.view(draft.parent) as below:
            upper = os.open(draft.upper, DIRECTORY)
            try:
                diff(upper, below, writer, prefix=self._prefix)
            finally:
                os.close(upper)
            written = writer.finish()
        snapshot = next_snapshot(draft.parent, written.layer)
        self._publish(draft.upper, draft.parent, snapshot, session)
        self.discard(draft)
        return snapshot, written

    def discard(self, draft: Draft) -> None:
        from layers.remove import remove_tree

        remove_tree(draft.path)

    def unpack(
        self, parent: SnapshotID | None, layer: Layer, store: Store, session: Session
    ) -> SnapshotID:
        def make(snapshot: SnapshotID, scratch: Path) -> None:
            from layers.unpack import apply_verified

            tree = scratch / "fs"
            tree.mkdir()
            with self.view(parent) as below:
                lower = None if parent is None else below
                apply_verified(layer, tree, lower, store, prefix=self._prefix)
            self._publish(tree, parent, snapshot, session)

        return unpack_once(self._root, next_snapshot(parent, layer), session, make)

    def _publish(
        self, tree: Path, parent: SnapshotID | None, snapshot: SnapshotID, session: Session
    ) -> None:
        path = session.scratch("snapshot")
        # Set-user-ID programs of an image are not for the users of this machine (CVE-2021-41091).
        path.chmod(0o700)
        tree.rename(path / "fs")
        below = [] if parent is None else [parent, *self._below(parent)]
        (path / "lowers").write_text("".join(f"{name}\n" for name in below), "ascii")
        session.publish_tree(path, snapshot)

    def _below(self, snapshot: SnapshotID) -> list[SnapshotID]:
        text = (self._root / "snapshots" / snapshot / "lowers").read_text("ascii")
        return [SnapshotID(line) for line in text.split()]

    def _lowers(self, snapshot: SnapshotID | None) -> list[Path]:
        """The directories of the stack, topmost first; an empty one is the last."""
        names = [] if snapshot is None else [snapshot, *self._below(snapshot)]
        return [*(self._root / "snapshots" / name / "fs" for name in names), self._root / "empty"]

    def _mount_view(self, lowers: list[Path]) -> int:
        return mount_overlay(lowers, self._options, _VIEW)

    @cached_property
    def _no_uuid(self) -> tuple[str, ...]:
        """What keeps overlayfs from marking the upper directory, where it knows it (6.6)."""
        lowers = [self._root / "empty", self._root / "snapshots"]
        try:
            os.close(mount_overlay(lowers, ["uuid=null"], _VIEW))
        except OSError:
            return ()
        return ("uuid=null",)


def is_available(root: Path, session: Session, *, user: bool) -> bool:
    """True if overlayfs can write to the file system that *root* is on. Probed by doing."""
    scratch = session.scratch("probe")
    try:
        lower, upper, work = (scratch / name for name in ("lower", "upper", "work"))
        for place in (lower, upper, work):
            place.mkdir()
        (lower / "file").touch()
        options = _USER_OPTIONS if user else _OPTIONS
        mount = mount_overlay([lower, root / "empty"], options, upper=upper, work=work)
        try:
            # It may have come up read-only (fs/overlayfs/super.c, ovl_make_workdir).
            os.unlink("file", dir_fd=mount)
        finally:
            os.close(mount)
        return stat.S_ISCHR((upper / "file").lstat().st_mode)
    except OSError as error:
        if error.errno in _FULL:
            raise
        return False
    finally:
        session.remove_scratch(scratch)


def _copy_metadata(source: int, target: Path) -> None:
    """Give the directory *target* the mode, owner, times and attributes of *source*."""
    status = os.fstat(source)
    os.chown(target, status.st_uid, status.st_gid)
    target.chmod(stat.S_IMODE(status.st_mode))
    for name, value in exported_xattrs(source).items():
        os.setxattr(target, name, value)
    os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))
