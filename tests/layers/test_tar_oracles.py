"""Other programs read what we write and write what we read: GNU tar, umoci."""

from __future__ import annotations

import io
import os
import random
import shutil
import stat
import subprocess
import tarfile
from pathlib import Path

import pytest
from support.layerstack import BASE, CHANGES, MORE, Layers
from support.tars import DIR, END, LINK, SYMLINK, member
from support.trees import ROOT_ONLY, listing, settle, shell, tree

from layers.apply import apply
from layers.diff import diff
from layers.layerwrite import LayerWriter
from layers.store import Store
from ocispec import mediatypes
from ocispec.digest import DiffID, Digest
from ocispec.model import Descriptor, ImageConfig, Index, Layer, Manifest
from ocispec.platform import Platform

pytestmark = [pytest.mark.oracle, ROOT_ONLY]


def needs(program: str) -> pytest.MarkDecorator:
    missing = shutil.which(program) is None
    return pytest.mark.skipif(missing, reason=f"needs {program}")


def without_root(tree_: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    return {path: facts for path, facts in tree_.items() if path}


def gnu_extract(tar: bytes, place: Path) -> dict[str, tuple[object, ...]]:
    place.mkdir()
    command = ["tar", "--xattrs", "--xattrs-include=*", "--numeric-owner", "-xpf", "-"]
    subprocess.run([*command, "-C", str(place)], input=tar, check=True)
    return listing(place)


def our_extract(tar: bytes, place: Path) -> dict[str, tuple[object, ...]]:
    place.mkdir()
    root = os.open(place, os.O_RDONLY)
    apply(io.BytesIO(tar), root)
    os.close(root)
    return listing(place)


def nasty_tree(place: Path) -> Path:
    place.mkdir()
    shell(BASE, place)
    settle(place)
    return place


@needs("tar")
def test_gnu_tar_reads_what_we_write(tmp_path: Path) -> None:
    layers = Layers(tmp_path)
    layers.base_layer("true")
    upper, seen = layers.change(BASE)
    _, tar = layers.diff(upper)

    assert without_root(seen) == without_root(gnu_extract(tar, tmp_path / "out"))


@needs("tar")
@pytest.mark.parametrize("format_", ["oldgnu", "gnu", "posix", "ustar", "v7"])
def test_we_read_what_gnu_tar_writes(tmp_path: Path, format_: str) -> None:
    source = nasty_tree(tmp_path / "source")
    if format_ in ("ustar", "v7"):  # they cannot say everything
        shell("rm -rf fifo dir0* capfile lllll*; chown -R 0:0 .", source)
        settle(source)
    command = ["tar", f"--format={format_}", "--numeric-owner", "-C", str(source), "-cf", "-", "."]
    if format_ == "posix":
        command += ["--xattrs", "--xattrs-include=*"]
    tar = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout

    ours = our_extract(tar, tmp_path / "ours")
    assert ours == gnu_extract(tar, tmp_path / "theirs")
    if format_ == "posix":
        assert ours == listing(source)


@needs("tar")
@pytest.mark.parametrize(
    "options",
    [
        ["--format=gnu"],
        ["--format=posix", "--sparse-version=0.0"],
        ["--format=posix", "--sparse-version=0.1"],
        ["--format=posix", "--sparse-version=1.0"],
    ],
    ids=" ".join,
)
def test_we_read_gnu_tars_sparse_files(tmp_path: Path, options: list[str]) -> None:
    source = tmp_path / "source"
    source.mkdir()
    shell(
        """
        truncate -s 10M empty; truncate -s 50M many; printf x | dd of=end bs=1 seek=9M status=none
        for n in $(seq 1 40); do
            echo $n | dd of=many bs=1 seek=${n}M conv=notrunc status=none
        done
        echo start > start; truncate -s 3M start; echo plain > plain
        """,
        source,
    )
    settle(source)
    command = ["tar", "--sparse", *options, "-C", str(source), "-cf", "-", "."]
    tar = subprocess.run(command, check=True, stdout=subprocess.PIPE).stdout

    assert len(tar) < 1 << 20
    assert listing(source) == our_extract(tar, tmp_path / "ours")


def random_tar(seed: int, format_: int) -> bytes:
    """What Python's tarfile writes of members with any names, owners and times."""
    chance = random.Random(seed)
    out = io.BytesIO()
    letters = "ab.-_ " + ("é\n" if format_ != tarfile.USTAR_FORMAT else "")
    longest = 40 if format_ == tarfile.USTAR_FORMAT else 200
    with tarfile.open(fileobj=out, mode="w", format=format_) as archive:
        for number in range(40):
            name = "".join(chance.choices(letters, k=chance.randint(1, longest)))
            info = tarfile.TarInfo(f"d{chance.randrange(4)}/{name}{number}")
            info.mode = chance.randrange(0o10000)
            info.uid, info.gid = chance.randrange(1 << 20), chance.randrange(1 << 20)
            info.mtime = chance.randrange(1 << 32)
            data = b""
            info.type = chance.choice([b"0", b"0", b"2", b"5", b"6", b"3", b"\0"])
            if info.isreg():
                data = chance.randbytes(chance.choice([0, 1, 511, 512, 513, 3000]))
            elif info.issym():
                info.linkname = "/".join(chance.choices(["a", "..", "é"], k=chance.randint(1, 60)))
            elif info.isdev():
                info.devmajor, info.devminor = 1, chance.randrange(1, 9)
            if format_ == tarfile.USTAR_FORMAT:
                info.linkname = info.linkname[:50]
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


@needs("tar")
@pytest.mark.parametrize("seed", range(8))
@pytest.mark.parametrize(
    "format_", [tarfile.USTAR_FORMAT, tarfile.GNU_FORMAT, tarfile.PAX_FORMAT], ids=str
)
def test_we_read_random_tars_as_gnu_tar_does(tmp_path: Path, seed: int, format_: int) -> None:
    tar = random_tar(seed, format_)
    ours = our_extract(tar, tmp_path / "ours")
    theirs = gnu_extract(tar, tmp_path / "theirs")

    # Only we give a time to the parents that have no entry.
    assert {path: facts for path, facts in ours.items() if "/" in path} == {
        path: facts for path, facts in theirs.items() if "/" in path
    }


def image(layers: list[Layer], store: Store, place: Path) -> str:
    """A layout that umoci reads, with one image of *layers*; how umoci names it."""
    config = ImageConfig(Platform("linux", "amd64"), tuple(layer.diff_id for layer in layers))
    with store.session() as session:
        described = session.put_bytes(mediatypes.OCI_CONFIG, config.encode())
        manifest = Manifest(described, tuple(layer.blob for layer in layers))
        root = session.put_bytes(mediatypes.OCI_MANIFEST, manifest.encode())
    named = Descriptor(
        root.media_type, root.digest, root.size, {"org.opencontainers.image.ref.name": "latest"}
    )
    place.mkdir()
    (place / "oci-layout").write_text('{"imageLayoutVersion":"1.0.0"}')
    (place / "index.json").write_bytes(Index((named,)).encode())
    (place / "blobs").symlink_to(store.root / "blobs")
    return f"{place}:latest"


def umoci_unpack(layers: list[Layer], store: Store, base: Path) -> dict[str, tuple[object, ...]]:
    name = image(layers, store, base / "layout")
    subprocess.run(["umoci", "unpack", "--image", name, str(base / "bundle")], check=True)
    return listing(base / "bundle/rootfs")


def stored(store: Store, tar: bytes) -> Layer:
    with store.session() as session:
        blob = session.put_bytes(mediatypes.OCI_LAYER, tar)
    return Layer(DiffID(Digest.of(tar)), Digest.of(tar), blob)


@needs("umoci")
def test_umoci_unpacks_our_layers_to_what_was_there(tmp_path: Path) -> None:
    layers = Layers(tmp_path)
    written = []
    for script in ("true", BASE, CHANGES, MORE):
        if not layers.stack:
            layers.base_layer(script)
            continue
        upper, _ = layers.change(script)
        layer, tar = layers.diff(upper)
        layers.apply(tar)
        written.append(layer.layer)

    theirs = umoci_unpack(written, layers.store, tmp_path)
    assert without_root(layers.merged()) == without_root(theirs)


FOREIGN: dict[str, tuple[dict[str, str | bytes | None], list[bytes]]] = {
    "no parents": ({"a/b/": None}, [member("a/b/c", data=b"x"), member("n/m", data=b"x")]),
    "a parent through a link": (
        {"usr/lib/old": "x", "lib": "-> usr/lib"},
        [member("lib/new", data=b"x")],
    ),
    "a whiteout": ({"a": "x", "b": "y"}, [member(".wh.a")]),
    "a whiteout of a directory": ({"d/e/f": "x"}, [member("d/", DIR), member("d/.wh.e")]),
    "a whiteout of nothing": ({"d/e": "x"}, [member("d/", DIR), member("d/.wh.nothing")]),
    "a whiteout before what replaces it": (
        {"d/e": "x"},
        [member(".wh.d"), member("d/", DIR), member("d/f", data=b"y")],
    ),
    "a whiteout after what replaces it": (
        {"d/e": "x"},
        [member("d/", DIR), member("d/f", data=b"y"), member(".wh.d")],
    ),
    "opaque first": (
        {"d/e/f": "x", "d/g": "x"},
        [member("d/", DIR), member("d/.wh..wh..opq"), member("d/e/", DIR), member("d/e/n")],
    ),
    "opaque last": (
        {"d/e/f": "x", "d/g": "x"},
        [member("d/", DIR), member("d/e/", DIR), member("d/e/n"), member("d/.wh..wh..opq")],
    ),
    "opaque at the root": (
        {"d/e": "x", "g": "x"},
        [member("d/", DIR), member("d/n", data=b"y"), member(".wh..wh..opq")],
    ),
    "a file for a directory": ({"d/e/f": "x"}, [member("d", data=b"y")]),
    "a directory for a file": ({"d": "x"}, [member("d/", DIR), member("d/e", data=b"y")]),
    "a directory for a link": (
        {"t/x": "x", "l": "-> t"},
        [member("l/", DIR), member("l/e", data=b"y")],
    ),
    "a link for a directory": ({"d/e": "x"}, [member("d", SYMLINK, link="/elsewhere")]),
    "a hard link to what is below": (
        {"d/f": "x"},
        [member("d/h", LINK, link="d/f"), member("g", LINK, link="/d/f")],
    ),
    "a hard link to a link": ({"l": "-> nowhere"}, [member("h", LINK, link="l")]),
    "a linked file below is replaced": (
        {"a": "x", "b": "== a"},
        [member("a", data=b"new")],
    ),
    "times and modes": (
        {"d/": None},
        [member("d/", DIR, mode=0o1777, uid=5, mtime=7), member("d/f", mode=0o4755, mtime=8)],
    ),
    "two entries of one name": (
        {"f": "x"},
        [member("f", data=b"1"), member("g", LINK, link="f"), member("f", data=b"2")],
    ),
}


@needs("umoci")
@pytest.mark.parametrize(("below", "members"), FOREIGN.values(), ids=FOREIGN.keys())
def test_umoci_unpacks_foreign_layers_as_we_do(
    tmp_path: Path, below: dict[str, str | bytes | None], members: list[bytes]
) -> None:
    layers = Layers(tmp_path)
    layers.base_layer("true")
    tree(layers.stack[0], below)
    lower = os.open(layers.stack[0], os.O_RDONLY)
    with layers.store.session() as session, LayerWriter(session) as out:
        diff(lower, None, out)
        base = out.finish().layer
    os.close(lower)
    tar = b"".join(members) + END
    layers.apply(tar)

    theirs = umoci_unpack([base, stored(layers.store, tar)], layers.store, tmp_path)
    assert timeless(layers.merged()) == timeless(theirs)


def timeless(tree_: dict[str, tuple[object, ...]]) -> dict[str, tuple[object, ...]]:
    """Without the times of directories: umoci leaves its own when it removes something in one."""
    return {
        path: facts if facts[0] != stat.S_IFDIR else (*facts[:4], *facts[5:])
        for path, facts in without_root(tree_).items()
    }
