"""What every Source and Sink does. A subclass gives the fixtures *content* and *name*."""

from __future__ import annotations

import hashlib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from io import BytesIO
from typing import Protocol

import pytest

from ocispec import mediatypes
from ocispec.content import Sink, Source, VerifiedReader, read_small
from ocispec.digest import DiffID, Digest
from ocispec.errors import Corrupt, NotFound
from ocispec.model import MAX_DOCUMENT, Descriptor, ImageConfig, Index, Manifest
from ocispec.platform import Platform
from ocispec.reference import Reference

_BIG = 9 << 20  # bytes: more than any buffer, and than one chunk of an upload


class Content(Source, Sink, Protocol):
    """One place that is both."""


class ContentContract:
    """Blobs that are put can be had again, whole, and under a name."""

    def test_what_is_put_is_there(self, content: Content) -> None:
        blob = _layer(b"a layer")
        content.put(blob, BytesIO(b"a layer"))

        assert content.has(blob)

    def test_what_was_never_put_is_not_there(self, content: Content) -> None:
        assert not content.has(_layer(b"never"))

    @pytest.mark.parametrize("size", [0, 1, 1 << 16, _BIG], ids=str)
    def test_what_is_put_is_read_back(self, content: Content, size: int) -> None:
        data = hashlib.sha256(b"x").digest() * (size // 32) + b"y" * (size % 32)
        blob = _layer(data)
        content.put(blob, BytesIO(data))

        assert data == _read(content, blob)

    def test_a_blob_is_read_in_pieces(self, content: Content) -> None:
        blob = _layer(b"one two three")
        content.put(blob, BytesIO(b"one two three"))
        reader = content.open(blob)
        pieces = list(iter(lambda: reader.read(4), b""))
        reader.close()

        assert b"".join(pieces) == b"one two three"
        assert max(map(len, pieces)) <= 4

    def test_putting_twice_changes_nothing(self, content: Content) -> None:
        blob = _layer(b"twice")
        content.put(blob, BytesIO(b"twice"))
        content.put(blob, BytesIO(b"twice"))

        assert _read(content, blob) == b"twice"

    def test_several_may_put_the_same_blob_at_once(self, content: Content) -> None:
        data = b"at once" * 100_000
        blob = _layer(data)
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: content.put(blob, BytesIO(data)), range(8)))

        assert data == _read(content, blob)

    @pytest.mark.parametrize(
        "came", [b"", b"goo", b"good bytes", b"evil"], ids=["nothing", "less", "more", "others"]
    )
    def test_what_is_not_the_blob_is_refused(self, content: Content, came: bytes) -> None:
        blob = _layer(b"good")
        with pytest.raises(Corrupt):
            content.put(blob, BytesIO(came))

        assert not content.has(blob)

    def test_a_blob_that_is_not_there_is_not_found(self, content: Content) -> None:
        with pytest.raises(NotFound):
            _read(content, _layer(b"absent"))

    def test_a_name_that_was_never_given_is_not_found(
        self, content: Content, name: Reference
    ) -> None:
        with pytest.raises(NotFound):
            content.resolve(replace(name, tag="never"))

    @pytest.mark.parametrize(
        "media_type", [mediatypes.OCI_MANIFEST, mediatypes.DOCKER_MANIFEST], ids=["oci", "docker"]
    )
    def test_a_name_leads_to_its_image(
        self, content: Content, name: Reference, media_type: str
    ) -> None:
        root = _put_image(content, b"an image", media_type)
        content.tag(name, root)
        found = content.resolve(name)

        assert (root.media_type, root.digest, root.size) == (
            found.media_type,
            found.digest,
            found.size,
        )
        assert root.digest == Digest.of(read_small(content, found, MAX_DOCUMENT))

    def test_a_name_can_be_given_to_another_image(self, content: Content, name: Reference) -> None:
        first, second = (_put_image(content, data) for data in (b"first", b"second"))
        content.tag(name, first)
        content.tag(name, second)

        assert second.digest == content.resolve(name).digest
        assert content.has(first)

    def test_an_image_can_be_had_by_its_digest(self, content: Content, name: Reference) -> None:
        root = _put_image(content, b"by digest")
        content.tag(name, root)
        by_digest = replace(name, tag=None, digest=root.digest)

        assert root.digest == content.resolve(by_digest).digest

    def test_an_index_holds_images(self, content: Content, name: Reference) -> None:
        children = [_put_image(content, data) for data in (b"amd64", b"arm64")]
        platforms = [Platform("linux", "amd64"), Platform("linux", "arm64")]
        index = Index(
            tuple(
                replace(child, platform=platform)
                for child, platform in zip(children, platforms, strict=True)
            )
        )
        root = _put(content, mediatypes.OCI_INDEX, index.encode())
        content.tag(name, root)
        found = content.resolve(name)

        assert found.media_type == mediatypes.OCI_INDEX
        data = read_small(content, found, MAX_DOCUMENT)
        assert index == Index.decode(data, found.media_type)


def _layer(data: bytes) -> Descriptor:
    return Descriptor.of(mediatypes.OCI_LAYER_GZIP, data)


def _read(source: Source, blob: Descriptor) -> bytes:
    with VerifiedReader(source.open(blob), blob) as reader:
        return reader.read()


def _put(sink: Sink, media_type: str, data: bytes) -> Descriptor:
    blob = Descriptor.of(media_type, data)
    sink.put(blob, BytesIO(data))
    return blob


def _put_image(sink: Sink, layer: bytes, media_type: str = mediatypes.OCI_MANIFEST) -> Descriptor:
    blob = _put(sink, mediatypes.OCI_LAYER_GZIP, layer)
    config = ImageConfig(Platform("linux", "amd64"), (DiffID(Digest.of(layer)),))
    config_blob = _put(sink, mediatypes.OCI_CONFIG, config.encode())
    return _put(sink, media_type, Manifest(config_blob, (blob,), media_type).encode())
