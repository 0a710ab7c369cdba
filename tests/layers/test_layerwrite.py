from __future__ import annotations

import gzip
import hashlib
import io
import os
import resource
import signal
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.trees import ROOT_ONLY

from layers.apply import apply
from layers.compress import decompressor
from layers.entry import Entry
from layers.layerwrite import LayerWriter, WrittenLayer
from layers.session import Session
from layers.store import Store
from layers.tarread import tar_entries
from ocispec import mediatypes
from ocispec.content import Readable
from ocispec.digest import Digest
from ocispec.errors import Corrupt, Invalid

PYC = b"\xa7\r\r\n" + bytes(4) + b"TIME" + b"size" + b"code"


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "store")


@pytest.fixture
def session(store: Store) -> Iterator[Session]:
    threads = threading.active_count()
    with store.session() as session:
        yield session
    assert threads == threading.active_count()
    assert os.listdir(store.root / "tmp") == []


class Trickle:
    def __init__(self, data: bytes, step: int) -> None:
        self._data = io.BytesIO(data)
        self._step = step

    def read(self, size: int = -1, /) -> bytes:
        return self._data.read(min(size, self._step))

    def close(self) -> None:
        pass


def tar_of(store: Store, written: WrittenLayer) -> bytes:
    raw = store.open(written.layer.blob)
    tar = decompressor(written.layer.blob.media_type, raw)
    data = b"".join(iter(lambda: tar.read(1 << 20), b""))
    raw.close()
    return data


def write(session: Session, *files: tuple[str, bytes | Readable, int]) -> WrittenLayer:
    with LayerWriter(session) as out:
        for path, data, size in files:
            out.add(Entry(path, "file", size=size), data)
        return out.finish()


def test_what_is_written_is_a_tar_in_the_store(store: Store, session: Session) -> None:
    entries = [
        Entry("d", "dir", 0o755, mtime_ns=7_000_000_000),
        Entry("d/f", "file", 0o600, 1, 2, 4, 5_000_000_000),
        Entry("l", "symlink", 0o777, target="d/f"),
    ]
    with LayerWriter(session) as out:
        for entry in entries:
            out.add(entry, b"text" if entry.size else None)
        written = out.finish()
    tar = tar_of(store, written)

    assert entries == [entry for entry, _ in tar_entries(io.BytesIO(tar))]
    assert (7, len(tar), 3) == (written.newest, written.size, written.entries)
    assert "sha256:" + hashlib.sha256(tar).hexdigest() == written.layer.diff_id
    assert written.layer.blob.media_type == mediatypes.OCI_LAYER_GZIP
    assert store.has(written.layer.blob)


def test_any_gzip_reads_the_blob(store: Store, session: Session) -> None:
    written = write(session, ("f", b"x" * 3_000_000, 3_000_000))
    blob = store.path(written.layer.blob.digest).read_bytes()

    assert tar_of(store, written) == gzip.decompress(blob)
    assert written.layer.blob == type(written.layer.blob).of(written.layer.blob.media_type, blob)


@pytest.mark.parametrize(
    "media_type",
    [mediatypes.OCI_LAYER, mediatypes.OCI_LAYER_ZSTD, mediatypes.DOCKER_LAYER_GZIP],
)
def test_the_tar_is_the_same_in_every_compression(
    store: Store, session: Session, media_type: str
) -> None:
    expected = write(session, ("f", b"text", 4))
    with LayerWriter(session, media_type) as out:
        out.add(Entry("f", "file", size=4), b"text")
        written = out.finish()

    assert (expected.layer.diff_id, expected.layer.identity) == (
        written.layer.diff_id,
        written.layer.identity,
    )
    assert media_type == written.layer.blob.media_type
    assert tar_of(store, expected) == tar_of(store, written)


@pytest.mark.parametrize("step", [1000, 65_537, 1 << 20, 1 << 30])
def test_how_the_data_comes_does_not_matter(session: Session, step: int) -> None:
    contents = [os.urandom(size) for size in (10, 3_000_000, 1 << 20, (1 << 20) - 512, 6_000_001)]
    files = [(f"f{n}", data) for n, data in enumerate(contents)]
    expected = write(session, *((path, data, len(data)) for path, data in files))

    assert expected == write(
        session, *((path, Trickle(data, step), len(data)) for path, data in files)
    )


def test_a_known_digest_saves_hashing_and_changes_nothing(session: Session) -> None:
    for size in (0, 10, 2_000_000, 9_000_000):
        data = os.urandom(size)
        entry = Entry("f", "file", size=size)
        layers = []
        for given, content in (
            (data, None),
            (data, Digest.of(data)),
            (io.BytesIO(data), Digest.of(data)),
        ):
            with LayerWriter(session) as out:
                out.add(entry, given, content)
                layers.append(out.finish())

        assert layers[0] == layers[1] == layers[2]


def test_a_known_digest_of_a_pyc_is_not_its_identity(session: Session) -> None:
    identities = set()
    for time in (b"TIME", b"1234"):
        data = PYC.replace(b"TIME", time)
        with LayerWriter(session) as out:
            out.add(Entry("a.pyc", "file", size=len(data)), data, Digest.of(data))
            identities.add(out.finish().layer.identity)

    assert len(identities) == 1


def test_times_are_in_the_diff_id_and_not_in_the_identity(session: Session) -> None:
    layers = []
    for time in (0, 5_000_000_000):
        with LayerWriter(session) as out:
            out.add(Entry("f", "file", size=4, mtime_ns=time), b"text")
            layers.append(out.finish().layer)

    assert layers[0].identity == layers[1].identity
    assert layers[0].diff_id != layers[1].diff_id


@ROOT_ONLY
def test_the_identity_is_what_unpacking_gives(
    store: Store, session: Session, tmp_path: Path
) -> None:
    with LayerWriter(session) as out:
        out.add(Entry("d", "dir", 0o755, xattrs={"user.a": b"1"}))
        out.add(Entry("d/big", "file", size=9_000_000), bytes(9_000_000))
        out.add(Entry("d/a.pyc", "file", size=len(PYC)), PYC)
        out.add(Entry("d/h", "link", target="d/big"))
        out.add(Entry("d/empty", "file"))
        out.whiteout("gone")
        out.opaque("d/e")
        written = out.finish()
    (tmp_path / "root").mkdir()
    root = os.open(tmp_path / "root", os.O_RDONLY)
    applied = apply(io.BytesIO(tar_of(store, written)), root)
    os.close(root)

    assert written.layer.identity == applied.identity
    assert written.layer.diff_id == applied.diff_id


def test_deletions_are_marked_as_the_image_spec_says(store: Store, session: Session) -> None:
    with LayerWriter(session) as out:
        out.whiteout("a/b")
        out.whiteout("c")
        out.opaque("d/e")
        out.opaque("")
        written = out.finish()

    assert sorted(
        (entry.path for entry, _ in tar_entries(io.BytesIO(tar_of(store, written)))),
        key=lambda path: (path.startswith(("a", "d")), path != ".wh.c", path),
    ) == [".wh.c", ".wh..wh..opq", "a/.wh.b", "d/e/.wh..wh..opq"]
    assert written.newest == 0


@pytest.mark.parametrize("path", [".wh.x", "d/.wh.x", "d/.wh.x/f", ".wh..wh..opq"])
def test_a_name_that_would_be_a_deletion_is_refused(session: Session, path: str) -> None:
    with LayerWriter(session) as out, pytest.raises(Invalid, match="cannot hold a name"):
        out.add(Entry(path, "file"))


@pytest.mark.parametrize("path", ["x.wh.y", "d.wh./f"])
def test_a_name_that_only_looks_like_a_deletion_is_not(session: Session, path: str) -> None:
    with LayerWriter(session) as out:
        out.add(Entry(path, "file"))

        assert out.finish().entries == 1


@pytest.mark.parametrize(
    ("size", "off"),
    [(0, 1), (5, -1), (5, 1), (3_000_000, -1), (3_000_000, 1), (9_000_000, -1), (9_000_000, 1)],
)
def test_a_file_that_changed_its_size_is_noticed(session: Session, size: int, off: int) -> None:
    data = bytes(size + off)
    for given in (data, io.BytesIO(data)):
        with LayerWriter(session) as out, pytest.raises(Corrupt, match="no longer"):
            out.add(Entry("f", "file", size=size), given)


def test_what_is_not_finished_leaves_nothing(store: Store, session: Session) -> None:
    with LayerWriter(session) as out:
        out.add(Entry("f", "file", size=9_000_000), bytes(9_000_000))

    assert os.listdir(store.root / "blobs/sha256") == []


class Full(io.RawIOBase):
    """Data whose reading fails in the middle."""

    def read(self, size: int = -1, /) -> bytes:
        if not hasattr(self, "left"):
            self.left = 12
        self.left -= 1
        if not self.left:
            raise OSError("no more")
        return bytes(size)


def test_an_error_while_reading_comes_out(store: Store, session: Session) -> None:
    with LayerWriter(session) as out, pytest.raises(OSError, match="no more"):
        out.add(Entry("f", "file", size=90_000_000), Full())

    assert os.listdir(store.root / "blobs/sha256") == []


def test_an_error_while_writing_comes_out_of_the_thread(session: Session) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1 << 20, limits[1]))
    try:
        data = os.urandom(50 << 20)
        with LayerWriter(session) as out, pytest.raises(OSError, match="too large"):
            out.add(Entry("f", "file", size=len(data)), io.BytesIO(data))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, before)


def test_known_entries_give_a_known_diff_id(session: Session) -> None:
    # Whoever has an image of an earlier pybuild relies on the same bytes.
    with LayerWriter(session) as out:
        out.add(Entry("d", "dir", 0o755, mtime_ns=1_600_000_000_000_000_000))
        out.add(Entry("d/f", "file", 0o644, 1000, 1000, 4, 1_600_000_000_000_000_000), b"text")
        out.add(Entry("d/ü", "symlink", 0o777, target="f"))
        out.add(Entry("d/x", "file", 0o4755, xattrs={"user.a": b"1"}))
        out.whiteout("gone")
        layer = out.finish().layer

    assert (layer.diff_id[:15], layer.identity[:15]) == ("sha256:2113a94d", "sha256:189f7639")
