from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocispec import mediatypes
from ocispec.digest import DiffID, Digest
from ocispec.errors import Invalid
from ocispec.model import (
    MAX_CHILDREN,
    MAX_DOCUMENT,
    Descriptor,
    History,
    ImageConfig,
    Index,
    Layer,
    Manifest,
)
from ocispec.platform import Platform

DIGEST = "sha256:" + "1" * 64
BLOB: dict[str, Any] = {"mediaType": mediatypes.OCI_LAYER_GZIP, "digest": DIGEST, "size": 7}
CONFIG: dict[str, Any] = {"mediaType": mediatypes.OCI_CONFIG, "digest": DIGEST, "size": 7}
MANIFEST: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": mediatypes.OCI_MANIFEST,
    "config": CONFIG,
    "layers": [BLOB, BLOB],
}
INDEX: dict[str, Any] = {
    "schemaVersion": 2,
    "mediaType": mediatypes.OCI_INDEX,
    "manifests": [{**BLOB, "platform": {"architecture": "amd64", "os": "linux"}}],
}
IMAGE: dict[str, Any] = {
    "architecture": "amd64",
    "os": "linux",
    "config": {"Env": ["A=b"], "Healthcheck": {"Test": ["NONE"]}},
    "created": "2024-01-01T00:00:00Z",
    "author": "me",
    "history": [{"created_by": "RUN x", "empty_layer": True}, {"comment": "c"}],
    "rootfs": {"type": "layers", "diff_ids": [DIGEST]},
}

TEXT = st.text(st.characters(exclude_categories=["Cs"]), max_size=9)
EXTRA = st.dictionaries(
    TEXT.map(lambda text: "x-" + text),
    st.none() | st.booleans() | st.integers() | TEXT | st.lists(TEXT, max_size=2),
    max_size=3,
)
BLOBS = st.builds(
    Descriptor,
    TEXT,
    st.binary(max_size=4).map(Digest.of),
    st.integers(0, 1 << 61),
    st.dictionaries(TEXT, TEXT, max_size=2),
    st.none() | st.just(Platform("linux", "amd64")),
    EXTRA,
)


def data(document: object) -> bytes:
    return json.dumps(document).encode()


@given(BLOBS)
def test_a_descriptor_is_read_back(blob: Descriptor) -> None:
    assert Descriptor.from_json(json.loads(json.dumps(blob.json()))) == blob


@given(
    st.builds(
        Manifest,
        BLOBS,
        st.lists(BLOBS, max_size=3).map(tuple),
        st.sampled_from(sorted(mediatypes.MANIFESTS)),
        st.dictionaries(TEXT, TEXT, max_size=2),
        st.none() | BLOBS,
        EXTRA,
    )
)
def test_a_manifest_is_read_back(manifest: Manifest) -> None:
    assert Manifest.decode(manifest.encode(), manifest.media_type) == manifest


@given(
    st.builds(
        Index,
        st.lists(BLOBS, max_size=3).map(tuple),
        st.sampled_from(sorted(mediatypes.INDEXES)),
        st.dictionaries(TEXT, TEXT, max_size=2),
        EXTRA,
    )
)
def test_an_index_is_read_back(index: Index) -> None:
    assert Index.decode(index.encode(), index.media_type) == index


@given(
    st.builds(
        ImageConfig,
        st.just(Platform("linux", "arm", "v6")),
        st.lists(st.binary(max_size=3).map(Digest.of).map(DiffID), max_size=3).map(tuple),
        EXTRA,
        st.lists(
            st.builds(History, st.none() | TEXT, st.none() | TEXT, st.none() | TEXT), max_size=3
        ).map(tuple),
        st.none() | TEXT,
        st.none() | TEXT,
        EXTRA,
    )
)
def test_a_config_is_read_back(config: ImageConfig) -> None:
    assert ImageConfig.decode(config.encode()) == config


@pytest.mark.parametrize(
    ("document", "again"),
    [
        (
            {**MANIFEST, "artifactType": "a/b", "x": {"y": [1, None]}},
            lambda text: Manifest.decode(text, mediatypes.OCI_MANIFEST).encode(),
        ),
        (
            {**INDEX, "subject": BLOB, "x": 1},
            lambda text: Index.decode(text, mediatypes.OCI_INDEX).encode(),
        ),
        ({**IMAGE, "container_config": {}, "x": None}, lambda t: ImageConfig.decode(t).encode()),
        (
            {**BLOB, "urls": ["https://x"], "data": "e30=", "artifactType": "a/b"},
            lambda text: data(Descriptor.from_json(json.loads(text)).json()),
        ),
    ],
    ids=["manifest", "index", "config", "descriptor"],
)
def test_keys_that_we_do_not_know_are_kept(
    document: dict[str, Any], again: Callable[[bytes], bytes]
) -> None:
    assert json.loads(again(data(document))) == document


@pytest.mark.parametrize(
    "fields",
    [
        None,
        [],
        {},
        {**BLOB, "size": -1},
        {**BLOB, "size": "7"},
        {**BLOB, "size": 7.5},
        {**BLOB, "size": True},
        {**BLOB, "size": None},
        {**BLOB, "size": 1 << 62},
        {**BLOB, "digest": "sha256:../x"},
        {**BLOB, "digest": 7},
        {**BLOB, "mediaType": None},
        {**BLOB, "annotations": {"a": 1}},
        {**BLOB, "annotations": ["a"]},
        {**BLOB, "platform": "linux/amd64"},
    ],
    ids=str,
)
def test_a_descriptor_that_makes_no_sense_is_invalid(fields: object) -> None:
    with pytest.raises(Invalid):
        Descriptor.from_json(fields)


@pytest.mark.parametrize(
    "changes",
    [
        {"schemaVersion": 1},
        {"schemaVersion": "2"},
        {"mediaType": mediatypes.OCI_INDEX},
        {"mediaType": mediatypes.DOCKER_MANIFEST},
        {"mediaType": None},
        {"manifests": []},
        {"config": None},
        {"config": []},
        {"layers": {}},
        {"layers": "x"},
        {"layers": [7]},
        {"layers": [BLOB] * (MAX_CHILDREN + 1)},
        {"annotations": []},
        {"subject": 7},
    ],
    ids=lambda changes: str(changes)[:40],
)
def test_r13_a_manifest_that_makes_no_sense_is_invalid(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        Manifest.decode(data({**MANIFEST, **changes}), mediatypes.OCI_MANIFEST)


@pytest.mark.parametrize(
    "changes",
    [
        {"schemaVersion": 1},
        {"mediaType": mediatypes.OCI_MANIFEST},
        {"layers": []},
        {"config": CONFIG},
        {"manifests": [None]},
        {"manifests": {}},
    ],
    ids=str,
)
def test_r13_an_index_that_makes_no_sense_is_invalid(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        Index.decode(data({**INDEX, **changes}), mediatypes.OCI_INDEX)


@pytest.mark.parametrize(
    "changes",
    [
        {"config": [1]},
        {"config": "x"},
        {"rootfs": []},
        {"rootfs": {"diff_ids": ["x"]}},
        {"rootfs": {"diff_ids": {"a": 1}}},
        {"history": {"a": 1}},
        {"history": ["x"]},
        {"history": [None]},
    ],
    ids=str,
)
def test_a_config_that_makes_no_sense_is_invalid(changes: dict[str, Any]) -> None:
    with pytest.raises(Invalid):
        ImageConfig.decode(data({**IMAGE, **changes}))


@pytest.mark.parametrize(
    "changes",
    [
        {"config": None},
        {"history": None},
        {"rootfs": {"type": "layers", "diff_ids": None}},
        {"created": None, "author": None},
    ],
    ids=str,
)
def test_what_go_writes_for_nothing_is_nothing(changes: dict[str, Any]) -> None:
    ImageConfig.decode(data({**IMAGE, **changes}))


def test_the_type_in_the_document_may_be_missing() -> None:
    document = {key: value for key, value in MANIFEST.items() if key != "mediaType"}

    assert Manifest.decode(data(document), mediatypes.OCI_MANIFEST).media_type == (
        mediatypes.OCI_MANIFEST
    )


def test_a_document_that_is_too_big_is_invalid() -> None:
    with pytest.raises(Invalid, match="more than"):
        Manifest.decode(b" " * (MAX_DOCUMENT + 1), mediatypes.OCI_MANIFEST)


def test_children_are_the_config_first_then_the_layers() -> None:
    manifest = Manifest.decode(data(MANIFEST), mediatypes.OCI_MANIFEST)

    assert [child.media_type for child in manifest.children()] == [
        mediatypes.OCI_CONFIG,
        mediatypes.OCI_LAYER_GZIP,
        mediatypes.OCI_LAYER_GZIP,
    ]


def test_children_of_an_index_are_its_manifests() -> None:
    index = Index.decode(data(INDEX), mediatypes.OCI_INDEX)

    assert index.children() == index.manifests


def test_a_layer_is_read_back() -> None:
    layer = Layer(DiffID(Digest.of(b"tar")), Digest.of(b"it"), Descriptor.of("x/y", b"blob"))

    assert Layer.from_json(json.loads(json.dumps(layer.json()))) == layer


def test_a_descriptor_of_data_says_what_it_is() -> None:
    blob = Descriptor.of("x/y", b"abc")

    assert (blob.media_type, blob.digest, blob.size) == ("x/y", Digest.of(b"abc"), 3)


@given(st.binary(max_size=80))
def test_any_bytes_are_a_document_or_invalid(text: bytes) -> None:
    for decode in (
        lambda: Manifest.decode(text, mediatypes.OCI_MANIFEST),
        lambda: Index.decode(text, mediatypes.OCI_INDEX),
        lambda: ImageConfig.decode(text),
    ):
        with suppress(Invalid):  # nothing else may be raised
            decode()


def test_what_a_platform_says_besides_is_kept() -> None:
    platform = {"architecture": "amd64", "os": "windows", "os.version": "10.0.14393.1066"}
    document = {"mediaType": "a/b", "digest": "sha256:" + "0" * 64, "size": 1}
    read = Descriptor.from_json({**document, "platform": platform})

    assert platform == read.json()["platform"]
    assert read.platform == Platform("windows", "amd64")


def test_go_s_empty_lists_are_empty() -> None:
    data = b'{"schemaVersion":2,"manifests":null}'

    assert Index.decode(data, mediatypes.OCI_INDEX).manifests == ()
