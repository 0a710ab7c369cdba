"""
The store: a valid OCI image layout, with snapshots and cache records beside it.

    oci-layout  index.json  blobs/sha256/<hex>          any tool reads these
    snapshots/<chain>/fs                                unpacked layers
    keys/ epochs/ statindex/                            records that can be thrown away
    leases/ tmp/ trash/ locks/ gc.lock images.lock      who is at work, and on what
    empty/                                              what overlayfs has below the first layer

Files, rename and flock are the only database. Everything is written through a Session.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Final

from layers.durable import write_file
from layers.images import Images
from layers.session import Session
from ocispec.content import Readable, VerifiedReader
from ocispec.digest import Digest
from ocispec.errors import Corrupt, Invalid, NotFound
from ocispec.model import Descriptor
from ocispec.reference import Reference

FOLDERS: Final = (
    *("blobs/sha256", "snapshots", "keys", "epochs", "statindex"),
    *("leases", "tmp", "trash", "locks", "empty"),
)
_PLACED: Final = ("oci-layout.", "index.json.")  # half-made, by whoever opens it at once
_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'


class Store:
    """A store on disk; a Source and a Sink. Threads and processes may share it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.images = Images(root)

    @classmethod
    def at(cls, root: Path) -> Store:
        """The store at *root*, made if it is not there. Invalid if something else is there."""
        layout = root / "oci-layout"
        if not layout.exists():
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
        return self.path(blob.digest).exists()

    def open(self, blob: Descriptor) -> Readable:
        """The bytes of *blob*, not verified."""
        try:
            return self.path(blob.digest).open("rb", buffering=0)
        except FileNotFoundError:
            raise NotFound(f"blob {blob.digest} is not in the store") from None

    def resolve(self, ref: Reference) -> Descriptor:
        return self.images.resolve(ref)

    def put(self, blob: Descriptor, data: Readable) -> None:
        with self.session() as session:
            session.put(blob, data)

    def tag(self, ref: Reference, root: Descriptor) -> None:
        with self.session() as session:
            session.tag(ref, root)

    def check(self) -> list[Digest]:
        """The blobs that are not what their name says; every byte is read."""
        damaged = []
        for path in sorted((self.root / "blobs" / "sha256").iterdir()):
            digest = Digest(f"sha256:{path.name}")
            blob = Descriptor("application/octet-stream", digest, path.stat().st_size)
            with path.open("rb") as file, suppress(Corrupt):
                reader = VerifiedReader(file, blob)
                while reader.read(1 << 20):
                    pass
                continue
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
    strangers = [n for n in os.listdir(root) if n not in _known() and not n.startswith(_PLACED)]
    if strangers:
        raise Invalid(
            f"{root} is not a store: it has {strangers[0]!r}", hint="name an empty one with --root"
        )
    for folder in FOLDERS:
        (root / folder).mkdir(mode=0o711, parents=True, exist_ok=True)
    (root / "empty").chmod(0o755)  # what the root of an image without layers looks like
    if not (root / "index.json").exists():
        _place(root, "index.json", b'{"schemaVersion":2,"manifests":[]}')
    _place(root, "oci-layout", _LAYOUT)


def _known() -> set[str]:
    folders = {folder.partition("/")[0] for folder in FOLDERS}
    return folders | {"oci-layout", "index.json", "gc.lock", "images.lock", "lost+found"}


def _place(root: Path, name: str, data: bytes) -> None:
    """Write a file that two processes may be writing at once: the last one wins, whole."""
    temporary = root / f"{name}.{os.getpid()}-{os.urandom(4).hex()}"
    write_file(temporary, data)
    temporary.rename(root / name)
