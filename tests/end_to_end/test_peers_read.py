"""skopeo and umoci read the store, and what was pulled into another, as we do."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from pathlib import Path

import pytest
from support.building import Builder, write_tree
from support.cli import Cli
from support.endtoend import INSTALL, NEEDS_ROOT, faults
from support.oracles import run, skopeo_copy, skopeo_inspect, umoci_unpack
from support.registry import open_registry
from support.trees import listing

from ocispec.reference import Reference

pytestmark = [NEEDS_ROOT, pytest.mark.oracle]

NAME = "docker.io/library/sample:1"
DOCKERFILE = r"""
FROM busybox
RUN mkdir -p /d/sub /old && echo one >/d/one && ln /d/one /d/sub/same && ln -s ../d/one /d/link \
    && chmod 4750 /d/one && chown 1000:1000 /d/sub && mkfifo /d/pipe && echo gone >/old/gone
RUN rm -r /old /bin/ash && rm -r /d/sub && mkdir /d/sub && echo two >/d/sub/two
COPY --chown=1000:1000 --chmod=640 files /copied/
RUN chmod 700 /copied && mv /copied/b /d/b && echo more >>/copied/a
USER app
CMD ["cat", "/d/b"]
"""
FILES = {"Dockerfile": DOCKERFILE, "files/a": "a\n", "files/b": "b\n", "files/ü ö/c": "c\n"}


@pytest.fixture
def sample(busybox: Cli, tmp_path: Path) -> Cli:
    """The command on a store that has the image NAME."""
    busybox("build", "-q", "-t", NAME, write_tree(tmp_path / "context", FILES))
    return busybox


def unpacked(root: Path, name: str) -> Mapping[str, tuple[object, ...]]:
    """The filesystem of the image *name* as we unpack it."""
    builder = Builder(root)
    image = builder.engine.store.resolve(Reference.parse(name))
    with builder.root(image) as place:
        return without_root(listing(place))


def without_root(tree: Mapping[str, tuple[object, ...]]) -> Mapping[str, tuple[object, ...]]:
    """The bundle's own directory is not part of an image."""
    return {path: facts for path, facts in tree.items() if path}


def test_skopeo_reads_the_store_directory(sample: Cli) -> None:
    (ours,) = json.loads(sample("inspect", NAME).stdout)
    theirs = json.loads(run("skopeo", "inspect", f"oci:{sample.root}:{NAME}"))
    config = json.loads(run("skopeo", "inspect", "--config", f"oci:{sample.root}:{NAME}"))

    assert ours["RootFS"]["Layers"] == config["rootfs"]["diff_ids"]
    times = [ours["Created"], theirs["Created"], config["created"]]
    assert len({datetime.fromisoformat(time) for time in times}) == 1  # Go leaves out last zeros
    assert len(theirs["Layers"]) == 5  # of the base, of three RUN and a COPY
    assert config["config"]["User"] == "app"


def test_skopeo_copies_an_image_out_of_the_store_whole(sample: Cli, tmp_path: Path) -> None:
    target = f"oci:{tmp_path / 'copy'}:{NAME}"
    skopeo_copy(f"oci:{sample.root}:{NAME}", target)

    assert skopeo_inspect(f"oci:{sample.root}:{NAME}") == skopeo_inspect(target)


def test_an_image_that_skopeo_put_into_the_store_runs(sample: Cli, tmp_path: Path) -> None:
    skopeo_copy(f"oci:{sample.root}:{NAME}", f"oci:{tmp_path / 'other'}:copied:1")

    other = sample.at(tmp_path / "other")

    assert other("run", "--rm", "copied:1").stdout == "b\n"
    assert faults(other.root) == {}


def test_umoci_unpacks_our_image_to_what_we_unpack(sample: Cli, tmp_path: Path) -> None:
    ours = unpacked(sample.root, NAME)
    theirs = without_root(listing(umoci_unpack(sample.root, NAME, tmp_path / "bundle")))

    assert {"d/one", "d/link", "d/pipe", "copied/ü ö/c"} <= ours.keys()
    assert ours == theirs


def test_what_was_pulled_is_read_too(sample: Cli, tmp_path: Path) -> None:
    other = sample.at(tmp_path / "other")
    with open_registry(tmp_path / "registry") as registry:
        name = f"{registry.name}/sample:1"
        sample("tag", NAME, name)
        sample("push", name)
        other("pull", name)
        from_registry = skopeo_inspect(f"docker://{name}")

    assert from_registry == skopeo_inspect(f"oci:{other.root}:{name}")
    theirs = listing(umoci_unpack(other.root, name, tmp_path / "bundle"))
    assert unpacked(sample.root, NAME) == unpacked(other.root, name) == without_root(theirs)


def test_what_umoci_packs_is_read_by_us(sample: Cli, tmp_path: Path) -> None:
    layout = tmp_path / "layout"
    skopeo_copy(f"oci:{sample.root}:{NAME}", f"oci:{layout}:sample:1")
    rootfs = umoci_unpack(layout, "sample:1", tmp_path / "bundle")
    (rootfs / "d/b").write_text("changed by umoci\n")
    (rootfs / "copied/a").unlink()
    run("umoci", "repack", "--image", f"{layout}:sample:2", tmp_path / "bundle")

    found = unpacked(layout, "sample:2")

    assert found.keys() == unpacked(layout, "sample:1").keys() - {"copied/a"}
    assert sample.at(layout)("run", "--rm", "sample:2").stdout == "changed by umoci\n"


@pytest.mark.slow
def test_umoci_unpacks_debian_to_what_we_unpack(debian: Cli, tmp_path: Path) -> None:
    dockerfile = f"FROM debian:bookworm\n{INSTALL} file\n"
    context = write_tree(tmp_path / "context", {"Dockerfile": dockerfile})
    debian("build", "-q", "-t", "docker.io/library/with-file:1", context)

    bundle = umoci_unpack(debian.root, "docker.io/library/with-file:1", tmp_path / "bundle")

    ours = unpacked(debian.root, "with-file:1")
    assert ours == without_root(listing(bundle))
    assert "usr/bin/file" in ours
