from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from contracts.snapshots_contract import SnapshotsContract, entries, forget_snapshots
from support.snapshots import mounted, shown, step
from support.trees import ROOT_ONLY, overlay, tree, words

from layers import overlaymount
from layers.locks import is_held
from layers.overlay import Overlay
from layers.overlaymount import Directories, mount_overlay
from layers.plaincopy import PlainCopy
from layers.session import Session
from layers.snapshots import SnapshotID, snapshots_for
from layers.store import Store
from ocispec.errors import Unsupported

pytestmark = ROOT_ONLY

Way = Callable[[Directories, Sequence[str], int], int]
OPTIONS = ("index=off", "xino=off")


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "store")


@pytest.fixture
def session(store: Store) -> Iterator[Session]:
    with store.session() as session:
        yield session


class TestOverlay(SnapshotsContract):
    @pytest.fixture
    def snapshots(self, store: Store) -> Overlay:
        return Overlay(store.root)


class TestOverlayOfAUser(SnapshotsContract):
    @pytest.fixture
    def snapshots(self, store: Store) -> Overlay:
        return Overlay(store.root, user=True)


def stacked(snapshots: Overlay, session: Session, count: int) -> SnapshotID:
    """A snapshot of *count* layers, each with a file of its number."""
    parent: SnapshotID | None = None
    for number in range(count):
        draft = snapshots.prepare(parent, session)
        (draft.upper / f"{number:03}").touch()
        parent, _ = snapshots.seal(draft, session)
    assert parent is not None
    return parent


def test_a_filesystem_of_128_layers_can_be_seen_and_changed(store: Store, session: Session) -> None:
    snapshots = Overlay(store.root)
    parent = stacked(snapshots, session, 128)

    snapshot, written, _ = step(snapshots, parent, session, "rm 000 127; echo x > 064")

    assert entries(store, written.layer) == [".wh.000", "064", ".wh.127"]
    assert len(shown(snapshots, snapshot)) == 127  # and the root


@pytest.mark.parametrize("name", ["a:b", "a,b", "a\\b", "a\nb", "a=b c", "x" * 250], ids=repr)
def test_a_store_can_have_any_path(tmp_path: Path, name: str) -> None:
    store = Store.at(tmp_path / name / "store")
    snapshots = Overlay(store.root)
    with store.session() as session:
        parent, _, _ = step(snapshots, None, session, "echo 1 > a")
        draft = snapshots.prepare(parent, session)
        (draft.upper / "b").write_text("2")
        snapshot, _ = snapshots.seal(draft, session)

    with snapshots.view(snapshot) as fd:
        assert words(f"/proc/self/fd/{fd}") == {"a": "1\n", "b": "2"}


@pytest.mark.parametrize(
    "way",
    [overlaymount.by_descriptor, overlaymount.by_name, overlaymount.by_mount],
    ids=["descriptors", "names", "mount(2)"],
)
class TestWaysToMount:
    """Each kernel has one of them at least; here all are to be had."""

    @pytest.fixture
    def directories(self, tmp_path: Path) -> Directories:
        return [
            ("lowerdir", tree(tmp_path / "top", {"a": "top"})),
            ("lowerdir", tree(tmp_path / "bottom:,", {"a": "bottom", "b": "bottom"})),
            ("upperdir", tree(tmp_path / "upper", {})),
            ("workdir", tree(tmp_path / "work", {})),
        ]

    def test_a_read_only_overlay(self, way: Way, directories: Directories) -> None:
        fd = way(directories[:2], OPTIONS, 1)
        try:
            assert words(f"/proc/self/fd/{fd}") == {"a": "top", "b": "bottom"}
            assert os.fstatvfs(fd).f_flag & os.ST_RDONLY
        finally:
            os.close(fd)

    def test_a_writable_overlay(self, way: Way, directories: Directories, tmp_path: Path) -> None:
        fd = way(directories, OPTIONS, 0)
        try:
            os.unlink("a", dir_fd=fd)
        finally:
            os.close(fd)

        assert words(tmp_path / "upper") == {"a": "whiteout"}

    def test_nothing_is_mounted_for_others_to_see(self, way: Way, directories: Directories) -> None:
        before = Path("/proc/self/mounts").read_bytes()
        where = Path.cwd()

        fd = way(directories[:2], OPTIONS, 1)
        try:
            assert before == Path("/proc/self/mounts").read_bytes()
            assert where == Path.cwd()
        finally:
            os.close(fd)


def test_a_failed_mount_says_what_the_kernel_said(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"overlay: .*nosuch"):
        mount_overlay([tmp_path, tmp_path], ["nosuch=1"])


def test_a_snapshot_is_closed_to_other_users(store: Store, session: Session) -> None:
    snapshot, _, _ = step(Overlay(store.root), None, session, "echo 1 > a; chmod 4755 a")

    assert (store.root / "snapshots" / snapshot).stat().st_mode == 0o40700


def test_the_mount_of_a_draft_comes_back_writable(store: Store, session: Session) -> None:
    snapshots = Overlay(store.root)
    draft = snapshots.prepare(None, session)

    with mounted(snapshots.mounts(draft)) as root:
        (root / "a").touch()

    assert os.listdir(draft.upper) == ["a"]


@pytest.mark.parametrize("kind", ["overlay", "copies"])
def test_a_killed_builder_leaves_only_scratch_that_nobody_holds(tmp_path: Path, kind: str) -> None:
    store = Store.at(tmp_path / "store")
    program = f"""
import sys
from pathlib import Path
from layers.overlay import Overlay
from layers.plaincopy import PlainCopy
from layers.store import Store
store = Store.at(Path(sys.argv[1]))
session = store.session()
draft = {"Overlay" if kind == "overlay" else "PlainCopy"}(store.root).prepare(None, session)
(draft.upper / "half").mkdir()
print("ready", flush=True)
sys.stdin.read()
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(store.root)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        cwd=Path(overlaymount.__file__).parent.parent,
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"ready\n"
        mounts = Path("/proc/self/mounts").read_bytes()
        (lease,) = (store.root / "leases").iterdir()
        assert is_held(lease)

        process.send_signal(signal.SIGKILL)
        process.wait()

    assert not is_held(lease)
    assert [lease.name] == os.listdir(store.root / "tmp")
    assert os.listdir(store.root / "snapshots") == []
    assert os.listdir(store.root / "blobs/sha256") == []
    assert mounts == Path("/proc/self/mounts").read_bytes()


def test_processes_that_want_the_same_snapshot_wait_for_the_first(
    store: Store, session: Session
) -> None:
    script = "for i in $(seq 500); do echo $i > $i; done"
    snapshot, written, _ = step(Overlay(store.root), None, session, script)
    forget_snapshots(store)
    program = """
import sys
from pathlib import Path
from layers.overlay import Overlay
from layers.store import Store
from ocispec.canonical import decode_object
from ocispec.model import Layer
store = Store.at(Path(sys.argv[1]))
layer = Layer.from_json(decode_object(sys.argv[2].encode(), "layer"))
with store.session() as session:
    print(Overlay(store.root).unpack(None, layer, store, session))
"""
    from ocispec.canonical import encode

    arguments = [str(store.root), encode(written.layer.json()).decode()]
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, *arguments],
            stdout=subprocess.PIPE,
            cwd=Path(overlaymount.__file__).parent.parent,
        )
        for _ in range(3)
    ]

    assert [f"{snapshot}\n".encode()] * 3 == [process.communicate()[0] for process in processes]
    assert [snapshot] == os.listdir(store.root / "snapshots")


class TestSnapshotsFor:
    def test_overlayfs_is_taken_where_it_is_to_be_had(self, store: Store) -> None:
        assert isinstance(snapshots_for(store), Overlay)
        assert os.listdir(store.root / "tmp") == []
        assert os.listdir(store.root / "leases") == []

    def test_copies_are_made_where_overlayfs_cannot_write(self, tmp_path: Path) -> None:
        (tmp_path / "lower").mkdir()
        with overlay(tmp_path / "lower", upper=tmp_path / "upper") as root:
            store = Store.at(root / "store")

            assert isinstance(snapshots_for(store), PlainCopy)

    def test_a_store_keeps_the_kind_it_began_with(self, store: Store) -> None:
        (store.root / "snapshots.form").write_text("copies\n")

        assert isinstance(snapshots_for(store), PlainCopy)

    def test_a_store_of_another_user_namespace_is_refused(self, store: Store) -> None:
        (store.root / "snapshots.form").write_text("overlay userxattr\n")

        with pytest.raises(Unsupported, match="made with other privileges"):
            snapshots_for(store)


IN_A_USER_NAMESPACE = """
import sys
from pathlib import Path
from support.snapshots import shown, step
from layers.snapshots import snapshots_for
from layers.store import Store
store = Store.at(Path(sys.argv[1]))
snapshots = snapshots_for(store)
with store.session() as session:
    parent, _, _ = step(snapshots, None, session, sys.argv[2])
    snapshot, written, seen = step(snapshots, parent, session, sys.argv[3])
    assert shown(snapshots, snapshot) == seen
print((store.root / "snapshots.form").read_text().strip(), written.layer.identity)
"""


def test_a_layer_made_in_a_user_namespace_is_the_one_that_root_makes(
    tmp_path: Path, store: Store, session: Session
) -> None:
    namespace = ["unshare", "--user", "--map-root-user", "--mount"]
    if subprocess.run([*namespace, "true"], check=False, stderr=subprocess.DEVNULL).returncode:
        pytest.skip("user namespaces are not to be had here")
    base = "mkdir -p d e/f; echo 1 > d/a; echo 2 > e/f/b; find . -exec touch -d @1600000000 {} +"
    edits = "rm d/a; rm -r e; mkdir e; echo 1 > e/n; setfattr -n user.k -v v e/n"
    code = Path(overlaymount.__file__).parent.parent

    done = subprocess.run(
        [*namespace, sys.executable, "-c", IN_A_USER_NAMESPACE, tmp_path / "own", base, edits],
        env={**os.environ, "PYTHONPATH": f"{code}:{code / 'tests'}"},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )

    snapshots = snapshots_for(store)
    parent, _, _ = step(snapshots, None, session, base)
    _, written, _ = step(snapshots, parent, session, edits)
    assert done.stdout == f"overlay userxattr {written.layer.identity}\n"
