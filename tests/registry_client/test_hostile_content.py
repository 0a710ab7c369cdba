"""Content of a hostile registry that must not be taken: rules R11 to R15, R18, R19."""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace

import pytest
from support.hostile import LAYER, OTHER, ask_for_login, never
from support.httpserver import Received, Reply, http_server
from support.images import Memory, random_image
from support.smallregistry import SmallRegistry

from ocispec import mediatypes
from ocispec.content import read_small
from ocispec.copy import copy
from ocispec.digest import Digest
from ocispec.errors import Corrupt, Denied, Invalid, Unavailable
from ocispec.model import MAX_DOCUMENT, Descriptor, Index
from ocispec.reference import Reference
from registry_client.client import Client

ClientWith = Callable[..., Client]


BAD_DIGESTS = [
    "sha256:../../x",
    "sha256:" + "A" * 64,
    "sha256:abcd",
    "sha256:" + "a" * 64 + "?x=y",
    "sha256:" + "a" * 63 + "ａ",
    "sha256:" + "a" * 64 + "\n",
    "md5:" + "a" * 32,
    "",
]


@pytest.mark.parametrize("digest", BAD_DIGESTS, ids=ascii)
def test_r11_a_manifest_with_a_malformed_digest_goes_nowhere(client: Client, digest: str) -> None:
    config = {"mediaType": mediatypes.OCI_CONFIG, "digest": digest, "size": 2}
    body = {"schemaVersion": 2, "mediaType": mediatypes.OCI_MANIFEST, "config": config}
    content = Memory()
    root = content.add(mediatypes.OCI_MANIFEST, json.dumps({**body, "layers": []}).encode())
    with http_server(SmallRegistry(content)) as server:
        there = client.repository(Reference(server.name, "x"))
        with pytest.raises(Invalid):
            copy(root, there, Memory())

    assert [f"GET /v2/x/manifests/{root.digest}"] == server.requests


@pytest.mark.parametrize("digest", [*BAD_DIGESTS[:4], "sha256:" + "0" * 64], ids=ascii)
def test_r11_r12_the_digest_header_is_not_trusted(client: Client, digest: str) -> None:
    image = random_image(3)
    data = image.content.blobs[image.root.digest]
    headers = {"Docker-Content-Digest": digest, "Content-Type": image.root.media_type}
    with http_server(Reply(200, data, headers)) as server:
        name = Reference(server.name, "x", "v1")
        there = client.repository(name)
        root = there.resolve(name)
        if root.digest != image.root.digest:
            with pytest.raises(Corrupt):
                read_small(there, root, MAX_DOCUMENT)
        by_digest = Reference(server.name, "x", None, image.root.digest)

        assert image.root.digest == there.resolve(by_digest).digest


@pytest.mark.parametrize(
    "came",
    [b"evil!", b"layer+", b"laye", b"", b"layer" * 100_000],
    ids=["other", "longer", "shorter", "empty", "much longer"],
)
@pytest.mark.parametrize("length", [True, False], ids=["length", "no length"])
def test_r12_bytes_that_are_not_the_blob_are_refused(
    client: Client, came: bytes, length: bool
) -> None:
    headers = {"Docker-Content-Digest": str(LAYER.digest)}
    reply = Reply(200, came, headers, length=length)
    with http_server(reply) as server:
        there = client.repository(Reference(server.name, "x"))
        with pytest.raises((Corrupt, Unavailable)):
            read_small(there, LAYER, 100)


def test_r12_another_manifest_than_was_asked_for_is_refused(client: Client) -> None:
    wanted, other = random_image(4), random_image(5)
    data = other.content.blobs[other.root.digest]
    headers = {
        "Docker-Content-Digest": str(wanted.root.digest),
        "Content-Type": wanted.root.media_type,
    }
    with http_server(Reply(200, data, headers)) as server:
        there = client.repository(Reference(server.name, "x"))
        with pytest.raises(Corrupt):
            copy(wanted.root, there, Memory())


def _both(**more: object) -> bytes:
    config = Descriptor.of(mediatypes.OCI_CONFIG, b"{}").json()
    fields = {"schemaVersion": 2, "config": config, "layers": [], **more}
    return json.dumps(fields).encode()


@pytest.mark.parametrize(
    "data",
    [
        _both(mediaType=mediatypes.OCI_MANIFEST, manifests=[]),
        _both(mediaType=mediatypes.OCI_INDEX),
        _both(mediaType=7),
        _both()[:-1] + b',"layers":[]}',
    ],
    ids=["manifest and index", "another type", "type is a number", "a key twice"],
)
def test_r13_a_document_that_can_be_read_in_two_ways_is_refused(
    client: Client, data: bytes
) -> None:
    content = Memory()
    root = content.add(mediatypes.OCI_MANIFEST, data)
    headers = {"Content-Type": root.media_type, "Docker-Content-Digest": str(root.digest)}
    with http_server(Reply(200, data, headers)) as server:
        name = Reference(server.name, "x", "v1")
        there = client.repository(name)
        with pytest.raises(Invalid):
            copy(there.resolve(name), there, Memory())


@pytest.mark.parametrize(
    "data",
    [
        b'{"schemaVersion":2,"manifests":' + b"[" * 200_000 + b"]" * 200_000 + b"}",
        b'{"schemaVersion":2,"manifests":[' + b"{}," * 20_000 + b"{}]}",
    ],
    ids=["deep", "many"],
)
def test_r14_documents_have_limits(client: Client, data: bytes) -> None:
    content = Memory()
    root = content.add(mediatypes.OCI_INDEX, data)
    headers = {"Content-Type": root.media_type, "Docker-Content-Digest": str(root.digest)}
    with http_server(Reply(200, data, headers)) as server:
        there = client.repository(Reference(server.name, "x"))
        with pytest.raises(Invalid):
            copy(root, there, Memory())


def test_r14_a_manifest_that_claims_gigabytes_is_not_asked_for(client: Client) -> None:
    root = Descriptor(mediatypes.OCI_MANIFEST, LAYER.digest, 2 << 30)
    with http_server(never) as server:
        there = client.repository(Reference(server.name, "x"))
        with pytest.raises(Corrupt):
            copy(root, there, Memory())

    assert server.received == []


def test_r15_redirects_come_to_an_end(client: Client) -> None:
    def handler(request: Received) -> Reply:
        return Reply(307, headers={"Location": f"/x{len(request.path)}{request.path}"})

    with http_server(handler) as server:
        there = client.repository(Reference(server.name, "x"))
        with pytest.raises(Unavailable, match="more than 10 redirects"):
            there.open(LAYER)

        assert len(server.received) == 10


@pytest.mark.parametrize(
    "link",
    ["</v2/x/tags/list?n=1000>; rel=next", "</a>; rel=next", "<>; rel=next"],
    ids=["itself", "another", "nothing"],
)
def test_r15_pages_come_to_an_end(client: Client, link: str) -> None:
    body = json.dumps({"tags": ["a", "b"]}).encode()
    with http_server(Reply(200, body, {"Link": link})) as server:
        assert client.repository(Reference(server.name, "x")).tags() == ["a", "b"]
        assert len(server.received) == 2


def test_r15_pages_do_not_lead_to_another_host(client_with: ClientWith) -> None:
    with ExitStack() as stack:
        evil = stack.enter_context(http_server(never, host=OTHER))
        page = Reply(200, b'{"tags":["a"]}', {"Link": f"<{evil.url}/x>; rel=next"})
        good = stack.enter_context(http_server(ask_for_login(lambda _: page)))
        with pytest.raises(Denied):
            client_with(good.name).repository(Reference(good.name, "x")).tags()

    assert evil.received == []


def test_r15_an_index_in_an_index_in_an_index_comes_to_an_end(client: Client) -> None:
    content = Memory()
    root = content.add(mediatypes.OCI_INDEX, Index(()).encode())
    for _ in range(20):
        root = content.add(mediatypes.OCI_INDEX, Index((root,)).encode())
    with http_server(SmallRegistry(content)) as server:
        with pytest.raises(Invalid, match="nested"):
            copy(root, client.repository(Reference(server.name, "x")), Memory())

        assert len(server.received) < 10


def test_r18_a_tag_that_moves_meanwhile_does_not_mix_images(client: Client) -> None:
    first, content = random_image(6), Memory()
    second = random_image(7, content=content)
    content.blobs.update(first.content.blobs)
    small = SmallRegistry(content, {"v1": first.root})
    with http_server(small) as server:
        name = Reference(server.name, "x", "v1")
        there, back = client.repository(name), Memory()
        root = there.resolve(name)
        small.tags["v1"] = second.root
        copy(root, there, back)

    assert first.content.blobs == back.blobs


def test_r19_a_digest_wins_over_the_tag_beside_it(client: Client) -> None:
    tagged, content = random_image(8), Memory()
    wanted = random_image(9, content=content)
    content.blobs.update(tagged.content.blobs)
    with http_server(SmallRegistry(content, {"v1": tagged.root})) as server:
        name = Reference(server.name, "x", "v1", wanted.root.digest)

        assert wanted.root.digest == client.repository(name).resolve(name).digest


def test_a_blob_with_a_content_encoding_is_taken_as_it_is(client: Client) -> None:
    data = b"\x1f\x8b not really"
    blob = Descriptor.of(mediatypes.OCI_LAYER_GZIP, data)
    headers = {"Content-Encoding": "gzip"}
    with http_server(Reply(200, data, headers)) as server:
        assert data == read_small(client.repository(Reference(server.name, "x")), blob, 99)
    assert server.all("accept-encoding") == ["identity"]


def test_a_digest_with_another_algorithm_is_checked_by_it(client: Client) -> None:
    import hashlib

    digest = Digest("sha512:" + hashlib.sha512(b"layer").hexdigest())
    blob = Descriptor(mediatypes.OCI_LAYER, digest, 5)
    with http_server(Reply(200, b"layer")) as server:
        there = client.repository(Reference(server.name, "x"))

        assert read_small(there, blob, 9) == b"layer"
        with pytest.raises(Corrupt):
            read_small(there, replace(blob, digest=Digest("sha512:" + "0" * 128)), 9)
