from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from threading import Barrier

import pytest
from support.trees import ROOT_ONLY, tree

from layers.remove import remove_tree

NOBODY = 65534


def test_a_tree_goes_with_all_that_is_in_it(tmp_path: Path) -> None:
    root = tree(tmp_path / "t", {"a": "x", "d/e/f": "y", "d/g/": None, "h": "== a"})
    os.mkfifo(root / "d" / "fifo")
    remove_tree(root)

    assert not root.exists()


def test_what_is_not_there_is_gone(tmp_path: Path) -> None:
    remove_tree(tmp_path / "absent")


def test_a_file_goes_too(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("x")
    remove_tree(tmp_path / "file")

    assert os.listdir(tmp_path) == []


def test_links_are_removed_and_not_followed(tmp_path: Path) -> None:
    kept = tree(tmp_path / "kept", {"d/file": "x"})
    root = tree(
        tmp_path / "t", {"to-dir": f"-> {kept}", "d/up": "-> ../../kept", "dangling": "-> no"}
    )
    (tmp_path / "link").symlink_to(kept)
    remove_tree(root)
    remove_tree(tmp_path / "link")

    assert os.listdir(tmp_path) == ["kept"]
    assert (kept / "d" / "file").read_text() == "x"


def test_a_tree_may_be_deeper_than_a_path_is_long(tmp_path: Path) -> None:
    root = tmp_path / "t"
    root.mkdir()
    fd = os.open(root, os.O_RDONLY)
    for _ in range(5000):
        os.mkdir("deeper", dir_fd=fd)  # no Path is as long
        below = os.open("deeper", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("file", os.O_CREAT | os.O_WRONLY, dir_fd=fd))
    os.close(fd)
    remove_tree(root)

    assert not root.exists()


def test_names_may_be_any_bytes(tmp_path: Path) -> None:
    root = tmp_path / "t"
    for name in (b"\xff\xfe", b"new\nline", b"x" * 255, b".removing-1"):
        (root / os.fsdecode(name) / os.fsdecode(name)).mkdir(parents=True)
    remove_tree(root)

    assert not root.exists()


def test_several_may_remove_the_same_tree(tmp_path: Path) -> None:
    root = tmp_path / "t"
    for number in range(200):
        (root / f"{number % 20}" / f"{number}" / "deep" / "er").mkdir(parents=True)
        (root / f"{number % 20}" / f"{number}" / "deep" / "file").write_text("x")
    start = Barrier(4)

    def remove(_: int) -> None:
        start.wait()
        remove_tree(root)

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(remove, range(4)))

    assert not root.exists()


@ROOT_ONLY
def test_directories_that_their_owner_may_not_enter_go_too(nobodys: Path) -> None:
    with _as_nobody():
        root = tree(nobodys / "t", {"closed/d/file": "x", "read-only/d/file": "x", "d/e/f": "x"})
        (root / "read-only" / "d").chmod(0o500)
        (root / "read-only").chmod(0o500)
        (root / "closed" / "d").chmod(0)
        (root / "closed").chmod(0)
        (root / "d" / "e").chmod(0o100)
        root.chmod(0o500)
        remove_tree(root)

        assert os.listdir(nobodys) == []


@ROOT_ONLY
def test_what_may_not_be_removed_is_an_error(nobodys: Path) -> None:
    root = nobodys / "roots"
    (root / "d").mkdir(parents=True)
    with _as_nobody(), pytest.raises(PermissionError):
        remove_tree(root)

    assert (root / "d").is_dir()


@pytest.fixture
def nobodys() -> Iterator[Path]:
    """A directory of an ordinary user; pytest's own are closed to others."""
    path = Path(tempfile.mkdtemp(dir="/var/tmp"))
    os.chown(path, NOBODY, NOBODY)
    yield path
    shutil.rmtree(path, ignore_errors=True)


@contextmanager
def _as_nobody() -> Iterator[None]:
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)
