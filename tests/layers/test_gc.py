from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from threading import Thread

import pytest
from support.stores import blobs, left_over, put_image, put_index, put_snapshot

from layers.gc import Freed, Policy, collect
from layers.session import Session
from layers.store import Store
from ocispec import mediatypes
from ocispec.digest import Digest
from ocispec.model import Descriptor, Layer, Manifest
from ocispec.reference import Reference

ROOT = Path(__file__).parents[2]
ONE, TWO = Reference.parse("one:latest"), Reference.parse("two:latest")
NOW = 2_000_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "store")


# ---- what goes, what stays


def test_an_empty_store_stays_empty(store: Store) -> None:
    assert Freed(0, 0, 0, 0, ()) == collect(store)


def test_what_nothing_names_goes(store: Store) -> None:
    with store.session() as session:
        image = put_image(session, "a", "b")
        put_snapshot(session, image.chains[0])
        size = sum(blob.size for blob in (image.root, image.config, *image.layers))
    freed = collect(store)

    assert (freed.blobs, freed.snapshots, freed.records, freed.images) == (4, 1, 0, ())
    assert size + 4096 <= freed.bytes
    assert set() == blobs(store)
    assert _snapshots(store) == []
    assert left_over(store.root) == []


def test_a_dry_run_tells_the_same_and_removes_nothing(store: Store) -> None:
    with store.session() as session:
        image = put_image(session, "a", "b")
        session.keep(image.root)
        lone = session.put_bytes("text/plain", b"lone")
        put_snapshot(session, "0" * 64)
        session.put_record("keys", "damaged", b"")
    policy = Policy(max_age=0, unnamed_images=True)
    foretold = collect(store, policy, dry_run=True)
    before = blobs(store), _snapshots(store), store.images.unnamed(), _records(store)
    freed = collect(store, policy)

    assert foretold == freed
    assert (
        (image.blobs | {lone.digest}, ["0" * 64], [image.root], ["damaged"]),
        (set(), [], [], []),
    ) == (before, (blobs(store), _snapshots(store), store.images.unnamed(), _records(store)))


def test_an_image_keeps_its_blobs_and_the_snapshots_of_its_layers(store: Store) -> None:
    with store.session() as session:
        image, other = put_image(session, "a", "b"), put_image(session, "a", "c")
        for name in {*image.chains, *other.chains}:
            put_snapshot(session, name)
        session.tag(ONE, image.root)
    collect(store)

    assert image.blobs == blobs(store)
    assert sorted(image.chains) == _snapshots(store)


def test_an_index_keeps_the_images_that_are_there(store: Store) -> None:
    with store.session() as session:
        image = put_image(session, "a")
        absent = Descriptor.of(mediatypes.OCI_MANIFEST, b"never pulled")
        index = put_index(session, image.root, absent)
        outer = put_index(session, index)
        session.tag(ONE, outer)
        for name in image.chains:
            put_snapshot(session, name)
    collect(store)

    assert image.blobs | {index.digest, outer.digest} == blobs(store)
    assert image.chains == _snapshots(store)


def test_indexes_may_be_nested_as_deep_as_one_likes(store: Store) -> None:
    with store.session() as session:
        image = put_image(session, "a")
        roots = [image.root]
        for _ in range(1100):  # deeper than Python recurses
            roots.append(put_index(session, roots[-1]))
        session.tag(ONE, roots[-1])

    assert collect(store).blobs == 0


def test_an_image_without_its_config_keeps_its_layers(store: Store) -> None:
    with store.session() as session:
        image = put_image(session, "a", "b")
        session.tag(ONE, image.root)
    store.path(image.config.digest).unlink()
    collect(store)

    assert image.blobs - {image.config.digest} == blobs(store)


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"{}", b'{"schemaVersion":2}'], ids=repr)
def test_a_damaged_manifest_does_not_stop_gc(store: Store, data: bytes) -> None:
    with store.session() as session:
        image = put_image(session, "a")
        damaged = session.put_bytes(mediatypes.OCI_MANIFEST, data)
        session.tag(ONE, image.root)
        session.tag(TWO, damaged)
    collect(store)

    assert image.blobs | {damaged.digest} == blobs(store)


def test_an_image_without_a_name_stays_until_it_is_asked_to_go(store: Store) -> None:
    with store.session() as session:
        image = put_image(session, "a")
        session.tag(ONE, image.root)
        newer = put_image(session, "b")
        session.tag(ONE, newer.root)
    first = collect(store)
    after_first = blobs(store)
    second = collect(store, Policy(unnamed_images=True))

    assert ((), image.blobs | newer.blobs) == (first.images, after_first)
    assert ((image.root.digest,), newer.blobs) == (second.images, blobs(store))
    assert store.images.unnamed() == []


def test_what_others_left_among_the_blobs_goes(store: Store) -> None:
    (store.root / "blobs" / "README").write_text("no folder")
    (store.root / "blobs" / "sha256" / "half-a-download").write_text("x")
    (store.root / "blobs" / "sha256" / ("x" * 255)).mkdir()
    (store.root / "snapshots" / "half-an-unpacking").mkdir()
    freed = collect(store)

    assert (freed.blobs, freed.snapshots) == (2, 1)
    assert os.listdir(store.root / "blobs" / "sha256") == []
    assert left_over(store.root) == []


# ---- cache records


def _record(session: Session, name: str, layer: bytes, **more: object) -> Descriptor:
    blob = session.put_bytes(mediatypes.OCI_LAYER_GZIP, layer)
    made = Layer.from_json(
        {"diffID": str(blob.digest), "identity": str(blob.digest), "blob": blob.json()}
    )
    session.put_record("keys", name, json.dumps({"layers": [made.json()], **more}).encode())
    return blob


def test_a_cache_record_keeps_what_it_names(store: Store) -> None:
    with store.session() as session:
        layer = _record(session, "a", b"layer", snapshots=["top"])
        extra = session.put_bytes("text/plain", b"extra")
        session.put_record("epochs", "b", json.dumps({"blobs": [extra.digest]}).encode())
        put_snapshot(session, "below")
        put_snapshot(session, "top", ["below"])
        put_snapshot(session, "other")
    freed = collect(store)

    assert freed.records == 0
    assert {layer.digest, extra.digest} == blobs(store)
    assert _snapshots(store) == ["below", "top"]


def test_a_cache_record_that_names_nothing_stays(store: Store) -> None:
    with store.session() as session:
        session.put_record("keys", "a", b'{"note":"nothing"}')

    assert collect(store).records == 0


def test_a_cache_record_that_lacks_a_blob_goes_with_the_rest_of_its_blobs(store: Store) -> None:
    with store.session() as session:
        extra = session.put_bytes("text/plain", b"extra")
        layer = _record(session, "a", b"layer", blobs=[extra.digest])
    store.path(extra.digest).unlink()
    freed = collect(store)

    assert (freed.records, freed.blobs) == (1, 1)
    assert not store.has(layer)


@pytest.mark.parametrize(
    "data",
    [b"", b"{", b"\xff", b"[]", b'{"layers":[{}]}', b'{"layers":7}', b'{"blobs":["x"]}'],
    ids=repr,
)
def test_a_damaged_cache_record_goes(store: Store, data: bytes) -> None:
    with store.session() as session:
        session.put_record("keys", "a", data)

    assert collect(store).records == 1
    assert _records(store) == []


def test_cache_records_go_when_they_were_not_used_for_long(store: Store) -> None:
    with store.session() as session:
        used, unused = (_record(session, name, name.encode()) for name in ("used", "unused"))
        session.put_record("statindex", "unused", b"")
    os.utime(store.root / "keys" / "used", (NOW - 99, NOW - 99))
    os.utime(store.root / "keys" / "unused", (NOW - 100, NOW - 100))
    os.utime(store.root / "statindex" / "unused", (NOW - 100, NOW - 100))
    freed = collect(store, Policy(max_age=100), now=NOW)

    assert (freed.records, freed.blobs) == (2, 1)
    assert _records(store) == ["used"]
    assert (store.has(used), store.has(unused)) == (True, False)


def test_all_cache_records_go_when_no_age_is_young_enough(store: Store) -> None:
    with store.session() as session:
        _record(session, "a", b"layer")

    assert collect(store, Policy(max_age=0)).records == 1
    assert set() == blobs(store)


# ---- sessions at work


def test_what_a_session_made_stays_until_it_ends(store: Store) -> None:
    session = store.session()
    image = put_image(session, "a")
    put_snapshot(session, "below")
    put_snapshot(session, "top", ["below"])
    scratch = session.scratch("work")
    during = collect(store)
    kept = blobs(store), _snapshots(store), scratch.is_dir()
    session.close()
    after = collect(store)

    assert (during.blobs, during.snapshots) == (0, 0)
    assert (image.blobs, ["below", "top"], True) == kept
    assert (after.blobs, after.snapshots) == (3, 2)


def test_what_a_session_pinned_stays_until_it_ends(store: Store) -> None:
    with store.session() as session:
        pinned, other = (session.put_bytes("text/plain", data) for data in (b"pinned", b"other"))
        for name in ("below", "top", "other"):
            put_snapshot(session, name, ["below"] if name == "top" else [])
    with store.session() as session:
        assert session.pin(pinned.digest)
        assert session.pin_snapshot("top")
        collect(store)

        assert {pinned.digest} == blobs(store)
        assert _snapshots(store) == ["below", "top"]
        assert not session.pin(other.digest)


@pytest.mark.parametrize("indexed", [False, True], ids=["manifest", "index"])
def test_a_pinned_manifest_keeps_its_whole_image(store: Store, indexed: bool) -> None:
    with store.session() as session:
        image = put_image(session, "a", "b")
        root = put_index(session, image.root) if indexed else image.root
        session.tag(ONE, root)
        for name in image.chains:
            put_snapshot(session, name)
    with store.session() as session:
        session.pin(root.digest)
        session.untag(ONE)
        collect(store, Policy(max_age=0, unnamed_images=True))

        assert image.blobs | {root.digest} == blobs(store)
        assert sorted(image.chains) == _snapshots(store)


def test_a_manifest_without_a_media_type_is_known_when_it_is_pinned(store: Store) -> None:
    with store.session() as session:
        layer = session.put_bytes(mediatypes.OCI_LAYER_GZIP, b"a")
        config = session.put_bytes(mediatypes.OCI_CONFIG, b"{}")
        fields = json.loads(Manifest(config, (layer,)).encode())
        del fields["mediaType"]
        root = session.put_bytes(mediatypes.OCI_MANIFEST, json.dumps(fields).encode())
    with store.session() as session:
        session.pin(root.digest)
        collect(store)

        assert {layer.digest, config.digest, root.digest} == blobs(store)


def test_an_image_without_a_name_stays_while_a_session_uses_it(store: Store) -> None:
    with store.session() as session:
        image = put_image(session, "a")
        session.keep(image.root)
    with store.session() as session:
        session.pin(image.root.digest)
        freed = collect(store, Policy(unnamed_images=True))

        assert freed.images == ()
        assert [image.root] == store.images.unnamed()


def test_gc_and_builds_may_run_at_once(store: Store) -> None:
    """Each build reads all that it pinned or made; gc removes what the builds leave behind."""
    missing: list[str] = []

    def build(number: int) -> None:
        for turn in range(40):
            with store.session() as session:
                words = [f"{(number + turn) % 5}", f"{turn % 3}"]
                image = put_image(session, *words)
                missing.extend(d for d in image.blobs if not store.path(d).exists())
                if turn % 4 == 0:
                    session.tag(ONE, image.root)
                missing.extend(d for d in image.blobs if not store.path(d).exists())

    threads = [Thread(target=build, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    while any(thread.is_alive() for thread in threads):
        collect(store, Policy(unnamed_images=True))
    for thread in threads:
        thread.join()

    assert missing == []
    assert store.check() == []
    root = store.resolve(ONE)
    collect(store, Policy(unnamed_images=True))
    assert store.has(root)
    assert len(blobs(store)) == 4


# ---- the dead


_WORKER = """
import sys
from pathlib import Path
from layers.store import Store
store = Store.at(Path(sys.argv[1]))
session = store.session()
session.put_bytes("text/plain", b"abandoned")
session.ingest().write(bytes(1 << 20))
deep = session.scratch("work") / "deep"
deep.mkdir()
(deep / "file").write_text("x")
(store.root / "tmp" / "index-1-abc").write_text("half an index")
print("ready", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def killed(store: Store) -> Iterator[Callable[[], None]]:
    """A session of another process, in the middle of its work; called, the process is killed."""
    command = [sys.executable, "-c", _WORKER, str(store.root)]
    with subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"

        def kill() -> None:
            process.send_signal(signal.SIGKILL)
            process.wait()

        yield kill
        kill()


def test_the_scratch_space_of_the_dead_is_reclaimed(
    store: Store, killed: Callable[[], None]
) -> None:
    killed()
    before = {entry.split("/")[0] for entry in left_over(store.root)}
    freed = collect(store)

    assert {"tmp", "leases"} == before
    assert freed.blobs == 1
    assert left_over(store.root) == []


def test_the_living_keep_their_scratch_space(store: Store, killed: Callable[[], None]) -> None:
    freed = collect(store)

    assert freed.blobs == 0
    assert {Digest.of(b"abandoned")} == blobs(store)
    assert len(left_over(store.root)) == 2
    assert list(store.root.glob("tmp/*/work-*/deep/file"))


def test_what_an_earlier_gc_did_not_finish_is_removed(store: Store) -> None:
    (store.root / "trash" / "abc" / "fs").mkdir(parents=True)
    (store.root / "trash" / "abc" / "fs" / "file").write_text("x")
    (store.root / "trash" / "blob").write_text("x")
    collect(store)

    assert left_over(store.root) == []


def test_scratch_space_without_a_lease_is_reclaimed(store: Store) -> None:
    (store.root / "tmp" / "123-abc").mkdir()
    (store.root / "leases" / "456-def").write_text("sha256:half a line")
    collect(store)

    assert left_over(store.root) == []


def _snapshots(store: Store) -> list[str]:
    return sorted(os.listdir(store.root / "snapshots"))


def _records(store: Store) -> list[str]:
    return [name for name, _ in store.records("keys")]
