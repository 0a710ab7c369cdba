from __future__ import annotations

import hashlib
import json
import os
import stat
import time
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path
from threading import Barrier

import pytest
from contracts.content_contract import ContentContract
from support.oracles import run
from support.stores import blobs, left_over
from support.trees import listing

from layers.store import Store, network_filesystem
from ocispec import mediatypes
from ocispec.content import read_small
from ocispec.digest import Digest
from ocispec.errors import Corrupt, Invalid, NotFound
from ocispec.model import Descriptor
from ocispec.reference import Reference


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "store")


class TestStoreContent(ContentContract):
    @pytest.fixture
    def content(self, store: Store) -> Store:
        return store

    @pytest.fixture
    def name(self) -> Reference:
        return Reference.parse("example.org/some/image:v1")


# ---- opening


def test_a_new_store_is_an_image_layout(store: Store) -> None:
    layout = json.loads((store.root / "oci-layout").read_bytes())
    index = json.loads((store.root / "index.json").read_bytes())

    assert layout == {"imageLayoutVersion": "1.0.0"}
    assert index == {"schemaVersion": 2, "manifests": []}
    assert (store.root / "blobs" / "sha256").is_dir()


def test_opening_a_store_again_writes_nothing(store: Store) -> None:
    before = _times(store.root)
    Store.at(store.root)

    assert before == _times(store.root)


def test_a_store_that_was_half_made_is_made_whole(tmp_path: Path) -> None:
    (tmp_path / "blobs" / "sha256").mkdir(parents=True)
    (tmp_path / "oci-layout").write_bytes(b'{"imageLayoutVersion":"1.0.0"}')
    store = Store.at(tmp_path)
    store.put(_blob(b"x"), BytesIO(b"x"))

    assert store.has(_blob(b"x"))


def test_several_may_make_the_same_store_at_once(tmp_path: Path) -> None:
    start = Barrier(8)

    def put(number: int) -> Descriptor:
        start.wait()
        data = b"%d" % number
        Store.at(tmp_path / "store").put(_blob(data), BytesIO(data))
        return _blob(data)

    with ThreadPoolExecutor(8) as pool:
        put_blobs = list(pool.map(put, range(8)))

    assert {blob.digest for blob in put_blobs} == blobs(Store.at(tmp_path / "store"))
    assert left_over(tmp_path / "store") == []


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(Invalid, match="is not a directory"):
        Store.at(tmp_path / "file")


def test_a_directory_of_something_else_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "thesis.tex").write_text("")

    with pytest.raises(Invalid, match=r"has 'thesis.tex'"):
        Store.at(tmp_path)

    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_what_is_unpacked_is_closed_to_other_users(store: Store) -> None:
    modes = {
        name: stat.S_IMODE((store.root / name).stat().st_mode)
        for name in ("snapshots", "tmp", "trash")
    }

    assert modes == {"snapshots": 0o700, "tmp": 0o700, "trash": 0o700}


@pytest.mark.oracle
def test_an_image_layout_of_another_tool_becomes_a_store(tmp_path: Path) -> None:
    root = tmp_path / "layout"
    run("umoci", "init", "--layout", root)
    run("umoci", "new", "--image", f"{root}:v1")
    store = Store.at(root)
    ref = Reference.parse("v1").with_default_tag()
    found = store.resolve(ref)

    assert [(ref, found)] == store.images.names()
    assert found.digest == Digest.of(read_small(store, found, 1 << 20))


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("36 35 8:1 / /data rw,noatime shared:1 - nfs4 host:/data rw", "nfs4"),
        ("36 35 8:1 / /data rw - cifs //host/data rw", "cifs"),
        ("36 35 8:1 / /data rw,noatime shared:1 - ext4 /dev/sda1 rw", ""),
        ("36 35 8:2 / /data rw,noatime shared:1 - nfs4 host:/data rw", ""),
        ("36 35 8:1 / /nfs4\\040-\\040x rw - ext4 /dev/sda1 rw", ""),
        ("", ""),
    ],
    ids=["nfs", "cifs", "local", "another mount", "a name that misleads", "nothing"],
)
def test_a_network_file_system_is_known_by_its_device(line: str, expected: str) -> None:
    text = f"1 0 253:0 / / rw - ext4 /dev/vda rw\n{line}\n"

    assert expected == network_filesystem(text, os.makedev(8, 1))


# ---- blobs


def test_a_blob_that_lost_its_end_is_not_there(store: Store) -> None:
    blob = _blob(b"a whole blob")
    store.put(blob, BytesIO(b"a whole blob"))
    _damage(store, blob, b"a whole")

    assert not store.has(blob)
    with pytest.raises(Corrupt, match="7 of 12 bytes"):
        store.open(blob)


def test_a_blob_that_lost_its_end_is_healed_when_it_is_put_again(store: Store) -> None:
    blob = _blob(b"a whole blob")
    store.put(blob, BytesIO(b"a whole blob"))
    _damage(store, blob, b"")
    store.put(blob, BytesIO(b"a whole blob"))

    assert read_small(store, blob, 100) == b"a whole blob"
    assert left_over(store.root) == []


def test_an_open_blob_can_be_read_from_any_place(store: Store) -> None:
    store.put(_blob(b"abc"), BytesIO(b"abc"))
    with store.path(_blob(b"abc").digest).open("rb") as file:
        file.seek(1)

        assert file.read() == b"bc"


def test_a_blob_may_be_named_by_another_algorithm(store: Store) -> None:
    digest = Digest(f"sha512:{_sha512(b'data')}")
    blob = Descriptor("text/plain", digest, 4)
    store.put(blob, BytesIO(b"data"))

    assert read_small(store, blob, 100) == b"data"
    assert store.check() == []


def test_another_algorithm_is_verified_as_well(store: Store) -> None:
    blob = Descriptor("text/plain", Digest(f"sha512:{_sha512(b'data')}"), 4)

    with pytest.raises(Corrupt):
        store.put(blob, BytesIO(b"tada"))

    assert not store.has(blob)


def test_check_finds_every_damaged_blob_and_no_other(store: Store) -> None:
    healthy, longer, changed = (_blob(data) for data in (b"healthy", b"longer", b"changed"))
    for blob, data in ((healthy, b"healthy"), (longer, b"longer"), (changed, b"changed")):
        store.put(blob, BytesIO(data))
    _damage(store, longer, b"longer than it was")
    _damage(store, changed, b"chanted")

    assert sorted([longer.digest, changed.digest]) == sorted(store.check())


def test_check_passes_over_what_is_no_blob(store: Store) -> None:
    (store.root / "blobs" / "README").write_text("x")
    (store.root / "blobs" / "sha256" / "half-a-download").write_text("x")

    assert store.check() == []


def test_a_put_through_the_store_leaves_nothing_behind(store: Store) -> None:
    store.put(_blob(b"x"), BytesIO(b"x"))
    store.tag(Reference.parse("x:1"), _blob(b"x"))
    with pytest.raises(Corrupt):
        store.put(_blob(b"y"), BytesIO(b"z"))

    assert left_over(store.root) == []


# ---- records


def test_a_record_is_read_as_it_was_put(store: Store) -> None:
    with store.session() as session:
        session.put_record("keys", "name", b"old")
        session.put_record("keys", "name", b"new")

    assert store.read_record("keys", "name") == b"new"
    assert list(store.records("keys")) == [("name", b"new")]
    assert left_over(store.root) == []


def test_a_record_that_is_not_there_is_none(store: Store) -> None:
    assert store.read_record("keys", "name") is None


def test_records_come_in_the_order_of_their_names(store: Store) -> None:
    with store.session() as session:
        for name in ("c", "a", "b"):
            session.put_record("epochs", name, name.encode())

    assert list(store.records("epochs")) == [("a", b"a"), ("b", b"b"), ("c", b"c")]


def test_touching_a_record_notes_when_it_was_used(store: Store) -> None:
    with store.session() as session:
        session.put_record("keys", "name", b"")
    path = store.root / "keys" / "name"
    os.utime(path, (1, 1))
    before = time.time() - 1
    store.touch_record("keys", "name")
    store.touch_record("keys", "no such record")

    assert path.stat().st_mtime > before


def test_a_name_that_leads_nowhere_is_refused(store: Store) -> None:
    with pytest.raises(NotFound, match="is not in the store"):
        store.tag(Reference.parse("x:1"), _blob(b"absent"))

    assert store.images.names() == []


def _blob(data: bytes) -> Descriptor:
    return Descriptor.of(mediatypes.OCI_LAYER, data)


def _sha512(data: bytes) -> str:
    return hashlib.sha512(data).hexdigest()


def _damage(store: Store, blob: Descriptor, data: bytes) -> None:
    path = store.path(blob.digest)
    path.chmod(0o644)
    path.write_bytes(data)


def _times(root: Path) -> dict[str, tuple[int, int]]:
    """Of all files and directories: a write would change one of them."""
    return {
        path: ((root / path).stat().st_mtime_ns, (root / path).stat().st_ctime_ns)
        for path in listing(root)
    }
