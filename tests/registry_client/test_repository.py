from __future__ import annotations

import io
import json
from collections.abc import Callable
from dataclasses import replace

import pytest
from contracts.content_contract import ContentContract
from support.httpserver import Received, Reply, errors, http_server
from support.images import AMD64, Memory, random_image, random_index
from support.registry import USER, RunningRegistry
from support.smallregistry import SmallRegistry

from ocispec import mediatypes
from ocispec.content import VerifiedReader, read_small
from ocispec.copy import copy
from ocispec.digest import Digest
from ocispec.errors import Corrupt, Denied, Invalid, NotFound, Unavailable, Unsupported
from ocispec.model import MAX_DOCUMENT, Descriptor
from ocispec.platform import Platform
from ocispec.reference import Reference
from registry_client.client import Client
from registry_client.credentials import Login
from registry_client.repository import Repository

ARM64 = Platform("linux", "arm64")


@pytest.fixture(params=["plain", "locked", "tokened"])
def any_registry(request: pytest.FixtureRequest) -> RunningRegistry:
    registry: RunningRegistry = request.getfixturevalue(request.param)
    return registry


@pytest.fixture
def user(any_registry: RunningRegistry, client_with: Callable[..., Client]) -> Client:
    return client_with(any_registry.name)


@pytest.fixture
def name(any_registry: RunningRegistry, repository_name: str) -> Reference:
    return Reference(any_registry.name, repository_name, "v1")


class TestRepositoryIsContent(ContentContract):
    """Against docker-registry: open, with a password, and with tokens."""

    @pytest.fixture
    def content(self, user: Client, name: Reference) -> Repository:
        return user.repository(name)


def test_a_pushed_image_is_pulled_back_whole(user: Client, name: Reference) -> None:
    image, back = random_image(1, layers=5, size=200_000), Memory()
    there = user.repository(name)
    copy(image.root, image.content, there)
    there.tag(name, image.root)
    here = user.repository(name)
    copy(here.resolve(name), here, back)

    assert image.content.blobs == back.blobs


def test_a_pushed_index_is_pulled_back_whole(user: Client, name: Reference) -> None:
    image, back = random_index(2, AMD64, ARM64), Memory()
    there = user.repository(name)
    copy(image.root, image.content, there)
    there.tag(name, image.root)
    here = user.repository(name)
    copy(here.resolve(name), here, back)

    assert image.content.blobs == back.blobs


def test_a_second_push_sends_nothing(user: Client, name: Reference) -> None:
    image, done = random_image(3), []
    copy(image.root, image.content, user.repository(name))
    copy(
        image.root,
        image.content,
        user.repository(name),
        on_blob=lambda _, what: done.append(what),
    )

    assert done == ["exists"] * 4


def test_tags_are_listed_sorted(user: Client, name: Reference) -> None:
    image = random_image(4)
    there = user.repository(name)
    copy(image.root, image.content, there)
    for tag in ("v2", "latest", "v1"):
        there.tag(replace(name, tag=tag), image.root)

    assert user.repository(name).tags() == ["latest", "v1", "v2"]


def test_tags_of_an_unknown_repository_are_not_found(user: Client, name: Reference) -> None:
    with pytest.raises(NotFound):
        user.repository(name).tags()


def test_a_blob_is_mounted_from_a_neighbour(
    user: Client, name: Reference, any_registry: RunningRegistry
) -> None:
    image = random_image(5, size=50_000)
    copy(image.root, image.content, user.repository(name))
    other = replace(name, repository=name.repository + "-copy")
    sent: list[int] = []
    there = user.repository(
        other,
        mount_from=["not/there", name.repository],
        on_progress=lambda _, count: sent.append(count),
    )
    copy(image.root, image.content, there)

    assert sent == []
    assert read_small(there, image.root, MAX_DOCUMENT) == image.content.blobs[image.root.digest]


def test_progress_counts_to_the_size_both_ways(user: Client, name: Reference) -> None:
    data = bytes(3_000_000)
    blob = Descriptor.of(mediatypes.OCI_LAYER, data)
    seen: list[tuple[Digest, int]] = []
    there = user.repository(name, on_progress=lambda blob, count: seen.append((blob.digest, count)))
    there.put(blob, io.BytesIO(data))

    assert (blob.digest, len(data)) == seen[-1]
    assert len(seen) >= 3
    seen.clear()
    reader = there.open(blob)
    while reader.read(1 << 20):
        pass
    reader.close()
    assert (blob.digest, len(data)) == seen[-1]


def test_an_image_goes_from_registry_to_registry(
    client: Client, plain: RunningRegistry, repository_name: str
) -> None:
    image = random_image(6, size=3_000_000)
    first = Reference(plain.name, repository_name, "v1")
    second = Reference(plain.name, repository_name + "-2", "v1")
    copy(image.root, image.content, client.repository(first))
    copy(image.root, client.repository(first), client.repository(second))

    assert client.repository(second).has(image.root)


def test_without_a_login_a_locked_registry_says_what_to_do(
    client: Client, locked: RunningRegistry
) -> None:
    name = Reference(locked.name, "some/app", "v1")
    with pytest.raises(Denied) as caught:
        client.repository(name).resolve(name)

    assert f"{name}: authentication required" == caught.value.message
    assert "docker login" in caught.value.hint


def test_a_wrong_password_is_denied(
    locked: RunningRegistry, client_with: Callable[..., Client]
) -> None:
    name = Reference(locked.name, "some/app", "v1")
    with pytest.raises(Denied) as caught:
        client_with(locked.name, Login(USER, "wrong")).repository(name).resolve(name)

    assert "credentials" in caught.value.hint


def test_all_may_pull_with_a_token_but_not_push(
    client: Client,
    client_with: Callable[..., Client],
    tokened: RunningRegistry,
    repository_name: str,
) -> None:
    image, back = random_image(7), Memory()
    name = Reference(tokened.name, repository_name, "v1")
    there = client_with(tokened.name).repository(name)
    copy(image.root, image.content, there)
    there.tag(name, image.root)
    anonymous = client.repository(name)
    copy(anonymous.resolve(name), anonymous, back)

    assert image.content.blobs == back.blobs
    blob = Descriptor.of(mediatypes.OCI_LAYER, b"new")
    with pytest.raises(Denied):
        anonymous.put(blob, io.BytesIO(b"new"))


def test_a_tag_without_digest_header_is_resolved_by_its_document(client: Client) -> None:
    image = random_image(8)
    data = image.content.blobs[image.root.digest]
    reply = Reply(200, data, {"Content-Type": image.root.media_type + "; charset=utf-8"})
    with http_server(reply) as server:
        name = Reference(server.name, "x", "v1")
        root = client.repository(name).resolve(name)

    assert replace(image.root, platform=None) == root
    assert server.requests == ["HEAD /v2/x/manifests/v1", "GET /v2/x/manifests/v1"]


def test_a_registry_without_head_is_asked_with_get(client: Client) -> None:
    image = random_image(9)
    small = SmallRegistry(image.content, {"v1": image.root})

    def handler(request: Received) -> Reply:
        return Reply(405) if request.method == "HEAD" else small(request)

    with http_server(handler) as server:
        name = Reference(server.name, "x", "v1")

        assert image.root.digest == client.repository(name).resolve(name).digest


def test_the_whole_accept_list_is_sent(client: Client) -> None:
    with http_server(Reply(404)) as server:
        name = Reference(server.name, "x", "v1")
        with pytest.raises(NotFound):
            client.repository(name).resolve(name)

    assert [", ".join(mediatypes.ACCEPT)] * 2 == server.all("accept")


def test_schema_1_is_not_supported(client: Client) -> None:
    kind = "application/vnd.docker.distribution.manifest.v1+prettyjws"
    with http_server(Reply(200, b"{}", {"Content-Type": kind})) as server:
        name = Reference(server.name, "x", "v1")
        with pytest.raises(Unsupported, match="schema 1"):
            client.repository(name).resolve(name)


@pytest.mark.parametrize("status", [401, 403, 405])
def test_a_registry_that_will_not_say_has_nothing(client: Client, status: int) -> None:
    blob = Descriptor.of(mediatypes.OCI_LAYER, b"x")
    with http_server(Reply(status)) as server:
        assert not client.repository(Reference(server.name, "x")).has(blob)


def test_a_blob_of_another_size_is_not_there(client: Client) -> None:
    blob = Descriptor.of(mediatypes.OCI_LAYER, b"x")
    with http_server(Reply(200, b"longer")) as server:
        assert not client.repository(Reference(server.name, "x")).has(blob)


def test_a_manifest_that_was_taken_but_is_not_there_is_an_error(client: Client) -> None:
    data = b"{}"
    blob = Descriptor.of(mediatypes.OCI_MANIFEST, data)
    with (
        http_server(lambda request: Reply(201 if request.method == "PUT" else 404)) as server,
        pytest.raises(Unavailable, match="not there"),
    ):
        client.repository(Reference(server.name, "x")).put(blob, io.BytesIO(data))


def test_a_registry_that_stored_something_else_is_found_out(client: Client) -> None:
    other = {"Docker-Content-Digest": str(Digest.of(b"other"))}
    blob = Descriptor.of(mediatypes.OCI_MANIFEST, b"{}")
    with (
        http_server(Reply(201, headers=other)) as server,
        pytest.raises(Corrupt, match="in place of"),
    ):
        client.repository(Reference(server.name, "x")).put(blob, io.BytesIO(b"{}"))


def test_a_digest_is_not_tagged(client: Client) -> None:
    image = random_image(10)
    with http_server(SmallRegistry()) as server:
        name = Reference(server.name, "x", None, image.root.digest)
        client.repository(name).tag(name, image.root)

    assert server.received == []


def test_a_tag_of_what_was_just_put_is_one_request(client: Client) -> None:
    image = random_image(11, layers=1)
    with http_server(SmallRegistry()) as server:
        name = Reference(server.name, "x", "v1")
        there = client.repository(name)
        copy(image.root, image.content, there)
        before = len(server.received)
        there.tag(name, image.root)

    assert server.requests[before:] == ["PUT /v2/x/manifests/v1"]


def test_a_manifest_that_is_too_big_is_not_read(client: Client) -> None:
    huge = Reply(200, b" " * (MAX_DOCUMENT + 2), {"Content-Type": mediatypes.OCI_MANIFEST})
    with http_server(huge) as server:
        name = Reference(server.name, "x", "v1")
        with pytest.raises(Invalid, match="more than"):
            client.repository(name).resolve(name)


def test_pages_of_tags_are_followed(client: Client) -> None:
    pages = {
        "/v2/x/tags/list?n=1000": (["a", "b"], '</v2/x/tags/list?n=2&last=b>; rel="next"'),
        "/v2/x/tags/list?n=2&last=b": (["c"], "<?page=3>; rel=next"),
        "/v2/x/tags/list?page=3": (["d"], ""),
    }

    def handler(request: Received) -> Reply:
        tags, link = pages[request.target]
        body = json.dumps({"name": "x", "tags": tags}).encode()
        return Reply(200, body, {"Link": link} if link else {})

    with http_server(handler) as server:
        assert list("abcd") == client.repository(Reference(server.name, "x")).tags()


def test_a_full_page_without_a_link_has_a_next_one(client: Client) -> None:
    tags = [f"t{number:04}" for number in range(1500)]

    def handler(request: Received) -> Reply:
        last = request.target.partition("last=")[2]
        page = [tag for tag in tags if tag > last][:1000]
        return Reply(200, json.dumps({"tags": page}).encode())

    with http_server(handler) as server:
        assert tags == client.repository(Reference(server.name, "x")).tags()
        assert len(server.received) == 2


@pytest.mark.parametrize("body", [b'{"tags":null}', b"{}"], ids=["null", "none"])
def test_no_tags_are_no_tags(client: Client, body: bytes) -> None:
    with http_server(Reply(200, body)) as server:
        assert client.repository(Reference(server.name, "x")).tags() == []


def test_what_is_no_tag_is_left_out(client: Client) -> None:
    body = json.dumps({"tags": ["ok", "../x", "a b", "", 7, "\x1b[31m", "x@y"]}).encode()
    with http_server(Reply(200, body)) as server:
        assert client.repository(Reference(server.name, "x")).tags() == ["ok"]


def test_a_source_that_cannot_seek_is_spooled_and_verified_before_it_is_sent(
    client: Client,
) -> None:
    blob = Descriptor.of(mediatypes.OCI_LAYER, b"good")
    with http_server(SmallRegistry()) as server:
        there = client.repository(Reference(server.name, "x"))
        there.put(blob, VerifiedReader(io.BytesIO(b"good"), blob))
        with pytest.raises(Corrupt):
            there.put(blob, VerifiedReader(io.BytesIO(b"evil"), blob))

    assert server.requests.count("POST /v2/x/blobs/uploads/") == 1


def test_errors_of_uploads_name_the_repository(client: Client) -> None:
    blob = Descriptor.of(mediatypes.OCI_LAYER, b"x")
    refusal = errors(405, "UNSUPPORTED", "The operation is unsupported.")
    with http_server(refusal) as server:
        with pytest.raises(Unsupported) as caught:
            client.repository(Reference(server.name, "a/b")).put(blob, io.BytesIO(b"x"))

        expected = f"{server.name}/a/b: upload of {blob.digest}: The operation is unsupported."
    assert expected == caught.value.message
