from __future__ import annotations

import io
import json
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

import pytest
from support.hostile import BASIC
from support.httpserver import Received, Reply, http_server
from support.images import Memory, random_image
from support.registry import PASSWORD, USER, RunningRegistry
from support.tokenserver import REFRESH_TOKEN

from ocispec import mediatypes
from ocispec.copy import copy
from ocispec.errors import Denied, Invalid, PybuildError, Unavailable
from ocispec.model import Descriptor
from ocispec.reference import Reference
from registry_client.auth import Auth, _Token
from registry_client.client import Client
from registry_client.credentials import Anonymous, Credentials, Login, OneLogin
from registry_client.hosts import Hosts, Origin
from registry_client.transport import Request, Response, Transport

ClientWith = Callable[..., Client]
PULL = ("repository:x:pull",)


@dataclass(slots=True)
class Guarded:
    """A handler: a registry that wants a bearer token, and its token server in one."""

    url: str = ""
    more: str = ',service="the service"'  # of the challenge
    answer: Mapping[str, object] = field(default_factory=lambda: {"token": "t"})
    wanted: str = "Bearer t"
    token_status: int = 200

    def __call__(self, request: Received) -> Reply:
        if request.path == "/token":
            return Reply(self.token_status, json.dumps(self.answer).encode())
        if request.headers.get("authorization") == self.wanted:
            return Reply(200, b"{}", {"Content-Type": mediatypes.OCI_MANIFEST})
        realm = f'Bearer realm="{self.url}/token"{self.more}'
        return Reply(401, headers={"WWW-Authenticate": realm})


def ask(guarded: Guarded, credentials: Credentials | None = None) -> list[Received]:
    """Resolve a tag; what the token server was asked."""
    with http_server(guarded) as server, Client(credentials) as client:
        guarded.url = server.url
        name = Reference(server.name, "x", "v1")
        client.repository(name).resolve(name)
    return [request for request in server.received if request.path == "/token"]


def query(request: Received) -> dict[str, list[str]]:
    return parse_qs(urlsplit(request.target).query)


class Someone:
    """A login for any registry."""

    def __init__(self, login: Login) -> None:
        self._login = login

    def login(self, _registry: str, _repository: str, /) -> Login:
        return self._login


def test_nobody_gets_a_token_for_nobody() -> None:
    (request,) = ask(Guarded())

    assert "authorization" not in request.headers
    assert query(request) == {"service": ["the service"], "scope": ["repository:x:pull"]}


def test_a_user_gets_a_token_for_a_password() -> None:
    (request,) = ask(Guarded(), Someone(Login(USER, PASSWORD)))

    assert request.headers["authorization"] == BASIC


def test_an_identity_token_is_exchanged_in_the_body() -> None:
    (request,) = ask(Guarded(), Someone(Login(identity_token="refresh")))

    assert request.method == "POST"
    assert request.target == "/token"
    assert parse_qs(request.body.decode()) == {
        "grant_type": ["refresh_token"],
        "service": ["the service"],
        "client_id": ["pybuild"],
        "scope": ["repository:x:pull"],
        "refresh_token": ["refresh"],
    }


def test_a_registry_token_is_used_as_it_is() -> None:
    assert ask(Guarded(), Someone(Login(registry_token="t"))) == []


@pytest.mark.parametrize(
    ("more", "asked"),
    [
        (',scope="repository:x:pull"', ["repository:x:pull"]),
        (',scope="repository:x:pull,push"', ["repository:x:pull,push"]),
        (',scope="write"', ["repository:x:pull", "write"]),
        (',error="insufficient_scope"', ["repository:x:pull"]),
    ],
)
def test_our_scope_is_asked_for_and_the_challenges_too(more: str, asked: list[str]) -> None:
    (request,) = ask(Guarded(more=more))

    assert query(request)["scope"] == asked


def test_the_query_of_a_realm_is_kept() -> None:
    guarded = Guarded()
    with http_server(guarded) as server, Client() as client:
        guarded.url = server.url
        guarded.more = ""
        realm = f'Bearer realm="{server.url}/token?a=%2B&b"'

        def handler(request: Received) -> Reply:
            reply = guarded(request)
            if reply.status == 401:
                return Reply(401, headers={"WWW-Authenticate": realm})
            return reply

        with http_server(handler) as other:
            name = Reference(other.name, "x", "v1")
            client.repository(name).resolve(name)

    assert server.received[0].target == "/token?a=%2B&b&scope=repository%3Ax%3Apull"


@pytest.mark.parametrize(
    "answer",
    [
        {"token": "t"},
        {"access_token": "t"},
        {"token": "t", "access_token": "other"},
        {"token": "t", "expires_in": 1, "issued_at": "2001-01-01T00:00:00Z"},
        {"token": "t", "expires_in": "300"},
        {"token": "t", "expires_in": None},
    ],
    ids=str,
)
def test_tokens_are_read(answer: dict[str, object]) -> None:
    assert len(ask(Guarded(answer=answer))) == 1


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"token": ""},
        {"token": 7},
        {"token": "a\r\nX-Evil: 1"},
        {"token": "t", "expires_in": "soon"},
        {"token": "t", "expires_in": [1]},
    ],
    ids=str,
)
def test_what_is_no_token_is_refused(answer: dict[str, object]) -> None:
    with pytest.raises(Denied):
        ask(Guarded(answer=answer))


@pytest.mark.parametrize(("status", "kind"), [(401, Denied), (403, Denied), (400, Invalid)])
def test_a_token_server_that_refuses_is_named(status: int, kind: type[PybuildError]) -> None:
    guarded = Guarded(token_status=status, answer={"errors": [{"message": "no, because"}]})
    with pytest.raises(kind) as caught:
        ask(guarded)

    origin = Origin.of(guarded.url)
    assert caught.value.message == f"{origin} gives no token: no, because"


def test_a_token_server_that_is_busy_is_asked_again(client: Client) -> None:
    guarded, asked = Guarded(), []

    def handler(request: Received) -> Reply:
        if request.path == "/token":
            asked.append(request)
            if len(asked) < 3:
                return Reply(503)
        return guarded(request)

    with http_server(handler) as server:
        guarded.url = server.url
        name = Reference(server.name, "x", "v1")
        client.repository(name).resolve(name)

    assert len(asked) == 3


def test_a_token_server_that_stays_busy_is_unavailable(client: Client) -> None:
    guarded = Guarded(token_status=503)
    with http_server(guarded) as server:
        guarded.url = server.url
        name = Reference(server.name, "x", "v1")
        with pytest.raises(Unavailable):
            client.repository(name).resolve(name)


def test_a_registry_that_takes_no_token_is_asked_a_few_times_only() -> None:
    guarded = Guarded(wanted="Bearer never")
    with pytest.raises(Denied):
        ask(guarded)


@pytest.mark.parametrize(
    "challenge",
    ["", "Negotiate", 'Digest realm="x",nonce="y"', "nonsense ="],
    ids=["none", "negotiate", "digest", "nonsense"],
)
def test_a_challenge_that_we_cannot_answer_is_a_refusal(client: Client, challenge: str) -> None:
    with http_server(Reply(401, headers={"WWW-Authenticate": challenge})) as server:
        name = Reference(server.name, "x", "v1")
        with pytest.raises(Denied):
            client.repository(name).resolve(name)

        assert len(server.received) == 2  # HEAD, and GET for its words


def test_a_token_is_preferred_to_a_password() -> None:
    guarded = Guarded()

    def handler(request: Received) -> Reply:
        reply = guarded(request)
        if reply.status != 401:
            return reply
        header = 'Basic realm="x", ' + reply.headers["WWW-Authenticate"]
        return Reply(401, headers={"WWW-Authenticate": header})

    with http_server(handler) as server, Client(Someone(Login(USER, PASSWORD))) as client:
        guarded.url = server.url
        name = Reference(server.name, "x", "v1")
        client.repository(name).resolve(name)

    assert BASIC not in [r.headers.get("authorization") for r in server.received[:1]]
    assert server.all("authorization")[-1] == "Bearer t"


@pytest.mark.parametrize("token", ["a\nb", "ü", "a b"], ids=ascii)
def test_a_login_with_an_impossible_token_is_invalid(token: str) -> None:
    with pytest.raises(Invalid) as caught:
        ask(Guarded(), Someone(Login(registry_token=token)))

    assert token not in caught.value.message


class Timed:
    """An Auth whose clock is set by hand, against a token server that counts."""

    def __init__(self, life: object, login: Credentials | None = None) -> None:
        self.now = 1000.0
        self.fetched = 0
        self.life = life
        self.auth = Auth(
            "127.0.0.1",
            "x",
            login or Anonymous(),
            home=lambda: Origin("http", "127.0.0.1", 80),
            hosts=Hosts(),
            send=self._send,
            clock=lambda: self.now,
        )
        self.auth.renew('Bearer realm="http://127.0.0.1/token"', PULL, "")

    def _send(self, _: Request) -> Response:
        self.fetched += 1
        body = json.dumps({"token": f"t{self.fetched}", "expires_in": self.life}).encode()
        with http_server(Reply(200, body)) as server:
            transport = Transport(Origin.of(server.url), Hosts(), "test")
            response = transport.send(Request("GET", server.url))
            response.headers = dict(response.headers)
            return response


@pytest.mark.parametrize(
    ("life", "holds"),
    [(None, 48), (1, 48), (60, 48), (300, 240), (3600, 2880), (1e12, 69120)],
    ids=["not said", "1", "60", "300", "3600", "for ever"],
)
def test_a_token_is_renewed_before_it_ends(life: object, holds: int) -> None:
    timed = Timed(life)
    timed.now += holds - 0.5
    assert timed.auth.header(PULL) == "Bearer t1"
    timed.now += 1

    assert timed.auth.header(PULL) == "Bearer t2"


def test_one_push_asks_for_one_token(
    client_with: ClientWith, tokened: RunningRegistry, repository_name: str
) -> None:
    assert tokened.tokens is not None
    image = random_image(1, layers=6)
    before = len(tokened.tokens.asked)
    there = client_with(tokened.name).repository(Reference(tokened.name, repository_name))
    copy(image.root, image.content, there, jobs=6)

    assert tokened.tokens.asked[before:] == [(f"repository:{repository_name}:pull,push",)]


def test_an_identity_token_pushes(
    client_with: ClientWith, tokened: RunningRegistry, repository_name: str
) -> None:
    image = random_image(2)
    client = client_with(tokened.name, Login(identity_token=REFRESH_TOKEN))
    there = client.repository(Reference(tokened.name, repository_name))
    copy(image.root, image.content, there)

    assert there.has(image.root)


def test_a_token_that_no_longer_holds_is_replaced(
    client_with: ClientWith, tokened: RunningRegistry, repository_name: str
) -> None:
    image, back = random_image(3), Memory()
    there = client_with(tokened.name).repository(Reference(tokened.name, repository_name))
    copy(image.root, image.content, there)
    with there._auth._lock:
        for scopes in there._auth._tokens:
            there._auth._tokens[scopes] = _Token("garbage", float("inf"))
    copy(image.root, there, back)
    blob = Descriptor.of(mediatypes.OCI_LAYER, b"more")
    there.put(blob, io.BytesIO(b"more"))

    assert back.blobs == image.content.blobs


def test_a_token_that_is_expired_when_it_comes_is_refused(
    client_with: ClientWith, tokened: RunningRegistry, repository_name: str
) -> None:
    assert tokened.tokens is not None
    tokened.tokens.life = -100
    there = client_with(tokened.name).repository(Reference(tokened.name, repository_name))
    try:
        with pytest.raises(Denied):
            there.put(Descriptor.of(mediatypes.OCI_LAYER, b"x"), io.BytesIO(b"x"))
    finally:
        tokened.tokens.life = 300


def test_threads_that_need_a_token_wait_for_one(client: Client) -> None:
    guarded = Guarded()
    with http_server(guarded) as server:
        guarded.url = server.url
        name = Reference(server.name, "x", "v1")
        there = client.repository(name)
        with ThreadPoolExecutor(8) as pool:
            list(pool.map(lambda _: there.resolve(name), range(16)))

        assert server.requests.count("GET /token") == 1


def test_a_wrong_password_at_the_token_server_is_denied(
    client_with: ClientWith, tokened: RunningRegistry
) -> None:
    name = Reference(tokened.name, "x", "v1")
    client = client_with(tokened.name, Login(USER, "very-wrong"))
    with pytest.raises(Denied) as caught:
        client.repository(name).resolve(name)

    assert "still hold" in caught.value.hint
    assert "very-wrong" not in caught.value.message


def test_a_login_is_for_its_own_registry(client_with: ClientWith) -> None:
    with http_server(Reply(401, headers={"WWW-Authenticate": 'Basic realm="x"'})) as server:
        name = Reference(server.name, "x", "v1")
        with pytest.raises(Denied, match="401"):
            Client(OneLogin("other.example.com", Login(USER, PASSWORD))).repository(name).resolve(
                name
            )

    assert set(server.all("authorization")) == {""}
