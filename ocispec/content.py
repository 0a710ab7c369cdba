"""Where content lives: a Source is read from, a Sink is written to; VerifiedReader checks."""

from __future__ import annotations

import hashlib
from typing import BinaryIO, Protocol

from ocispec.errors import Corrupt
from ocispec.model import Descriptor
from ocispec.reference import Reference


class Readable(Protocol):
    """What a blob is read through: bytes until ``b""``, then close()."""

    def read(self, size: int = -1, /) -> bytes: ...
    def close(self) -> None: ...


class Source(Protocol):
    """Somewhere to read from: a store, a registry repository, an archive."""

    def resolve(self, ref: Reference) -> Descriptor:
        """The descriptor that *ref* names now. NotFound if it names nothing."""

    def open(self, blob: Descriptor) -> Readable:
        """
        The bytes of *blob*; the caller closes.

        NotFound if it is not there. Reading to the end raises Corrupt if the size or the digest
        differs from the descriptor's.
        """


class Sink(Protocol):
    """Somewhere to write to. Children go before parents, tags last."""

    def has(self, blob: Descriptor) -> bool:
        """True if *blob* is there, so that it need not be put."""

    def put(self, blob: Descriptor, data: Readable) -> None:
        """
        Store *blob*; returning means that it is stored and was what the descriptor says.

        Idempotent. Manifests and indexes are put like any blob, after their children.
        """

    def tag(self, ref: Reference, root: Descriptor) -> None:
        """Let *ref* name *root*, which is already there."""


class VerifiedReader:
    """
    A reader that hashes and counts as it goes.

    Corrupt as soon as more than the descriptor's size came, or at the end if the size or the
    digest differs. A reader that is closed before its end was not verified.
    """

    def __init__(self, raw: Readable | BinaryIO, blob: Descriptor) -> None:
        self._raw = raw
        self._blob = blob
        self._hash = hashlib.new(blob.digest.algorithm)
        self._seen = 0
        self.verified = False

    def read(self, size: int = -1, /) -> bytes:
        if size < 0:
            chunks = []
            while chunk := self.read(1 << 20):
                chunks.append(chunk)
            return b"".join(chunks)
        data = self._raw.read(size)
        self._seen += len(data)
        if self._seen > self._blob.size:
            raise Corrupt(f"blob {self._blob.digest}: more than its {self._blob.size} bytes came")
        self._hash.update(data)
        if not data and size:
            self._check()
        return data

    def close(self) -> None:
        self._raw.close()

    def __enter__(self) -> VerifiedReader:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _check(self) -> None:
        if self._seen != self._blob.size:
            raise Corrupt(
                f"blob {self._blob.digest}: read {self._seen} of {self._blob.size} bytes",
                hint="the transfer was cut short; try again",
            )
        if self._hash.hexdigest() != self._blob.digest.hex:
            raise Corrupt(
                f"blob {self._blob.digest}: the bytes hash to"
                f" {self._blob.digest.algorithm}:{self._hash.hexdigest()}",
                hint="the source is damaged or has been tampered with",
            )
        self.verified = True


def read_small(source: Source, blob: Descriptor, limit: int) -> bytes:
    """All bytes of *blob*, verified; Corrupt if its descriptor claims more than *limit*."""
    if blob.size > limit:
        raise Corrupt(f"blob {blob.digest}: {blob.size} bytes are more than the {limit} allowed")
    reader = VerifiedReader(source.open(blob), blob)
    try:
        return reader.read()
    finally:
        reader.close()
