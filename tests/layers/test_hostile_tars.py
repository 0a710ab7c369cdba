"""
Hostile tars: each is refused or contained, and nothing outside the root is touched.

The cases are those that broke other tools; their numbers (U1 …) and names are of advisories and of
containerd's and Docker's tests. Bait lies outside the root and in the current directory.
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bait import OUT, Arena
from support.tars import (
    BLOCK,
    CHAR,
    DIR,
    END,
    FIFO,
    FILE,
    LINK,
    SYMLINK,
    header,
    member,
    padded,
    pax,
)
from support.trees import ROOT_ONLY, words

from ocispec.errors import Invalid, Unsupported

pytestmark = ROOT_ONLY

UP = "../" * 12


@pytest.fixture
def arena(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Arena]:
    try:
        arena = Arena(tmp_path)
        monkeypatch.chdir(tmp_path / "cwd")
        open_before = len(os.listdir("/proc/self/fd"))
        yield arena
        assert open_before == len(os.listdir("/proc/self/fd"))
    finally:
        shutil.rmtree(OUT)


def sparse_0_1(segments: bytes, size: int) -> dict[bytes, bytes]:
    return {b"GNU.sparse.map": segments, b"GNU.sparse.size": b"%d" % size}


REFUSED: dict[str, list[bytes]] = {
    "U1 dotdot": [member(f"{UP}{OUT}/victim", data=b"bad")],
    "U1 dotdot by one": [member("../outside/victim", data=b"bad")],
    "U1 dotdot after a name": [member("a/../../outside/victim", data=b"bad")],
    "U1 dotdot after a dot": [member("./../x", data=b"bad")],
    "U1 dotdot that stays inside": [member("a/../b", data=b"bad")],
    "U1 dotdot alone": [member("..", DIR, mode=0o777)],
    "U1 dotdot in a pax path": [member("f", data=b"bad", records={b"path": b"../outside/victim"})],
    "U1 dotdot in a ustar prefix": [
        header(b"victim", size=3, fields={345: b"../outside"}) + padded(b"bad")
    ],
    "U1 no name": [member("", data=b"bad")],
    "U1 a NUL in a pax path": [member("f", records={b"path": b"a\0b"})],
    "U1 a name of 5000": [member("n/" * 2500, DIR)],
    "U1 a component of 256": [member("n" * 256, data=b"bad")],
    "U2 a file below an absolute link": [
        member("l", SYMLINK, link=OUT),
        member("l/victim", data=b"bad"),
    ],
    "U2 a file below a relative link": [
        member("a/l", SYMLINK, link=UP + OUT),
        member("a/l/victim", data=b"bad"),
    ],
    "U2 a file below a chain of links": [
        member("a/b/", DIR),
        member("a/b/one", SYMLINK, link="../.."),
        member("two", SYMLINK, link="a/b/one/.."),
        member("three", SYMLINK, link="two/outside"),
        member("three/victim", data=b"bad"),
    ],
    "U2 SymlinkMultipleRelative": [
        member("up", SYMLINK, link=".."),
        member("upup", SYMLINK, link="up/.."),
        member("upup/outside/new/../victim", data=b"bad"),
    ],
    "U2 links in a loop": [
        member("a", SYMLINK, link="b"),
        member("b", SYMLINK, link="a"),
        member("a/x", data=b"bad"),
    ],
    "U2 a magic link": [
        member("l", SYMLINK, link="/proc/self/root"),
        member("l/x", data=b"bad"),
    ],
    "U2 a link to the current directory": [
        member("l", SYMLINK, link="/proc/self/cwd"),
        member("l/victim", data=b"bad"),
    ],
    "U3 the root as a link": [member("/", SYMLINK, link=OUT)],
    "U3 the root as a link, by a dot": [member(".", SYMLINK, link=OUT)],
    "U3 the root as a file": [member("./", FILE)],
    "U3 the root as a hard link": [member(".", LINK, link="x")],
    "U3 a hard link to the root": [member("h", LINK, link="/")],
    "U4 HardlinkAbsolute": [
        member("h", LINK, link=f"{OUT}/victim"),
        member("h", data=b"bad"),
    ],
    "U4 HardlinkUpAndOut": [member("h", LINK, link=f"{UP}{OUT}/victim")],
    "U4 HardlinkDownAndOut": [
        member("d/", DIR),
        member("h", LINK, link="d/../../outside/victim"),
    ],
    "U4 HardlinkRelative to the current directory": [
        member("h", LINK, link="victim"),
        member("h", data=b"bad"),
    ],
    "U4 HardlinkThroughSymlink": [
        member("l", SYMLINK, link=OUT),
        member("h", LINK, link="l/victim"),
        member("h", data=b"bad"),
    ],
    "U4 a hard link to a directory": [
        member("d/", DIR),
        member("h", LINK, link="d"),
    ],
    "U4 a hard link to a deletion": [
        member(".wh.below"),
        member("h", LINK, link="below"),
    ],
    "U6 WhiteoutParent": [member("d/", DIR), member("d/.wh...")],
    "U6 WhiteoutRootParent": [member(".wh...")],
    "U6 WhiteoutCurrentDirectory": [member("d/", DIR), member("d/.wh..")],
    "U6 WhiteoutRoot": [member(".wh..")],
    "U6 a whiteout of no name": [member(".wh.")],
    "U6 WhiteoutDirectoryName": [member("d/.wh.x/f", data=b"bad")],
    "U6 the device of a whiteout": [member("dev0", CHAR)],
    "U8 an impossible capability": [
        member("f", data=b"x", records={b"SCHILY.xattr.security.capability": b"bad"})
    ],
    "U10 a negative size": [header(b"f", fields={124: b"\xff" * 12})],
    "U10 a size with a sign": [header(b"f", fields={124: b"-0000000005\0"})],
    "U10 a pax size with a sign": [member("f", data=b"x", records={b"size": b"-5"})],
    "U10 a pax size out of range": [member("f", data=b"x", records={b"size": b"9" * 23})],
    "U10 a pax size with an underscore": [member("f", data=b"x", records={b"size": b"1_0"})],
    "U10 a size beyond the end": [member("f", data=b"x", size=1 << 33)],
    "U10 a pax record with a false length": [pax(b"9999 path=zzz\n") + member("f", data=b"x")],
    "U10 a pax header of 4 GiB": [header(b"x", b"x", 1 << 32)],
    "U10 a long name of 4 GiB": [header(b"x", b"L", 1 << 32)],
    "U10 a pax path and another long name": [pax({b"path": b"one"}) + member("n" * 120, data=b"x")],
    "U10 a global path": [pax({b"path": b"all"}, b"g"), member("f", data=b"x")],
    "U10 a global size": [pax({b"size": b"512"}, b"g"), member("f", data=b"x")],
    "U10 one zero block between members": [
        member("f", data=b"x"),
        bytes(512),
        member("g", data=b"x"),
    ],
    "U10 a wrong checksum": [b"a" * 512],
    "U10 half a header": [member("f", data=b"x"), b"half"],
    "U10 an extended header at the end": [pax({b"path": b"f"})],
    "U10 an unknown type": [member("v", b"V")],
    "U10 a part of another volume": [member("v", b"M")],
    "U10 a file with a slash at its end": [member("f/", data=b"x")],
    "U10 a sparse map out of order": [
        member("f", b"0", b"abcd", records=sparse_0_1(b"10,2,4,2", 20))
    ],
    "U10 a sparse map out of the file": [
        member("f", b"0", b"abcd", records=sparse_0_1(b"0,2,30,2", 20))
    ],
    "U10 a sparse map of more than there is": [
        member("f", b"0", b"ab", records=sparse_0_1(b"0,2,4,2", 20))
    ],
    "U10 a sparse map without an end": [
        member(
            "f",
            b"0",
            b"1" * 2048,
            records={b"GNU.sparse.major": b"1", b"GNU.sparse.minor": b"0"}
            | {b"GNU.sparse.realsize": b"5"},
        )
    ],
    "U10 a sparse file of an exbibyte": [member("f", b"0", b"", records=sparse_0_1(b"", 1 << 60))],
    "U10 a sparse name that leads out": [
        member("f", b"0", b"", records=sparse_0_1(b"", 1) | {b"GNU.sparse.name": b"../../victim"})
    ],
    "U10 a sparse directory": [member("d", DIR, records=sparse_0_1(b"", 1))],
    "a parent that is a file": [member("p", data=b"x"), member("p/q", data=b"x")],
    "a user that is no user": [member("f", uid=2**32 - 1)],
    "a user out of range": [member("f", records={b"uid": b"99999999999"})],
    "a time that is none": [member("f", records={b"mtime": b"nan"})],
    "a time out of range": [member("f", records={b"mtime": b"9" * 19})],
    "a link to nothing": [member("l", SYMLINK)],
}


@pytest.mark.parametrize("members", REFUSED.values(), ids=REFUSED.keys())
def test_a_hostile_tar_is_refused(arena: Arena, members: list[bytes]) -> None:
    with pytest.raises((Invalid, Unsupported)):
        arena.unpack(b"".join(members) + END)


CONTAINED: dict[str, tuple[list[bytes], dict[str, str]]] = {
    "U1 an absolute name": (
        [member("/etc/passwd", data=b"in")],
        {"etc": "dir", "etc/passwd": "in"},
    ),
    "U1 SlashEnded": ([member("//d///", DIR)], {"d": "dir"}),
    "U2 a file below a link to a directory inside": (
        [
            member("d/", DIR),
            member("l", SYMLINK, link="/d"),
            member("l/x", data=b"in"),
        ],
        {"d": "dir", "d/x": "in", "l": "-> /d"},
    ),
    "U2 SymlinkUpAndOut": (
        [
            member("d/", DIR),
            member("l", SYMLINK, link=f"{UP}d"),
            member("l/x", data=b"in"),
        ],
        {"d": "dir", "d/x": "in", "l": f"-> {UP}d"},
    ),
    "U2 SymlinkOverridePath: a file in the place of a link": (
        [member("l", SYMLINK, link=f"{OUT}/victim"), member("l", data=b"in")],
        {"l": "in"},
    ),
    "U2 OverrideDirectory: a directory in the place of a link": (
        [
            member("l", SYMLINK, link=f"{OUT}/dir"),
            member("l", DIR),
            member("l/file", data=b"in"),
        ],
        {"l": "dir", "l/file": "in"},
    ),
    "U2 DirectoryOverrideSymlink: the mode of a directory": (
        [member("l", SYMLINK, link=f"{OUT}/dir"), member("l/", DIR, mode=0o777)],
        {"l": "dir"},
    ),
    "U2 DirectoryOverrideSymlinkAndHardlink": (
        [
            member("l", SYMLINK, link=f"{OUT}/dir"),
            member("h", LINK, link="l"),
            member("h/", DIR, mode=0o777),
        ],
        {"h": "dir", "l": f"-> {OUT}/dir"},
    ),
    "U2 a link in the place of a directory": (
        [
            member("d/x", data=b"in"),
            member("d", SYMLINK, link=OUT),
            member("e", data=b"in"),
        ],
        {"d": f"-> {OUT}", "e": "in"},
    ),
    "U4 HardlinkSymlink, then written": (
        [
            member("l", SYMLINK, link=f"{OUT}/victim"),
            member("h", LINK, link="l"),
            member("h", data=b"in"),
        ],
        {"h": "in", "l": f"-> {OUT}/victim"},
    ),
    "U4 HardlinkSymlinkChmod": (
        [
            member("l", SYMLINK, link=f"{OUT}/victim", mode=0o777),
            member("h", LINK, link="l", mode=0o4777, uid=1000),
        ],
        {"h": f"-> {OUT}/victim", "l": f"-> {OUT}/victim"},
    ),
    "U4 a hard link to itself": (
        [member("h", data=b"1"), member("h", LINK, link="h")],
        {"h": "1"},
    ),
    "U5 the owner and time of a link": (
        [member("l", SYMLINK, link=f"{OUT}/victim", uid=1000, mtime=1)],
        {"l": f"-> {OUT}/victim"},
    ),
    "U6 WhiteoutSymlinkPath": (
        [member("l", SYMLINK, link=OUT), member("l/.wh.victim")],
        {"l": f"-> {OUT}"},
    ),
    "U6 WhiteoutDeadSymlinkParent": (
        [member("l", SYMLINK, link="gone"), member("l/.wh.victim")],
        {"l": "-> gone"},
    ),
    "U6 an opaque mark below a link": (
        [member("l", SYMLINK, link=OUT), member("l/.wh..wh..opq")],
        {"l": f"-> {OUT}"},
    ),
    "U6 a whiteout that is a link": (
        [member(".wh.below", SYMLINK, link=OUT)],
        {"below": "whiteout"},
    ),
    "U6 a whiteout with data": (
        [member(".wh.below", data=b"A" * 1000), member("y", data=b"in")],
        {"below": "whiteout", "y": "in"},
    ),
    "U6 what AUFS kept": (
        [member(".wh..wh.plnk", DIR), member(".wh..wh.plnk/1.2", data=b"x")],
        {},
    ),
    "U8 a fifo in the place of a file": (
        [member("f", data=b"x"), member("f", FIFO), member("f", data=b"in")],
        {"f": "in"},
    ),
    "U8 devices": (
        [
            member("null", CHAR, major=1, minor=3),
            member("loop", BLOCK, major=7, minor=1),
        ],
        {"null": "char 1:3", "loop": "block 7:1"},
    ),
    "U8 overlay attributes": (
        [
            member("d", DIR, records={b"SCHILY.xattr.trusted.overlay.opaque": b"y"}),
            member("e", DIR, records={b"SCHILY.xattr.user.overlay.redirect": b"/etc"}),
        ],
        {"d": "dir", "e": "dir"},
    ),
    "U9 a link far above the root": (
        [member("cacerts", SYMLINK, link="../../../../../../etc/pki/java/cacerts")],
        {"cacerts": "-> ../../../../../../etc/pki/java/cacerts"},
    ),
    "U9 a link to itself": (
        [member("dash", SYMLINK, link="dash"), member("dash", SYMLINK, link="dash")],
        {"dash": "-> dash"},
    ),
    "U10 the last of two entries": (
        [member("f", data=b"1"), member("f", data=b"22")],
        {"f": "22"},
    ),
    "U10 a linked file written anew": (
        [
            member("f", data=b"1"),
            member("g", LINK, link="f"),
            member("f", data=b"22"),
        ],
        {"f": "22", "g": "1"},
    ),
    "U10 data after the end": (
        [member("f", data=b"in"), END, member("g", data=b"unseen")],
        {"f": "in"},
    ),
    "U10 junk after the end": ([member("f", data=b"in"), END, b"junk"], {"f": "in"}),
    "U10 a contiguous file": ([member("f", b"7", b"in")], {"f": "in"}),
    "U10 a file of V7": ([member("f", b"\0", b"in")], {"f": "in"}),
    "U10 a directory of V7": ([member("d/", b"\0")], {"d": "dir"}),
    "U14 a backslash": ([member("..\\x", data=b"in")], {"..\\x": "in"}),
    "U14 a drive": ([member("C:/x", data=b"in")], {"C:": "dir", "C:/x": "in"}),
    "U14 two cases": (
        [member("a", data=b"1"), member("A", data=b"2")],
        {"a": "1", "A": "2"},
    ),
    "a name of 255": ([member("n" * 255, data=b"in")], {"n" * 255: "in"}),
    "a directory without permissions": (
        [member("d", DIR, mode=0), member("d/f", data=b"in")],
        {"d": "dir", "d/f": "in"},
    ),
    "a file in the place of a full directory": (
        [member("d/e/f", data=b"x"), member("d", data=b"in")],
        {"d": "in"},
    ),
    "a time before 1970": (
        [member("f", data=b"in", records={b"mtime": b"-1.5"})],
        {"f": "in"},
    ),
}


@pytest.mark.parametrize(("members", "expected"), CONTAINED.values(), ids=CONTAINED.keys())
def test_a_strange_tar_is_contained(
    arena: Arena, members: list[bytes], expected: dict[str, str]
) -> None:
    (arena.lower / "below").write_text("lower")
    arena.unpack(b"".join(members) + END)

    assert expected == words(arena.root)
