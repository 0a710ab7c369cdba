"""
A session: the owner of a lease, through which everything is written into a store.

What a session pinned or published survives gc until it is closed or its process dies. The
protocol, by rule: data before names (a file is fsynced before its rename, a tree synced before
its), pins and publications under the shared gc lock, references last.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

from layers.durable import sync_directory, write_file
from layers.images import Images
from layers.linux import rename_noreplace, syncfs
from ocispec.content import Readable, VerifiedReader
from ocispec.digest import Digest
from ocispec.errors import Corrupt
from ocispec.model import Descriptor
from ocispec.reference import Reference

_BLOCK: Final = 1 << 20


class Session:
    """
    Made by Store.session(). A context manager; close() gives the lease back.

    The lease file is made on first use, so a session that only reads costs nothing. Threads may
    share a session.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()  # guards the lease and the counter
        self._id = f"{os.getpid()}-{os.urandom(6).hex()}"
        self._lease: int | None = None
        self._gc_lock: int | None = None
        self._count = 0
        self._made_tmp = False

    @property
    def tmp(self) -> Path:
        """A directory of this session in the store's file system; made on use."""
        path = self._root / "tmp" / self._id
        with self._lock:
            self._take_lease()
            if not self._made_tmp:
                path.mkdir(mode=0o700)
                self._made_tmp = True
        return path

    def scratch(self, what: str) -> Path:
        """A new, empty directory below tmp; gone with the session at the latest."""
        path = self._next(what)
        path.mkdir(mode=0o755)
        return path

    def remove_scratch(self, path: Path) -> None:
        """Remove a directory made by scratch(), whatever is in it."""
        from layers.remove import remove_tree

        remove_tree(path)

    # ---- pins

    def pin(self, digest: Digest) -> bool:
        """Keep the blob *digest* from gc; True if it is there."""
        return self._pin(str(digest), self._root / "blobs" / digest.algorithm / digest.hex)

    def pin_snapshot(self, name: str) -> bool:
        """Keep the snapshot *name* from gc; True if it is there."""
        return self._pin(f"snapshot:{name}", self._root / "snapshots" / name)

    def _pin(self, text: str, path: Path) -> bool:
        # Pin first, then look, both under the shared lock: gc either sees the pin, or it ran
        # before and the look finds nothing.
        with self._lock:
            lease = self._take_lease()
            with self._shared():
                os.write(lease, f"{text}\n".encode())
                return os.path.lexists(path)

    # ---- blobs

    def ingest(self) -> Ingest:
        """A new blob to write."""
        return Ingest(self, self._next("blob"))

    def put_bytes(self, media_type: str, data: bytes) -> Descriptor:
        """Store *data* as a blob; nothing is written if it is there."""
        blob = Descriptor.of(media_type, data)
        if not self.pin(blob.digest):
            with self.ingest() as ingest:
                ingest.write(data)
                ingest.commit(media_type, blob.digest, blob.size)
        return blob

    def put(self, blob: Descriptor, data: Readable) -> None:
        """Store *blob* from *data*, verified on the way. Corrupt if it is something else."""
        reader = VerifiedReader(data, blob)
        with self.ingest() as ingest:
            while chunk := reader.read(_BLOCK):
                ingest.write(chunk)
            ingest.commit(blob.media_type, blob.digest, blob.size)

    def publish_blob(self, digest: Digest, path: Path) -> None:
        """Give the synced file *path* its place among the blobs; dropped if that is taken."""
        target = self._root / "blobs" / digest.algorithm / digest.hex
        if not self._publish(str(digest), path, target):
            path.unlink()

    # ---- trees, records, references

    def publish_tree(self, path: Path, name: str) -> None:
        """Make the directory *path*, from tmp, the snapshot *name*; dropped if there is one."""
        fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            syncfs(fd)
        finally:
            os.close(fd)
        target = self._root / "snapshots" / name
        if not self._publish(f"snapshot:{name}", path, target):
            self.remove_scratch(path)

    def put_record(self, folder: str, name: str, data: bytes) -> None:
        """Write the small file *name* in *folder*, in the place of an earlier one."""
        target = self._root / folder / name
        temporary = self._next("record")
        try:
            write_file(temporary, data)
            with self._lock, self._shared():
                temporary.rename(target)
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(target.parent)

    def tag(self, ref: Reference, root: Descriptor) -> None:
        """Let *ref* name *root*, which is in the store; an earlier image of that name stays."""
        self.pin(root.digest)
        Images(self._root).tag(ref, root)

    def keep(self, root: Descriptor) -> None:
        """Keep *root* without a name, until it is pruned."""
        self.pin(root.digest)
        Images(self._root).keep(root)

    def _publish(self, text: str, path: Path, target: Path) -> bool:
        """Give *path* its name, pinned; False if the name is taken."""
        with self._lock:
            lease = self._take_lease()
            with self._shared():
                os.write(lease, f"{text}\n".encode())
                try:
                    rename_noreplace(path, target)
                except FileExistsError:
                    return False
        sync_directory(target.parent)
        return True

    # ---- lease

    def close(self) -> None:
        """Give back the lease and what is left of tmp. Nothing happens the second time."""
        with self._lock:
            if self._lease is None:
                return
            if self._made_tmp:
                from layers.remove import remove_tree

                remove_tree(self._root / "tmp" / self._id)
            with self._shared():
                (self._root / "leases" / self._id).unlink(missing_ok=True)
            os.close(self._lease)
            assert self._gc_lock is not None
            os.close(self._gc_lock)
            self._lease = self._gc_lock = None

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def _take_lease(self) -> int:
        if self._lease is None:
            flags = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC
            self._gc_lock = os.open(self._root / "gc.lock", flags, 0o644)
            # Made and locked as one for gc, which tries leases under the exclusive lock only.
            with self._shared():
                flags |= os.O_EXCL | os.O_APPEND
                self._lease = os.open(self._root / "leases" / self._id, flags, 0o644)
                fcntl.flock(self._lease, fcntl.LOCK_EX)
        return self._lease

    def _shared(self) -> _Shared:
        assert self._gc_lock is not None
        return _Shared(self._gc_lock)

    def _next(self, what: str) -> Path:
        tmp = self.tmp
        with self._lock:
            self._count += 1
            return tmp / f"{what}-{self._count}"


class _Shared:
    """The shared gc lock, held for a pin or a rename and never for work."""

    __slots__ = ("_fd",)

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def __enter__(self) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_SH)

    def __exit__(self, *_: object) -> None:
        fcntl.flock(self._fd, fcntl.LOCK_UN)


class Ingest:
    """A blob being written: invisible until commit(). As a context manager it aborts the rest."""

    def __init__(self, session: Session, path: Path) -> None:
        self._session = session
        self._path = path
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        self._fd: int | None = os.open(path, flags, 0o444)
        self._hash = hashlib.sha256()
        self.size = 0  # bytes written so far

    def write(self, data: bytes) -> None:
        """Append *data*."""
        assert self._fd is not None
        self._hash.update(data)
        self.size += len(data)
        view = memoryview(data)
        while view:
            view = view[os.write(self._fd, view) :]

    def commit(
        self, media_type: str, expected: Digest | None = None, size: int | None = None
    ) -> Descriptor:
        """
        Publish what was written; its descriptor.

        Corrupt if it is not *expected* or has not *size* bytes. A blob that is there already is
        left as it is.
        """
        digest = Digest("sha256:" + self._hash.hexdigest())
        if size is not None and size != self.size:
            self.abort()
            raise Corrupt(f"blob {digest}: {self.size} bytes were written, {size} expected")
        if expected is not None and expected.algorithm == "sha256" and expected != digest:
            self.abort()
            raise Corrupt(f"blob {expected}: the bytes hash to {digest}")
        name = expected or digest
        assert self._fd is not None
        try:
            os.fsync(self._fd)
        except BaseException:
            self.abort()
            raise
        os.close(self._fd)
        self._fd = None
        self._session.publish_blob(name, self._path)
        return Descriptor(media_type, name, self.size)

    def abort(self) -> None:
        """Leave nothing behind. Nothing happens after commit()."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None
            self._path.unlink(missing_ok=True)

    def __enter__(self) -> Ingest:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.abort()
