"""COPY, ADD and WORKDIR, point by point: what lands where, with which owner, mode and time."""

from __future__ import annotations

import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest
from support.building import Builder, write_tree

from ocispec.errors import Invalid, PybuildError

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="overlay mounts need root")


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    made = Builder(tmp_path / "store")
    with made.engine:
        yield made


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "context", {"a": "A", "b": "B", "d/x": "X", "d/e/y": "Y"})


def copied(
    builder: Builder, context: Path, lines: str, base: str = "FROM scratch"
) -> Mapping[str, str]:
    return builder.files(builder.build(context, f"{base}\n{lines}\n").manifest)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("COPY a /", {"a": "A"}),
        ("COPY a /t", {"t": "A"}),
        ("COPY a /t/", {"t": "dir", "t/a": "A"}),
        ("COPY a /p/q/t", {"p": "dir", "p/q": "dir", "p/q/t": "A"}),
        ("COPY a b /t/", {"t": "dir", "t/a": "A", "t/b": "B"}),
        ("COPY ../../a /x/../t", {"t": "A"}),
        ("COPY /a/ /t", {"t": "A"}),
        ("COPY d /t", {"t": "dir", "t/x": "X", "t/e": "dir", "t/e/y": "Y"}),
        ("COPY d/ /t/", {"t": "dir", "t/x": "X", "t/e": "dir", "t/e/y": "Y"}),
        ("COPY d /", {"x": "X", "e": "dir", "e/y": "Y"}),
        ('COPY ["a", "/t"]', {"t": "A"}),
        (
            "COPY ? /t/",
            {"t": "dir", "t/a": "A", "t/b": "B", "t/x": "X", "t/e": "dir", "t/e/y": "Y"},
        ),
        ("COPY d/* /t/", {"t": "dir", "t/x": "X", "t/y": "Y"}),
        ("COPY [ab] /t/", {"t": "dir", "t/a": "A", "t/b": "B"}),
        ("COPY nothing* /t/", {}),
        ("WORKDIR /w\nCOPY a .", {"w": "dir", "w/a": "A"}),
        ("WORKDIR /w\nCOPY a t", {"w": "dir", "w/t": "A"}),
        ("COPY a /t\nCOPY b /t", {"t": "B"}),
        ("COPY d /t\nCOPY a /t", {"t": "dir", "t/x": "X", "t/e": "dir", "t/e/y": "Y", "t/a": "A"}),
        ("COPY <<f /t\nhello\nf", {"t": "hello\n"}),
        ("COPY <<f <<g a /t/\n1\nf\n2\ng", {"t": "dir", "t/f": "1\n", "t/g": "2\n", "t/a": "A"}),
    ],
)
def test_what_lands_where(
    builder: Builder, context: Path, line: str, expected: dict[str, str]
) -> None:
    assert expected == copied(builder, context, line)


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("COPY zz /t", '"/zz": not found'),
        ("COPY a b /t", "more than one source"),
        ("COPY [ab] /t", "more than one source"),
        ("COPY a /t\nCOPY d /t", "non-directory"),
        ("COPY a /t\nCOPY b /t/", "non-directory"),
        ("COPY a /t\nCOPY b /t/u", "not a directory"),
        ("COPY d /t\nCOPY a /t/e\nCOPY <<e /t/\nfile\ne", "cannot replace directory"),
        ("COPY a /t\nWORKDIR /t", "not a directory"),
        ("COPY a /" + "n" * 300, "name is too long"),
        ("WORKDIR /" + "n" * 300, "name is too long"),
        ("COPY --chown=nobody a /t", "unable to find user nobody"),
        ("COPY --chown=4294967296 a /t", "ids go from 0"),
        ("COPY --chown=" + "9" * 5000 + " a /t", "ids go from 0"),
        ("COPY <<../f /t/\n../f", "a heredoc's name"),
        ('COPY <<".." /t/\n..', "a heredoc's name"),
        ("COPY <<p/f /t/\np/f", "a heredoc's name"),
    ],
)
def test_what_cannot_be_copied_is_refused_with_its_line(
    builder: Builder, context: Path, line: str, said: str
) -> None:
    with pytest.raises(PybuildError) as caught:
        copied(builder, context, line)

    assert said in caught.value.message
    assert "Dockerfile:" in caught.value.message
    assert ">>>" in caught.value.message


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("COPY --chown=5:6 a /t", {"t": "A 5:6"}),
        ("COPY --chown=5 a /t", {"t": "A 5:5"}),
        ("COPY --chown=5:6 d /p/t", {"p": "dir 5:6", "p/t": "dir 5:6", "p/t/e": "dir 5:6"}),
        ("COPY --chmod=640 a /p/t", {"p": "dir [640]", "p/t": "A [640]"}),
        ("COPY --chmod=4755 a /t", {"t": "A [4755]"}),
    ],
)
def test_owner_and_mode_reach_files_and_made_parents(
    builder: Builder, context: Path, line: str, expected: dict[str, str]
) -> None:
    got = copied(builder, context, line)

    assert expected == {path: got[path] for path in expected}


def test_owner_names_are_looked_up_in_the_target(builder: Builder, context: Path) -> None:
    write_tree(context, {"etc/passwd": "me:x:7:8::/:\n", "etc/group": "us:x:9:\n"})
    got = copied(builder, context, "COPY etc /etc\nCOPY --chown=me a /1\nCOPY --chown=me:us a /2")

    assert [got["1"], got["2"]] == ["A 7:8", "A 7:9"]


def test_context_files_become_roots_and_keep_mode_and_time(builder: Builder, context: Path) -> None:
    (context / "a").chmod(0o4750)
    os.chown(context / "a", 1234, 1234)
    os.utime(context / "a", (1_500_000_000, 1_500_000_000))
    image = builder.build(context, "FROM scratch\nCOPY a /t\n").manifest

    assert {**builder.files(image)} == {"t": "A"} | {"t": "A [750]"}
    with builder.root(image) as root:
        assert (root / "t").lstat().st_mtime == 1_500_000_000


def test_links_inside_a_directory_are_copied_and_roots_followed(
    builder: Builder, context: Path
) -> None:
    (context / "d/abs").symlink_to("/etc/passwd")
    (context / "d/loop").symlink_to("loop")
    (context / "to_dir").symlink_to("d/e")
    (context / "to_file").symlink_to("/a")
    got = copied(builder, context, "COPY d /d\nCOPY to_dir /e/\nCOPY to_file /f")

    assert got["d/abs"] == "-> /etc/passwd"
    assert got["d/loop"] == "-> loop"
    assert [got["e/y"], got["f"]] == ["Y", "A"]


def test_wildcards_look_into_the_directory_that_a_link_leads_to(
    builder: Builder, context: Path
) -> None:
    (context / "link").symlink_to("d")
    (context / "d/f").symlink_to("../a")
    stages = "COPY . /\nFROM scratch\nCOPY --from=0 link/* /s/\n"
    got = copied(builder, context, stages + "COPY link/* /c/")

    assert {name: text for name, text in got.items() if text != "dir"} == {
        "s/f": "A",
        "s/x": "X",
        "s/y": "Y",
        "c/f": "A",
        "c/x": "X",
        "c/y": "Y",
    }


def test_a_wildcard_does_not_go_through_links(builder: Builder, context: Path) -> None:
    (context / "link").symlink_to("d")
    stages = "COPY . /\nFROM scratch\nCOPY --from=0 */x /s/\nCOPY --from=0 li*/x /none/\n"
    got = copied(builder, context, stages + "COPY */x /c/\nCOPY li*/x /none/")

    assert got == {"s": "dir", "s/x": "X", "c": "dir", "c/x": "X"}


def test_a_link_out_of_the_context_leads_to_its_root(builder: Builder, context: Path) -> None:
    outside = context.parent / "secret"
    outside.write_text("secret")
    (context / "up").symlink_to("../secret")
    (context / "absolute").symlink_to(str(outside))
    for source in ("up", "absolute"):
        with pytest.raises(PybuildError, match="not found"):
            copied(builder, context, f"COPY {source} /t")


def test_links_in_the_target_are_followed_inside_the_root(builder: Builder, context: Path) -> None:
    (context / "d/link").symlink_to("/real/deep")
    (context / "d/up").symlink_to("../../../..")
    got = copied(builder, context, "COPY d /\nCOPY a /link/\nCOPY b /up/z/t")

    assert got["real/deep/a"] == "A"
    assert got["z/t"] == "B"


def test_a_directory_is_not_copied_over_a_link(builder: Builder, context: Path) -> None:
    (context / "d/lib").symlink_to("usr/lib")
    write_tree(context, {"over/lib/file": "1", "d/usr/lib/": None})
    with pytest.raises(Invalid, match="non-directory: /lib"):
        copied(builder, context, "COPY d /\nCOPY over /")


def test_a_file_replaces_a_file_or_link_that_is_there(builder: Builder, context: Path) -> None:
    (context / "d/f").symlink_to("x")
    write_tree(context, {"over/f": "new"})
    got = copied(builder, context, "COPY d /\nCOPY over /")

    assert [got["f"], got["x"]] == ["new", "X"]


def test_hard_links_stay_links_within_a_copy(builder: Builder, context: Path) -> None:
    os.link(context / "a", context / "d/hard1")
    os.link(context / "a", context / "d/hard2")
    image = builder.build(context, "FROM scratch\nCOPY d /d\n").manifest
    with builder.root(image) as root:
        first, second = (root / "d/hard1").lstat(), (root / "d/hard2").lstat()

        assert first.st_nlink == 2
        assert first.st_ino == second.st_ino


def test_existing_parents_keep_their_metadata(builder: Builder, context: Path) -> None:
    (context / "d/e").chmod(0o1777)
    got = copied(builder, context, "COPY --chown=3:4 d /\nCOPY a /e/new")

    assert [got["e"], got["e/new"]] == ["dir [1777] 3:4", "A"]


def test_the_contents_of_a_directory_are_copied_and_not_its_own_mode(
    builder: Builder, context: Path
) -> None:
    (context / "d").chmod(0o700)
    got = copied(builder, context, "WORKDIR /w\nCOPY d /w\nCOPY d /v\nCOPY d /u/")

    assert [got["w"], got["v"], got["u"]] == ["dir", "dir", "dir"]


def test_nested_directories_take_the_sources_mode(builder: Builder, context: Path) -> None:
    got = copied(builder, context, "COPY d /t")
    (context / "d/e").chmod(0o711)
    again = copied(builder, context, "COPY d /t\nCOPY d /t")

    assert [got["t/e"], again["t/e"]] == ["dir", "dir [711]"]


def test_a_device_of_the_context_is_refused(builder: Builder, context: Path) -> None:
    os.mkfifo(context / "d/pipe")
    with pytest.raises(Invalid, match="fifo"):
        copied(builder, context, "COPY d /t")


def test_dockerignore_hides_and_the_hint_says_so(builder: Builder, context: Path) -> None:
    write_tree(context, {".dockerignore": "d\n!d/e\n"})
    got = copied(builder, context, "COPY . /t")

    assert "t/d/e/y" in got
    assert "t/d/x" not in got
    with pytest.raises(PybuildError, match="not found") as caught:
        copied(builder, context, "COPY d/x /t")
    assert ".dockerignore" in caught.value.hint


def test_copy_from_a_stage_keeps_owners_and_links(builder: Builder, context: Path) -> None:
    (context / "d/link").symlink_to("x")
    lines = "COPY --chown=5:6 d /s\nFROM scratch\nCOPY --from=0 /s /t\nCOPY --from=0 /s/l*k /u/"
    got = copied(builder, context, lines)

    assert [got["t/x"], got["t"], got["t/link"]] == ["X 5:6", "dir", "-> x 5:6"]
    assert got["u/link"] == "X 5:6"


def test_copy_from_the_root_of_a_stage_takes_everything(builder: Builder, context: Path) -> None:
    got = copied(builder, context, "COPY . /\nFROM scratch\nCOPY --from=0 / /all/")

    assert {"all/a", "all/d/e/y"} <= set(got)


def archive(names: Mapping[str, bytes], mode: str = "w") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload] # its modes are literals
        for name, data in names.items():
            member = tarfile.TarInfo(name)
            member.size, member.uid, member.gid, member.mode = len(data), 11, 12, 0o640
            tar.addfile(member, io.BytesIO(data))
    return buffer.getvalue()


@pytest.mark.parametrize("mode", ["w", "w:gz", "w:bz2", "w:xz"])
def test_add_unpacks_archives_by_their_content(builder: Builder, context: Path, mode: str) -> None:
    (context / "any.name").write_bytes(archive({"p/q": b"Q", "r": b"R"}, mode))
    got = copied(builder, context, "ADD any.name /t/")

    assert got == {"t": "dir", "t/p": "dir", "t/p/q": "Q [640] 11:12", "t/r": "R [640] 11:12"}


def test_add_copies_what_only_looks_like_an_archive(builder: Builder, context: Path) -> None:
    (context / "empty.tar.gz").write_bytes(b"")
    (context / "false.tar.gz").write_bytes(b"\x1f\x8b\x08not at all")
    got = copied(builder, context, "ADD empty.tar.gz false.tar.gz a /t/")

    assert {"t", "t/empty.tar.gz", "t/false.tar.gz", "t/a"} == set(got)


def test_add_without_unpacking_copies_the_archive(builder: Builder, context: Path) -> None:
    (context / "x.tar").write_bytes(archive({"r": b"R"}))

    assert {"t", "t/x.tar"} == set(copied(builder, context, "ADD --unpack=false x.tar /t/"))
    assert {"t", "t/x.tar"} == set(copied(builder, context, "COPY x.tar /t/"))


def test_add_leaves_directories_alone_that_the_archive_does_not_name(
    builder: Builder, context: Path
) -> None:
    (context / "d").chmod(0o1777)
    (context / "x.tar").write_bytes(archive({"u/d/p/q": b"Q"}))
    lines = "COPY . /u/\nADD x.tar /\nCOPY --chown=3:4 --chmod=700 d /u/d/p/v\nADD x.tar /"
    got = copied(builder, context, lines)

    assert [got["u/d"], got["u/d/p"], got["u/d/p/q"]] == ["dir [1777]", "dir", "Q [640] 11:12"]


@pytest.mark.parametrize("name", ["../out", "/abs/../../out"])
def test_add_refuses_an_archive_that_climbs_out(builder: Builder, context: Path, name: str) -> None:
    (context / "evil.tar").write_bytes(archive({name: b"!"}))
    with pytest.raises(Invalid):
        copied(builder, context, "ADD evil.tar /t/")


def test_add_refuses_an_archive_whose_names_would_delete(builder: Builder, context: Path) -> None:
    (context / "x.tar").write_bytes(archive({"d/.wh.a": b"", "b": b"B"}))
    with pytest.raises(Invalid, match="Dockerfile:2"):
        copied(builder, context, "ADD x.tar /t/")


def test_workdir_belongs_to_the_current_user(builder: Builder, context: Path) -> None:
    got = copied(builder, context, "USER 5:6\nWORKDIR /w/v\nWORKDIR /w")

    assert [got["w"], got["w/v"]] == ["dir 5:6", "dir 5:6"]
