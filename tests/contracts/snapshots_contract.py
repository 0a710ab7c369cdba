"""What every Snapshots does. A subclass gives the fixture *snapshots*, over *store*."""

from __future__ import annotations

import os
import stat
import threading
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.layerstack import BASE, CHANGES, MORE
from support.snapshots import Seen, shown, step
from support.tars import END, member
from support.trees import words

from layers.compress import decompressor
from layers.remove import remove_tree
from layers.session import Session
from layers.snapshots import SnapshotID, Snapshots
from layers.store import Store
from layers.tarread import tar_entries
from ocispec import mediatypes
from ocispec.content import Readable
from ocispec.digest import DiffID, Digest, chain_id
from ocispec.errors import Corrupt
from ocispec.model import Descriptor, Layer

PARENT = """
mkdir -p d/sub e/f; echo 1 > d/a; echo 2 > d/sub/b; echo 3 > e/f/c; echo 4 > top
ln top top2; ln -s d link; mkfifo pipe; chmod 4755 d/a; mkdir -m 1777 tmp; echo t > tmp/t
setfattr -n user.k -v v e; setfattr -n user.k -v v d/a
find . -exec touch -h -d @1600000000 {} +
"""

# (name, what is done on PARENT, the entries of the layer)
EDITS = [
    ("nothing", ":", []),
    ("a new file", "echo n > d/n", ["d", "d/n"]),
    ("a new tree", "mkdir -p n/m; echo x > n/m/x", ["n", "n/m", "n/m/x"]),
    ("an edit", "echo more >> d/sub/b", ["d", "d/sub", "d/sub/b"]),
    (
        "an edit that puts the time back",
        "echo x > d/sub/b; touch -d @1600000000 d/sub/b",
        ["d", "d/sub", "d/sub/b"],
    ),
    ("an edit in a sticky directory", "echo x >> tmp/t", ["tmp", "tmp/t"]),
    ("a removed file", "rm d/sub/b", ["d", "d/sub", "d/sub/.wh.b"]),
    ("a removed directory", "rm -r d", [".wh.d"]),
    ("a directory in place of a file", "rm d/a; mkdir d/a; echo i > d/a/i", ["d", "d/a", "d/a/i"]),
    ("a file in place of a directory", "rm -r d/sub; echo f > d/sub", ["d", "d/sub"]),
    ("a link in place of a directory", "rm -r d/sub; ln -s a d/sub", ["d", "d/sub"]),
    ("a directory made again", "rm -r e; mkdir e; echo n > e/n", ["e", "e/.wh..wh..opq", "e/n"]),
    (
        "an inner directory made again",
        "rm -r d/sub; mkdir d/sub",
        ["d", "d/sub", "d/sub/.wh..wh..opq"],
    ),
    ("another mode", "chmod 600 d/a", ["d", "d/a"]),
    ("another mode of a directory", "chmod 700 e", ["e"]),
    ("another mode of the root", "chmod 700 .", [""]),
    ("another owner", "chown 5:6 d/a; chown -h 5:6 link", ["d", "d/a", "link"]),
    ("a touched directory", "touch -d @1700000000 e", ["e"]),
    ("a new xattr", "setfattr -n user.n -v 1 d/a", ["d", "d/a"]),
    ("a new xattr of a directory", "setfattr -n user.n -v 1 e", ["e"]),
    ("a removed xattr", "setfattr -x user.k d/a", ["d", "d/a"]),
    ("a new hard link", "ln d/a d/a2; ln d/a e/a3", ["d", "d/a", "d/a2", "e", "e/a3"]),
    ("a removed hard link", "rm top2", [".wh.top2"]),
    ("a symlink to elsewhere", "rm link; ln -s /etc link", ["link"]),
    ("a moved file", "mv d/a e/z", ["d", "d/.wh.a", "e", "e/z"]),
    ("a moved directory", "mv e g", [".wh.e", "g", "g/f", "g/f/c"]),
    ("a file that came and went", "echo > tmp/x; rm tmp/x; touch -d @1600000000 tmp", []),
    ("a socket", "python3 -c 'import socket; socket.socket(socket.AF_UNIX).bind(\"s\")'", []),
    ("devices", "mknod c c 1 3; mknod b b 7 0; mkfifo p", ["b", "c", "p"]),
    ("names that are not UTF-8", r"echo 1 > $'\xff'; echo 2 > $'n\nl'", ["n\nl", "\udcff"]),
    (
        "a capability",
        "setfattr -n security.capability -v 0x0100000200200000000000000000000000000000 d/sub/b",
        ["d", "d/sub", "d/sub/b"],
    ),
]

WHITEOUT_TAR = member("a", data=b"new") + member(".wh.gone") + member(".wh.never") + END


class SnapshotsContract:
    """Drafts become snapshots and layers; layers become the same snapshots."""

    @pytest.fixture
    def session(self, store: Store) -> Iterator[Session]:
        with store.session() as session:
            yield session

    @pytest.mark.parametrize(
        ("script", "expected"),
        [(script, expected) for _, script, expected in EDITS],
        ids=[name for name, _, _ in EDITS],
    )
    def test_a_layer_has_what_changed(
        self,
        snapshots: Snapshots,
        store: Store,
        session: Session,
        script: str,
        expected: list[str],
    ) -> None:
        parent, _, _ = step(snapshots, None, session, PARENT)

        snapshot, written, seen = step(snapshots, parent, session, script)

        assert expected == entries(store, written.layer)
        assert without_sockets(seen) == without_sockets(shown(snapshots, snapshot))

    def test_unpacking_the_layers_gives_the_same_snapshots(
        self, snapshots: Snapshots, store: Store, session: Session
    ) -> None:
        parent: SnapshotID | None = None
        made = []
        for script in (BASE, CHANGES, MORE):
            parent, written, seen = step(snapshots, parent, session, script)
            made.append((parent, written.layer, shown(snapshots, parent)))
            assert without_sockets(seen) == made[-1][2]
        forget_snapshots(store)

        parent = None
        for snapshot, layer, was in made:
            parent = snapshots.unpack(parent, layer, store, session)

            assert snapshot == parent
            assert was == shown(snapshots, parent)

    def test_a_snapshot_is_named_for_the_chain_of_its_layers(
        self, snapshots: Snapshots, session: Session
    ) -> None:
        first, one, _ = step(snapshots, None, session, "echo 1 > a")
        second, two, _ = step(snapshots, first, session, "echo 2 > b")

        assert one.layer.diff_id.hex == first
        assert chain_id([one.layer.diff_id, two.layer.diff_id]).hex == second

    def test_the_empty_filesystem_is_an_empty_directory(self, snapshots: Snapshots) -> None:
        with snapshots.view(None) as fd:
            assert os.listdir(fd) == []
            assert os.fstat(fd).st_mode == 0o40755

    def test_a_view_cannot_be_written_to(self, snapshots: Snapshots, session: Session) -> None:
        snapshot, _, _ = step(snapshots, None, session, "mkdir d; echo 1 > a")

        with snapshots.view(snapshot) as fd, pytest.raises(OSError, match="Read-only"):
            os.unlink("a", dir_fd=fd)

    def test_a_view_stays_when_others_are_made_and_closed(
        self, snapshots: Snapshots, session: Session
    ) -> None:
        snapshot, _, _ = step(snapshots, None, session, "echo 1 > a")

        with snapshots.view(snapshot) as one:
            with snapshots.view(snapshot) as other:
                assert os.listdir(other) == ["a"]
            assert os.listdir(one) == ["a"]

    def test_drafts_on_one_parent_do_not_see_each_other(
        self, snapshots: Snapshots, session: Session
    ) -> None:
        parent, _, _ = step(snapshots, None, session, "echo 1 > a")
        one, other = (snapshots.prepare(parent, session) for _ in range(2))
        (one.upper / "one").touch()
        (other.upper / "other").touch()

        names = [shown(snapshots, snapshots.seal(draft, session)[0]) for draft in (one, other)]

        assert [sorted(seen) for seen in names] == [["", "a", "one"], ["", "a", "other"]]

    def test_what_is_put_into_a_draft_beforehand_is_in_the_layer(
        self, snapshots: Snapshots, store: Store, session: Session
    ) -> None:
        draft = snapshots.prepare(None, session)
        (draft.upper / "work").mkdir()

        _, written = snapshots.seal(draft, session)

        assert entries(store, written.layer) == ["work"]

    def test_a_sealed_draft_leaves_no_scratch(self, snapshots: Snapshots, session: Session) -> None:
        step(snapshots, None, session, "mkdir d; echo 1 > d/a")

        assert os.listdir(session.tmp) == []

    def test_a_discarded_draft_leaves_nothing(
        self, snapshots: Snapshots, store: Store, session: Session
    ) -> None:
        draft = snapshots.prepare(None, session)
        (draft.upper / "d").mkdir()

        snapshots.discard(draft)

        assert os.listdir(session.tmp) == []
        assert os.listdir(store.root / "snapshots") == []

    def test_a_step_that_was_made_before_is_the_snapshot_that_is_there(
        self, snapshots: Snapshots, store: Store, session: Session
    ) -> None:
        script = "echo 1 > a; touch -d @1600000000 a"
        first, _, _ = step(snapshots, None, session, script)
        second, _, _ = step(snapshots, None, session, script)

        assert first == second
        assert [first] == os.listdir(store.root / "snapshots")
        assert os.listdir(session.tmp) == []

    def test_the_root_of_a_snapshot_can_be_any_directory(
        self, snapshots: Snapshots, session: Session
    ) -> None:
        parent, _, _ = step(snapshots, None, session, "chmod 2711 .; chown 7:8 .; echo 1 > a")

        snapshot, _, _ = step(snapshots, parent, session, "echo 2 > b")

        with snapshots.view(snapshot) as fd:
            status = os.fstat(fd)
            assert (status.st_mode, status.st_uid, status.st_gid) == (0o42711, 7, 8)

    def test_a_tree_deeper_than_files_may_be_open_is_a_layer_like_any_other(
        self, snapshots: Snapshots, store: Store, session: Session
    ) -> None:
        deep = "for i in $(seq 300); do mkdir d; cd d; done; echo 1 > f"
        parent, first, _ = step(snapshots, None, session, deep)

        snapshot, second, _ = step(snapshots, parent, session, f"{deep.replace('mkdir d;', '')}2")

        assert [len(entries(store, made.layer)) for made in (first, second)] == [301, 301]
        assert len(shown(snapshots, snapshot)) == 303

    @pytest.mark.parametrize("change", ["byte", "longer", "shorter"])
    def test_a_damaged_blob_is_not_unpacked(
        self, snapshots: Snapshots, store: Store, session: Session, change: str
    ) -> None:
        _, written, _ = step(snapshots, None, session, "echo 1 > a")
        forget_snapshots(store)
        damage(store.path(written.layer.blob.digest), change)

        with pytest.raises(Corrupt):
            snapshots.unpack(None, written.layer, store, session)

        assert os.listdir(store.root / "snapshots") == []
        assert os.listdir(session.tmp) == []

    def test_a_layer_that_is_not_the_one_of_its_config_is_not_unpacked(
        self, snapshots: Snapshots, store: Store, session: Session
    ) -> None:
        _, written, _ = step(snapshots, None, session, "echo 1 > a")
        other = replace(written.layer, diff_id=DiffID(Digest.of(b"another")))

        with pytest.raises(Corrupt, match="unpacks to"):
            snapshots.unpack(None, other, store, session)

        assert os.listdir(session.tmp) == []

    def test_what_is_there_is_not_unpacked_again(
        self, snapshots: Snapshots, store: Store, session: Session
    ) -> None:
        snapshot, written, _ = step(snapshots, None, session, "echo 1 > a")
        store.path(written.layer.blob.digest).unlink()

        assert snapshot == snapshots.unpack(None, written.layer, store, session)

    def test_threads_that_want_the_same_snapshot_unpack_it_once(
        self, snapshots: Snapshots, store: Store, session: Session
    ) -> None:
        snapshot, written, seen = step(snapshots, None, session, BASE)
        forget_snapshots(store)
        blob = CountingStore(store)
        found: list[SnapshotID] = []

        def unpack() -> None:
            found.append(snapshots.unpack(None, written.layer, blob, session))

        threads = [threading.Thread(target=unpack) for _ in range(6)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert [snapshot] * 6 == found
        assert blob.opened == 1
        assert seen == shown(snapshots, snapshot)

    def test_a_layer_may_hide_what_a_first_layer_never_had(
        self, snapshots: Snapshots, store: Store, session: Session
    ) -> None:
        layer = layer_of(store, session, WHITEOUT_TAR)

        snapshot = snapshots.unpack(None, layer, store, session)

        assert sorted(shown(snapshots, snapshot)) == ["", "a"]

    def test_a_layer_hides_and_replaces_what_is_below(
        self, snapshots: Snapshots, store: Store, session: Session
    ) -> None:
        parent, _, _ = step(snapshots, None, session, "mkdir gone; echo 1 > gone/x; echo 2 > b")
        layer = layer_of(store, session, WHITEOUT_TAR)

        snapshot = snapshots.unpack(parent, layer, store, session)

        with snapshots.view(snapshot) as fd:
            assert words(f"/proc/self/fd/{fd}") == {"a": "new", "b": "2\n"}


class CountingStore(Store):
    """A store that counts how often a blob is opened."""

    def __init__(self, store: Store) -> None:
        super().__init__(store.root)
        self.opened = 0

    def open(self, blob: Descriptor) -> Readable:
        self.opened += 1
        return super().open(blob)


def entries(store: Store, layer: Layer) -> list[str]:
    """The paths in the tar of *layer*, in its order."""
    tar = decompressor(layer.blob.media_type, store.open(layer.blob))
    try:
        return [entry.path for entry, _ in tar_entries(tar)]
    finally:
        tar.close()


def layer_of(store: Store, session: Session, data: bytes) -> Layer:
    """The uncompressed layer whose tar is *data*."""
    blob = session.put_bytes(mediatypes.OCI_LAYER, data)
    return Layer(DiffID(blob.digest), Digest.of(b"any"), blob)


def forget_snapshots(store: Store) -> None:
    for path in (store.root / "snapshots").iterdir():
        remove_tree(path)


def without_sockets(seen: Seen) -> Seen:
    return {path: facts for path, facts in seen.items() if facts[0] != stat.S_IFSOCK}


def damage(path: Path, change: str) -> None:
    data = path.read_bytes()
    middle = len(data) // 2
    path.unlink()
    path.write_bytes(
        {
            "byte": data[:middle] + bytes([data[middle] ^ 1]) + data[middle + 1 :],
            "longer": data + b"x",
            "shorter": data[:-1],
        }[change]
    )
