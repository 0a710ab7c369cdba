from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from support.hostile import LAYER
from support.httpserver import Received, Reply, errors, http_server
from support.images import random_image
from support.smallregistry import SmallRegistry

from ocispec import mediatypes
from ocispec.errors import Denied, Invalid, NotFound, PybuildError, Unavailable
from ocispec.model import MAX_DOCUMENT, Descriptor
from ocispec.reference import Reference
from registry_client import repository
from registry_client.client import Client
from registry_client.repository import Repository

MANIFEST = Descriptor.of(mediatypes.OCI_MANIFEST, b"{}")
V1 = "v1"


@pytest.mark.parametrize(
    ("action", "reply", "kind"),
    [
        (lambda there, name: there.resolve(name), Reply(503), Unavailable),
        (lambda there, name: there.resolve(name), Reply(403), Denied),
        (lambda there, name: there.resolve(name), Reply(200, b"{}"), Invalid),
        (lambda there, name: there.resolve(name), Reply(200, b"no json"), Invalid),
        (lambda there, _: there.open(MANIFEST), Reply(404), NotFound),
        (lambda there, _: there.open(LAYER), Reply(404), NotFound),
        (lambda there, _: there.open(LAYER), Reply(503), Unavailable),
        (lambda there, _: there.has(LAYER), Reply(503), Unavailable),
        (lambda there, _: there.has(MANIFEST), Reply(429), Unavailable),
        (lambda there, _: there.put(MANIFEST, io.BytesIO(b"{}")), Reply(403), Denied),
        (lambda there, _: there.put(LAYER, io.BytesIO(b"layer")), Reply(403), Denied),
        (lambda there, name: there.tag(name, MANIFEST), Reply(404), NotFound),
        (lambda there, _: there.tags(), Reply(401), Denied),
        (lambda there, _: there.tags(), Reply(200, b"[]"), Invalid),
        (lambda there, _: there.tags(), Reply(200, b'{"tags":{"a":1}}'), Invalid),
    ],
    ids=range(15),
)
def test_what_goes_wrong_is_one_of_our_kinds_and_names_the_repository(
    client: Client,
    action: Callable[[Repository, Reference], object],
    reply: Reply,
    kind: type[PybuildError],
) -> None:
    with http_server(reply) as server:
        name = Reference(server.name, "some/app", V1)
        with pytest.raises(kind) as caught:
            action(client.repository(name), name)

    assert type(caught.value) is kind
    if reply.status != 200:
        assert caught.value.message.startswith(f"{server.name}/some/app")


def test_a_manifest_that_is_too_big_is_not_sent(client: Client) -> None:
    with http_server(Reply(201)) as server:
        there = client.repository(Reference(server.name, "x"))
        with pytest.raises(Invalid, match="more than"):
            there.put(replace(MANIFEST, size=MAX_DOCUMENT + 1), io.BytesIO(b"{}"))

    assert server.received == []


def test_what_was_put_before_can_be_tagged(client: Client) -> None:
    image = random_image(1)
    small = SmallRegistry(image.content)
    with http_server(small) as server:
        name = Reference(server.name, "x", V1)
        client.repository(name).tag(name, image.root)

    assert small.tags[V1].digest == image.root.digest
    assert server.requests == [
        f"GET /v2/x/manifests/{image.root.digest}",
        "PUT /v2/x/manifests/v1",
    ]


def test_only_so_many_manifests_are_kept(client: Client) -> None:
    blobs = [json.dumps({"a": number}).encode() for number in range(40)]
    with http_server(SmallRegistry()) as server:
        there = client.repository(Reference(server.name, "x"))
        for data in blobs:
            there.put(Descriptor.of(mediatypes.OCI_MANIFEST, data), io.BytesIO(data))

    assert len(there._documents) == 32


def test_tags_without_end_are_an_error(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(repository, "_MAX_PAGES", 5)
    count = [0]

    def handler(_: Received) -> Reply:
        count[0] += 1
        body = json.dumps({"tags": [f"t{count[0]}"]}).encode()
        return Reply(200, body, {"Link": f"</v2/x/tags/list?p={count[0]}>; rel=next"})

    with http_server(handler) as server:
        with pytest.raises(Invalid, match="no end"):
            client.repository(Reference(server.name, "x")).tags()

        assert len(server.received) == 5


def test_neighbours_that_are_closed_to_us_are_passed_over(client: Client) -> None:
    """And the one that had a blob is asked first for the next."""

    def handler(request: Received) -> Reply:
        if request.method == "HEAD":
            found = request.path.startswith("/v2/c/")
            return Reply(200 if found else 404)
        return Reply(201)

    with http_server(handler) as server:
        there = client.repository(Reference(server.name, "x"), mount_from=["a", "b", "c"])
        for data in (b"one", b"two"):
            blob = Descriptor.of(mediatypes.OCI_LAYER, data)
            there.put(blob, io.BytesIO(data))
    asked = [request.path.split("/")[2] for request in server.received if request.method == "HEAD"]

    assert asked == ["a", "b", "c", "c"]


def test_a_blob_that_no_neighbour_has_is_uploaded(client: Client) -> None:
    small = SmallRegistry()

    def handler(request: Received) -> Reply:
        return errors(401, "UNAUTHORIZED", "no") if request.method == "HEAD" else small(request)

    with http_server(handler) as server:
        there = client.repository(Reference(server.name, "x"), mount_from=["a", "b"])
        there.put(LAYER, io.BytesIO(b"layer"))

    assert LAYER.digest in small.content.blobs
    assert all("mount" not in request.target for request in server.received)


def test_a_session_that_cannot_be_cancelled_leaves_the_first_error(client: Client) -> None:
    small = SmallRegistry()

    def handler(request: Received) -> Reply:
        match request.method:
            case "PUT":
                return errors(403, "DENIED", "the first error")
            case "DELETE":
                return Reply(reset=True)
            case _:
                return small(request)

    with http_server(handler) as server:
        there = client.repository(Reference(server.name, "x"))
        with pytest.raises(Denied, match="the first error"):
            there.put(LAYER, io.BytesIO(b"layer"))
