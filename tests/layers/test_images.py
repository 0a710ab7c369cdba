from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import pytest
from support.oracles import run
from support.stores import SmallImage, blobs, left_over, put_image

from layers.entry import Entry
from layers.layerwrite import LayerWriter
from layers.session import Session
from layers.store import Store
from ocispec import mediatypes
from ocispec.errors import Invalid, NotFound
from ocispec.model import Descriptor, ImageConfig, Manifest
from ocispec.platform import host
from ocispec.reference import Reference

ROOT = Path(__file__).parents[2]
ONE, TWO = (Reference.parse(text) for text in ("localhost:5000/some/one:v1", "two:latest"))


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "store")


@pytest.fixture
def session(store: Store) -> Iterator[Session]:
    with store.session() as session:
        yield session


@pytest.fixture
def a(session: Session) -> Descriptor:
    return put_image(session, "a").root


@pytest.fixture
def b(session: Session) -> Descriptor:
    return put_image(session, "b").root


def test_the_whole_reference_is_the_name_that_others_read(
    store: Store, session: Session, a: Descriptor
) -> None:
    session.tag(TWO, a)
    (entry,) = _index(store)["manifests"]

    assert entry["annotations"] == {
        "io.containerd.image.name": "docker.io/library/two:latest",
        "org.opencontainers.image.ref.name": "docker.io/library/two:latest",
    }


def test_a_name_leads_to_the_descriptor_that_was_tagged(
    store: Store, session: Session, a: Descriptor
) -> None:
    root = replace(a, annotations={"some": "thing"})
    session.tag(ONE, root)
    found = store.resolve(ONE)

    assert (root, {"some": "thing"}) == (found, found.annotations)


def test_an_image_may_have_several_names(store: Store, session: Session, a: Descriptor) -> None:
    session.tag(ONE, a)
    session.tag(TWO, a)

    assert [(ONE, a), (TWO, a)] == store.images.names()
    assert store.images.unnamed() == []


def test_an_image_that_loses_its_name_stays_without_one(
    store: Store, session: Session, a: Descriptor, b: Descriptor
) -> None:
    session.tag(ONE, a)
    session.tag(ONE, b)

    assert [(ONE, b)] == store.images.names()
    assert [a] == store.images.unnamed()


def test_an_image_that_loses_one_of_its_names_is_not_unnamed(
    store: Store, session: Session, a: Descriptor, b: Descriptor
) -> None:
    session.tag(ONE, a)
    session.tag(TWO, a)
    session.tag(ONE, b)

    assert [(TWO, a), (ONE, b)] == store.images.names()
    assert store.images.unnamed() == []


def test_an_image_that_gets_a_name_is_no_longer_unnamed(
    store: Store, session: Session, a: Descriptor
) -> None:
    session.keep(a)
    session.keep(a)
    unnamed = store.images.unnamed()
    session.tag(ONE, a)

    assert [a] == unnamed
    assert store.images.unnamed() == []
    assert len(store.images.entries()) == 1


def test_keeping_an_image_that_has_a_name_changes_nothing(
    store: Store, session: Session, a: Descriptor
) -> None:
    session.tag(ONE, a)
    session.keep(a)

    assert [(ONE, a)] == store.images.names()
    assert len(store.images.entries()) == 1


def test_giving_the_same_name_again_writes_nothing(
    store: Store, session: Session, a: Descriptor, b: Descriptor
) -> None:
    session.tag(ONE, a)
    session.tag(TWO, b)
    before = (store.root / "index.json").stat()
    session.tag(ONE, a)

    assert before == (store.root / "index.json").stat()


def test_untagging_takes_one_name(store: Store, session: Session, a: Descriptor) -> None:
    session.tag(ONE, a)
    session.tag(TWO, a)

    assert a == session.untag(ONE)
    assert [(TWO, a)] == store.images.names()
    with pytest.raises(NotFound, match="no such image: localhost:5000/some/one:v1"):
        session.untag(ONE)


def test_forgetting_an_image_takes_all_its_names(
    store: Store, session: Session, a: Descriptor, b: Descriptor
) -> None:
    session.tag(ONE, a)
    session.tag(TWO, a)
    session.keep(b)
    store.images.forget(frozenset({a.digest}))

    assert store.images.names() == []
    assert [b] == store.images.unnamed()


def test_a_digest_finds_its_image_whatever_the_name(
    store: Store, session: Session, a: Descriptor
) -> None:
    session.tag(ONE, a)

    assert a == store.resolve(replace(TWO, tag=None, digest=a.digest))
    assert a == store.resolve(replace(TWO, digest=a.digest))


def test_a_digest_is_no_part_of_a_name(store: Store, session: Session, a: Descriptor) -> None:
    session.tag(replace(ONE, digest=a.digest), a)

    assert [(ONE, a)] == store.images.names()


def test_a_name_needs_a_tag(session: Session, a: Descriptor) -> None:
    with pytest.raises(Invalid, match="has no tag"):
        session.tag(replace(ONE, tag=None), a)


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        ({"org.opencontainers.image.ref.name": "v1"}, "docker.io/library/v1:latest"),
        ({"org.opencontainers.image.ref.name": "b:v1"}, "docker.io/library/b:v1"),
        ({"org.opencontainers.image.ref.name": "q.io/b"}, "q.io/b:latest"),
        (
            {"org.opencontainers.image.ref.name": "v1", "io.containerd.image.name": "q.io/b:v1"},
            "q.io/b:v1",
        ),
        # umoci tag copies the other annotation.
        (
            {"org.opencontainers.image.ref.name": "v2", "io.containerd.image.name": "q.io/b:v1"},
            "docker.io/library/v2:latest",
        ),
        ({"io.containerd.image.name": "q.io/b:v1"}, "q.io/b:v1"),
        ({"org.opencontainers.image.ref.name": "No Such Name"}, None),
        ({"org.opencontainers.image.ref.name": ""}, None),
        ({"some": "thing"}, None),
    ],
    ids=["tag", "short", "no tag", "docker", "umoci tag", "containerd", "bad", "empty", "none"],
)
def test_names_that_others_gave_are_read(
    store: Store, a: Descriptor, annotations: dict[str, str], expected: str | None
) -> None:
    entry = replace(a, annotations=annotations)
    index = {"schemaVersion": 2, "manifests": [entry.json()]}
    (store.root / "index.json").write_text(json.dumps(index))

    if expected is None:
        assert store.images.names() == []
        assert [a.digest] == [root.digest for root in store.images.unnamed()]
    else:
        ref = Reference.parse(expected)
        assert ([(ref, a)], []) == (store.images.names(), store.images.unnamed())
        assert a == store.resolve(ref)


def test_what_others_wrote_in_an_entry_is_kept(
    store: Store, session: Session, a: Descriptor, b: Descriptor
) -> None:
    entry = a.json() | {"artifactType": "text/x", "annotations": {"some": "thing"}}
    index = {"schemaVersion": 2, "manifests": [entry]}
    (store.root / "index.json").write_text(json.dumps(index))
    session.tag(ONE, b)

    assert entry == _index(store)["manifests"][0]


def test_an_index_that_cannot_be_read_is_not_written_over(
    store: Store, session: Session, a: Descriptor
) -> None:
    (store.root / "index.json").write_text("{")
    with pytest.raises(Invalid):
        session.tag(ONE, a)

    assert (store.root / "index.json").read_text() == "{"


_TAGGER = """
import sys
from pathlib import Path
from layers.store import Store
from ocispec.model import Descriptor
from ocispec.reference import Reference
store = Store.at(Path(sys.argv[1]))
for number in range(10):
    with store.session() as session:
        root = session.put_bytes("text/plain", f"{sys.argv[2]}-{number}".encode())
        session.tag(Reference.parse(f"example.org/{sys.argv[2]}:{number}"), root)
"""


def test_processes_that_tag_at_once_lose_no_name(store: Store) -> None:
    command = [sys.executable, "-c", _TAGGER, str(store.root)]
    taggers = [subprocess.Popen([*command, name], cwd=ROOT) for name in ("a", "b", "c", "d")]
    assert [tagger.wait() for tagger in taggers] == [0, 0, 0, 0]
    names = {str(ref) for ref, _ in store.images.names()}

    assert {f"example.org/{name}:{n}" for name in "abcd" for n in range(10)} == names
    assert {root.digest for _, root in store.images.names()} == blobs(store)
    assert left_over(store.root) == []


# ---- what other programs see


@pytest.fixture
def real(session: Session) -> SmallImage:
    """An image with one layer that can be unpacked."""
    with LayerWriter(session) as writer:
        writer.add(Entry("hello", "file", 0o644, 0, 0, 5), b"hello")
        layer = writer.finish().layer
    config = session.put_bytes(
        mediatypes.OCI_CONFIG, ImageConfig(host(), (layer.diff_id,)).encode()
    )
    root = session.put_bytes(mediatypes.OCI_MANIFEST, Manifest(config, (layer.blob,)).encode())
    return SmallImage(root, config, (layer.blob,), (layer.diff_id,))


@pytest.mark.oracle
@pytest.mark.parametrize("ref", [ONE, TWO], ids=str)
def test_skopeo_reads_the_store_by_the_whole_name(
    store: Store, session: Session, real: SmallImage, ref: Reference
) -> None:
    session.tag(ref, real.root)
    found = json.loads(run("skopeo", "inspect", f"oci:{store.root}:{ref}"))

    assert real.root.digest == found["Digest"]
    assert [real.layers[0].digest] == found["Layers"]


@pytest.mark.oracle
def test_umoci_lists_and_unpacks_what_is_in_the_store(
    store: Store, session: Session, real: SmallImage, tmp_path: Path
) -> None:
    session.tag(ONE, real.root)
    session.tag(TWO, real.root)
    names = run("umoci", "list", "--layout", store.root).split()
    run("umoci", "unpack", "--rootless", "--image", f"{store.root}:{TWO}", tmp_path / "bundle")

    assert [str(ref) for ref in (TWO, ONE)] == sorted(names)
    assert (tmp_path / "bundle" / "rootfs" / "hello").read_text() == "hello"


@pytest.mark.oracle
def test_what_skopeo_copies_into_the_store_is_an_image_of_it(
    store: Store, session: Session, real: SmallImage, tmp_path: Path
) -> None:
    session.tag(ONE, real.root)
    other = tmp_path / "other"
    run("skopeo", "copy", f"oci:{store.root}:{ONE}", f"oci:{other}:latest")
    run("skopeo", "copy", f"oci:{other}:latest", f"oci:{store.root}:example.org/copied:v2")

    assert real.root.digest == store.resolve(Reference.parse("example.org/copied:v2")).digest
    assert store.check() == []


def test_an_index_of_another_tool_without_a_media_type_is_read(store: Store) -> None:
    blob = Descriptor.of(mediatypes.OCI_MANIFEST, b"{}")
    store.put(blob, BytesIO(b"{}"))
    index = {"schemaVersion": 2, "manifests": [blob.json()], "annotations": {"a": "b"}}
    (store.root / "index.json").write_text(json.dumps(index))

    assert [blob] == store.images.unnamed()


def _index(store: Store) -> dict[str, Any]:
    index: dict[str, Any] = json.loads((store.root / "index.json").read_bytes())
    return index
