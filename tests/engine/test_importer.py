"""A root file system becomes an image of one layer."""

from __future__ import annotations

import bz2
import gzip
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest
import zstandard
from support.building import Builder
from support.small_images import ref, tar_of
from support.tars import END, member
from support.trees import ROOT_ONLY, listing, tree

from engine import images
from engine.engine import Engine
from engine.importer import import_rootfs
from ocispec.errors import Corrupt, Invalid, NotFound
from ocispec.platform import Platform


def _same(data: bytes) -> bytes:
    return data


@pytest.mark.parametrize(
    "compress",
    [_same, gzip.compress, bz2.compress, lzma.compress, zstandard.compress],
    ids=["tar", "gzip", "bzip2", "xz", "zstd"],
)
def test_a_tar_of_any_compression_is_taken(
    tmp_path: Path, compress: Callable[[bytes], bytes]
) -> None:
    builder = Builder(tmp_path / "store")
    archive = tmp_path / "root.tar"
    archive.write_bytes(compress(tar_of({"etc/a": b"one", "b": b"-> etc/a"})))

    image = import_rootfs(builder.engine, archive, ref("x"))

    assert builder.files(image) == {"b": "-> etc/a", "etc": "dir", "etc/a": "one"}


@ROOT_ONLY
def test_a_directory_keeps_owners_modes_links_devices_and_attributes(tmp_path: Path) -> None:
    builder = Builder(tmp_path / "store")
    root = tree(
        tmp_path / "root",
        {"a": "one", "h": "== a", "l": "-> a", "d/": None, "d/s": "x", "empty": "", "n\udcff": "n"},
    )
    (root / "d").chmod(0o1777)
    (root / "d/s").chmod(0o4755)
    os.chown(root / "a", 5, 6)
    os.mkfifo(root / "fifo")
    os.mknod(root / "null", 0o600 | 0o020000, os.makedev(1, 3))
    os.setxattr(root / "a", "user.key", b"\0value")
    expected = listing(root)

    image = import_rootfs(builder.engine, root, ref("x"))

    with builder.root(image) as made:
        found = listing(made)
    assert {path: expected[path] for path in expected if path} == {
        path: found[path] for path in found if path
    }


def test_equal_directories_make_equal_layers(tmp_path: Path, engine: Engine) -> None:
    layers = set()
    for name in ("one", "two"):
        root = tree(tmp_path / name, {"b/c": "x", "a": "y"})
        manifest = import_rootfs(engine, root, ref(name))
        layers.add(images.load(engine.store, manifest).manifest.layers)

    assert len(layers) == 1


@pytest.mark.parametrize(
    ("change", "key", "value"),
    [
        ('CMD ["sh"]', "Cmd", ["sh"]),
        ("CMD echo hi", "Cmd", ["/bin/sh", "-c", "echo hi"]),
        ('entrypoint ["/init"]', "Entrypoint", ["/init"]),
        ("ENV A=b C=d", "Env", ["A=b", "C=d"]),
        ("EXPOSE 80/tcp", "ExposedPorts", {"80/tcp": {}}),
        ("LABEL a=b", "Labels", {"a": "b"}),
        ("USER app", "User", "app"),
        ("VOLUME /data", "Volumes", {"/data": {}}),
        ("WORKDIR /srv", "WorkingDir", "/srv"),
        ("STOPSIGNAL SIGINT", "StopSignal", "SIGINT"),
    ],
    ids=str,
)
def test_changes_are_instructions(
    tmp_path: Path, engine: Engine, change: str, key: str, value: object
) -> None:
    root = tree(tmp_path / "root", {"a": "x"})

    manifest = import_rootfs(engine, root, ref("x"), changes=[change])

    assert value == images.load(engine.store, manifest).config.config[key]


@pytest.mark.parametrize(
    "change",
    ["RUN true", "FROM x", "COPY a b", "", "  ", "ENV A=b\nRUN true", "NOPE x"],
    ids=repr,
)
def test_other_instructions_are_refused(tmp_path: Path, engine: Engine, change: str) -> None:
    root = tree(tmp_path / "root", {"a": "x"})

    with pytest.raises(Invalid):
        import_rootfs(engine, root, ref("x"), changes=[change])


def test_message_and_platform_are_recorded(tmp_path: Path, engine: Engine) -> None:
    root = tree(tmp_path / "root", {"a": "x"})
    platform = Platform.parse("linux/arm64")

    manifest = import_rootfs(engine, root, ref("x"), message="from afar", platform=platform)

    config = images.load(engine.store, manifest).config
    assert (platform, "from afar") == (config.platform, config.history[0].comment)


def test_an_image_without_a_name_is_kept(tmp_path: Path, engine: Engine) -> None:
    root = tree(tmp_path / "root", {"a": "x"})

    manifest = import_rootfs(engine, root, None)

    assert [manifest.digest] == [image.digest for image in engine.store.images.unnamed()]


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (b"", Invalid),
        (b"no tar at all" * 100, Invalid),
        (member(b"a", data=b"x" * 600)[:700], Invalid),
        (member(b"../evil", data=b"x") + END, Invalid),
        (member(b".wh.a") + END, Invalid),
        (member(b"d/.wh..wh..opq") + END, Invalid),
        (gzip.compress(tar_of({"a": b"x" * 5000}))[:-20], Corrupt),
        (gzip.compress(tar_of({"a": b"x"})) + b"garbage", Corrupt),
        (bz2.compress(tar_of({"a": b"x" * 5000}))[:-20], Corrupt),
        (b"BZh91AY&SY" + b"x" * 600, Corrupt),
        (lzma.compress(tar_of({"a": b"x" * 5000}))[:-20], Corrupt),
        (lzma.compress(tar_of({"a": b"x" * 5000}))[:24] + b"x" * 600, Corrupt),
    ],
    ids=[
        *("empty", "text", "short", "dotdot", "whiteout", "opaque", "short gzip", "garbage"),
        *("short bzip2", "bad bzip2", "short xz", "bad xz"),
    ],
)
def test_a_bad_tar_is_refused_and_leaves_nothing(
    tmp_path: Path, engine: Engine, data: bytes, kind: type[Exception]
) -> None:
    archive = tmp_path / "bad.tar"
    archive.write_bytes(data)

    with pytest.raises(kind):
        import_rootfs(engine, archive, ref("x"))

    assert [*(tmp_path / "store/tmp").iterdir(), *engine.store.images.entries()] == []
    assert list((tmp_path / "store/blobs/sha256").iterdir()) == []


def test_a_missing_file_is_named(tmp_path: Path, engine: Engine) -> None:
    with pytest.raises(NotFound, match="nowhere"):
        import_rootfs(engine, tmp_path / "nowhere", ref("x"))
