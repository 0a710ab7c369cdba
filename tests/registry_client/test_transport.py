from __future__ import annotations

import io
import socket
import ssl
import threading
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from support.certificates import self_signed
from support.hostile import LAYER
from support.httpserver import Received, Reply, http_server
from support.images import random_image
from support.smallregistry import SmallRegistry

from ocispec.content import read_small
from ocispec.copy import copy
from ocispec.digest import Digest
from ocispec.errors import Cancelled, Corrupt, Denied, Invalid, Unavailable
from ocispec.reference import Reference
from registry_client.client import Client
from registry_client.hosts import HostConfig, Hosts, Origin
from registry_client.retry import Retries
from registry_client.transport import BLOCK, Body, Broken, Request, Transport, _explained

ClientWith = Callable[..., Client]


@pytest.fixture
def pem(tmp_path: Path) -> Path:
    return self_signed(tmp_path / "server.pem", "127.0.0.1")


def open_layer(client: Client, name: str) -> bytes:
    return read_small(client.repository(Reference(name, "x")), LAYER, 100)


def test_a_certificate_that_is_not_trusted_is_refused_and_never_retried(
    pem: Path, client_with: ClientWith
) -> None:
    with http_server(Reply(200, b"layer"), certificate=pem) as server:
        hosts = Hosts({server.name: HostConfig(plain_http=False)})
        with pytest.raises(Unavailable, match="certificate is not trusted") as caught:
            open_layer(client_with("", hosts=hosts), server.name)

        assert server.connections == 1
    assert not isinstance(caught.value, Broken)
    assert isinstance(caught.value.__cause__, ssl.SSLError)


def test_a_certificate_of_our_own_is_trusted(pem: Path, client_with: ClientWith) -> None:
    with http_server(Reply(200, b"layer"), certificate=pem) as server:
        hosts = Hosts({server.name: HostConfig(plain_http=False, ca_file=pem)})

        assert open_layer(client_with("", hosts=hosts), server.name) == b"layer"


def test_a_certificate_for_another_host_is_refused(tmp_path: Path, client_with: ClientWith) -> None:
    pem = self_signed(tmp_path / "other.pem", "127.0.0.9")
    with http_server(Reply(200, b"layer"), certificate=pem) as server:
        hosts = Hosts({server.name: HostConfig(plain_http=False, ca_file=pem)})
        with pytest.raises(Unavailable, match="certificate is not trusted"):
            open_layer(client_with("", hosts=hosts), server.name)


@pytest.mark.parametrize("with_tls", [True, False])
def test_an_insecure_host_may_have_any_certificate_or_none(
    pem: Path, client_with: ClientWith, with_tls: bool
) -> None:
    with http_server(Reply(200, b"layer"), certificate=pem if with_tls else None) as server:
        hosts = Hosts({server.name: HostConfig(insecure=True, plain_http=False)})

        assert open_layer(client_with("", hosts=hosts), server.name) == b"layer"


def test_a_host_without_tls_is_not_asked_without_tls(client_with: ClientWith) -> None:
    with http_server(Reply(200, b"layer")) as server:
        hosts = Hosts({server.name: HostConfig(plain_http=False)})
        with pytest.raises(Unavailable, match="TLS failed: wrong version number"):
            open_layer(client_with("", hosts=hosts), server.name)

    assert server.received == []


def test_nobody_there_is_said_so_after_some_attempts(client: Client) -> None:
    with http_server(Reply(200)) as server:
        pass
    with pytest.raises(Unavailable, match="connection refused"):
        open_layer(client, server.name)


@pytest.mark.parametrize(
    ("number", "again"), [(socket.EAI_NONAME, False), (socket.EAI_AGAIN, True)]
)
def test_a_name_that_is_not_found_is_looked_up_again_only_if_it_may_help(
    number: int, again: bool
) -> None:
    error = _explained(socket.gaierror(number, "no such name"), Origin.of("https://example.com"))

    assert str(error) == "example.com: the name is not found: no such name"
    assert isinstance(error, Broken) == again


def test_a_connection_that_is_cut_is_tried_again(client: Client) -> None:
    count = [0]

    def handler(_: Received) -> Reply:
        count[0] += 1
        return Reply(reset=True) if count[0] < 3 else Reply(200, b"layer")

    with http_server(handler) as server:
        assert open_layer(client, server.name) == b"layer"


def test_a_connection_that_is_always_cut_is_an_error(client: Client) -> None:
    with http_server(Reply(reset=True)) as server:
        with pytest.raises(Unavailable):
            open_layer(client, server.name)

        assert len(server.received) == 3


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_registry_that_is_busy_is_asked_again(client: Client, status: int) -> None:
    replies = iter([Reply(status, b"busy"), Reply(status, headers={"Retry-After": "0"})])
    with http_server(lambda _: next(replies, Reply(200, b"layer"))) as server:
        assert open_layer(client, server.name) == b"layer"
        assert len(server.received) == 3


@pytest.mark.parametrize("status", [400, 401, 403, 404, 405, 501])
def test_a_refusal_is_not_asked_for_again(client: Client, status: int) -> None:
    with http_server(Reply(status)) as server:
        with pytest.raises(Exception, match=str(status)):
            open_layer(client, server.name)

        assert len(server.received) == 1


@pytest.mark.parametrize("after", ["301", "Fri, 01 Jan 2100 00:00:00 GMT"])
def test_a_limit_that_lasts_is_an_error_at_once(client: Client, after: str) -> None:
    with http_server(Reply(429, headers={"Retry-After": after})) as server:
        with pytest.raises(Unavailable, match="asks to wait"):
            open_layer(client, server.name)

        assert len(server.received) == 1


def test_connections_are_used_again(client: Client) -> None:
    image = random_image(1, layers=4)
    small = SmallRegistry()
    with http_server(small) as server:
        there = client.repository(Reference(server.name, "x"))
        copy(image.root, image.content, there, jobs=1)
        assert not there.has(LAYER)
        there.tags()

        assert len(server.received) > 15
        assert server.connections == 1


def test_a_closed_client_waits_for_nothing(client_with: ClientWith) -> None:
    client = client_with("", retries=Retries(first=1000.0, most=1000.0))
    there: list[int] = []

    def handler(_: Received) -> Reply:
        if there:
            client.close()
        there.append(1)
        return Reply(503)

    with http_server(handler) as server:
        there.append(1)
        with pytest.raises(Cancelled):
            open_layer(client, server.name)


def test_a_limit_of_one_request_holds_all_of_them(client: Client) -> None:
    with http_server(Reply(200, b"layer")) as server:
        client.registry(server.name)._keep_quiet(1000)
        client._stopped.set()  # so that the wait shows without being waited for
        with pytest.raises(Cancelled):
            open_layer(client, server.name)

    assert server.received == []


def test_a_post_is_not_redirected_to_a_get(client: Client) -> None:
    with http_server(Reply(302, headers={"Location": "/elsewhere"})) as server:
        transport = Transport(Origin.of(server.url), Hosts(), "test")
        with pytest.raises(Invalid, match="answered by a redirect"):
            transport.send(Request("POST", server.url + "/"))
        transport.close()


def test_a_body_follows_a_redirect(client: Client) -> None:
    def handler(request: Received) -> Reply:
        if request.path == "/first":
            return Reply(307, headers={"Location": "/second"})
        return Reply(200, request.body)

    with http_server(handler) as server:
        transport = Transport(Origin.of(server.url), Hosts(), "test")
        with transport.send(Request("PUT", server.url + "/first", body=Body.of(b"data"))) as reply:
            assert reply.body(10) == b"data"
        transport.close()


def test_an_answer_that_does_not_come_is_given_up() -> None:
    done = threading.Event()

    def handler(_: Received) -> Reply:
        done.wait(20)
        return Reply(200)

    with http_server(handler) as server:
        transport = Transport(Origin.of(server.url), Hosts(), "test")
        with pytest.raises(Broken, match="no answer in time"):
            transport.send(Request("GET", server.url + "/", timeout=0.05))
        done.set()
        transport.close()


def test_a_header_that_cannot_be_sent_is_not_shown() -> None:
    transport = Transport(Origin.of("http://127.0.0.1:1"), Hosts(), "test")
    request = Request("GET", "http://127.0.0.1:1/", authorization="Bearer secret\r\nEvil: 1")
    with pytest.raises(Invalid) as caught:
        transport.send(request)

    assert "secret" not in "".join(traceback.format_exception(caught.value))


def test_a_peer_that_is_refused_is_left_before_a_byte_is_sent() -> None:
    with http_server(Reply(200)) as server:
        home = Origin.of("https://registry.example.com")
        transport = Transport(home, Hosts(), "test")
        transport._check_peer(home, "8.8.8.8")
        with pytest.raises(Denied, match="private address"):
            transport.send(Request("GET", server.url + "/"))
        transport.close()

    assert server.received == []


def test_an_answer_has_a_limit() -> None:
    with http_server(Reply(200, b"x" * 100)) as server:
        transport = Transport(Origin.of(server.url), Hosts(), "test")
        for limit in (100, 1000):
            with transport.send(Request("GET", server.url + "/")) as reply:
                assert len(reply.body(limit)) == 100
        with (
            transport.send(Request("GET", server.url + "/")) as reply,
            pytest.raises(Invalid, match="more than 99"),
        ):
            reply.body(99)
        transport.close()


class Counting(io.BytesIO):
    """A file that keeps the sizes it was read in."""

    def __init__(self, data: bytes) -> None:
        super().__init__(data)
        self.sizes: list[int] = []

    def read(self, size: int | None = -1, /) -> bytes:
        self.sizes.append(-1 if size is None else size)
        return super().read(size)


def test_a_body_is_read_in_blocks_and_rewound() -> None:
    data = bytes(3 * BLOCK + 5)
    sent: list[int] = []
    file = Counting(b"head" + data)
    file.seek(4)
    body = Body(file, len(data), Digest.of(data), sent.append)

    for _ in range(2):
        assert b"".join(body) == data
    assert max(file.sizes) == BLOCK
    assert sent == [BLOCK, 2 * BLOCK, 3 * BLOCK, len(data)] * 2
    assert len(body) == len(data)


def blocks_of(body: Body) -> Iterator[int]:
    for block in body:
        yield len(block)


def test_the_last_block_of_wrong_bytes_is_kept_back() -> None:
    data = bytes(2 * BLOCK)
    blocks = blocks_of(Body(io.BytesIO(data), len(data), Digest.of(b"other")))
    assert next(blocks) == BLOCK
    with pytest.raises(Corrupt):
        next(blocks)
