from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.trees import tree, words

from layers.inroot import Descent, locate, remove_tree, walk_in_root


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    """A root with links of all kinds, beside a directory that must not be reached."""
    tree(tmp_path / "outside", {"etc/passwd": "host", "x": "host"})
    tree(
        tmp_path / "root",
        {
            "usr/lib/x": "in",
            "etc/passwd": "in",
            "lib": "-> usr/lib",
            "data": "-> /mnt/data",
            "usr/esc": "-> ../../../../etc",
            "up": "-> /usr/../../..",
            "loop1": "-> loop2",
            "loop2": "-> loop1",
            "magic": "-> /proc/self/root",
            "abs": f"-> {tmp_path}/outside",
            "file": "text",
            "self": "-> .",
        },
    )
    fd = os.open(tmp_path / "root", os.O_PATH | os.O_DIRECTORY)
    open_before = len(os.listdir("/proc/self/fd"))
    yield fd
    assert open_before == len(os.listdir("/proc/self/fd"))
    os.close(fd)


def make(dir_fd: int, name: str, path: str) -> None:
    os.mkdir(name, 0o755, dir_fd=dir_fd)


def found(root: int, path: str, **options: bool) -> tuple[str, str]:
    place = locate(root, path, follow_last=options.get("follow_last", True))
    try:
        real = os.readlink(f"/proc/self/fd/{place.dirfd}").removeprefix(
            os.readlink(f"/proc/self/fd/{root}")
        )
        assert place.parent == real.removeprefix("/")
        return place.parent, place.name
    finally:
        os.close(place.dirfd)


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("usr/lib/x", ("usr/lib", "x")),
        ("/lib/x", ("usr/lib", "x")),
        ("lib/../lib/x", ("usr/lib", "x")),
        ("../../../../lib/q", ("usr/lib", "q")),
        ("/usr/esc/passwd", ("etc", "passwd")),
        ("usr/esc/../../../../../etc/passwd", ("etc", "passwd")),
        ("self/self/self/etc/passwd", ("etc", "passwd")),
        ("lib", ("usr", "lib")),
        ("up", ("", ".")),
        ("", ("", ".")),
        ("/", ("", ".")),
        ("..", ("", ".")),
        ("usr/lib/..", ("usr", ".")),
        ("usr/lib/../..", ("", ".")),
        ("new", ("", "new")),
        ("usr/./lib//x", ("usr/lib", "x")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_path_leads_where_it_would_in_the_image(
    root: int, path: str, expected: tuple[str, str]
) -> None:
    assert expected == found(root, path)


def test_the_last_link_can_be_left_unfollowed(root: int) -> None:
    assert found(root, "lib", follow_last=False) == ("", "lib")


@pytest.mark.parametrize(
    ("path", "error"),
    [
        ("loop1/x", OSError),
        ("loop1", OSError),
        ("magic/etc/passwd", FileNotFoundError),
        ("abs/etc/passwd", FileNotFoundError),
        ("gone/x", FileNotFoundError),
        ("data", FileNotFoundError),
        ("file/x", NotADirectoryError),
        ("file/x/y", NotADirectoryError),
    ],
)
def test_a_path_that_leads_nowhere_is_an_error_with_the_path(
    root: int, path: str, error: type[OSError]
) -> None:
    with pytest.raises(error) as caught:
        walk_in_root(root, path)

    assert path == caught.value.filename


@pytest.mark.parametrize(
    ("path", "created"),
    [
        ("a/b/c", ["a", "a/b"]),
        ("data/sub/f", ["mnt", "mnt/data", "mnt/data/sub"]),
        ("data", ["mnt"]),
        ("lib/deep/f", ["usr/lib/deep"]),
        ("usr/lib/x", []),
        ("new/../new/f", ["new"]),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_missing_parents_are_made_also_behind_links(
    root: int, path: str, created: list[str]
) -> None:
    fd, _, made = walk_in_root(root, path, create=make)
    os.close(fd)

    assert created == made


def test_what_is_made_stays_inside(root: int, tmp_path: Path) -> None:
    before = words(tmp_path / "outside")
    for path in ("abs/new/f", "../outside/new/f", "magic/new/f", "up/outside/other/f"):
        fd, name, _ = walk_in_root(root, path, create=make)
        os.close(os.open(name, os.O_CREAT | os.O_EXCL, dir_fd=fd))
        os.close(fd)

    assert before == words(tmp_path / "outside")
    assert "f" not in words(tmp_path)


def test_forty_links_are_followed_and_no_more(tmp_path: Path) -> None:
    tree(tmp_path, {f"l{n}": f"-> l{n + 1}" for n in range(40)} | {"l40": "end", "m": "-> l0"})
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        assert found(root, "l0") == ("", "l40")
        with pytest.raises(OSError, match="Too many levels"):
            found(root, "m")
    finally:
        os.close(root)


def test_a_path_made_to_be_slow_is_given_up(tmp_path: Path) -> None:
    deep = "/".join("d" * 100)
    tree(tmp_path, {deep: None, "slow": "-> " + f"{deep}/" + "../d/" * 500})
    root = os.open(tmp_path, os.O_PATH | os.O_DIRECTORY)
    try:
        with pytest.raises(OSError, match="Too many levels"):
            found(root, "slow/x")
    finally:
        os.close(root)


def deep_tree(root: Path, depth: int) -> None:
    fd = os.open(root, os.O_RDONLY)
    for _ in range(depth):
        os.mkdir("d", dir_fd=fd)
        below = os.open("d", os.O_RDONLY, dir_fd=fd)
        os.close(fd)
        fd = below
    os.close(os.open("leaf", os.O_CREAT, dir_fd=fd))
    os.close(fd)


def test_a_tree_of_5000_levels_is_walked_with_few_files_open_and_removed(tmp_path: Path) -> None:
    (tmp_path / "top").mkdir()
    deep_tree(tmp_path / "top", 5000)
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        most = 0
        top = os.open(tmp_path / "top", os.O_RDONLY)
        with Descent(top) as walk:
            while "d" in os.listdir(walk.fd):
                walk.down("d")
            most = len(os.listdir("/proc/self/fd"))
            levels = walk.depth
            climb(walk)
            assert os.path.samestat(os.fstat(top), os.fstat(walk.fd))
        os.close(top)
        remove_tree("top", fd)
    finally:
        os.close(fd)

    assert levels == 5000
    assert most < 200
    assert os.listdir(tmp_path) == []


def climb(walk: Descent) -> None:
    while walk.depth:
        walk.up()


def test_a_walk_notices_that_a_directory_was_moved_under_it(tmp_path: Path) -> None:
    deep_tree(tmp_path, 200)
    (tmp_path / "elsewhere").mkdir()
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        with Descent(fd) as walk:
            for _ in range(200):
                walk.down("d")
            (tmp_path / "d/d/d").rename(tmp_path / "elsewhere/d")
            with pytest.raises(OSError, match="moved"):
                climb(walk)
    finally:
        os.close(fd)


def test_removing_follows_no_link(tmp_path: Path) -> None:
    tree(tmp_path, {"keep/x": "x", "t/l": "-> ../keep", "t/d/f": "f", "l": "-> keep"})
    fd = os.open(tmp_path, os.O_RDONLY)
    try:
        for name in ("t", "l", "gone"):
            remove_tree(name, fd)
    finally:
        os.close(fd)

    assert words(tmp_path) == {"keep": "dir", "keep/x": "x"}
