from __future__ import annotations

import hashlib
import os
import socket
import subprocess
import sys
from pathlib import Path

import pytest
from support.trees import ROOT_ONLY, TIME, tree

import layers
from layers.remove import remove_tree
from layers.tree import Tree, Verdict


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "context", {"a": "1", "d/b": "2", "d/c": "", "l": "-> a"})


class TestScan:
    def test_everything_is_listed_once_in_the_order_of_bytes(self, tmp_path: Path) -> None:
        names = ["a", "a-b", "a/x", "a0", "é", "\U0001f600", "\uffee", "z/1/2"]
        root = tree(tmp_path / "context", dict.fromkeys(n for n in names if n != "a"))

        found = [entry.path for entry in Tree(root, None).scan()]

        assert found == sorted([*names, "z", "z/1"], key=os.fsencode)

    def test_names_that_are_not_utf8_are_in_the_order_of_their_bytes(self, tmp_path: Path) -> None:
        names = [b"\xff", b"\xc3\xa9", b"\xf0\x9f\x98\x80", b"\x80"]
        root = tree(tmp_path / "context", {os.fsdecode(name): "" for name in names})

        found = [os.fsencode(entry.path) for entry in Tree(root, None).scan()]

        assert found == sorted(names)

    def test_an_entry_says_what_stat_says(self, root: Path) -> None:
        os.link(root / "a", root / "e")
        (root / "a").chmod(0o4750)

        (entry, *_) = Tree(root, None).scan()

        status = (root / "a").stat()
        assert (entry.path, entry.kind, entry.mode, entry.size) == ("a", "file", 0o4750, 1)
        assert (entry.mtime_ns, entry.nlink) == (TIME * 10**9, 2)
        assert (entry.dev, entry.ino) == (status.st_dev, status.st_ino)
        assert (entry.uid, entry.gid, entry.target) == (status.st_uid, status.st_gid, "")

    def test_links_are_not_followed(self, tmp_path: Path) -> None:
        root = tree(tmp_path / "context", {"l": "-> ..", "dangling": "-> none"})

        found = {entry.path: (entry.kind, entry.target) for entry in Tree(root, None).scan()}

        assert found == {"l": ("symlink", ".."), "dangling": ("symlink", "none")}

    def test_the_root_may_be_reached_through_a_link(self, root: Path, tmp_path: Path) -> None:
        (tmp_path / "link").symlink_to(root)

        assert len(Tree(tmp_path / "link", None).scan()) == 5

    @ROOT_ONLY
    def test_nodes_are_listed_and_sockets_are_not(self, tmp_path: Path) -> None:
        root = tree(tmp_path / "context", {})
        os.mkfifo(root / "fifo")
        os.mknod(root / "char", 0o20600, os.makedev(1, 3))
        os.mknod(root / "block", 0o60600, os.makedev(7, 0))
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(str(root / "socket"))

        built = Tree(root, None)
        entries = built.scan()
        built.digests(entries)

        found = {entry.path: (entry.kind, entry.rdev) for entry in entries}
        devices = {"char": os.makedev(1, 3), "block": os.makedev(7, 0)}
        assert found == {"fifo": ("fifo", 0)} | {k: (k, v) for k, v in devices.items()}

    def test_a_tree_deeper_than_files_may_be_open_is_scanned(self, tmp_path: Path) -> None:
        place, count = tmp_path / "context", 1200
        place.mkdir()
        fd = os.open(place, os.O_RDONLY)
        for _ in range(count):
            os.mkdir("dddd", dir_fd=fd)
            below = os.open("dddd", os.O_RDONLY, dir_fd=fd)
            os.close(fd)
            fd = below
        (Path(f"/proc/self/fd/{fd}") / "f").write_text("deep")
        os.close(fd)

        built = Tree(place, None)
        entries = built.scan()
        built.digests(entries)

        # No path is that long: PATH_MAX is 4096.
        assert len(entries) == count + 1
        assert entries[-1].path == "dddd/" * count + "f"
        assert entries[-1].digest == hashlib.sha256(b"deep").hexdigest()
        remove_tree(place)

    def test_a_directory_that_may_not_be_read_is_named(self, root: Path) -> None:
        result = as_nobody(root, "d")

        assert result == "Denied: 'd' may not be read"

    def test_a_file_that_may_not_be_read_is_named(self, root: Path) -> None:
        result = as_nobody(root, "d/b")

        assert result == "Denied: 'd/b' may not be read"

    def test_a_missing_root_is_an_error_with_its_path(self, tmp_path: Path) -> None:
        with pytest.raises(FileNotFoundError) as raised:
            Tree(tmp_path / "none", None).scan()

        assert raised.value.filename == str(tmp_path / "none")


def as_nobody(root: Path, closed: str) -> str:
    """The error of a user who may not read *closed*."""
    (root / closed).chmod(0)
    program = """
import os
from pathlib import Path
from layers.tree import Tree
from ocispec.errors import PybuildError
if os.geteuid() == 0:
    os.setgroups([])
    os.setresgid(65534, 65534, 65534)
    os.setresuid(65534, 65534, 65534)
tree = Tree(Path("."), None)
try:
    entries = tree.scan()
    tree.digests(entries)
except PybuildError as error:
    print(f"{type(error).__name__}: {error}")
"""
    # The way to a pytest directory is closed to others; to its current directory nobody needs one.
    done = subprocess.run(
        [sys.executable, "-c", program],
        cwd=root,
        env={"PYTHONPATH": str(Path(layers.__path__[0]).parent)},
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout.strip()


class TestSelect:
    @pytest.fixture
    def root(self, tmp_path: Path) -> Path:
        paths = ["keep/a", "drop/b", "drop/c", "mixed/x/yes", "mixed/x/no", "mixed/y/no", "top"]
        return tree(tmp_path / "context", dict.fromkeys(paths, ""))

    def select(self, root: Path, verdicts: dict[str, Verdict]) -> tuple[list[str], list[str]]:
        asked: list[str] = []

        def verdict(path: str, is_directory: bool) -> Verdict:
            asked.append(path + ("/" if is_directory else ""))
            return verdicts.get(path, Verdict.INCLUDE)

        return [entry.path for entry in Tree(root, None).scan(verdict)], asked

    def test_nothing_below_what_is_excluded_is_looked_at(self, root: Path) -> None:
        found, asked = self.select(root, {"drop": Verdict.EXCLUDE, "mixed": Verdict.EXCLUDE})

        assert found == ["keep", "keep/a", "top"]
        assert sorted(asked) == ["drop/", "keep/", "keep/a", "mixed/", "top"]

    def test_a_directory_is_listed_if_something_below_it_is(self, root: Path) -> None:
        no = dict.fromkeys(["keep", "drop", "top", "mixed/x/no", "mixed/y/no"], Verdict.EXCLUDE)
        descend = dict.fromkeys(["mixed", "mixed/x", "mixed/y"], Verdict.DESCEND)

        found, _ = self.select(root, {**no, **descend})

        assert found == ["mixed", "mixed/x", "mixed/x/yes"]

    def test_a_directory_is_asked_for_before_what_is_in_it(self, root: Path) -> None:
        _, asked = self.select(root, {})

        assert len(asked) == 12
        assert asked.index("mixed/") < asked.index("mixed/x/") < asked.index("mixed/x/yes")

    def test_a_file_is_not_descended_into(self, root: Path) -> None:
        found, _ = self.select(root, dict.fromkeys(["top", "keep/a"], Verdict.DESCEND))

        assert not {"top", "keep/a"} & set(found)
