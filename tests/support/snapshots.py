"""Steps on snapshots as a runner would do them, and what comes out."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from support.trees import listing, shell

from layers.layerwrite import WrittenLayer
from layers.overlaymount import mount_overlay
from layers.session import Session
from layers.snapshots import Mount, SnapshotID, Snapshots

_DIRECTORIES = ("lowerdir+=", "upperdir=", "workdir=")
Seen = dict[str, tuple[object, ...]]  # as support.trees.listing has it


@contextmanager
def mounted(mounts: Sequence[Mount]) -> Iterator[Path]:
    """The root that *mounts* describe, without a place; its path."""
    (mount,) = mounts
    assert mount.target == "/"
    if mount.type == "bind":
        yield Path(mount.source)
        return
    pairs = [option.partition("=") for option in mount.options]
    where = {key: Path(value) for key, _, value in pairs if key in ("upperdir", "workdir")}
    fd = mount_overlay(
        [Path(value) for key, _, value in pairs if key == "lowerdir+"],
        [option for option in mount.options if not option.startswith(_DIRECTORIES)],
        upper=where["upperdir"],
        work=where["workdir"],
    )
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def step(
    snapshots: Snapshots, parent: SnapshotID | None, session: Session, script: str
) -> tuple[SnapshotID, WrittenLayer, Seen]:
    """Run *script* on *parent*: the snapshot, its layer, and what the script left to be seen."""
    draft = snapshots.prepare(parent, session)
    with mounted(snapshots.mounts(draft)) as root:
        shell(script, root)
        seen = _listing(root)
    snapshot, written = snapshots.seal(draft, session)
    return snapshot, written, seen


def shown(snapshots: Snapshots, snapshot: SnapshotID | None) -> Seen:
    """All that can be seen of *snapshot*."""
    with snapshots.view(snapshot) as fd:
        return _listing(Path(f"/proc/self/fd/{fd}"))


def _listing(root: Path) -> Seen:
    # The path may be that of a descriptor, which is a link: the root itself is what it leads to.
    status = root.stat()
    about: tuple[object, ...] = (status.st_mode, status.st_uid, status.st_gid)
    return {**listing(root), "": (*about, [x for x in os.listxattr(root) if ".overlay." not in x])}
