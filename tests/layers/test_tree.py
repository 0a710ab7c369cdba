from __future__ import annotations

import hashlib
import os
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.trees import ROOT_ONLY, TIME, tree

from layers import treeread
from layers.tree import Tree, TreeEntry
from ocispec.content import Readable
from ocispec.errors import Corrupt

LATER = 3600 * 10**9


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "context", {"a": "1", "d/b": "2", "d/c": "", "l": "-> a"})


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "index"


def later() -> int:
    """A time at which nothing that a test has made is young."""
    return time.time_ns() + LATER


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def digests(tree: Tree) -> dict[str, str | None]:
    """The digests of all files, by path."""
    entries = tree.scan()
    tree.digests(entries)
    return {entry.path: entry.digest for entry in entries if entry.kind == "file"}


def build(root: Path, index: Path | None, now: Callable[[], int] = later) -> dict[str, str | None]:
    """What a whole build does: scan, digests, save."""
    built = Tree(root, index, now=now)
    found = digests(built)
    built.save()
    return found


@pytest.fixture
def was_read(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[str]]:
    """The files that are opened below a tree, by audit hook: nothing of ours is replaced."""
    opened: list[str] = []
    _HOOKED.append(opened)
    yield opened
    _HOOKED.clear()


_HOOKED: list[list[str]] = []


def _audit(event: str, args: tuple[object, ...]) -> None:
    if event == "open" and _HOOKED and isinstance(args[0], str) and "/context/" in args[0]:
        _HOOKED[0].append(args[0].rpartition("/context/")[2])


sys.addaudithook(_audit)


class TestDigests:
    def test_a_digest_is_of_all_bytes(self, tmp_path: Path) -> None:
        contents = {"empty": b"", "small": b"x", "large": os.urandom((1 << 20) + 1)}
        root = tree(tmp_path / "context", contents)

        assert digests(Tree(root, None)) == {k: sha256(v) for k, v in contents.items()}

    def test_only_what_is_asked_for_is_read(self, root: Path, was_read: list[str]) -> None:
        built = Tree(root, None)
        entries = built.scan()
        built.digests([entry for entry in entries if entry.path == "d/b"])

        assert was_read == ["d/b"]
        assert [e.path for e in entries if e.digest is not None] == ["d/b"]

    def test_names_of_one_file_are_read_once(self, root: Path, was_read: list[str]) -> None:
        for name in ("h1", "h2"):
            os.link(root / "a", root / name)

        found = digests(Tree(root, None))

        assert {found["a"], found["h1"], found["h2"]} == {sha256(b"1")}
        assert sorted(was_read) == ["a", "d/b", "d/c"]

    @ROOT_ONLY
    def test_what_belongs_to_a_layer_is_taken_of_the_xattrs(self, root: Path) -> None:
        capability = bytes.fromhex("0100000200200000000000000000000000000000")
        os.setxattr(root / "a", "security.capability", capability)
        os.setxattr(root / "a", "user.k", b"v")
        os.setxattr(root / "a", "trusted.t", b"t")
        os.setxattr(root / "d", "user.d", b"d")
        built = Tree(root, None)
        entries = built.scan()
        built.digests(entries)

        found = {entry.path: entry.xattrs for entry in entries if entry.xattrs}

        expected = {"security.capability": capability, "user.k": b"v"}
        assert found == {"a": expected, "d": {"user.d": b"d"}}

    def test_a_file_that_changed_after_the_scan_is_what_it_is_now(self, root: Path) -> None:
        built = Tree(root, None)
        entries = built.scan()
        (root / "a").write_text("longer than before")

        built.digests(entries)

        assert entries[0].digest == sha256(b"longer than before")
        assert entries[0].size == 18
        assert built.read(entries[0]) == b"longer than before"

    @pytest.mark.parametrize("replaced", ["removed", "link", "directory", "fifo"])
    def test_a_file_that_is_no_longer_one_is_corrupt(self, root: Path, replaced: str) -> None:
        built = Tree(root, None)
        entries = built.scan()
        (root / "a").unlink()
        if replaced == "link":
            (root / "a").symlink_to("/etc/passwd")
        elif replaced == "directory":
            (root / "a").mkdir()
        elif replaced == "fifo":
            os.mkfifo(root / "a")

        with pytest.raises(Corrupt, match="'a' was changed while it was being read"):
            built.digests(entries)

    def test_a_directory_that_became_a_link_does_not_lead_out(
        self, root: Path, tmp_path: Path
    ) -> None:
        built = Tree(root, None)
        entries = built.scan()
        (root / "d").rename(tmp_path / "moved")
        tree(tmp_path / "outside", {"b": "secret", "c": "secret"})
        (root / "d").symlink_to(tmp_path / "outside")

        with pytest.raises(Corrupt, match="'d/b' was changed"):
            built.digests(entries)


class TestIndex:
    def test_nothing_is_read_when_nothing_changed(
        self, root: Path, index: Path, was_read: list[str]
    ) -> None:
        first = build(root, index)
        was_read.clear()
        written = index.stat().st_ino

        assert build(root, index) == first
        assert was_read == []
        assert index.stat().st_ino == written

    @pytest.mark.parametrize(
        ("change", "read"),
        [
            (lambda root: (root / "a").write_text("2"), ["a"]),
            (lambda root: (root / "a").chmod(0o600), ["a"]),
            (lambda root: os.utime(root / "a", (1, 1)), ["a"]),
            (lambda root: (root / "d").rename(root / "e"), ["e/b", "e/c"]),
            (lambda root: (root / "a").unlink(), []),
            (lambda root: (root / "new").write_text("n"), ["new"]),
            (lambda root: os.setxattr(root / "a", "user.k", b"v"), ["a"]),
            (lambda root: os.utime(root / "d", (1, 1)), []),
            (lambda root: os.replace(root / "d/b", root / "a"), ["a"]),
        ],
        ids=[
            *("edit", "chmod", "touch", "rename", "remove", "add", "xattr"),
            *("touched directory", "replace"),
        ],
    )
    def test_only_what_changed_is_read(
        self,
        root: Path,
        index: Path,
        was_read: list[str],
        change: Callable[[Path], object],
        read: list[str],
    ) -> None:
        build(root, index)
        change(root)
        was_read.clear()

        found = build(root, index)

        assert sorted(was_read) == read
        assert found == build(root, None)

    def test_an_edit_that_keeps_size_and_time_is_seen(self, root: Path, index: Path) -> None:
        build(root, index)
        (root / "a").write_text("2")
        os.utime(root / "a", (TIME, TIME))

        assert build(root, index)["a"] == sha256(b"2")

    def test_a_young_file_is_read_again_the_next_time(
        self, root: Path, index: Path, was_read: list[str]
    ) -> None:
        build(root, index, time.time_ns)
        was_read.clear()

        build(root, index)

        assert sorted(was_read) == ["a", "d/b", "d/c"]
        was_read.clear()
        build(root, index)
        assert was_read == []

    def test_a_file_from_the_future_is_never_taken_for_known(
        self, root: Path, index: Path, was_read: list[str]
    ) -> None:
        def long_ago() -> int:
            return TIME * 10**9

        build(root, index, long_ago)
        was_read.clear()
        build(root, index, long_ago)

        assert sorted(was_read) == ["a", "d/b", "d/c"]

    def test_xattrs_come_from_the_index_too(self, root: Path, index: Path) -> None:
        os.setxattr(root / "d/b", "user.k", b"v")
        build(root, index)
        for change in (lambda: None, lambda: (root / "0").write_text("in front")):
            change()
            built = Tree(root, index, now=later)
            entries = built.scan()
            built.digests(entries)

            found = {entry.path: entry.xattrs for entry in entries if entry.xattrs}
            assert found == {"d/b": {"user.k": b"v"}}

    def test_what_nobody_asked_for_stays_unknown_and_the_rest_known(
        self, root: Path, index: Path, was_read: list[str]
    ) -> None:
        for wanted in ("a", "d/b"):
            built = Tree(root, index, now=later)
            built.digests([entry for entry in built.scan() if entry.path == wanted])
            built.save()
        assert was_read == ["a", "d/b"]

        build(root, index)

        assert was_read == ["a", "d/b", "d/c"]

    def test_a_damaged_index_is_an_empty_one(
        self, root: Path, index: Path, was_read: list[str]
    ) -> None:
        first = build(root, index)
        index.write_bytes(index.read_bytes()[:-1])
        was_read.clear()

        assert build(root, index) == first
        assert sorted(was_read) == ["a", "d/b", "d/c"]

    def test_without_digests_there_is_nothing_to_save(self, root: Path, index: Path) -> None:
        built = Tree(root, index, now=later)
        built.scan()
        built.save()

        assert not index.exists()


class TestRead:
    def read(self, built: Tree, entry: TreeEntry) -> bytes:
        data = built.read(entry)
        return data if isinstance(data, bytes) else whole(data)

    @pytest.mark.parametrize("size", [0, 1, 1 << 20, (1 << 20) + 1, 3 << 20])
    @pytest.mark.parametrize("known", ["hashed", "kept", "indexed", "not hashed"])
    def test_the_bytes_are_those_of_the_file(
        self, tmp_path: Path, index: Path, size: int, known: str
    ) -> None:
        content = os.urandom(size)
        root = tree(tmp_path / "context", {"f": content})
        if known == "indexed":
            build(root, index)
        built = Tree(root, index, keep_bytes=0 if known == "hashed" else 64 << 20, now=later)
        (entry,) = built.scan()
        if known != "not hashed":
            built.digests([entry])

        assert self.read(built, entry) == content

    def test_a_small_file_is_read_once_for_digest_and_bytes(
        self, root: Path, was_read: list[str]
    ) -> None:
        built = Tree(root, None)
        entries = built.scan()
        built.digests(entries)
        was_read.clear()

        assert self.read(built, entries[0]) == b"1"
        assert was_read == []

    def test_no_more_is_kept_than_allowed(self, root: Path, was_read: list[str]) -> None:
        built = Tree(root, None, keep_bytes=1)
        entries = built.scan()
        built.digests(entries)
        was_read.clear()

        for entry in entries:
            if entry.kind == "file":
                self.read(built, entry)

        assert was_read == ["d/b"]

    @pytest.mark.parametrize("size", [10, 2 << 20], ids=["small", "large"])
    @pytest.mark.parametrize("now", [time.time_ns, later], ids=["young", "settled"])
    def test_a_file_that_changed_since_it_was_hashed_is_corrupt(
        self, tmp_path: Path, size: int, now: Callable[[], int]
    ) -> None:
        root = tree(tmp_path / "context", {"f": b"a" * size})
        built = Tree(root, None, keep_bytes=0, now=now)
        (entry,) = built.scan()
        built.digests([entry])
        (root / "f").write_bytes(b"b" * size)

        with pytest.raises(Corrupt, match="'f' was changed"):
            self.read(built, entry)

    def test_a_change_in_the_middle_of_reading_is_found_at_the_end(self, tmp_path: Path) -> None:
        root = tree(tmp_path / "context", {"f": b"a" * (2 << 20)})
        built = Tree(root, None, now=later)
        (entry,) = built.scan()
        built.digests([entry])
        data = built.read(entry)
        assert not isinstance(data, bytes)
        data.read(10)
        with (root / "f").open("r+b") as file:
            file.write(b"b")

        with pytest.raises(Corrupt, match="'f' was changed"):
            whole(data)

    def test_a_file_that_was_only_touched_is_still_the_same(self, root: Path) -> None:
        built = Tree(root, None, keep_bytes=0, now=later)
        entries = built.scan()
        built.digests(entries)
        os.utime(root / "a", (1, 1))

        assert self.read(built, entries[0]) == b"1"

    def test_kept_bytes_are_of_the_last_scan(self, root: Path) -> None:
        built = Tree(root, None)
        built.digests(built.scan())
        (root / "a").write_text("2")
        entries = built.scan()
        built.digests(entries)

        assert self.read(built, entries[0]) == b"2"

    def test_reading_leaves_no_descriptor(self, tmp_path: Path) -> None:
        root = tree(tmp_path / "context", {"f": b"a" * (2 << 20), "g": "small"})
        before = os.listdir("/proc/self/fd")
        built = Tree(root, None, keep_bytes=0)
        entries = built.scan()
        built.digests(entries)
        for entry in entries:
            self.read(built, entry)

        assert os.listdir("/proc/self/fd") == before


def whole(data: Readable) -> bytes:
    try:
        return b"".join(iter(lambda: data.read(treeread.CHUNK), b""))
    finally:
        data.close()


@pytest.mark.slow
def test_a_no_op_over_20000_files_is_quick(tmp_path: Path, index: Path) -> None:
    root = tmp_path / "context"
    for directory in range(400):
        (place := root / f"d{directory % 20}/e{directory}").mkdir(parents=True)
        for number in range(50):
            (place / f"f{number}").write_bytes(b"%d %d" % (directory, number))
    build(root, index)

    spent = []
    for _ in range(5):
        start = time.process_time()
        build(root, index)
        spent.append(time.process_time() - start)

    # 90 ms where this was written; the limit is for slower machines.
    assert min(spent) < 0.4
