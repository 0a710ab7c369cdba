"""
A session: the owner of a lease, through which everything is written into a store.

What a session pinned or published survives gc until it is closed or its process dies. The
protocol, by rule: data before names (a blob is fsynced before its rename, a tree synced before
its), pins and publications under the shared gc lock, and images last: before index.json names
one, the directory of the blobs is synced. Snapshots and records may be lost in a power cut, since
they are made anew; what is found under a name is whole.
"""

from __future__ import annotations

import fcntl
import os
import threading
from pathlib import Path
from types import TracebackType
from typing import Final

from layers.durable import has_size, sync_directory, write_file
from layers.images import Images
from layers.ingest import Ingest
from layers.linux import rename_noreplace, syncfs
from ocispec.content import Readable
from ocispec.digest import Digest
from ocispec.errors import NotFound
from ocispec.model import Descriptor
from ocispec.reference import Reference

_BLOCK: Final = 1 << 20


class Session:
    """
    Made by Store.session(). A context manager; close() gives the lease back.

    A Sink whose blobs stay pinned. The lease file is made on first use, so a session that only
    reads costs nothing. Threads may share a session.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        # Guards all below, and that the gc lock is held once: a flock belongs to its descriptor.
        self._lock = threading.Lock()
        self._id = f"{os.getpid()}-{os.urandom(6).hex()}"
        self._lease: int | None = None
        self._gc_lock: int | None = None
        self._count = 0
        self._made_tmp = False
        self._closed = False
        # Algorithms, as the folders of blobs are called, with names that a power cut may lose yet:
        # ours, and those that we found and others may not have synced.
        self._published: set[str] = set()
        self._pinned: set[str] = set()

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
        """Keep the blob *digest* from gc; True if it is there. A manifest's image is kept, too."""
        found = self._pin(str(digest), self._blob(digest))
        if found:
            self._pinned.add(digest.algorithm)
        return found

    def pin_snapshot(self, name: str) -> bool:
        """Keep the snapshot *name*, and those below it, from gc; True if it is there."""
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

    def has(self, blob: Descriptor) -> bool:
        """Pin *blob*; True if it is there, whole."""
        return self.pin(blob.digest) and has_size(self._blob(blob.digest), blob.size)

    def ingest(self, algorithm: str = "sha256") -> Ingest:
        """A new blob to write, named by its *algorithm* digest."""
        return Ingest(self._next("blob"), algorithm, self._publish_blob)

    def put_bytes(self, media_type: str, data: bytes) -> Descriptor:
        """Store *data* as a blob; nothing is written if it is there."""
        blob = Descriptor.of(media_type, data)
        if not self.has(blob):
            with self.ingest() as ingest:
                ingest.write(data)
                ingest.commit(media_type, blob.digest, blob.size)
        return blob

    def put(self, blob: Descriptor, data: Readable) -> None:
        """Store *blob* from *data*, verified on the way. Corrupt if it is something else."""
        with self.ingest(blob.digest.algorithm) as ingest:
            # One byte more than it should be is enough to know that it is something else.
            while chunk := data.read(min(_BLOCK, blob.size + 1 - ingest.size)):
                ingest.write(chunk)
                if ingest.size > blob.size:
                    break
            ingest.commit(blob.media_type, blob.digest, blob.size)

    def _publish_blob(self, blob: Descriptor, path: Path) -> None:
        target = self._blob(blob.digest)
        if blob.digest.algorithm != "sha256":
            target.parent.mkdir(mode=0o711, exist_ok=True)
        self._published.add(blob.digest.algorithm)
        if not self._publish(str(blob.digest), path, target):
            # One of another size is damaged: ours heals it.
            if has_size(target, blob.size):
                path.unlink()
            else:
                path.replace(target)

    def _blob(self, digest: Digest) -> Path:
        return self._root / "blobs" / digest.algorithm / digest.hex

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
        temporary = self._next("record")
        try:
            write_file(temporary, data)
            # A store of an earlier version may lack a folder that this one has.
            (self._root / folder).mkdir(mode=0o711, exist_ok=True)
            with self._lock, self._shared():
                temporary.rename(self._root / folder / name)
        finally:
            temporary.unlink(missing_ok=True)

    def tag(self, ref: Reference, root: Descriptor) -> None:
        """
        Let *ref* name *root*; an image that had the name before stays, without it.

        NotFound if *root* is not in the store.
        """
        self._settle(root)
        Images(self._root).tag(ref, root)

    def untag(self, ref: Reference) -> Descriptor:
        """Take the name *ref* away; what it named. NotFound if it names nothing."""
        return Images(self._root).untag(ref)

    def keep(self, root: Descriptor) -> None:
        """Keep *root* without a name, until it is pruned. NotFound if it is not in the store."""
        self._settle(root)
        Images(self._root).keep(root)

    def _settle(self, root: Descriptor) -> None:
        """Pin *root*, and make all blobs durable that it may refer to."""
        if not self.pin(root.digest):
            raise NotFound(f"blob {root.digest} is not in the store")
        with self._lock:
            self._sync(self._published | self._pinned)

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
        return True

    def _sync(self, algorithms: set[str]) -> None:
        for algorithm in sorted(algorithms):
            sync_directory(self._root / "blobs" / algorithm)
        self._published -= algorithms
        self._pinned -= algorithms

    # ---- lease

    def close(self) -> None:
        """Give back the lease and what is left of tmp. Nothing happens the second time."""
        with self._lock:
            self._closed = True
            if self._lease is None or self._gc_lock is None:
                return
            lease, gc_lock = self._lease, self._gc_lock
            try:
                self._sync(self._published)
                self._remove_tmp()
                with self._shared():
                    (self._root / "leases" / self._id).unlink(missing_ok=True)
            finally:
                # If the above failed, gc finds a lease that nobody holds, and tidies up.
                self._lease = self._gc_lock = None
                fcntl.flock(lease, fcntl.LOCK_UN)
                os.close(lease)
                os.close(gc_lock)

    def _remove_tmp(self) -> None:
        if self._made_tmp:
            from layers.remove import remove_tree

            remove_tree(self._root / "tmp" / self._id)
            self._made_tmp = False

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
        if self._closed:
            raise ValueError("the session is closed")
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
