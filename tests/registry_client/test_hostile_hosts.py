"""
Where a hostile registry, or one in between, must not send us: rules R1 to R8.

The numbers are those of the project's list of attacks on registry clients. What is in none of the
three files needs a server of our own (R22 to R25), a store of credential helpers (R20), a parser
of references (R17), or a login that is written (half of R21).
"""

from __future__ import annotations

import io
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from support.certificates import self_signed
from support.hostile import BASIC, LAYER, OTHER, PUBLIC, ask_for_login, never
from support.httpserver import Received, Reply, http_server
from support.images import Memory, random_image
from support.registry import PASSWORD, USER
from support.smallregistry import SmallRegistry

from ocispec import mediatypes
from ocispec.content import read_small
from ocispec.copy import copy
from ocispec.errors import Denied, Invalid, PybuildError
from ocispec.model import Descriptor, Manifest
from ocispec.reference import Reference
from registry_client.auth import Auth
from registry_client.client import Client
from registry_client.credentials import Login, OneLogin
from registry_client.hosts import HostConfig, Hosts, Origin
from registry_client.transport import Request, Response, Transport

ClientWith = Callable[..., Client]


@pytest.mark.parametrize(
    "media_type",
    [mediatypes.DOCKER_FOREIGN_LAYER_GZIP, mediatypes.OCI_LAYER_GZIP],
    ids=["r1_foreign", "r2_ordinary"],
)
def test_r1_r2_r3_urls_of_layers_are_never_fetched(
    client_with: ClientWith, media_type: str
) -> None:
    content = Memory()
    config = content.add(mediatypes.OCI_CONFIG, b"{}")
    with ExitStack() as stack:
        evil = stack.enter_context(http_server(never, host=OTHER))
        urls = {"urls": [f"{evil.url}/layer", "http://169.254.169.254/latest/meta-data"]}
        layer = replace(Descriptor.of(media_type, b"layer"), other=urls)
        manifest = Manifest(config, (layer,))
        root = content.add(manifest.media_type, manifest.encode())
        small = SmallRegistry(content, {"v1": root})
        good = stack.enter_context(http_server(ask_for_login(small)))
        there = client_with(good.name).repository(Reference(good.name, "x"))
        back = Memory()
        try:
            copy(root, there, back)
        except PybuildError:
            assert media_type == mediatypes.OCI_LAYER_GZIP  # the registry has no such blob

    assert evil.received == []
    assert layer.digest not in back.blobs


@pytest.mark.parametrize(
    "target",
    [
        "https://169.254.169.254/latest/meta-data",
        "https://127.0.0.1/",
        "https://localhost/",
        "https://x.localhost/",
        "https://10.0.0.1:8080/",
        "https://[::1]/",
        "https://[fe80::1]/",
        "https://[::ffff:127.0.0.1]/",
        "https://2130706433/",
        "https://127.1/",
        "https://0x7f000001/",
        "https://0/",
        "http://registry.example.com/",
        "http://other.example.org/",
        "ftp://registry.example.com/",
        "file:///etc/passwd",
        "https://user:password@registry.example.com/",
        "https://registry.example.com\\@127.0.0.1/",
        "https://registry.example.com:notaport/",
        "//[",
    ],
)
def test_r3_r5_r8_a_registry_of_the_internet_cannot_send_us_there(target: str) -> None:
    transport = Transport(PUBLIC, Hosts(), "test")
    with pytest.raises((Denied, Invalid)):
        transport.resolve("https://registry.example.com/v2/", target)


@pytest.mark.parametrize(
    ("location", "url"),
    [
        ("/x?y=%2B%3d&z=~", "https://registry.example.com/x?y=%2B%3d&z=~"),
        ("x", "https://registry.example.com/v2/x"),
        ("?q", "https://registry.example.com/v2/?q"),
        ("//cdn.example.org/x", "https://cdn.example.org/x"),
        ("https://cdn.example.org/x#part", "https://cdn.example.org/x"),
        ("https://9.9.9.9:444/x", "https://9.9.9.9:444/x"),
    ],
)
def test_r8_where_it_may_send_us(location: str, url: str) -> None:
    transport = Transport(PUBLIC, Hosts(), "test")

    assert url == transport.resolve("https://registry.example.com/v2/", location)


def test_r3_a_host_that_the_user_named_may_be_private() -> None:
    hosts = Hosts({"10.0.0.1:8080": HostConfig()})
    transport = Transport(PUBLIC, hosts, "test")

    assert transport.resolve(PUBLIC.url, "https://10.0.0.1:8080/x") == "https://10.0.0.1:8080/x"


def test_r4_the_login_does_not_go_to_a_token_server_of_another_host(
    client_with: ClientWith,
) -> None:
    image = random_image(1)
    small = SmallRegistry(image.content, {"v1": image.root})
    with ExitStack() as stack:
        token = Reply(200, b'{"token":"for-nobody"}')
        evil = stack.enter_context(http_server(token, host=OTHER))
        challenge = {"WWW-Authenticate": f'Bearer realm="{evil.url}/t",service="s"'}

        def handler(request: Received) -> Reply:
            if request.headers.get("authorization") == "Bearer for-nobody":
                return small(request)
            return Reply(401, headers=challenge)

        good = stack.enter_context(http_server(handler))
        name = Reference(good.name, "x", "v1")
        root = client_with(good.name).repository(name).resolve(name)

    assert image.root.digest == root.digest
    assert evil.all("authorization") == [""]
    assert "refresh" not in evil.received[0].target


def test_r4_a_refusal_says_that_the_login_was_held_back(client_with: ClientWith) -> None:
    with ExitStack() as stack:
        evil = stack.enter_context(http_server(Reply(401), host=OTHER))
        challenge = {"WWW-Authenticate": f'Bearer realm="{evil.url}/t"'}
        good = stack.enter_context(http_server(Reply(401, headers=challenge)))
        name = Reference(good.name, "x", "v1")
        with pytest.raises(Denied) as caught:
            client_with(good.name).repository(name).resolve(name)

    assert f"your credentials are not sent to {evil.name}" in caught.value.hint


def test_r4_the_user_can_name_a_token_server(client_with: ClientWith) -> None:
    hosts = Hosts({"registry.example.com": HostConfig(token_hosts=frozenset({"login.org"}))})

    assert hosts.trusts_token_server(PUBLIC, Origin.of("https://login.org/token"))
    assert not hosts.trusts_token_server(PUBLIC, Origin.of("https://evil.org/token"))


@pytest.mark.parametrize(
    ("registry", "realm", "trusted"),
    [
        ("https://ghcr.io", "https://ghcr.io/token", True),
        ("https://registry-1.docker.io", "https://auth.docker.io/token", True),
        ("https://registry.gitlab.com", "https://gitlab.com/jwt/auth", True),
        ("https://registry.shop.co.uk", "https://auth.shop.co.uk/", True),
        ("https://registry.shop.co.uk", "https://auth.evil.co.uk/", False),
        ("https://registry.example.com", "http://auth.example.com/", False),
        ("https://registry.example.com", "https://example.com.evil.org/", False),
        ("https://registry.example.com", "https://notexample.com/", False),
        ("https://10.0.0.1", "https://10.0.0.2/", False),
        ("https://10.0.0.1", "https://10.0.0.1:444/", True),
        ("http://127.0.0.1:5000", "http://127.0.0.1:5001/token", True),
        ("https://registry", "https://registry/token", True),
        ("https://registry", "https://auth/token", False),
    ],
)
def test_r4_whom_the_login_is_shown(registry: str, realm: str, trusted: bool) -> None:
    found = Hosts().trusts_token_server(Origin.of(registry), Origin.of(realm))

    assert trusted == found


@pytest.mark.parametrize(
    "realm",
    [
        "",
        "token",
        "file:///etc/passwd",
        "http://registry.example.com/token",
        "http://auth.example.com/token",
        "https://127.0.0.1/token",
        "https://169.254.169.254/token",
        "https://2130706433/token",
        "https://u:p@registry.example.com/token",
        "https://registry.example.com/\u202etoken",
    ],
)
def test_r5_a_realm_that_makes_no_sense_is_never_asked(realm: str) -> None:
    def send(request: Request) -> Response:
        raise AssertionError(f"asked {request.url}")

    login = OneLogin("registry.example.com", Login(USER, PASSWORD))
    auth = Auth("registry.example.com", "x", login, home=lambda: PUBLIC, hosts=Hosts(), send=send)
    with pytest.raises(Denied):
        auth.renew(f'Bearer realm="{realm}"', ("repository:x:pull",), "")


def test_r6_a_name_for_a_private_address_is_noticed_when_it_is_connected_to() -> None:
    transport = Transport(PUBLIC, Hosts(), "test")
    other = Origin.of("https://cdn.example.org")
    transport._check_peer(PUBLIC, "8.8.8.8")
    transport._check_peer(other, "9.9.9.9")
    with pytest.raises(Denied, match=r"private address 10\.0\.0\.1"):
        transport._check_peer(other, "10.0.0.1")


def test_r6_a_private_registry_has_private_neighbours() -> None:
    transport = Transport(PUBLIC, Hosts(), "test")
    transport._check_peer(PUBLIC, "10.0.0.1")
    transport._check_peer(Origin.of("https://cdn.example.org"), "10.0.0.2")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"], ids=["port", "host"])
def test_r7_a_redirect_elsewhere_gets_no_credentials(client_with: ClientWith, host: str) -> None:
    data = b"layer"
    with ExitStack() as stack:
        other = stack.enter_context(http_server(Reply(200, data), host=host))

        def small(request: Received) -> Reply:
            return Reply(307, headers={"Location": f"{other.url}/elsewhere?sig=1"})

        good = stack.enter_context(http_server(ask_for_login(small)))
        there = client_with(good.name).repository(Reference(good.name, "x"))

        assert data == read_small(there, LAYER, 100)
    assert other.all("authorization") == [""]
    assert good.all("authorization") == ["", BASIC]


def test_r7_the_way_back_gets_no_credentials_either(client_with: ClientWith) -> None:
    with ExitStack() as stack:
        home: list[str] = []
        back = stack.enter_context(
            http_server(lambda _: Reply(307, headers={"Location": f"{home[0]}/back"}), host=OTHER)
        )

        def small(request: Received) -> Reply:
            if request.path == "/back":
                return Reply(200, b"layer")
            return Reply(307, headers={"Location": f"{back.url}/x"})

        def handler(request: Received) -> Reply:
            return small(request) if request.path == "/back" else ask_for_login(small)(request)

        good = stack.enter_context(http_server(handler))
        home.append(good.url)
        there = client_with(good.name).repository(Reference(good.name, "x"))

        assert read_small(there, LAYER, 100) == b"layer"
    assert good.all("authorization") == ["", BASIC, ""]


def test_r7_a_challenge_from_elsewhere_is_not_answered(client_with: ClientWith) -> None:
    with ExitStack() as stack:
        challenge = Reply(401, headers={"WWW-Authenticate": 'Basic realm="give me"'})
        evil = stack.enter_context(http_server(challenge, host=OTHER))
        away = Reply(307, headers={"Location": f"{evil.url}/x"})
        good = stack.enter_context(http_server(away))
        there = client_with(good.name).repository(Reference(good.name, "x"))
        with pytest.raises(Denied):
            there.open(LAYER)

    assert evil.all("authorization") == [""]


def test_r7_a_redirect_on_the_same_host_keeps_them(client_with: ClientWith) -> None:
    def small(request: Received) -> Reply:
        if request.path == "/moved":
            return Reply(200, b"layer")
        return Reply(301, headers={"Location": "/moved"})

    with http_server(ask_for_login(small)) as good:
        there = client_with(good.name).repository(Reference(good.name, "x"))

        assert read_small(there, LAYER, 100) == b"layer"


def test_r7_tls_is_not_left_by_a_redirect(tmp_path: Path, client_with: ClientWith) -> None:
    pem = self_signed(tmp_path / "pem", "127.0.0.1")
    with ExitStack() as stack:
        evil = stack.enter_context(http_server(never))
        away = Reply(307, headers={"Location": f"{evil.url}/x"})
        good = stack.enter_context(http_server(away, certificate=pem))
        hosts = Hosts({good.name: HostConfig(plain_http=False, ca_file=pem)})
        there = client_with(good.name, hosts=hosts).repository(Reference(good.name, "x"))
        with pytest.raises(Denied, match="without TLS"):
            there.open(LAYER)

    assert evil.received == []


def test_r8_an_upload_that_goes_elsewhere_goes_without_credentials(
    client_with: ClientWith,
) -> None:
    with ExitStack() as stack:
        challenge = {"WWW-Authenticate": 'Basic realm="r"'}
        other = stack.enter_context(http_server(Reply(201, headers=challenge), host=OTHER))

        def small(request: Received) -> Reply:
            if request.method == "POST":
                return Reply(202, headers={"Location": f"{other.url}/put?_state=a%2Bb&x=%7e"})
            return Reply(404)

        good = stack.enter_context(http_server(ask_for_login(small)))
        there = client_with(good.name).repository(Reference(good.name, "x"))
        there.put(LAYER, io.BytesIO(b"layer"))

    assert other.all("authorization") == [""]
    assert other.received[0].body == b"layer"
