from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from pathlib import Path

import pytest
from support.httpserver import Received, Reply, errors, http_server
from support.images import Memory
from support.registry import RunningRegistry, open_registry
from support.smallregistry import SmallRegistry

from ocispec import mediatypes
from ocispec.errors import Corrupt, Denied, Invalid, Unavailable, Unsupported
from ocispec.model import Descriptor
from ocispec.reference import Reference
from registry_client.client import Client

DATA = bytes(range(256)) * 10_000  # 2.5 MB
BLOB = Descriptor.of(mediatypes.OCI_LAYER, DATA)
ClientWith = Callable[..., Client]


def put(client: Client, name: str, data: bytes = DATA, mount_from: Sequence[str] = ()) -> None:
    there = client.repository(Reference(name, "x"), mount_from=mount_from)
    there.put(BLOB, io.BytesIO(data))


def test_a_blob_is_sent_in_one_piece_with_its_length(client: Client) -> None:
    small = SmallRegistry()
    with http_server(small) as server:
        put(client, server.name)
    sent = server.received[-1]

    assert server.requests == ["POST /v2/x/blobs/uploads/", "PUT /v2/x/blobs/uploads/1"]
    assert sent.headers["content-length"] == str(len(DATA))
    assert "transfer-encoding" not in sent.headers
    assert sent.headers["content-type"] == "application/octet-stream"
    assert small.content.blobs == {BLOB.digest: DATA}


@pytest.mark.parametrize(
    ("location", "target"),
    [
        ("/up/1", "/up/1?digest="),
        ("/up/1?_state=a%2Bb%3D%3D&n=~x", "/up/1?_state=a%2Bb%3D%3D&n=~x&digest="),
        ("1", "/v2/x/blobs/uploads/1?digest="),
        ("?s=1", "/v2/x/blobs/uploads/?s=1&digest="),
        ("http://{name}/other/place", "/other/place?digest="),
    ],
    ids=["path", "query", "relative", "query only", "absolute"],
)
def test_the_location_is_where_it_goes(client: Client, location: str, target: str) -> None:
    def handler(request: Received) -> Reply:
        if request.method == "POST":
            location_there = location.format(name=request.headers["host"])
            return Reply(202, headers={"Location": location_there})
        return Reply(201)

    with http_server(handler) as server:
        put(client, server.name)

    assert server.received[-1].target == target + str(BLOB.digest)


def test_a_file_is_sent_from_where_it_stands(client: Client, tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"before" + DATA)
    small = SmallRegistry()
    with http_server(small) as server, path.open("rb") as file:
        file.seek(6)
        client.repository(Reference(server.name, "x")).put(BLOB, file)

    assert small.content.blobs == {BLOB.digest: DATA}


@pytest.mark.parametrize(
    "data",
    [DATA[:-1], DATA + b"x", DATA[:-1] + b"x", b""],
    ids=["short", "long", "wrong", "nothing"],
)
def test_wrong_bytes_are_never_sent_whole(client: Client, data: bytes) -> None:
    """Not even to a registry that would take them; the session is cancelled."""
    with http_server(SmallRegistry()) as server:
        with pytest.raises(Corrupt):
            put(client, server.name, data)

        assert "PUT /v2/x/blobs/uploads/1" not in server.requests
    assert server.requests[-1] == "DELETE /v2/x/blobs/uploads/1"


def test_a_file_that_cannot_be_read_is_the_files_own_error(client: Client) -> None:
    class Failing(io.BytesIO):
        def read(self, _size: int | None = -1, /) -> bytes:
            raise OSError(5, "Input/output error", "/the/file")

    with http_server(SmallRegistry()) as server:
        there = client.repository(Reference(server.name, "x"))
        with pytest.raises(OSError, match="/the/file"):
            there.put(BLOB, Failing(DATA))


@pytest.mark.parametrize(
    "first",
    [Reply(reset=True), Reply(504), Reply(500), errors(404, "BLOB_UPLOAD_UNKNOWN", "unknown")],
    ids=["cut", "504", "500", "unknown session"],
)
def test_a_failed_upload_is_repeated_in_a_new_session(client: Client, first: Reply) -> None:
    small = SmallRegistry()
    failed: list[Received] = []

    def handler(request: Received) -> Reply:
        if request.method == "PUT" and not failed:
            failed.append(request)
            return first
        return small(request)

    with http_server(handler) as server:
        put(client, server.name)

    assert small.content.blobs == {BLOB.digest: DATA}
    assert server.requests[-1] == "PUT /v2/x/blobs/uploads/2"


@pytest.mark.parametrize("answer", [Reply(reset=True), Reply(504)], ids=["cut", "504"])
def test_a_blob_that_arrived_is_not_sent_twice(client: Client, answer: Reply) -> None:
    """The registry stored it, and only its answer was lost."""
    small = SmallRegistry()

    def handler(request: Received) -> Reply:
        reply = small(request)
        return answer if request.method == "PUT" else reply

    with http_server(handler) as server:
        put(client, server.name)

    assert server.requests[-2:] == [
        "PUT /v2/x/blobs/uploads/1",
        f"HEAD /v2/x/blobs/{BLOB.digest}",
    ]


def test_an_upload_that_always_fails_gives_up(client: Client) -> None:
    small = SmallRegistry()

    def handler(request: Received) -> Reply:
        return Reply(502) if request.method == "PUT" else small(request)

    with http_server(handler) as server:
        with pytest.raises(Unavailable):
            put(client, server.name)

        assert small.sessions == 3


@pytest.mark.parametrize(
    ("status", "code", "kind"),
    [
        (400, "DIGEST_INVALID", Corrupt),
        (403, "DENIED", Denied),
        (405, "UNSUPPORTED", Unsupported),
        (413, "SIZE_INVALID", Unsupported),
        (400, "NAME_INVALID", Invalid),
    ],
)
def test_a_refusal_is_not_repeated(
    client: Client, status: int, code: str, kind: type[Exception]
) -> None:
    small = SmallRegistry()

    def handler(request: Received) -> Reply:
        return errors(status, code, "no") if request.method == "PUT" else small(request)

    with http_server(handler) as server:
        with pytest.raises(kind):
            put(client, server.name)

        assert small.sessions == 1
    assert server.requests[-1].startswith("DELETE")


def test_a_session_without_a_location_is_refused(client: Client) -> None:
    with http_server(Reply(202)) as server, pytest.raises(Invalid, match="without a Location"):
        put(client, server.name)


def test_a_registry_that_says_it_stored_something_else_is_not_believed(client: Client) -> None:
    small, other = SmallRegistry(), Descriptor.of(mediatypes.OCI_LAYER, b"other").digest

    def handler(request: Received) -> Reply:
        if request.method == "PUT":
            return Reply(201, headers={"Docker-Content-Digest": str(other)})
        return small(request)

    with http_server(handler) as server, pytest.raises(Corrupt, match="in place of"):
        put(client, server.name)


def test_a_token_that_expires_in_mid_push_is_renewed_and_the_body_sent_again(
    client_with: ClientWith,
) -> None:
    small, tokens, url = SmallRegistry(), [0], [""]

    def handler(request: Received) -> Reply:
        if request.path == "/token":
            tokens[0] += 1
            return Reply(200, f'{{"token":"t{tokens[0]}"}}'.encode())
        needed = "Bearer t2" if request.method == "PUT" else "Bearer t"
        if not request.headers.get("authorization", "").startswith(needed):
            realm = f'Bearer realm="{url[0]}/token",service="s",error="invalid_token"'
            return Reply(401, headers={"WWW-Authenticate": realm})
        return small(request)

    with http_server(handler) as server:
        url[0] = server.url
        put(client_with(server.name), server.name)

    assert small.content.blobs == {BLOB.digest: DATA}
    assert server.requests == [
        "POST /v2/x/blobs/uploads/",
        "GET /token",
        "POST /v2/x/blobs/uploads/",
        "PUT /v2/x/blobs/uploads/1",
        "GET /token",
        "PUT /v2/x/blobs/uploads/1",
    ]


def test_a_blob_is_mounted_without_being_sent(client: Client) -> None:
    with http_server(Reply(201)) as server:
        put(client, server.name, mount_from=["a/b"])
    (request,) = server.received

    assert request.target == f"/v2/x/blobs/uploads/?mount={BLOB.digest}&from=a/b"


def test_a_mount_that_is_not_done_is_an_upload(client: Client) -> None:
    small = SmallRegistry()
    with http_server(small) as server:
        put(client, server.name, mount_from=["a/b"])

    assert small.sessions == 1
    assert small.content.blobs == {BLOB.digest: DATA}


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 500])
def test_a_mount_that_is_refused_is_an_upload(client: Client, status: int) -> None:
    small = SmallRegistry()

    def handler(request: Received) -> Reply:
        return Reply(status) if "mount=" in request.target else small(request)

    with http_server(handler) as server:
        put(client, server.name, mount_from=["a/b"])

    assert small.content.blobs == {BLOB.digest: DATA}


def test_a_mount_whose_scope_gets_no_token_is_an_upload(client_with: ClientWith) -> None:
    small, url = SmallRegistry(), [""]

    def handler(request: Received) -> Reply:
        if request.path == "/token":
            return Reply(403) if "a%2Fb" in request.target else Reply(200, b'{"token":"t"}')
        if "authorization" not in request.headers:
            realm = f'Bearer realm="{url[0]}/token"'
            return Reply(401, headers={"WWW-Authenticate": realm})
        return small(request)

    with http_server(handler) as server:
        url[0] = server.url
        put(client_with(server.name), server.name, mount_from=["a/b"])

    assert small.content.blobs == {BLOB.digest: DATA}


def test_the_neighbour_that_has_it_is_chosen(client: Client) -> None:
    def handler(request: Received) -> Reply:
        if request.method == "HEAD":
            return Reply(200 if request.path.startswith("/v2/c/") else 404)
        return Reply(201)

    with http_server(handler) as server:
        put(client, server.name, mount_from=["a", "x", "b", "c", "d"])

    assert server.requests[:-1] == [
        f"HEAD /v2/{name}/blobs/{BLOB.digest}" for name in ("a", "b", "c")
    ]
    assert server.received[-1].target.endswith("&from=c")


def test_the_empty_blob_is_uploaded(client: Client, plain: RunningRegistry) -> None:
    empty = Descriptor.of(mediatypes.OCI_LAYER, b"")
    there = client.repository(Reference(plain.name, "empty"))
    there.put(empty, io.BytesIO(b""))

    assert there.has(empty)


def test_a_mirror_takes_no_uploads(client: Client, plain: RunningRegistry, tmp_path: Path) -> None:
    proxy = {"remoteurl": f"http://{plain.name}"}
    with open_registry(tmp_path, proxy=proxy) as mirror, pytest.raises(Unsupported):
        put(client, mirror.name)


def test_what_was_uploaded_is_what_the_registry_has(client: Client, plain: RunningRegistry) -> None:
    there = client.repository(Reference(plain.name, "bytes"))
    there.put(BLOB, io.BytesIO(DATA))

    assert plain.blob(BLOB.digest).read_bytes() == DATA


def test_memory_takes_nothing_that_is_wrong() -> None:
    """The content that these tests stand on keeps its promise, too."""
    with pytest.raises(Corrupt):
        Memory().put(BLOB, io.BytesIO(b"wrong"))
