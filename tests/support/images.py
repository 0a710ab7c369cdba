"""Small random images, and a Source and Sink that holds them in memory."""

from __future__ import annotations

import gzip
import io
import json
import random
import tarfile
import threading
from dataclasses import dataclass, field, replace

from ocispec import mediatypes
from ocispec.content import Readable, VerifiedReader
from ocispec.digest import DiffID, Digest
from ocispec.errors import NotFound
from ocispec.model import Descriptor, History, ImageConfig, Index, Manifest
from ocispec.platform import Platform
from ocispec.reference import Reference

AMD64 = Platform("linux", "amd64")


@dataclass(slots=True)
class Memory:
    """Content in memory: a Source and Sink that keeps every promise of both."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    names: dict[str, Descriptor] = field(default_factory=dict)
    order: list[Descriptor] = field(default_factory=list)  # what was put, in this order
    lock: threading.Lock = field(default_factory=threading.Lock)

    def resolve(self, ref: Reference) -> Descriptor:
        if ref.digest in self.blobs:
            data = self.blobs[ref.digest]
            return Descriptor(json.loads(data)["mediaType"], ref.digest, len(data))
        try:
            return self.names[str(ref)]
        except KeyError:
            raise NotFound(f"{ref}: no such image") from None

    def open(self, blob: Descriptor) -> Readable:
        try:
            return VerifiedReader(io.BytesIO(self.blobs[blob.digest]), blob)
        except KeyError:
            raise NotFound(f"{blob.digest}: no such blob") from None

    def has(self, blob: Descriptor) -> bool:
        return blob.digest in self.blobs

    def put(self, blob: Descriptor, data: Readable) -> None:
        content = VerifiedReader(data, blob).read()
        with self.lock:
            self.blobs[blob.digest] = content
            self.order.append(blob)

    def tag(self, ref: Reference, root: Descriptor) -> None:
        self.names[str(ref)] = root

    def add(self, media_type: str, data: bytes) -> Descriptor:
        """Put *data*, whatever it is; its descriptor."""
        blob = Descriptor.of(media_type, data)
        self.blobs[blob.digest] = data
        return blob


@dataclass(frozen=True, slots=True)
class Image:
    """An image, and where its content is; *blobs* has its config first, then its layers."""

    content: Memory
    root: Descriptor
    blobs: tuple[Descriptor, ...]


def random_image(
    seed: int,
    *,
    layers: int = 2,
    size: int = 1000,
    content: Memory | None = None,
    platform: Platform = AMD64,
) -> Image:
    """
    An image with *layers* of about *size* bytes each, in *content*, a new Memory by default.

    The same *seed* gives the same image.
    """
    content = Memory() if content is None else content
    chance = random.Random(seed)
    blobs, diff_ids = [], []
    for number in range(layers):
        tar = _tar(f"file-{number}", chance.randbytes(size))
        diff_ids.append(DiffID(Digest.of(tar)))
        blobs.append(content.add(mediatypes.OCI_LAYER_GZIP, gzip.compress(tar, 1, mtime=0)))
    config = content.add(mediatypes.OCI_CONFIG, _config(platform, tuple(diff_ids)).encode())
    manifest = Manifest(config, tuple(blobs))
    root = content.add(manifest.media_type, manifest.encode())
    return Image(content, replace(root, platform=platform), (config, *blobs))


def random_index(seed: int, *platforms: Platform, content: Memory | None = None) -> Image:
    """An index of one random image for each platform."""
    content = Memory() if content is None else content
    images = [
        random_image(seed + number, layers=1, content=content, platform=platform)
        for number, platform in enumerate(platforms)
    ]
    index = Index(tuple(image.root for image in images))
    root = content.add(index.media_type, index.encode())
    return Image(content, root, tuple(blob for image in images for blob in image.blobs))


def _config(platform: Platform, diff_ids: tuple[DiffID, ...]) -> ImageConfig:
    history = tuple(History(created_by="random_image") for _ in diff_ids)
    return ImageConfig(platform, diff_ids, {"Cmd": ["/bin/true"]}, history)


def _tar(name: str, data: bytes) -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        member = tarfile.TarInfo(name)
        member.size = len(data)
        tar.addfile(member, io.BytesIO(data))
    return out.getvalue()
