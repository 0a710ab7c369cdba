from __future__ import annotations

import hashlib
import io
import os
import threading
from collections.abc import Mapping
from pathlib import Path

import pytest
from support.tars import CHAR, DIR, END, FIFO, LINK, SYMLINK, member
from support.trees import ROOT_ONLY, TIME, listing, settle, tree, words

from layers.apply import Applied, apply
from layers.identity import Identity
from layers.tarread import tar_entries
from ocispec.content import Readable
from ocispec.errors import Corrupt, Invalid

pytestmark = ROOT_ONLY

CAPABILITY_KEY = b"SCHILY.xattr.security.capability"
CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")


def unpack(
    root: Path, tar: bytes | Readable, lower: Path | None = None, *, prefix: str = "trusted"
) -> Applied:
    root.mkdir(exist_ok=True)
    root_fd = os.open(root, os.O_RDONLY)
    lower_fd = None if lower is None else os.open(lower, os.O_PATH)
    try:
        source = io.BytesIO(tar) if isinstance(tar, bytes) else tar
        return apply(source, root_fd, prefix=prefix, lower_fd=lower_fd)
    finally:
        os.close(root_fd)
        if lower_fd is not None:
            os.close(lower_fd)


def archive(*members: bytes) -> bytes:
    return b"".join(members) + END


def layer(
    tmp_path: Path, below: Mapping[str, str | bytes | None], *members: bytes
) -> dict[str, str]:
    """What a layer of *members* is on disk, on top of *below*."""
    tree(tmp_path / "lower", below)
    unpack(tmp_path / "layer", archive(*members), tmp_path / "lower")
    return words(tmp_path / "layer")


def test_everything_a_tar_says_is_on_disk(tmp_path: Path) -> None:
    unpack(
        tmp_path / "layer",
        archive(
            member("./", DIR, mode=0o711, uid=3, gid=4, mtime=1),
            member("d/", DIR, mode=0o1777, uid=1, gid=2, mtime=2),
            member("d/f", data=b"text", mode=0o6755, uid=1000, gid=5, mtime=3),
            member("d/h", LINK, link="d/f"),
            member("l", SYMLINK, link="../x", uid=7, gid=8, mtime=4, mode=0o777),
            member("p", FIFO, mode=0o620, uid=9, mtime=5),
            member("c", CHAR, major=1, minor=3, mode=0o666, gid=9, mtime=6),
            member(
                "cap", data=b"x", uid=5, records={b"SCHILY.xattr.security.capability": CAPABILITY}
            ),
            member("e", DIR, records={b"SCHILY.xattr.user.a": b"\0\xff"}),
        ),
    )

    assert {
        "": (0o040000, 0o711, 3, 4, 1, {}, None, None),
        "c": (0o020000, 0o666, 0, 9, 6, {}, os.makedev(1, 3), None),
        "cap": (0o100000, 0o644, 5, 0, TIME, {"security.capability": CAPABILITY}, b"x", None),
        "d": (0o040000, 0o1777, 1, 2, 2, {}, None, None),
        "d/f": (0o100000, 0o6755, 1000, 5, 3, {}, b"text", "d/f"),
        "d/h": (0o100000, 0o6755, 1000, 5, 3, {}, b"text", "d/f"),
        "e": (0o040000, 0o755, 0, 0, TIME, {"user.a": b"\0\xff"}, None, None),
        "l": (0o120000, 0o777, 7, 8, 4, {}, "../x", None),
        "p": (0o010000, 0o620, 9, 0, 5, {}, None, None),
    } == listing(tmp_path / "layer")


def test_times_of_directories_last_whatever_is_made_in_them(tmp_path: Path) -> None:
    unpack(
        tmp_path / "layer",
        archive(
            member("d/", DIR, mtime=1),
            member("d/e/", DIR, mtime=2),
            member("f", data=b"x"),
            member("d/e/x", data=b"x"),
            member("d/y", LINK, link="f"),
            member("late/x", data=b"x"),
            member("late/", DIR, mtime=3),
            member("./", DIR, mtime=4),
            member("d/e/z", SYMLINK, link="x"),
        ),
    )
    seen = listing(tmp_path / "layer")

    assert [seen[path][4] for path in ("", "d", "d/e", "late")] == [4, 1, 2, 3]


def test_parts_of_a_second_are_kept_on_disk(tmp_path: Path) -> None:
    unpack(tmp_path / "layer", archive(member("f", records={b"mtime": b"1.25"})))

    assert (tmp_path / "layer/f").stat().st_mtime_ns == 1_250_000_000


def test_a_setgid_directory_does_not_give_its_group_away(tmp_path: Path) -> None:
    tar = archive(member("d/", DIR, mode=0o2755, gid=50), member("d/f"), member("d/e/", DIR))
    unpack(tmp_path / "layer", tar)
    seen = listing(tmp_path / "layer")

    assert [seen["d/f"][3], seen["d/e"][1], seen["d/e"][3]] == [0, 0o755, 0]


def test_implied_parents_look_as_they_do_below(tmp_path: Path) -> None:
    lower = tree(tmp_path / "lower", {"tmp/a/b/": None})
    (lower / "tmp").chmod(0o1777)
    os.chown(lower / "tmp/a", 5, 6)
    os.setxattr(lower / "tmp/a", "user.x", b"1")
    settle(lower, 77)
    applied = unpack(tmp_path / "layer", archive(member("tmp/a/b/f", data=b"x")), lower)
    seen = listing(tmp_path / "layer")
    expected = listing(lower)

    assert [expected[path] for path in ("", "tmp", "tmp/a", "tmp/a/b")] == [
        seen[path] for path in ("", "tmp", "tmp/a", "tmp/a/b")
    ]
    assert applied.implicit == ("tmp", "tmp/a", "tmp/a/b")


def test_implied_parents_that_nobody_has_are_roots_and_have_no_time(tmp_path: Path) -> None:
    applied = unpack(tmp_path / "layer", archive(member("a/b/f", data=b"x")))
    seen = listing(tmp_path / "layer")

    assert [seen["a"], seen["a/b"]] == [(0o040000, 0o755, 0, 0, 0, {}, None, None)] * 2
    assert applied.implicit == ("a", "a/b")


def test_an_entry_replaces_all_that_was_implied(tmp_path: Path) -> None:
    lower = tree(tmp_path / "lower", {"d/": None})
    os.setxattr(lower / "d", "user.x", b"1")
    unpack(tmp_path / "layer", archive(member("d/f"), member("d/", DIR, mode=0o700)), lower)

    assert listing(tmp_path / "layer")["d"] == (0o040000, 0o700, 0, 0, TIME, {}, None, None)


def test_a_link_below_leads_to_where_it_leads_in_the_image(tmp_path: Path) -> None:
    below = {"usr/lib/old": "x", "lib": "-> usr/lib", "var/run": "-> /run", "run/": None}
    added = layer(tmp_path, below, member("lib/new", data=b"1"), member("var/run/pid", data=b"2"))

    assert added == {
        "usr": "dir",
        "usr/lib": "dir",
        "usr/lib/new": "1",
        "var": "dir",
        "run": "dir",
        "run/pid": "2",
    }


def test_a_link_below_is_no_way_out(tmp_path: Path) -> None:
    outside = tree(tmp_path / "outside", {"x": "safe"})
    lower = {"l": f"-> {outside}", "up": "-> ../outside", "outside/": None}
    added = layer(tmp_path, lower, member("up/x", data=b"in"))

    assert added == {"outside": "dir", "outside/x": "in"}
    with pytest.raises(Invalid, match="which is not there"):
        unpack(tmp_path / "other", archive(member("l/x", data=b"in")), tmp_path / "lower")
    assert words(outside) == {"x": "safe"}


def test_a_file_below_gives_way_to_a_directory(tmp_path: Path) -> None:
    assert layer(tmp_path, {"p": "x"}, member("p/q", data=b"in")) == {"p": "dir", "p/q": "in"}


@pytest.mark.parametrize(
    ("below", "members", "expected"),
    [
        ({"x": "1"}, [member(".wh.x")], {"x": "whiteout"}),
        ({"d/x": "1"}, [member("d/.wh.x")], {"d": "dir", "d/x": "whiteout"}),
        ({"d/x": "1"}, [member(".wh.d")], {"d": "whiteout"}),
        ({}, [member(".wh.x"), member("d/.wh.x"), member("e/.wh..wh..opq")], {}),
        ({"x": "1"}, [member(".wh.x"), member("x", data=b"new")], {"x": "new"}),
        ({"x": "1"}, [member("x", data=b"new"), member(".wh.x")], {"x": "new"}),
        (
            {"d/x": "1"},
            [member(".wh.d"), member("d/", DIR), member("d/y", data=b"new")],
            {"d": "opaque dir", "d/y": "new"},
        ),
        (
            {"d/x": "1"},
            [member("d/y", data=b"new"), member(".wh.d")],
            {"d": "opaque dir", "d/y": "new"},
        ),
        (
            {"d/x": "1"},
            [member(".wh.d"), member("d/y", data=b"new")],
            {"d": "opaque dir", "d/y": "new"},
        ),
        (
            {"d/x": "1"},
            [member("d", data=b"file"), member("d/", DIR)],
            {"d": "opaque dir"},
        ),
        ({"x": "1"}, [member(".wh.x"), member("x/", DIR)], {"x": "dir"}),
        ({"d/x": "1"}, [member("d/.wh..wh..opq")], {"d": "opaque dir"}),
        (
            {"d/x": "1"},
            [member("d/.wh..wh..opq"), member("d/", DIR), member("d/y", data=b"new")],
            {"d": "opaque dir", "d/y": "new"},
        ),
        (
            {"d/x": "1"},
            [member("d/y", data=b"new"), member("d/.wh..wh..opq"), member("d/.wh.x")],
            {"d": "opaque dir", "d/y": "new"},
        ),
        (
            {"d/e/x": "1"},
            [member("d/.wh..wh..opq"), member("d/e/y", data=b"new")],
            {"d": "opaque dir", "d/e": "dir", "d/e/y": "new"},
        ),
        (
            {"d/x": "1", "f": "2", "e/y": "3"},
            [member("e/z", data=b"new"), member(".wh..wh..opq"), member("f", data=b"new")],
            {"d": "whiteout", "e": "opaque dir", "e/z": "new", "f": "new"},
        ),
        (
            {"l": "-> d", "d/x": "1"},
            [member("l/.wh.x")],
            {"d": "dir", "d/x": "whiteout"},
        ),
    ],
)
def test_deletions_hide_what_is_below_and_only_that(
    tmp_path: Path,
    below: dict[str, str | bytes | None],
    members: list[bytes],
    expected: dict[str, str],
) -> None:
    assert expected == layer(tmp_path, below, *members)


def test_a_first_layer_has_nothing_to_hide(tmp_path: Path) -> None:
    tar = archive(member(".wh.x"), member("d/.wh..wh..opq"), member("d/f", data=b"in"))
    unpack(tmp_path / "layer", tar)

    assert words(tmp_path / "layer") == {"d": "dir", "d/f": "in"}


def test_the_prefix_of_overlay_marks_can_be_the_users(tmp_path: Path) -> None:
    tree(tmp_path / "lower", {"d/x": "1"})
    unpack(tmp_path / "layer", archive(member("d/.wh..wh..opq")), tmp_path / "lower", prefix="user")

    assert os.listxattr(tmp_path / "layer/d") == ["user.overlay.opaque"]


def test_a_hard_link_to_a_file_below_brings_the_file_up(tmp_path: Path) -> None:
    lower = tree(tmp_path / "lower", {"d/f": "text", "l": "-> d", "s": "-> d/f"})
    os.chown(lower / "d/f", 5, 6)
    (lower / "d/f").chmod(0o4750)
    os.setxattr(lower / "d/f", "user.x", b"1")
    settle(lower, 99)
    tar = archive(member("h", LINK, link="l/f"), member("hs", LINK, link="s"))
    unpack(tmp_path / "layer", tar, lower)
    seen = listing(tmp_path / "layer")

    facts = (0o100000, 0o4750, 5, 6, 99, {"user.x": b"1"}, b"text")
    assert [(*facts, "d/f"), (*facts, "d/f")] == [seen["d/f"], seen["h"]]
    assert listing(lower)["d"] == seen["d"]
    assert [words(tmp_path / "layer")[path] for path in ("s", "hs")] == ["-> d/f", "-> d/f"]


def test_a_hard_link_to_what_an_opaque_directory_hides_is_refused(tmp_path: Path) -> None:
    tree(tmp_path / "lower", {"d/f": "text"})
    tar = archive(member("d/.wh..wh..opq"), member("h", LINK, link="d/f"))
    with pytest.raises(Invalid, match="no file there"):
        unpack(tmp_path / "layer", tar, tmp_path / "lower")


def test_xattrs_that_belong_to_the_host_are_left_out_and_noted(tmp_path: Path) -> None:
    names = ("trusted.overlay.opaque", "security.selinux", "user.overlay.redirect", "user.ok")
    records = {b"SCHILY.xattr." + name.encode(): b"y" for name in names}
    applied = unpack(
        tmp_path / "layer",
        archive(
            member("d", DIR, records=records),
            member("l", SYMLINK, link="d", records={b"SCHILY.xattr.user.a": b"1"}),
        ),
    )

    assert os.listxattr(tmp_path / "layer/d") == ["user.ok"]
    assert sorted(applied.skipped) == [
        "d: security.selinux",
        "d: trusted.overlay.opaque",
        "d: user.overlay.redirect",
        "l: user.a",
    ]


def test_holes_stay_holes(tmp_path: Path) -> None:
    size = 50_000_000
    records = {b"GNU.sparse.map": b"20000000,3", b"GNU.sparse.size": b"%d" % size}
    unpack(tmp_path / "layer", archive(member("f", data=b"abc", records=records)))
    status = (tmp_path / "layer/f").stat()

    assert size == status.st_size
    assert status.st_blocks * 512 < 100_000
    assert (tmp_path / "layer/f").read_bytes()[19_999_999:20_000_004] == b"\0abc\0"


def test_the_diff_id_is_of_every_byte(tmp_path: Path) -> None:
    tar = archive(member("f", data=b"x")) + bytes(20_000) + b"junk"
    applied = unpack(tmp_path / "layer", tar)

    assert "sha256:" + hashlib.sha256(tar).hexdigest() == applied.diff_id
    assert (1, len(tar), TIME) == (applied.entries, applied.size, applied.newest)


def test_a_large_layer_is_hashed_in_another_thread_to_the_same_digests(tmp_path: Path) -> None:
    big = os.urandom(9_000_000)
    tar = archive(member("a", data=big), member("b", data=b"x"), member("c", data=big[::-1]))
    applied = unpack(tmp_path / "layer", tar)
    identity = Identity()
    for entry, data in tar_entries(io.BytesIO(tar)):
        content = hashlib.sha256()
        while chunk := data.read(1000):
            content.update(chunk)
        identity.add(entry, content.hexdigest())

    assert "sha256:" + hashlib.sha256(tar).hexdigest() == applied.diff_id
    assert identity.digest() == applied.identity
    assert big[::-1] == (tmp_path / "layer/c").read_bytes()


class Broken:
    """Fails after so many bytes, as a blob that is not what its digest says."""

    def __init__(self, data: bytes) -> None:
        self._data = io.BytesIO(data)

    def read(self, size: int = -1, /) -> bytes:
        data = self._data.read(size)
        if not data:
            raise Corrupt("the bytes hash to something else")
        return data

    def close(self) -> None:
        pass


@pytest.mark.parametrize("size", [10, 20_000_000])
def test_what_the_source_raises_comes_out_and_no_thread_stays(tmp_path: Path, size: int) -> None:
    before = threading.active_count()
    with pytest.raises(Corrupt):
        unpack(tmp_path / "layer", Broken(archive(member("f", data=bytes(size)))))

    assert before == threading.active_count()


def test_a_refusal_in_the_middle_of_a_large_layer_ends_the_thread(tmp_path: Path) -> None:
    before = threading.active_count()
    tar = archive(member("f", data=bytes(9_000_000)), member("../x"), member("g", data=bytes(20)))
    with pytest.raises(Invalid):
        unpack(tmp_path / "layer", tar + bytes(30_000_000))

    assert before == threading.active_count()


def test_a_tree_of_2000_levels_is_unpacked(tmp_path: Path) -> None:
    deep = "d/" * 2000 + "f"
    unpack(tmp_path / "layer", archive(member(deep, data=b"x"), member(".wh.d"), member("d", FIFO)))

    assert words(tmp_path / "layer") == {"d": "fifo"}
