"""Images leave and come back as tars; hostile ones touch nothing (registry.md, U10 to U13)."""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import subprocess
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
from support.building import Builder
from support.oracles import program
from support.small_images import image_of, members_of, ref, tar_of
from support.tars import END, LINK, SYMLINK, member

from engine import archives, images
from engine.engine import Engine
from ocispec.errors import Corrupt, Invalid, NotFound, PybuildError


def _saved(engine: Engine, *names: str) -> bytes:
    out = io.BytesIO()
    archives.save(engine, names, out)
    return out.getvalue()


def _loaded(engine: Engine, data: bytes) -> list[str]:
    return archives.load(engine, io.BytesIO(data))


@pytest.fixture
def other(tmp_path: Path) -> Builder:
    """A second store, to load into."""
    return Builder(tmp_path / "other")


def test_an_image_comes_back_as_it_was(tmp_path: Path, engine: Engine, other: Builder) -> None:
    manifest = image_of(engine, tmp_path / "a", {"etc/f": "x"}, "one:v1", 'CMD ["sh"]')

    loaded = _loaded(other.engine, _saved(engine, "one:v1"))

    assert loaded == ["one:v1"]
    assert manifest == other.engine.store.resolve(ref("one:v1"))
    assert other.files(manifest) == {"etc": "dir", "etc/f": "x"}
    assert other.engine.store.check() == []


def test_several_images_share_their_blobs(tmp_path: Path, engine: Engine, other: Builder) -> None:
    image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    images.tag(engine, "one", ref("two"))
    image_of(engine, tmp_path / "b", {"f": "y"}, "three")

    data = _saved(engine, "one", "two", "three")

    assert len(members_of(data)) == len(set(members_of(data)))
    assert _loaded(other.engine, data) == ["one:latest", "two:latest", "three:latest"]


def test_an_archive_is_the_same_every_time(tmp_path: Path, engine: Engine) -> None:
    image_of(engine, tmp_path / "a", {"f": "x"}, "one")

    assert _saved(engine, "one") == _saved(engine, "one")


def test_an_image_saved_by_id_comes_back_without_a_name(
    tmp_path: Path, engine: Engine, other: Builder
) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, None)
    number = images.load(engine.store, manifest).id

    loaded = _loaded(other.engine, _saved(engine, number))

    assert [manifest.digest] == loaded
    assert [manifest.digest] == [image.digest for image in other.engine.store.images.unnamed()]


def test_a_damaged_blob_is_not_saved(tmp_path: Path, engine: Engine) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    layer = images.load(engine.store, manifest).manifest.layers[0]
    path = engine.store.path(layer.digest)
    path.chmod(0o644)
    path.write_bytes(bytes(layer.size))

    with pytest.raises(Corrupt):
        _saved(engine, "one")


def test_an_unknown_image_is_not_saved(engine: Engine) -> None:
    with pytest.raises(NotFound, match="nothing"):
        _saved(engine, "nothing")


# ---- docker's older form


def _docker_archive(layer: bytes, **changes: Any) -> dict[str, bytes]:
    """The members of what ``docker save`` wrote before version 25."""
    diff_id = "sha256:" + hashlib.sha256(layer).hexdigest()
    config = {
        "architecture": "amd64",
        "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [diff_id]},
        **changes.pop("config", {}),
    }
    listing = {
        "Config": "abc.json",
        "RepoTags": ["old:v1"],
        "Layers": ["aa/layer.tar"],
        **changes,
    }
    return {
        "aa/layer.tar": layer,
        "abc.json": json.dumps(config).encode(),
        "manifest.json": json.dumps([listing]).encode(),
    }


LAYER = tar_of({"f": b"x"})


@pytest.mark.parametrize("compress", [bytes, gzip.compress], ids=["plain", "gzip"])
def test_dockers_older_form_is_loaded(other: Builder, compress: Any) -> None:
    loaded = _loaded(other.engine, compress(tar_of(_docker_archive(LAYER))))

    assert loaded == ["old:v1"]
    assert other.files(other.engine.store.resolve(ref("old:v1"))) == {"f": "x"}


def test_a_layer_may_be_a_link_to_another_ones(other: Builder) -> None:
    members = _docker_archive(LAYER)
    members["bb/real.tar"] = members.pop("aa/layer.tar")
    members["aa/layer.tar"] = b"-> ../bb/real.tar"

    assert _loaded(other.engine, tar_of(members)) == ["old:v1"]


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        ({"Layers": ["../../../../etc/passwd"]}, Invalid),
        ({"Layers": ["/etc/passwd"]}, Invalid),
        ({"Config": "../../../etc/hostname"}, Invalid),
        ({"Config": "/proc/self/environ"}, Invalid),
        ({"Layers": []}, Invalid),
        ({"Layers": ["aa/layer.tar", "aa/layer.tar"]}, Invalid),
        ({"Layers": "aa/layer.tar"}, Invalid),
        ({"Layers": [None]}, Invalid),
        ({"Layers": None}, Invalid),
        ({"Config": None}, Invalid),
        ({"RepoTags": ["Not A Name"]}, Invalid),
        ({"RepoTags": [5]}, Invalid),
        ({"RepoTags": 5}, Invalid),
        ({"config": {"rootfs": {"diff_ids": ["sha256:" + "0" * 64]}}}, Corrupt),
        ({"config": {"rootfs": {"diff_ids": ["sha256:../../x"]}}}, Invalid),
        ({"config": {"rootfs": None}}, Invalid),
    ],
    ids=lambda value: str(value)[:60],
)
def test_a_listing_that_does_not_fit_is_refused(
    other: Builder, changes: Mapping[str, Any], kind: type[Exception]
) -> None:
    with pytest.raises(kind):
        _loaded(other.engine, tar_of(_docker_archive(LAYER, **dict(changes))))

    assert other.engine.store.images.names() == []


@pytest.mark.parametrize("listing", [b"", b"{", b"[1]", b"{}", b"5", b"null", b"[[]]", b"\xff"])
def test_a_listing_that_is_no_listing_is_refused(other: Builder, listing: bytes) -> None:
    members = _docker_archive(LAYER) | {"manifest.json": listing}

    with pytest.raises(Invalid):
        _loaded(other.engine, tar_of(members))


@pytest.mark.parametrize(
    "link",
    [
        member(b"aa/layer.tar", SYMLINK, link=b"/etc/passwd"),
        member(b"aa/layer.tar", SYMLINK, link=b"../../../../etc/passwd"),
        member(b"aa/layer.tar", SYMLINK, link=b"layer.tar"),
        member(b"aa/layer.tar", SYMLINK, link=b"b") + member(b"aa/b", SYMLINK, link=b"layer.tar"),
        member(b"aa/layer.tar", LINK, link=b"etc/passwd"),
        member(b"aa", SYMLINK, link=b"/etc") + member(b"aa/hostname", data=b"x"),
    ],
    ids=["absolute", "up", "itself", "loop", "hard", "directory"],
)
def test_links_lead_to_members_only(other: Builder, link: bytes) -> None:
    members = _docker_archive(LAYER)
    del members["aa/layer.tar"]
    data = tar_of(members)[: -len(END)].rstrip(b"\0")
    data += bytes(-len(data) % 512)

    with pytest.raises(Invalid):
        _loaded(other.engine, data + link + END)


@pytest.mark.parametrize("name", [b"../../evil", b"a/../../evil"], ids=repr)
def test_members_that_lead_out_are_refused(tmp_path: Path, other: Builder, name: bytes) -> None:
    with pytest.raises(Invalid):
        _loaded(other.engine, member(name, data=b"x") + END)

    assert list(tmp_path.rglob("evil")) == []


@pytest.mark.parametrize(
    "data", [b"", b"text" * 500, tar_of({}), tar_of({"a": b"x"}), gzip.compress(b"x")]
)
def test_what_holds_no_image_is_refused(other: Builder, data: bytes) -> None:
    with pytest.raises(PybuildError):
        _loaded(other.engine, data)


# ---- OCI layouts


def test_a_blob_that_is_not_its_digest_is_refused(
    tmp_path: Path, engine: Engine, other: Builder
) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    layer = images.load(engine.store, manifest).manifest.layers[0]
    members = members_of(_saved(engine, "one"))
    members[f"blobs/sha256/{layer.digest.hex}"] = bytes(layer.size)

    with pytest.raises(Corrupt):
        _loaded(other.engine, tar_of(members))

    assert other.engine.store.images.names() == []


@pytest.mark.parametrize("part", ["manifest", "config", "layer"])
def test_a_blob_that_is_missing_is_named(
    tmp_path: Path, engine: Engine, other: Builder, part: str
) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    image = images.load(engine.store, manifest)
    parts = {
        "manifest": manifest,
        "config": image.manifest.config,
        "layer": image.manifest.layers[0],
    }
    members = members_of(_saved(engine, "one"))
    del members[f"blobs/sha256/{parts[part].digest.hex}"]

    with pytest.raises(Invalid, match=parts[part].digest.hex):
        _loaded(other.engine, tar_of(members))


def test_an_index_with_the_blobs_of_one_platform_gives_that_image(
    tmp_path: Path, engine: Engine, other: Builder
) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    config = images.load(engine.store, manifest).config
    index = json.dumps(
        {
            "schemaVersion": 2,
            "mediaType": "application/vnd.oci.image.index.v1+json",
            "manifests": [
                {
                    "mediaType": manifest.media_type,
                    "digest": "sha256:" + "1" * 64,
                    "size": 5,
                    "platform": {"os": "linux", "architecture": "s390x"},
                },
                {**manifest.json(), "platform": config.platform.json()},
            ],
        }
    ).encode()
    members = members_of(_saved(engine, "one"))
    hexdigest = hashlib.sha256(index).hexdigest()
    members[f"blobs/sha256/{hexdigest}"] = index
    members["index.json"] = json.dumps(
        {
            "schemaVersion": 2,
            "manifests": [
                {
                    "mediaType": "application/vnd.oci.image.index.v1+json",
                    "digest": f"sha256:{hexdigest}",
                    "size": len(index),
                    "annotations": {"io.containerd.image.name": "docker.io/library/multi:1"},
                }
            ],
        }
    ).encode()

    assert _loaded(other.engine, tar_of(members)) == ["multi:1"]
    assert manifest.digest == other.engine.store.resolve(ref("multi:1")).digest


def test_a_bare_tag_names_no_image(tmp_path: Path, engine: Engine, other: Builder) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    members = members_of(_saved(engine, "one"))
    index = json.loads(members["index.json"])
    index["manifests"][0]["annotations"] = {"org.opencontainers.image.ref.name": "v1"}
    members["index.json"] = json.dumps(index).encode()

    assert [manifest.digest] == _loaded(other.engine, tar_of(members))


# ---- others read what we write, and the other way round


@pytest.mark.oracle
@pytest.mark.parametrize("transport", ["oci-archive", "docker-archive"])
def test_skopeo_reads_what_we_save(tmp_path: Path, engine: Engine, transport: str) -> None:
    image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    archive = tmp_path / "one.tar"
    archive.write_bytes(_saved(engine, "one"))

    done = subprocess.run(
        [program("skopeo"), "inspect", "--config", f"{transport}:{archive}"],
        capture_output=True,
        text=True,
        check=True,
    )

    expected = images.find(engine.store, "one").config.diff_ids
    assert list(expected) == json.loads(done.stdout)["rootfs"]["diff_ids"]


@pytest.mark.oracle
@pytest.mark.parametrize("form", ["docker-archive", "oci-archive"])
def test_what_skopeo_writes_is_loaded(
    tmp_path: Path, engine: Engine, other: Builder, form: str
) -> None:
    image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    archive = tmp_path / "out.tar"
    subprocess.run(
        [
            *(program("skopeo"), "copy", "--insecure-policy", "-q"),
            f"oci:{engine.store.root}:docker.io/library/one:latest",
            f"{form}:{archive}:docker.io/library/copied:v2",
        ],
        check=True,
    )

    assert _loaded(other.engine, archive.read_bytes()) == ["copied:v2"]
    assert other.files(other.engine.store.resolve(ref("copied:v2"))) == {"f": "x"}
