from __future__ import annotations

import hashlib
import os
import re
import stat
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from io import BytesIO
from pathlib import Path

import pytest
from support.oracles import program
from support.stores import blobs, left_over, put_image, put_snapshot
from support.trees import ROOT_ONLY, words

from layers.session import Session
from layers.store import Store
from ocispec import mediatypes
from ocispec.digest import Digest
from ocispec.errors import Corrupt, NotFound
from ocispec.model import Descriptor
from ocispec.reference import Reference

ROOT = Path(__file__).parents[2]


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "store")


@pytest.fixture
def session(store: Store) -> Iterator[Session]:
    with store.session() as session:
        yield session


# ---- the lease


def test_a_session_that_does_nothing_writes_nothing(store: Store) -> None:
    before = store.root.stat().st_ctime_ns, os.listdir(store.root)
    with store.session():
        assert left_over(store.root) == []

    assert before == (store.root.stat().st_ctime_ns, os.listdir(store.root))


def test_a_pin_is_in_the_lease_until_the_session_closes(store: Store) -> None:
    blob = _put(store, b"x")
    session = store.session()
    session.pin(blob.digest)
    (lease,) = (store.root / "leases").iterdir()
    text = lease.read_text()
    session.close()

    assert f"{blob.digest}\n" == text
    assert left_over(store.root) == []


def test_a_pin_says_whether_the_blob_is_there(store: Store, session: Session) -> None:
    blob = _put(store, b"x")

    assert session.pin(blob.digest)
    assert not session.pin(Digest.of(b"absent"))


def test_a_session_has_no_blob_that_lost_its_end(store: Store, session: Session) -> None:
    blob = session.put_bytes("text/plain", b"whole")
    store.path(blob.digest).chmod(0o644)
    store.path(blob.digest).write_bytes(b"who")

    assert not session.has(blob)
    assert blob == session.put_bytes("text/plain", b"whole")
    assert session.has(blob)


def test_a_pin_says_whether_the_snapshot_is_there(store: Store, session: Session) -> None:
    put_snapshot(session, "abc")

    assert session.pin_snapshot("abc")
    assert not session.pin_snapshot("def")


def test_closing_twice_is_closing_once(store: Store) -> None:
    session = store.session()
    session.put_bytes("text/plain", b"x")
    session.close()
    session.close()

    assert left_over(store.root) == []


def test_a_closed_session_takes_no_new_lease(store: Store) -> None:
    session = store.session()
    session.close()

    with pytest.raises(ValueError, match="closed"):
        session.pin(Digest.of(b""))

    assert left_over(store.root) == []


def test_scratch_space_is_gone_with_the_session(store: Store) -> None:
    with store.session() as session:
        path = session.scratch("work")
        (path / "deep" / "er").mkdir(parents=True)
        (path / "deep" / "file").write_text("x")
        (session.tmp / "file").write_text("x")

    assert left_over(store.root) == []


def test_threads_may_share_a_session(store: Store, session: Session) -> None:
    def work(number: int) -> Digest:
        blob = session.put_bytes("text/plain", b"%d" % (number % 10))
        session.put_record("keys", f"{number}", b"{}")
        session.scratch("work")
        return blob.digest

    with ThreadPoolExecutor(8) as pool:
        digests = set(pool.map(work, range(100)))

    assert digests == blobs(store)
    assert len(list(store.records("keys"))) == 100
    assert len(os.listdir(store.root / "leases")) == 1


# ---- blobs


def test_a_blob_is_not_seen_before_it_is_committed(store: Store, session: Session) -> None:
    ingest = session.ingest()
    ingest.write(b"half")
    seen = blobs(store)
    ingest.write(b" and half")
    blob = ingest.commit("text/plain")

    assert set() == seen
    assert Descriptor.of("text/plain", b"half and half") == blob
    assert {blob.digest} == blobs(store)


def test_a_blob_cannot_be_written_to(store: Store, session: Session) -> None:
    blob = session.put_bytes("text/plain", b"x")

    assert stat.S_IMODE(store.path(blob.digest).stat().st_mode) == 0o444


@pytest.mark.parametrize("size", [1, 7, 4096, (1 << 18) - 1, 1 << 18, 1 << 20], ids=str)
def test_a_blob_may_come_in_pieces_of_any_size(store: Store, session: Session, size: int) -> None:
    data = os.urandom(1 << 10) * 1000 if size > 100 else os.urandom(5000)
    ingest = session.ingest()
    for start in range(0, len(data), size):
        ingest.write(data[start : start + size])
    blob = ingest.commit("text/plain")

    assert Descriptor.of("text/plain", data) == blob
    assert data == store.path(blob.digest).read_bytes()


@pytest.mark.parametrize(
    ("expected", "size"),
    [(Digest.of(b"other"), None), (None, 3), (None, 5), (Digest.of(b"data"), 5)],
    ids=["digest", "too long", "too short", "size alone"],
)
def test_what_is_not_expected_is_refused(
    store: Store, session: Session, expected: Digest | None, size: int | None
) -> None:
    ingest = session.ingest()
    ingest.write(b"data")
    with pytest.raises(Corrupt):
        ingest.commit("text/plain", expected, size)

    assert set() == blobs(store)
    assert os.listdir(session.tmp) == []


def test_an_aborted_blob_leaves_nothing(store: Store, session: Session) -> None:
    with session.ingest() as ingest:
        ingest.write(b"data")

    assert os.listdir(session.tmp) == []
    with pytest.raises(ValueError, match="committed or aborted"):
        ingest.write(bytes(1 << 20))


def test_a_blob_that_grows_without_end_is_cut_off(session: Session) -> None:
    blob = Descriptor.of("text/plain", b"short")
    endless = _Endless()
    with pytest.raises(Corrupt, match="more than its 5 bytes"):
        session.put(blob, endless)

    assert endless.given == 6


class _Endless:
    given = 0

    def read(self, size: int = -1, /) -> bytes:
        assert size >= 0
        self.given += size
        return b"x" * size

    def close(self) -> None:
        pass


# ---- trees


def test_a_published_tree_is_the_snapshot(store: Store, session: Session) -> None:
    put_snapshot(session, "abc", ["below"])
    found = words(store.root / "snapshots" / "abc")

    assert found == {"fs": "dir", "fs/file": "abc", "lowers": "below\n"}
    assert os.listdir(session.tmp) == []


def test_the_first_of_two_equal_snapshots_stays(store: Store, session: Session) -> None:
    put_snapshot(session, "abc")
    before = (store.root / "snapshots" / "abc").stat().st_ino
    put_snapshot(session, "abc")

    assert before == (store.root / "snapshots" / "abc").stat().st_ino
    assert os.listdir(session.tmp) == []


# ---- images


def test_an_image_that_is_not_there_cannot_be_kept(session: Session) -> None:
    with pytest.raises(NotFound):
        session.keep(Descriptor.of(mediatypes.OCI_MANIFEST, b"{}"))


def test_untagging_gives_back_what_was_named(store: Store, session: Session) -> None:
    ref = Reference.parse("x:1")
    root = put_image(session, "layer").root
    session.tag(ref, root)

    assert root == session.untag(ref)
    assert store.images.names() == []


# ---- accidents


@ROOT_ONLY
@pytest.mark.parametrize("what", ["ingest", "put", "put_bytes"])
def test_a_full_disk_leaves_nothing_half_written(small_disk: Path, what: str) -> None:
    store = Store.at(small_disk / "store")
    data = os.urandom(4 << 20)
    blob = Descriptor.of("text/plain", data)
    with store.session() as session:
        small = session.put_bytes("text/plain", b"small")
        with pytest.raises(OSError, match="No space left"):
            _fill(session, what, blob, data)
        assert os.listdir(session.tmp) == []

    assert {small.digest} == blobs(store)
    assert store.check() == []
    assert left_over(store.root) == []


def _fill(session: Session, what: str, blob: Descriptor, data: bytes) -> None:
    if what == "put_bytes":
        session.put_bytes(blob.media_type, data)
    elif what == "put":
        session.put(blob, BytesIO(data))
    else:
        with session.ingest() as ingest:
            ingest.write(data)
            ingest.commit(blob.media_type)


@pytest.mark.parametrize("where", ["keys", "images"])
@ROOT_ONLY
def test_a_full_disk_keeps_the_old_file(small_disk: Path, where: str) -> None:
    store = Store.at(small_disk / "store")
    ref = Reference.parse("x:1")
    with store.session() as session:
        session.put_record("keys", "name", b"old")
        first, second = (put_image(session, word).root for word in ("first", "second"))
        session.tag(ref, first)
        _use_up(small_disk / "filler")
        with pytest.raises(OSError, match="No space left"):
            _replace(session, where, second)

    assert store.read_record("keys", "name") == b"old"
    assert first == store.resolve(ref)
    assert left_over(store.root) == []


def _replace(session: Session, where: str, root: Descriptor) -> None:
    if where == "keys":
        session.put_record("keys", "name", bytes(10_000))
    else:
        session.tag(Reference.parse("x:1"), root)


def _use_up(path: Path) -> None:
    """Write to *path* until the disk is full."""
    with path.open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 2 MiB."""
    path = tmp_path / "disk"
    path.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "tmpfs", path], check=True)
    try:
        yield path
    finally:
        subprocess.run(["umount", path], check=True)


# ---- what is on the disk before what: seen by strace


_SCRIPT = """
import sys
from pathlib import Path
from layers.store import Store
from ocispec.reference import Reference
store = Store.at(Path(sys.argv[1]))
with store.session() as session:
    blob = session.put_bytes("text/plain", b"data")
    tree = session.scratch("tree")
    (tree / "file").write_text("x")
    session.publish_tree(tree, "abc")
    session.put_record("keys", "name", b"{}")
    session.tag(Reference.parse("x:1"), blob)
    session.put_bytes("text/plain", b"after the tag")
"""


@pytest.fixture(scope="module")
def calls(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """What a session does to the disk: "fsync PATH" or "rename FROM TO", below the store."""
    root = tmp_path_factory.mktemp("traced") / "store"
    Store.at(root)
    log = root.parent / "log"
    names = "trace=fsync,fdatasync,syncfs,rename,renameat,renameat2"
    command = [sys.executable, "-c", _SCRIPT, str(root)]
    subprocess.run(
        [program("strace"), "-f", "-y", "-qq", "-s", "500", "-e", names, "-o", log, *command],
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        check=True,
    )
    found = []
    for line in log.read_text().splitlines():
        call = re.match(r"\d+\s+(\w+)\(", line)
        paths = re.findall(rf"{re.escape(str(root))}([^\">]*)", line)
        if call is not None and paths:
            found.append(" ".join([call[1].rstrip("at2"), *(path or "/" for path in paths)]))
    return found


def test_a_blob_is_synced_before_it_gets_its_name(calls: list[str]) -> None:
    blob = f"/blobs/sha256/{hashlib.sha256(b'data').hexdigest()}"
    (named,) = [call for call in calls if call.endswith(f" {blob}")]
    temporary = named.split()[1]

    assert calls.index(f"fsync {temporary}") < calls.index(named)


def test_a_tree_is_synced_before_it_gets_its_name(calls: list[str]) -> None:
    (named,) = [call for call in calls if call.endswith(" /snapshots/abc")]
    temporary = named.split()[1]

    assert calls.index(f"syncfs {temporary}") < calls.index(named)


def test_a_record_is_synced_before_it_gets_its_name(calls: list[str]) -> None:
    (named,) = [call for call in calls if call.endswith(" /keys/name")]
    temporary = named.split()[1]

    assert calls.index(f"fsync {temporary}") < calls.index(named)


def test_the_names_of_blobs_are_synced_before_an_image_names_them(calls: list[str]) -> None:
    blob = f"/blobs/sha256/{hashlib.sha256(b'data').hexdigest()}"
    (named,) = [call for call in calls if call.endswith(f" {blob}")]
    (index,) = [call for call in calls if call.endswith(" /index.json")]
    temporary = index.split()[1]

    assert calls.index(named) < calls.index("fsync /blobs/sha256") < calls.index(index)
    assert calls.index(f"fsync {temporary}") < calls.index(index) < calls.index("fsync /")


def test_what_came_after_the_last_image_is_synced_at_the_end(calls: list[str]) -> None:
    blob = f"/blobs/sha256/{hashlib.sha256(b'after the tag').hexdigest()}"
    (named,) = [call for call in calls if call.endswith(f" {blob}")]

    assert "fsync /blobs/sha256" in calls[calls.index(named) :]


def _put(store: Store, data: bytes) -> Descriptor:
    blob = Descriptor.of("text/plain", data)
    store.put(blob, BytesIO(data))
    return blob
