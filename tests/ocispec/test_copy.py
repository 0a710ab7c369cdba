from __future__ import annotations

import io
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field

import pytest
from support.images import AMD64, Memory, random_image, random_index

from ocispec import copy as copying
from ocispec import mediatypes
from ocispec.content import Readable
from ocispec.copy import copy
from ocispec.digest import Digest
from ocispec.errors import Cancelled, Corrupt, Invalid, NotFound, Unavailable
from ocispec.model import Descriptor, Index, Manifest
from ocispec.platform import Platform

ARM64 = Platform("linux", "arm64")
FOREIGN = mediatypes.DOCKER_FOREIGN_LAYER_GZIP


@dataclass(slots=True)
class Failing(Memory):
    """A Memory that some blobs cannot be put into."""

    broken: set[Digest] = field(default_factory=set)

    def put(self, blob: Descriptor, data: Readable) -> None:
        if blob.digest in self.broken:
            raise Unavailable(f"{blob.digest}: not now")
        Memory.put(self, blob, data)


class Meeting(Memory):
    """A Memory whose blobs are only put when several are at it at once."""

    def __init__(self, count: int) -> None:
        super().__init__()
        self._barrier = threading.Barrier(count, timeout=20)

    def put(self, blob: Descriptor, data: Readable) -> None:
        if blob.media_type not in mediatypes.MANIFESTS:
            self._barrier.wait()
        super().put(blob, data)


@pytest.mark.parametrize("jobs", [1, 4])
def test_all_of_an_image_is_copied(jobs: int) -> None:
    image, sink = random_image(1, layers=5), Memory()
    copy(image.root, image.content, sink, jobs=jobs)

    assert sink.blobs == image.content.blobs


def test_all_of_an_index_is_copied() -> None:
    image, sink = random_index(2, AMD64, ARM64), Memory()
    copy(image.root, image.content, sink)

    assert sink.blobs == image.content.blobs


def test_children_are_there_before_their_parents() -> None:
    image, sink = random_index(3, AMD64, ARM64), Memory()
    copy(image.root, image.content, sink)
    put = [blob.media_type for blob in sink.order]

    assert put[-3:] == [mediatypes.OCI_MANIFEST] * 2 + [mediatypes.OCI_INDEX]
    assert not set(put[:-3]) & {mediatypes.OCI_MANIFEST, mediatypes.OCI_INDEX}


def test_what_is_there_is_not_read_again() -> None:
    image, sink = random_image(4), Memory()
    copy(image.root, image.content, sink)
    sink.order.clear()
    del image.content.blobs[image.blobs[0].digest]
    seen: list[str] = []
    copy(image.root, image.content, sink, on_blob=lambda _, what: seen.append(what))

    assert sink.order == []
    assert seen == ["exists"] * 4


def test_a_blob_that_is_named_twice_is_copied_once() -> None:
    source, sink = Memory(), Memory()
    layer = source.add(mediatypes.OCI_LAYER, b"layer")
    config = source.add(mediatypes.OCI_CONFIG, b"{}")
    manifest = Manifest(config, (layer, layer, layer))
    child = source.add(manifest.media_type, manifest.encode())
    index = Index((child, child))
    root = source.add(index.media_type, index.encode())
    copy(root, source, sink)

    assert len(sink.order) == 4


def test_blobs_go_in_parallel() -> None:
    image, sink = random_image(5, layers=3), Meeting(4)
    copy(image.root, image.content, sink, jobs=4)

    assert sink.blobs == image.content.blobs


def test_an_error_leaves_no_parent_behind() -> None:
    image = random_image(6, layers=4)
    sink = Failing(broken={image.blobs[2].digest})
    with pytest.raises(Unavailable):
        copy(image.root, image.content, sink)

    assert image.root.digest not in sink.blobs


def test_an_error_stops_what_has_not_begun() -> None:
    image = random_image(7, layers=50)
    largest = max(image.blobs, key=lambda blob: blob.size)
    sink = Failing(broken={largest.digest})
    with pytest.raises(Unavailable):
        copy(image.root, image.content, sink, jobs=1)

    assert sink.order == []


def test_an_error_stops_what_is_under_way() -> None:
    """Else a gigabyte would still be sent after all is lost."""
    image = random_image(12, layers=1)
    config, layer = image.blobs
    failed = threading.Event()

    class Stuck(Memory):
        def put(self, blob: Descriptor, data: Readable) -> None:
            if blob == config:
                failed.wait(20)
                raise Unavailable("not now")
            failed.set()
            with pytest.raises(Cancelled):
                list(iter(lambda: data.read(0), None))
            self.names["stopped"] = layer

    sink = Stuck()
    with pytest.raises(Unavailable):
        copy(image.root, image.content, sink)

    assert sink.names == {"stopped": layer}


def test_a_file_is_a_file_for_the_sink() -> None:
    """One that can be sent twice, then."""
    image = random_image(13, layers=1)

    class Files(Memory):
        def open(self, blob: Descriptor) -> Readable:
            return io.BytesIO(self.blobs[blob.digest])

    class Rewinding(Memory):
        def put(self, blob: Descriptor, data: Readable) -> None:
            if blob.media_type not in mediatypes.MANIFESTS:
                assert isinstance(data, io.IOBase)
                assert data.seekable()
                data.seek(3)
                assert data.tell() == 3
                data.seek(0)
            Memory.put(self, blob, data)

    sink = Rewinding()
    copy(image.root, Files(image.content.blobs), sink)

    assert sink.blobs == image.content.blobs


def test_a_blob_that_is_missing_at_the_source_is_not_found() -> None:
    image = random_image(8)
    del image.content.blobs[image.blobs[1].digest]
    with pytest.raises(NotFound):
        copy(image.root, image.content, Memory())


def test_a_blob_that_is_damaged_at_the_source_is_corrupt() -> None:
    image, sink = random_image(9), Memory()
    image.content.blobs[image.blobs[1].digest] = b"damaged"
    with pytest.raises(Corrupt):
        copy(image.root, image.content, sink)

    assert image.root.digest not in sink.blobs


def test_only_the_children_that_are_selected_are_copied() -> None:
    image, sink = random_index(10, AMD64, ARM64), Memory()

    def select(index: Index) -> Sequence[Descriptor]:
        return [child for child in index.manifests if child.platform == ARM64]

    copy(image.root, image.content, sink, select=select)
    kinds = [blob.media_type for blob in sink.order]

    assert kinds.count(mediatypes.OCI_MANIFEST) == 1
    assert sink.blobs[image.root.digest] == image.content.blobs[image.root.digest]


@pytest.mark.parametrize("taken", [False, True])
def test_layers_that_are_not_to_be_distributed_are_left_out(taken: bool) -> None:
    source, sink = Memory(), Memory()
    config = source.add(mediatypes.OCI_CONFIG, b"{}")
    foreign = source.add(FOREIGN, b"foreign")
    manifest = Manifest(config, (foreign,))
    root = source.add(manifest.media_type, manifest.encode())
    seen: dict[Digest, str] = {}
    copy(
        root,
        source,
        sink,
        nondistributable=taken,
        on_blob=lambda blob, what: seen.update({blob.digest: what}),
    )

    assert (foreign.digest in sink.blobs) == taken
    assert seen[foreign.digest] == ("copied" if taken else "skipped")


def test_a_single_blob_can_be_copied() -> None:
    source, sink = Memory(), Memory()
    blob = source.add("x/y", b"data")
    copy(blob, source, sink)

    assert sink.blobs == source.blobs


def nested(depth: int) -> tuple[Memory, Descriptor]:
    source = Memory()
    root = source.add(mediatypes.OCI_INDEX, Index(()).encode())
    for _ in range(depth):
        root = source.add(mediatypes.OCI_INDEX, Index((root,)).encode())
    return source, root


def test_r15_indexes_may_be_nested_but_not_for_ever() -> None:
    source, root = nested(copying.MAX_DEPTH)
    copy(root, source, Memory())
    source, root = nested(copying.MAX_DEPTH + 1)
    with pytest.raises(Invalid, match="nested"):
        copy(root, source, Memory())


@pytest.mark.parametrize("name", ["MAX_DOCUMENTS", "MAX_BLOBS", "MAX_HELD"])
def test_r14_a_copy_has_limits(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    image, sink = random_index(11, AMD64, ARM64), Memory()
    monkeypatch.setattr(copying, name, 2)
    with pytest.raises(Invalid, match="more than 2"):
        copy(image.root, image.content, sink)

    assert sink.order == []


def test_r13_a_document_that_is_of_two_kinds_copies_nothing() -> None:
    source, sink = Memory(), Memory()
    config = source.add(mediatypes.OCI_CONFIG, b"{}")
    text = Manifest(config, ()).encode()[:-1] + b',"manifests":[]}'
    root = source.add(mediatypes.OCI_MANIFEST, text)
    with pytest.raises(Invalid):
        copy(root, source, sink)

    assert sink.blobs == {}
