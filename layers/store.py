"""
The store: a valid OCI image layout, with snapshots and cache records beside it.

    oci-layout  index.json  blobs/sha256/<hex>          any tool reads these
    snapshots/<chain>/fs                                unpacked layers
    keys/ epochs/ statindex/                            records that can be thrown away
    leases/ tmp/ locks/ gc.lock images.lock             who is at work, and on what
    trash/                                              what gc is removing
    empty/                                              what overlayfs has below the first layer

Files, rename and flock are the only database. Everything is written through a Session.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from layers.durable import has_size, sync_directory, write_file
from layers.images import Images
from layers.locks import locked
from layers.session import Session
from ocispec.content import Readable
from ocispec.digest import Digest
from ocispec.errors import Corrupt, Invalid, NotFound, Unsupported
from ocispec.model import Descriptor
from ocispec.reference import Reference

_FOLDERS: Final = (
    *("blobs/sha256", "snapshots", "keys", "epochs", "statindex", "answers"),
    *("tmp", "trash", "locks", "empty"),
)
_PRIVATE: Final = ("snapshots", "tmp", "trash")
_LAST: Final = "leases"  # made when all else is there
_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'
_NETWORK: Final = frozenset({"nfs", "nfs4", "cifs", "smb3", "afs", "fuse.sshfs"})
# Layouts that others made are taken over; they may have more, of which we know nothing.
_LAYOUT_NAMES: Final = frozenset({"oci-layout", "index.json", "blobs"})


class Store:
    """A store on disk; a Source and a Sink. Threads and processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = Images(root)

    @classmethod
    def at(cls, root: Path) -> Store:
        """
        The store at *root*, made if it is not there.

        An OCI image layout becomes a store. Invalid if something else is there.
        """
        if not (root / _LAST).exists():
            _create(root)
        return cls(root)

    def session(self) -> Session:
        """An owner for what is written and used; close it when done."""
        return Session(self.root)

    # ---- blobs

    def path(self, digest: Digest) -> Path:
        """Where the blob *digest* is, if it is there."""
        return self.root / "blobs" / digest.algorithm / digest.hex

    def has(self, blob: Descriptor) -> bool:
        """True if *blob* is there, whole. One that lost its end in an accident is not."""
        return has_size(self.path(blob.digest), blob.size)

    def open(self, blob: Descriptor) -> Readable:
        """
        The file of *blob*; the caller closes, and verifies (VerifiedReader).

        NotFound if it is not there, Corrupt if its size is wrong.
        """
        try:
            file = self.path(blob.digest).open("rb", buffering=0)
        except FileNotFoundError:
            raise NotFound(f"blob {blob.digest} is not in the store") from None
        size = os.fstat(file.fileno()).st_size
        if size != blob.size:
            file.close()
            raise Corrupt(
                f"blob {blob.digest}: the store has {size} of {blob.size} bytes",
                hint="pull or build the image again",
            )
        return file

    def resolve(self, ref: Reference) -> Descriptor:
        return self.images.resolve(ref)

    def put(self, blob: Descriptor, data: Readable) -> None:
        with self.session() as session:
            session.put(blob, data)

    def tag(self, ref: Reference, root: Descriptor) -> None:
        with self.session() as session:
            session.tag(ref, root)

    def check(self) -> list[Digest]:
        """
        The blobs that are not what their name says; every byte is read.

        What gc removes meanwhile is not missed, and what has no digest for a name is no blob.
        """
        damaged = []
        for path in sorted((self.root / "blobs").glob("*/*")):
            with suppress(FileNotFoundError, Invalid):
                digest = Digest(f"{path.parent.name}:{path.name}")
                with path.open("rb", buffering=0) as file:
                    found = hashlib.file_digest(file, digest.algorithm).hexdigest()
                if found != digest.hex:
                    damaged.append(digest)
        return damaged

    # ---- records

    def read_record(self, folder: str, name: str) -> bytes | None:
        """The small file *name* of *folder*; None if there is none."""
        try:
            fd = os.open(f"{self.root}/{folder}/{name}", os.O_RDONLY | os.O_CLOEXEC)
        except FileNotFoundError:
            return None
        try:
            return os.read(fd, os.fstat(fd).st_size)
        finally:
            os.close(fd)

    def touch_record(self, folder: str, name: str) -> None:
        """Note that a record was used now, for those that prune what was not."""
        with suppress(FileNotFoundError):
            os.utime(f"{self.root}/{folder}/{name}")

    def records(self, folder: str) -> Iterator[tuple[str, bytes]]:
        """Every record of *folder*, by name."""
        for name in sorted(os.listdir(self.root / folder)):
            data = self.read_record(folder, name)
            if data is not None:
                yield name, data


def _create(root: Path) -> None:
    if root.exists() and not root.is_dir():
        raise Invalid(f"{root} is not a directory", hint="name another with --root")
    root.mkdir(mode=0o711, parents=True, exist_ok=True)
    _refuse_strangers(root)
    filesystem = network_filesystem(Path("/proc/self/mountinfo").read_text(), os.stat(root).st_dev)
    if filesystem:
        raise Unsupported(
            f"{root} is on a network file system ({filesystem})",
            hint="locks and layers need a local one; name it with --root",
        )
    with locked(root / "images.lock", exclusive=True):
        for folder in _FOLDERS:
            # What is unpacked may be set-user-ID, or not for everyone's eyes (CVE-2021-41091).
            mode = 0o700 if folder in _PRIVATE else 0o711
            (root / folder).mkdir(mode=mode, parents=True, exist_ok=True)
        (root / "empty").chmod(0o755)  # what the root of an image without layers looks like
        if not (root / "index.json").exists():
            _place(root, "index.json", b'{"schemaVersion":2,"manifests":[]}')
        if not (root / "oci-layout").exists():
            _place(root, "oci-layout", _LAYOUT)
        (root / _LAST).mkdir(mode=0o711, exist_ok=True)
    for directory in (root / "blobs", root, root.parent):
        sync_directory(directory)


def _refuse_strangers(root: Path) -> None:
    """A slip of the pen in --root must not strew folders about a home directory."""
    names = set(os.listdir(root))
    ours = {folder.partition("/")[0] for folder in _FOLDERS} | {"images.lock", "gc.lock"}
    strangers = sorted(names - ours - _LAYOUT_NAMES - {"lost+found"})
    if strangers and not names >= _LAYOUT_NAMES:
        raise Invalid(
            f"{root} is not a store: it has {strangers[0]!r}", hint="name an empty one with --root"
        )


def _place(root: Path, name: str, data: bytes) -> None:
    temporary = root / "tmp" / f"{name}.{os.getpid()}"
    try:
        write_file(temporary, data)
        temporary.rename(root / name)
    finally:
        temporary.unlink(missing_ok=True)


def network_filesystem(mountinfo: str, device: int) -> str:
    """
    The type of the file system *device* if it is one of the network, else ""; see proc(5).

    There flock(2) may be kept on each machine for itself, and overlayfs takes no upper directory.
    """
    wanted = f"{os.major(device)}:{os.minor(device)}"
    for line in mountinfo.splitlines():
        mount, _, super_block = line.partition(" - ")
        if mount.split()[2:3] == [wanted]:
            kind = super_block.split()[0]
            return kind if kind in _NETWORK else ""
    return ""
