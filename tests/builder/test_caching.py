"""What is rebuilt and what is not: each row both ways, with the image that comes out."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.building import Builder, write_tree
from support.rootfs import busybox_root

from engine.build import BuildResult
from ocispec.errors import Failed
from ocispec.reference import Reference

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="sandboxes need root")

TAG = Reference.parse("test:latest")


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Builder]:
    made = Builder(tmp_path / "store")
    with made.engine:
        yield made


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A context whose ``root/`` is a busybox system, for ``COPY root /``."""
    root = write_tree(tmp_path / "context", {"src/a": "A", "src/b": "B", "other": "O"})
    busybox_root(root / "root")
    return root


BASE = "FROM scratch AS base\nCOPY root /\n"


def rebuilt(builder: Builder, context: Path, text: str, **options: object) -> list[str]:
    """The titles of the steps that were executed."""
    builder.build(context, text, **options)
    return [title for title, cached in builder.cached().items() if not cached]


def test_a_second_build_is_cached_whole_and_gives_the_same_image(
    builder: Builder, context: Path
) -> None:
    text = BASE + "RUN echo 1 >/x\nWORKDIR /w\nCOPY src .\nCMD x\n"
    first = builder.build(context, text)
    second = builder.build(context, text)

    assert first.manifest == second.manifest
    assert (second.steps, second.cached_steps) == (4, 4)


TEXT = BASE + "ARG v=1\nENV e=1\nRUN echo $e >/x\nCOPY src /src\nRUN cat /src/a >/y\n"
RUN_X, COPY, RUN_Y = "RUN echo $e >/x", "COPY src /src", "RUN cat /src/a >/y"


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("ENV e=1", "ENV e=2", [RUN_X, COPY, RUN_Y]),
        ("ENV e=1", "ENV e=1\nLABEL l=1", []),
        ("ENV e=1", "ENV e=1\nEXPOSE 80\nCMD x\nVOLUME /v\nSTOPSIGNAL 9", []),
        ("echo $e", "echo  $e", ["RUN echo  $e >/x"]),
        ("COPY src", "USER 0\nCOPY src", []),
        ("COPY src /src", "COPY src /src/", ["COPY src /src/"]),
        ("COPY src /src", "COPY --chmod=700 src /src", ["COPY --chmod=700 src /src", RUN_Y]),
        ("RUN cat", "ENV late=1\nRUN cat", [RUN_Y]),
        ("ARG v=1", "ARG v=2", [RUN_X, RUN_Y]),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_a_change_of_the_dockerfile_rebuilds(
    builder: Builder, context: Path, old: str, new: str, expected: list[str]
) -> None:
    builder.build(context, TEXT)

    got = rebuilt(builder, context, TEXT.replace(old, new))
    assert expected == [title for title in got if title in expected]
    assert set(got) <= set(expected) | {COPY, RUN_Y}


def test_a_build_argument_in_a_value_is_seen(builder: Builder, context: Path) -> None:
    text = BASE + "ARG v\nENV e=$v\nLABEL l=$v\nUSER $v\nRUN echo $e >/tmp/x\n"
    builder.build(context, text, build_args={"v": "1"})
    image = builder.build(context, text, build_args={"v": "2"}).manifest

    config = builder.config(image).config
    assert (config["User"], config["Labels"]) == ("2", {"l": "2"})
    assert builder.files(image)["tmp/x"] == "2\n 2:0"


def edit(path: Path, how: str) -> None:
    """Change the file of five bytes *path* in the way that *how* says."""
    before = path.lstat()
    match how:
        case "touch":
            os.utime(path, (1, 1))
        case "owner":
            os.chown(path, 9, 9)
        case "mode":
            path.chmod(0o600)
        case "content":
            path.write_text("AA")
        case "same size and time":
            path.write_text("Z")
            os.utime(path, ns=(before.st_atime_ns, before.st_mtime_ns))
        case "rename":
            path.rename(path.with_name("renamed"))
        case "swap for a link":
            path.unlink()
            path.symlink_to("b")
        case "capability":
            value = bytes.fromhex("0100000200200000000000000000000000000000")
            os.setxattr(path, "security.capability", value)
        case "user attribute":
            os.setxattr(path, "user.note", b"1")
        case _:
            raise AssertionError(how)


@pytest.mark.parametrize(
    ("how", "is_rebuilt"),
    [
        ("touch", False),
        ("owner", False),
        ("user attribute", False),
        ("mode", True),
        ("content", True),
        ("same size and time", True),
        ("rename", True),
        ("swap for a link", True),
        ("capability", True),
    ],
)
def test_what_a_change_of_a_file_rebuilds(
    builder: Builder, context: Path, how: str, is_rebuilt: bool
) -> None:
    text = "FROM scratch\nCOPY src /src\n"
    os.utime(context / "src/a", (1_600_000_000, 1_600_000_000))
    builder.build(context, text)
    edit(context / "src/a", how)

    assert ([COPY] if is_rebuilt else []) == rebuilt(builder, context, text)


def test_an_edit_within_the_same_moment_is_seen(builder: Builder, context: Path) -> None:
    text = "FROM scratch\nCOPY src /src\n"
    for number in range(20):
        (context / "src/a").write_text(f"{number:02}")
        image = builder.build(context, text).manifest

        assert f"{number:02}" == builder.files(image)["src/a"]


def test_a_file_that_is_not_copied_rebuilds_nothing(builder: Builder, context: Path) -> None:
    text = "FROM scratch\nCOPY src /src\n"
    builder.build(context, text)
    (context / "other").write_text("changed")

    assert rebuilt(builder, context, text) == []


def test_a_step_that_gives_the_same_bytes_again_does_not_rebuild_what_follows(
    builder: Builder, context: Path
) -> None:
    text = BASE + "COPY other /o\nRUN wc -c </o >/size; rm /o\nRUN cat /size >/late\n"
    first = builder.build(context, text)
    (context / "other").write_text("P")
    got = rebuilt(builder, context, text)

    assert "RUN wc -c </o >/size; rm /o" in got
    late = builder.build(context, text.replace("COPY other /o", "COPY other /o\nENV unused=1"))
    assert late.identity != first.identity


def test_a_run_that_only_changes_times_keeps_the_image(builder: Builder, context: Path) -> None:
    text = BASE + "RUN echo same >/x\n"
    first = builder.build(context, text)
    time.sleep(1.1)  # so that the time in the new tar differs
    second = builder.build(context, text, no_cache=True)

    assert first.manifest == second.manifest
    assert [title for title, cached in builder.cached().items() if not cached] == [
        "COPY root /",
        "RUN echo same >/x",
    ]


def test_an_empty_change_rebuilds_nothing_after_it(builder: Builder, context: Path) -> None:
    text = BASE + "RUN true\nRUN echo >/x\n"
    builder.build(context, text)

    assert rebuilt(builder, context, text.replace("RUN true", "RUN : other")) == ["RUN : other"]


def test_copy_from_a_stage_is_cached_when_its_files_are_the_same(
    builder: Builder, context: Path
) -> None:
    text = BASE + "COPY other /o\nRUN wc -c </o >/size\nFROM scratch\nCOPY --from=base /size /\n"
    first = builder.build(context, text)
    (context / "other").write_text("P")
    got = rebuilt(builder, context, text)
    second = builder.build(context, text)

    assert "COPY --from=base /size /" not in got
    assert first.manifest == second.manifest


def test_the_steps_before_a_failure_are_cached(builder: Builder, context: Path) -> None:
    text = BASE + "RUN echo 1 >/x\nRUN exit 7\n"
    with pytest.raises(Failed) as caught:
        builder.build(context, text)

    assert caught.value.status == 7
    assert "Dockerfile:4" in caught.value.message
    assert rebuilt(builder, context, BASE + "RUN echo 1 >/x\n") == []


def test_equal_steps_of_two_stages_are_executed_once(builder: Builder, context: Path) -> None:
    text = (
        BASE
        + "FROM base AS one\nRUN date +%N >/t\nFROM base AS two\nRUN date +%N >/t\n"
        + "FROM scratch\nCOPY --from=one /t /1\nCOPY --from=two /t /2\n"
    )
    files = builder.files(builder.build(context, text).manifest)

    assert files["1"] == files["2"]


def test_a_damaged_record_is_no_hit(builder: Builder, context: Path) -> None:
    text = "FROM scratch\nCOPY src /src\n"
    first = builder.build(context, text)
    for record in (builder.engine.store.root / "keys").iterdir():
        record.write_bytes(record.read_bytes()[:-20])

    assert first.identity == builder.build(context, text).identity
    assert {title: cached for title, cached in builder.cached().items() if title == COPY} == {
        COPY: False
    }


def test_files_that_become_one_rebuild_the_copy(builder: Builder, context: Path) -> None:
    (context / "src/b").write_text("A")
    text = "FROM scratch\nCOPY src /src\n"
    builder.build(context, text)
    (context / "src/b").unlink()
    (context / "src/b").hardlink_to(context / "src/a")
    linked = builder.build(context, text)
    with builder.root(linked.manifest) as root:
        assert (root / "src/a").samefile(root / "src/b")
    (context / "src/a").rename(context / "elsewhere")
    shutil.copy2(context / "elsewhere", context / "src/a")
    apart = builder.build(context, text)

    with builder.root(apart.manifest) as root:
        assert not (root / "src/a").samefile(root / "src/b")


def test_a_record_under_a_foreign_key_is_no_hit(builder: Builder, context: Path) -> None:
    builder.build(context, "FROM scratch\nCOPY other /o\n")
    keys = builder.engine.store.root / "keys"
    other = {path.name: path.read_bytes() for path in keys.iterdir()}
    builder.build(context, "FROM scratch\nCOPY src /src\n")
    for path in keys.iterdir():
        if path.name not in other:
            path.write_bytes(next(iter(other.values())))

    image = builder.build(context, "FROM scratch\nCOPY src /src\n").manifest
    assert "src/a" in builder.files(image)


def test_a_record_whose_layer_is_gone_is_no_hit(builder: Builder, context: Path) -> None:
    text = "FROM scratch\nCOPY src /src\n"
    first = builder.build(context, text)
    layer = builder.manifest(first.manifest).layers[0]
    builder.engine.store.path(layer.digest).unlink()

    assert first.identity == builder.build(context, text).identity
    assert builder.engine.store.has(layer)


def test_with_an_epoch_two_stores_give_one_image(tmp_path: Path, context: Path) -> None:
    text = BASE + "RUN echo hi >/x; mkdir -p /d/e\nWORKDIR /w\nCOPY <<f /w/\nz\nf\n"
    results: list[BuildResult] = []
    for name in ("one", "two"):
        made = Builder(tmp_path / name)
        with made.engine:
            results.append(made.build(context, text, epoch=1_700_000_000))
        time.sleep(1.1)  # another clock

    assert results[0].manifest == results[1].manifest


def test_an_epoch_applies_to_cached_layers_too_and_rebuilds_nothing(
    builder: Builder, tmp_path: Path, context: Path
) -> None:
    text = BASE + "RUN echo hi >/x\n"
    builder.build(context, text)
    assert rebuilt(builder, context, text, epoch=1_600_000_000) == []
    cached = builder.build(context, text, epoch=1_600_000_000)
    fresh = Builder(tmp_path / "fresh")
    with fresh.engine:
        assert cached.manifest == fresh.build(context, text, epoch=1_600_000_000).manifest

    config = builder.config(cached.manifest)
    assert config.created == "2020-09-13T12:26:40Z"
    with builder.root(cached.manifest) as root:
        newest = max(path.lstat().st_mtime for path in root.rglob("*"))
        assert newest <= 1_600_000_000


def test_a_cached_build_imports_nothing_heavy(builder: Builder, context: Path) -> None:
    builder.build(context, "FROM scratch\nCOPY src /src\n")
    code = (
        "import sys\nfrom pathlib import Path\nfrom engine.build import *\n"
        "from engine.engine import Engine\n"
        f"with Engine(Path({str(builder.engine.store.root)!r})) as engine:\n"
        f"    request = BuildRequest(Path({str(context)!r}),"
        " dockerfile_text=b'FROM scratch\\nCOPY src /src\\n')\n"
        "    assert build(engine, request, lambda event: None).cached_steps == 1\n"
        "heavy = {'requests', 'rich', 'typer', 'zstandard', 'cryptography', 'isal', 'ctypes',"
        " 'subprocess', 'logging', 'asyncio', 'concurrent.futures'}\n"
        "print(sorted(heavy & set(sys.modules)))\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)

    assert done.stdout == "[]\n"


def test_a_store_may_be_in_shared_memory(context: Path) -> None:
    place = Path("/dev/shm") / f"pybuild-test-{os.getpid()}"
    made = Builder(place)
    try:
        with made.engine:
            image = made.build(context, BASE + "RUN echo hi >/x\n").manifest
            assert "hi\n" == made.files(image)["x"]
    finally:
        shutil.rmtree(place)


def test_stages_that_do_not_need_each_other_run_at_once(builder: Builder, context: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    # Each waits for the other: one after the other, both would wait in vain.
    text = (
        BASE
        + f"FROM base AS one\nRUN mkfifo /f && timeout 20 nc -l -p {port} <>/f >/heard\n"
        + "FROM base AS two\nRUN for i in $(seq 200); do"
        + f" echo hello | nc 127.0.0.1 {port} && touch /said && exit; usleep 50000; done; exit 1\n"
        + "FROM scratch\nCOPY --from=one /heard /\nCOPY --from=two /said /\n"
    )
    image = builder.build(context, text).manifest

    assert "hello\n" == builder.files(image)["heard"]
