from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
from support.httpserver import Handler, Received, Reply, http_server

from ocispec import mediatypes
from ocispec.content import Readable
from ocispec.errors import Corrupt, NotFound, Unavailable
from ocispec.model import Descriptor
from ocispec.reference import Reference
from registry_client.client import Client

DATA = bytes(range(256)) * 20_000  # 5 MB
BLOB = Descriptor.of(mediatypes.OCI_LAYER, DATA)
CUT = 1_500_000
Seen = list[int]


def serve(first: Reply, *others: Reply | Callable[[int], Reply]) -> Handler:
    """*first* to the first request; to later ones the next of *others*, the last for ever."""
    replies = [first, *others]
    count = [0]

    def handler(request: Received) -> Reply:
        reply = replies[min(count[0], len(replies) - 1)]
        count[0] += 1
        if isinstance(reply, Reply):
            return reply
        return reply(int(request.headers["range"].removeprefix("bytes=").partition("-")[0]))

    return handler


def rest(start: int, cut: int | None = None) -> Reply:
    span = {"Content-Range": f"bytes {start}-{len(DATA) - 1}/{len(DATA)}"}
    return Reply(206, DATA[start:], span, cut=cut)


WHOLE, BROKEN = Reply(200, DATA), Reply(200, DATA, cut=CUT)


def read(client: Client, handler: Handler, seen: Seen | None = None) -> tuple[bytes, list[str]]:
    """The blob as it is read from a server, and the ranges that were asked for."""
    report = seen.append if seen is not None else (lambda _: None)
    with http_server(handler) as server:
        there = client.repository(
            Reference(server.name, "x"), on_progress=lambda _, count: report(count)
        )
        data = whole(there.open(BLOB))
    return data, server.all("range")


def whole(reader: Readable) -> bytes:
    try:
        return reader.read()
    finally:
        reader.close()


def test_a_download_that_breaks_goes_on_where_it_was(client: Client) -> None:
    seen: Seen = []
    data, ranges = read(client, serve(BROKEN, rest), seen)

    assert data == DATA
    assert ranges == ["", f"bytes={CUT}-{len(DATA) - 1}"]
    assert all(one < other for one, other in pairwise(seen))


@pytest.mark.parametrize(
    "second",
    [
        WHOLE,
        Reply(416),
        Reply(206, DATA[5:], {"Content-Range": f"bytes 5-{len(DATA) - 1}/{len(DATA)}"}),
        Reply(206, DATA),
        Reply(206, DATA[CUT:], {"Content-Range": "nonsense"}),
    ],
    ids=["ignored", "refused", "another range", "no range", "nonsense"],
)
def test_a_server_that_cannot_resume_is_read_again_from_the_start(
    client: Client, second: Reply
) -> None:
    data, _ = read(client, serve(BROKEN, second, WHOLE))

    assert data == DATA


def test_a_download_that_makes_progress_never_gives_up(client: Client) -> None:
    data, ranges = read(client, serve(Reply(200, DATA, cut=1 << 20), lambda at: rest(at, 1 << 20)))

    assert data == DATA
    assert len(ranges) == 5


def test_a_download_without_progress_gives_up(client: Client) -> None:
    with pytest.raises(Unavailable):
        read(client, serve(BROKEN, lambda at: rest(at, 10)))


def test_a_server_that_is_busy_for_a_while_is_asked_again(client: Client) -> None:
    data, _ = read(client, serve(BROKEN, Reply(503), Reply(500), rest))

    assert data == DATA


@pytest.mark.parametrize(
    "second",
    [Reply(503), Reply(200, DATA[: CUT - 9], length=False)],
    ids=["busy", "shorter than what is there"],
)
def test_a_server_that_never_comes_back_is_given_up(client: Client, second: Reply) -> None:
    with pytest.raises(Unavailable):
        read(client, serve(BROKEN, second))


def test_a_body_without_a_length_that_ends_early_is_resumed(client: Client) -> None:
    data, ranges = read(client, serve(Reply(200, DATA[:CUT], length=False), rest))

    assert data == DATA
    assert len(ranges) == 2


def test_a_complete_download_asks_for_nothing_more(client: Client) -> None:
    """Not even if the server does not say that it has ended."""
    data, ranges = read(client, serve(Reply(200, DATA, length=False)))

    assert data == DATA
    assert ranges == [""]


def test_a_blob_that_vanishes_in_between_is_not_found(client: Client) -> None:
    with pytest.raises(NotFound):
        read(client, serve(BROKEN, Reply(404)))


def test_bytes_that_differ_after_the_break_are_found_out(client: Client) -> None:
    span = {"Content-Range": f"bytes {CUT}-{len(DATA) - 1}/{len(DATA)}"}
    other = Reply(206, bytes(len(DATA) - CUT), span)
    with pytest.raises(Corrupt, match="hash to"):
        read(client, serve(BROKEN, other))


def test_a_length_that_differs_is_found_out_before_a_byte_is_read(client: Client) -> None:
    with (
        http_server(Reply(200, b"short")) as server,
        pytest.raises(Corrupt, match="5 bytes are announced"),
    ):
        client.repository(Reference(server.name, "x")).open(BLOB)


def test_an_endless_body_is_left_at_the_size(client: Client) -> None:
    blob = Descriptor.of(mediatypes.OCI_LAYER, b"small")
    with http_server(Reply(200, b"small" + bytes(50 << 20), length=False)) as server:
        reader = client.repository(Reference(server.name, "x")).open(blob)
        with pytest.raises(Corrupt, match="more than 5 bytes"):
            whole(reader)


def test_each_attempt_follows_the_redirect_anew(client: Client) -> None:
    """Signed URLs expire."""
    signed = [0]

    def handler(request: Received) -> Reply:
        if request.path.startswith("/v2/"):
            signed[0] += 1
            return Reply(307, headers={"Location": f"/signed?sig={signed[0]}"})
        return BROKEN if request.target.endswith("sig=1") else rest(CUT)

    with http_server(handler) as server:
        data = whole(client.repository(Reference(server.name, "x")).open(BLOB))

    assert data == DATA
    assert [r.target for r in server.received if r.path == "/signed"] == [
        "/signed?sig=1",
        "/signed?sig=2",
    ]


def test_a_reader_is_read_in_the_sizes_asked_for(client: Client) -> None:
    blob = Descriptor.of(mediatypes.OCI_LAYER, b"0123456789")
    with http_server(Reply(200, b"0123456789")) as server:
        reader = client.repository(Reference(server.name, "x")).open(blob)
        pieces = [reader.read(4), reader.read(0), reader.read(4), reader.read(4), reader.read(4)]
        reader.close()

    assert pieces == [b"0123", b"", b"4567", b"89", b""]
