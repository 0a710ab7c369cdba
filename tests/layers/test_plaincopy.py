from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from random import Random

import pytest
from contracts.snapshots_contract import EDITS, PARENT, SnapshotsContract, entries, forget_snapshots
from support.layerstack import BASE
from support.snapshots import mounted, shown, step
from support.trees import ROOT_ONLY, TIME, listing, overlay, shell, tree

from layers.copytree import copy_tree
from layers.overlay import Overlay
from layers.plaincopy import PlainCopy
from layers.remove import remove_tree
from layers.session import Session
from layers.snapshots import next_snapshot
from layers.store import Store
from layers.tree import Tree
from ocispec.errors import Unsupported

pytestmark = ROOT_ONLY


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "store")


@pytest.fixture
def session(store: Store) -> Iterator[Session]:
    with store.session() as session:
        yield session


class TestPlainCopy(SnapshotsContract):
    @pytest.fixture
    def snapshots(self, store: Store) -> PlainCopy:
        return PlainCopy(store.root)


class TestOnOverlayfs:
    """A file system that takes neither an overlay's upper directory nor 0:0 devices."""

    @pytest.fixture
    def store(self, tmp_path: Path) -> Iterator[Store]:
        (tmp_path / "lower").mkdir()
        with overlay(tmp_path / "lower", upper=tmp_path / "upper") as root:
            yield Store.at(root / "store")

    def test_a_layer_is_as_elsewhere(self, store: Store, session: Session) -> None:
        snapshots = PlainCopy(store.root)
        parent, _, _ = step(snapshots, None, session, PARENT)

        script = "rm d/a; rm -r e; mkdir e; echo 1 > e/n; echo 2 >> d/sub/b"
        snapshot, written, seen = step(snapshots, parent, session, script)

        expected = ["d", "d/.wh.a", "d/sub", "d/sub/b", "e", "e/.wh..wh..opq", "e/n"]
        assert entries(store, written.layer) == expected
        assert shown(snapshots, snapshot) == seen

    def test_a_layer_that_deletes_cannot_be_unpacked(self, store: Store, session: Session) -> None:
        snapshots = PlainCopy(store.root)
        parent, _, _ = step(snapshots, None, session, PARENT)
        _, written, _ = step(snapshots, parent, session, "rm top")
        remove_tree(store.root / "snapshots" / next_snapshot(parent, written.layer))

        with pytest.raises(Unsupported, match="cannot be unpacked in"):
            snapshots.unpack(parent, written.layer, store, session)


@pytest.mark.parametrize(
    "script", [script for _, script, _ in EDITS], ids=[name for name, _, _ in EDITS]
)
def test_a_layer_is_the_one_that_overlayfs_makes(tmp_path: Path, script: str) -> None:
    layers = []
    for number, kind in enumerate((Overlay, PlainCopy)):
        store = Store.at(tmp_path / f"store{number}")
        snapshots = kind(store.root)
        with store.session() as session:
            parent, _, _ = step(snapshots, None, session, PARENT)
            layers.append(step(snapshots, parent, session, script)[1].layer.identity)

    assert layers[0] == layers[1]


def test_a_directory_made_again_with_its_old_inode_number_hides_the_one_below(
    store: Store, session: Session
) -> None:
    snapshots = PlainCopy(store.root)
    parent, _, _ = step(snapshots, None, session, "mkdir d; echo 1 > d/a; echo 2 > d/b")
    draft = snapshots.prepare(parent, session)
    # ext4 gives the number of a removed directory to the next one that is made.
    shell("ls -id d > was; rm -r d; mkdir d; ls -id d > is; echo 3 > d/a", draft.upper)

    _, written = snapshots.seal(draft, session)

    assert entries(store, written.layer) == ["d", "d/.wh..wh..opq", "d/a", "is", "was"]


def test_a_directory_moved_to_the_place_of_another_hides_that(
    store: Store, session: Session
) -> None:
    snapshots = PlainCopy(store.root)
    parent, _, _ = step(snapshots, None, session, "mkdir d e; echo 1 > d/a; echo 2 > e/b")

    _, written, _ = step(snapshots, parent, session, "rm -r d; mv e d")

    assert entries(store, written.layer) == ["d", "d/.wh..wh..opq", "d/b", ".wh.e"]


def test_a_copied_directory_takes_no_mark_along(store: Store, session: Session) -> None:
    snapshots = PlainCopy(store.root)
    parent, _, _ = step(snapshots, None, session, "mkdir d; echo 1 > d/a")

    snapshot, _, _ = step(snapshots, parent, session, "cp -a d e")

    with snapshots.view(snapshot) as fd:
        assert [os.listxattr(f"/proc/self/fd/{fd}/{name}") for name in "de"] == [[], []]


def test_a_change_is_seen_under_all_names_of_a_file(store: Store, session: Session) -> None:
    snapshots = PlainCopy(store.root)
    parent, _, _ = step(snapshots, None, session, "echo 1 > a; ln a b")

    snapshot, written, seen = step(snapshots, parent, session, "echo 2 >> a")

    assert entries(store, written.layer) == ["a", "b"]
    assert seen == shown(snapshots, snapshot)


def test_a_change_is_seen_though_a_name_is_gone_and_the_time_put_back(
    store: Store, session: Session
) -> None:
    snapshots = PlainCopy(store.root)
    parent, _, _ = step(snapshots, None, session, "echo 1 > a; ln a b; touch -d @1600000000 a")

    _, written, _ = step(snapshots, parent, session, "rm b; echo 2 > a; touch -d @1600000000 a")

    assert entries(store, written.layer) == ["a", ".wh.b"]


def test_mount_points_that_came_and_went_are_no_change(store: Store, session: Session) -> None:
    snapshots = PlainCopy(store.root)
    parent, _, _ = step(snapshots, None, session, "mkdir etc; touch -d @1600000000 etc")
    draft = snapshots.prepare(parent, session)
    with mounted(snapshots.mounts(draft)) as root:
        for place in (root / "etc/hosts", root / "etc/resolv.conf"):
            place.touch()
            place.unlink()
        os.utime(root / "etc", (TIME, TIME))

    _, written = snapshots.seal(draft, session)

    assert entries(store, written.layer) == []


class TestCopyTree:
    def copy(self, tmp_path: Path, source: Path) -> Path:
        target = tmp_path / "target"
        (tmp_path / "links").mkdir()
        target.mkdir()
        fds = [os.open(path, os.O_RDONLY) for path in (source, target)]
        copy_tree(fds[0], fds[1], tmp_path / "links")
        for fd in fds:
            os.close(fd)
        return target

    def test_a_copy_is_like_the_original(self, tmp_path: Path) -> None:
        source = tree(tmp_path / "source", {})
        shell(BASE, source)
        os.mknod(source / "device", 0o20600, os.makedev(1, 3))

        target = self.copy(tmp_path, source)

        assert listing(source) == listing(target)

    def test_times_are_kept_to_the_nanosecond(self, tmp_path: Path) -> None:
        source = tree(tmp_path / "source", {"d/a": "x", "l": "-> a"})
        for path in ("d/a", "l", "d", ""):
            os.utime(source / path, ns=(5, 1_600_000_000_123_456_789), follow_symlinks=False)

        target = self.copy(tmp_path, source)

        assert {1_600_000_000_123_456_789} == {
            (target / path).lstat().st_mtime_ns for path in ("d/a", "l", "d", "")
        }

    @pytest.mark.parametrize("data_at", [[], [0], [5 << 20], [0, 5 << 20, 20 << 20]], ids=str)
    def test_holes_stay_holes(self, tmp_path: Path, data_at: list[int]) -> None:
        source = tree(tmp_path / "source", {})
        with (source / "sparse").open("wb") as file:
            for offset in data_at:
                file.seek(offset)
                file.write(b"data")
            file.truncate(1 << 30)

        target = self.copy(tmp_path, source)

        was, status = (source / "sparse").stat(), (target / "sparse").stat()
        assert (was.st_size, was.st_blocks) == (status.st_size, status.st_blocks)
        with (target / "sparse").open("rb") as file:
            for offset in data_at:
                file.seek(offset)
                assert file.read(6) == b"data\0\0"

    def test_a_tree_deeper_than_files_may_be_open_is_copied(self, tmp_path: Path) -> None:
        source = tree(tmp_path / "source", {"/".join("d" * 300) + "/f": "x"})

        target = self.copy(tmp_path, source)

        assert len(Tree(target, None).scan()) == 301


NAMES = ("a", "b", "c")
OPERATIONS = (
    "mkdir -p {a}",
    "rm -rf {a}",
    "rm -rf {a}; mkdir -p {a}",
    "[ -d {a} ] || echo {n} > {a}",
    "[ -f {a} ] && chmod 4755 {a}",
    "[ -d {a} ] && chmod 700 {a}",
    "[ -d {a} ] && rm -rf {a}/*",
    "[ -d {a} ] || ln -sfn x {a}",
    "[ -e {b} ] || mv {a} {b}",
    "rm -rf {b}; mv {a} {b}",
    "rm -rf {b}; cp -a {a} {b}",
    "[ -f {a} ] && [ ! -L {a} ] && setfattr -n user.k -v {n} {a}",
    "touch -h -d @16{n}000000 {a}",
)


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(25))
def test_whatever_is_done_overlayfs_makes_the_same_layer(tmp_path: Path, seed: int) -> None:
    random = Random(seed)

    def script(count: int) -> str:
        lines = []
        for _ in range(count):
            a, b = ("/".join(random.choices(NAMES, k=random.randint(1, 3))) for _ in range(2))
            command = random.choice(OPERATIONS).format(a=a, b=b, n=random.randint(10, 99))
            lines.append(f"({command}) 2> /dev/null || true")
        return "\n".join(lines)

    base = script(25) + "\nfind . -exec touch -h -d @1600000000 {} +"
    edits = script(random.randint(1, 10))
    layers = []
    for number, kind in enumerate((Overlay, PlainCopy)):
        store = Store.at(tmp_path / f"store{number}")
        snapshots = kind(store.root)
        with store.session() as session:
            parent, first, _ = step(snapshots, None, session, base)
            snapshot, second, seen = step(snapshots, parent, session, edits)
            assert shown(snapshots, snapshot) == seen
            forget_snapshots(store)
            parent = snapshots.unpack(None, first.layer, store, session)
            assert snapshots.unpack(parent, second.layer, store, session) == snapshot
            assert shown(snapshots, snapshot) == seen
        layers.append((second.layer.identity, entries(store, second.layer)))

    assert layers[0] == layers[1]
