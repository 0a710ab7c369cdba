"""
What a hostile registry, or one in between, must not get from us: rules R1 to R21.

The numbers are those of the project's list of attacks on registry clients; what is not here needs
a server of our own (R22 to R25), or a login that is written (half of R21).
"""

from __future__ import annotations

import base64
import io
import json
import logging
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path

import pytest
from support.certificates import self_signed
from support.httpserver import Handler, Received, Reply, errors, http_server
from support.images import Memory, random_image
from support.registry import PASSWORD, USER, RunningRegistry
from support.smallregistry import SmallRegistry

from ocispec import mediatypes
from ocispec.content import read_small
from ocispec.copy import copy
from ocispec.digest import Digest
from ocispec.errors import Corrupt, Denied, Invalid, PybuildError, Unavailable
from ocispec.model import MAX_DOCUMENT, Descriptor, Index, Manifest
from ocispec.reference import Reference
from registry_client.auth import Auth
from registry_client.client import Client
from registry_client.credentials import Login, OneLogin
from registry_client.hosts import HostConfig, Hosts, Origin, Proxies
from registry_client.transport import Request, Response, Transport

ClientWith = Callable[..., Client]
PUBLIC = Origin.of("https://registry.example.com")
BASIC = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()
LAYER = Descriptor.of(mediatypes.OCI_LAYER_GZIP, b"layer")


def ask_for_login(small: Handler) -> Handler:
    """*small* behind a password."""

    def handler(request: Received) -> Reply:
        if request.headers.get("authorization") == BASIC:
            return small(request)
        return Reply(401, headers={"WWW-Authenticate": 'Basic realm="r"'})

    return handler


def never(request: Received) -> Reply:
    return Reply(500, b"nobody should have asked")


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
        evil = stack.enter_context(http_server(never, host="127.0.0.2"))
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

    assert [] == evil.received
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

    assert "https://10.0.0.1:8080/x" == transport.resolve(PUBLIC.url, "https://10.0.0.1:8080/x")


def test_r4_the_login_does_not_go_to_a_token_server_of_another_host(
    client_with: ClientWith,
) -> None:
    image = random_image(1)
    small = SmallRegistry(image.content, {"v1": image.root})
    with ExitStack() as stack:
        token = Reply(200, b'{"token":"for-nobody"}')
        evil = stack.enter_context(http_server(lambda request: token, host="127.0.0.2"))
        challenge = {"WWW-Authenticate": f'Bearer realm="{evil.url}/t",service="s"'}

        def handler(request: Received) -> Reply:
            if request.headers.get("authorization") == "Bearer for-nobody":
                return small(request)
            return Reply(401, headers=challenge)

        good = stack.enter_context(http_server(handler))
        name = Reference(good.name, "x", "v1")
        root = client_with(good.name).repository(name).resolve(name)

    assert image.root.digest == root.digest
    assert [""] == evil.all("authorization")
    assert "refresh" not in evil.received[0].target


def test_r4_a_refusal_says_that_the_login_was_held_back(client_with: ClientWith) -> None:
    with ExitStack() as stack:
        evil = stack.enter_context(http_server(lambda request: Reply(401), host="127.0.0.2"))
        challenge = {"WWW-Authenticate": f'Bearer realm="{evil.url}/t"'}
        good = stack.enter_context(http_server(lambda request: Reply(401, headers=challenge)))
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
    with pytest.raises(Denied, match="private address 10.0.0.1"):
        transport._check_peer(other, "10.0.0.1")


def test_r6_a_private_registry_has_private_neighbours() -> None:
    transport = Transport(PUBLIC, Hosts(), "test")
    transport._check_peer(PUBLIC, "10.0.0.1")
    transport._check_peer(Origin.of("https://cdn.example.org"), "10.0.0.2")


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2"], ids=["port", "host"])
def test_r7_a_redirect_elsewhere_gets_no_credentials(client_with: ClientWith, host: str) -> None:
    data = b"layer"
    with ExitStack() as stack:
        other = stack.enter_context(http_server(lambda request: Reply(200, data), host=host))

        def small(request: Received) -> Reply:
            return Reply(307, headers={"Location": f"{other.url}/elsewhere?sig=1"})

        good = stack.enter_context(http_server(ask_for_login(small)))
        there = client_with(good.name).repository(Reference(good.name, "x"))

        assert data == read_small(there, LAYER, 100)
    assert [""] == other.all("authorization")
    assert ["", BASIC] == good.all("authorization")


def test_r7_the_way_back_gets_no_credentials_either(client_with: ClientWith) -> None:
    with ExitStack() as stack:
        home: list[str] = []
        back = stack.enter_context(
            http_server(
                lambda request: Reply(307, headers={"Location": f"{home[0]}/back"}),
                host="127.0.0.2",
            )
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

        assert b"layer" == read_small(there, LAYER, 100)
    assert ["", BASIC, ""] == good.all("authorization")


def test_r7_a_challenge_from_elsewhere_is_not_answered(client_with: ClientWith) -> None:
    with ExitStack() as stack:
        challenge = Reply(401, headers={"WWW-Authenticate": 'Basic realm="give me"'})
        evil = stack.enter_context(http_server(lambda request: challenge, host="127.0.0.2"))
        away = Reply(307, headers={"Location": f"{evil.url}/x"})
        good = stack.enter_context(http_server(lambda request: away))
        there = client_with(good.name).repository(Reference(good.name, "x"))
        with pytest.raises(Denied):
            there.open(LAYER)

    assert [""] == evil.all("authorization")


def test_r7_a_redirect_on_the_same_host_keeps_them(client_with: ClientWith) -> None:
    def small(request: Received) -> Reply:
        if request.path == "/moved":
            return Reply(200, b"layer")
        return Reply(301, headers={"Location": "/moved"})

    with http_server(ask_for_login(small)) as good:
        there = client_with(good.name).repository(Reference(good.name, "x"))

        assert b"layer" == read_small(there, LAYER, 100)


def test_r7_tls_is_not_left_by_a_redirect(tmp_path: Path, client_with: ClientWith) -> None:
    pem = self_signed(tmp_path / "pem", "127.0.0.1")
    with ExitStack() as stack:
        evil = stack.enter_context(http_server(never))
        away = Reply(307, headers={"Location": f"{evil.url}/x"})
        good = stack.enter_context(http_server(lambda request: away, certificate=pem))
        hosts = Hosts({good.name: HostConfig(plain_http=False, ca_file=pem)})
        there = client_with(good.name, hosts=hosts).repository(Reference(good.name, "x"))
        with pytest.raises(Denied, match="without TLS"):
            there.open(LAYER)

    assert [] == evil.received


def test_r8_an_upload_that_goes_elsewhere_goes_without_credentials(
    client_with: ClientWith,
) -> None:
    with ExitStack() as stack:
        challenge = {"WWW-Authenticate": 'Basic realm="r"'}
        other = stack.enter_context(
            http_server(lambda request: Reply(201, headers=challenge), host="127.0.0.2")
        )

        def small(request: Received) -> Reply:
            if request.method == "POST":
                return Reply(202, headers={"Location": f"{other.url}/put?_state=a%2Bb&x=%7e"})
            return Reply(404)

        good = stack.enter_context(http_server(ask_for_login(small)))
        there = client_with(good.name).repository(Reference(good.name, "x"))
        there.put(LAYER, io.BytesIO(b"layer"))

    assert [""] == other.all("authorization")
    assert b"layer" == other.received[0].body


def test_r9_netrc_is_not_read(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    netrc = tmp_path / ".netrc"
    netrc.write_text("machine 127.0.0.1 login evil password evil\ndefault login e password e\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(netrc))
    image = random_image(2)
    with http_server(SmallRegistry(image.content, {"v1": image.root})) as server:
        name = Reference(server.name, "x", "v1")
        there = client.repository(name)
        copy(there.resolve(name), there, Memory())

    assert {""} == set(server.all("authorization"))


def test_r9_proxies_of_the_environment_are_not_used(
    monkeypatch: pytest.MonkeyPatch, client: Client
) -> None:
    with ExitStack() as stack:
        proxy = stack.enter_context(http_server(never))
        for name in ("http_proxy", "https_proxy", "all_proxy"):
            monkeypatch.setenv(name, proxy.url)
            monkeypatch.setenv(name.upper(), proxy.url)
        monkeypatch.setenv("no_proxy", "")
        server = stack.enter_context(http_server(lambda request: Reply(200, b"layer")))

        assert b"layer" == read_small(client.repository(Reference(server.name, "x")), LAYER, 9)
    assert [] == proxy.received


def test_r10_the_login_of_a_proxy_goes_to_the_proxy_only(client_with: ClientWith) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(http_server(lambda request: Reply(200, b"layer")))

        def through(request: Received) -> Reply:
            assert request.target.startswith("http://10.1.2.3/v2/x/blobs/")
            return Reply(307, headers={"Location": f"{other.url}/x"})

        proxy = stack.enter_context(http_server(through))
        address = f"http://proxyuser:proxysecret@{proxy.name}"
        hosts = Hosts({"10.1.2.3": HostConfig(plain_http=True)}, proxies=Proxies(http=address))
        there = client_with("10.1.2.3", hosts=hosts).repository(Reference("10.1.2.3", "x"))

        assert b"layer" == read_small(there, LAYER, 9)
    assert proxy.all("proxy-authorization")[0].startswith("Basic ")
    assert [""] == other.all("proxy-authorization")
    assert "proxysecret" not in repr(hosts)


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
    with http_server(lambda request: Reply(200, data, headers)) as server:
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
    with http_server(lambda request: reply) as server:
        there = client.repository(Reference(server.name, "x"))
        with pytest.raises((Corrupt, Unavailable)):
            reader = there.open(LAYER)
            try:
                reader.read()
            finally:
                reader.close()


def test_r12_another_manifest_than_was_asked_for_is_refused(client: Client) -> None:
    wanted, other = random_image(4), random_image(5)
    data = other.content.blobs[other.root.digest]
    headers = {
        "Docker-Content-Digest": str(wanted.root.digest),
        "Content-Type": wanted.root.media_type,
    }
    with http_server(lambda request: Reply(200, data, headers)) as server:
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
    with http_server(lambda request: Reply(200, data, headers)) as server:
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
    with http_server(lambda request: Reply(200, data, headers)) as server:
        there = client.repository(Reference(server.name, "x"))
        with pytest.raises(Invalid):
            copy(root, there, Memory())


def test_r14_a_manifest_that_claims_gigabytes_is_not_asked_for(client: Client) -> None:
    root = Descriptor(mediatypes.OCI_MANIFEST, LAYER.digest, 2 << 30)
    with http_server(never) as server:
        there = client.repository(Reference(server.name, "x"))
        with pytest.raises(Corrupt):
            copy(root, there, Memory())

    assert [] == server.received


def test_r15_redirects_come_to_an_end(client: Client) -> None:
    def handler(request: Received) -> Reply:
        return Reply(307, headers={"Location": f"/x{len(request.path)}{request.path}"})

    with http_server(handler) as server:
        there = client.repository(Reference(server.name, "x"))
        with pytest.raises(Unavailable, match="more than 10 redirects"):
            there.open(LAYER)

        assert 10 == len(server.received)


@pytest.mark.parametrize(
    "link",
    ["</v2/x/tags/list?n=1000>; rel=next", "</a>; rel=next", "<>; rel=next"],
    ids=["itself", "another", "nothing"],
)
def test_r15_pages_come_to_an_end(client: Client, link: str) -> None:
    body = json.dumps({"tags": ["a", "b"]}).encode()
    with http_server(lambda request: Reply(200, body, {"Link": link})) as server:
        assert ["a", "b"] == client.repository(Reference(server.name, "x")).tags()
        assert 2 == len(server.received)


def test_r15_pages_do_not_lead_to_another_host(client_with: ClientWith) -> None:
    with ExitStack() as stack:
        evil = stack.enter_context(http_server(never, host="127.0.0.2"))
        page = Reply(200, b'{"tags":["a"]}', {"Link": f"<{evil.url}/x>; rel=next"})
        good = stack.enter_context(http_server(ask_for_login(lambda request: page)))
        with pytest.raises(Denied):
            client_with(good.name).repository(Reference(good.name, "x")).tags()

    assert [] == evil.received


def test_r15_an_index_in_an_index_in_an_index_comes_to_an_end(client: Client) -> None:
    content = Memory()
    root = content.add(mediatypes.OCI_INDEX, Index(()).encode())
    for _ in range(20):
        root = content.add(mediatypes.OCI_INDEX, Index((root,)).encode())
    with http_server(SmallRegistry(content)) as server:
        with pytest.raises(Invalid, match="nested"):
            copy(root, client.repository(Reference(server.name, "x")), Memory())

        assert 10 > len(server.received)


HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n\u202egnp.exe\u0000 ok"


@pytest.mark.parametrize("form", ["json", "text"])
def test_r16_words_of_the_registry_cannot_drive_a_terminal(client: Client, form: str) -> None:
    text = Reply(403, HOSTILE.encode())
    reply = errors(403, "DENIED", HOSTILE) if form == "json" else text
    with http_server(lambda request: reply) as server:
        with pytest.raises(Denied) as caught:
            client.repository(Reference(server.name, "x")).open(LAYER)

    assert caught.value.message.isprintable()
    assert "ok" in caught.value.message


def test_r16_words_of_the_registry_are_few(client: Client) -> None:
    with http_server(lambda request: Reply(403, b"so " * 1_000_000)) as server:
        with pytest.raises(Denied) as caught:
            client.repository(Reference(server.name, "x")).open(LAYER)

    assert 1000 > len(caught.value.message)


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


SECRETS = {
    "basic": 'Basic realm="r"',
    "bearer": 'Bearer realm="{url}/token",service="s"',
}


@pytest.mark.parametrize("scheme", SECRETS)
def test_r21_secrets_are_in_no_message_log_or_traceback(
    client_with: ClientWith, caplog: pytest.LogCaptureFixture, scheme: str
) -> None:
    """Even if the registry quotes what it was sent."""
    caplog.set_level(logging.DEBUG)
    url: list[str] = []

    def handler(request: Received) -> Reply:
        sent = request.headers.get("authorization", "")
        if request.path == "/token":
            return Reply(200, b'{"token":"secret-token"}')
        challenge = {"WWW-Authenticate": SECRETS[scheme].format(url=url[0])}
        if not sent:
            return Reply(401, headers=challenge)
        decoded = base64.b64decode(sent.split()[1] + "==") if scheme == "basic" else b""
        return errors(403, "DENIED", f"not with {sent} {decoded!r}")

    with http_server(handler) as server:
        url.append(server.url)
        there = client_with(server.name).repository(Reference(server.name, "x"))
        with pytest.raises(Denied) as caught:
            there.put(LAYER, io.BytesIO(b"layer"))
    shown = "".join(traceback.format_exception(caught.value)) + repr(vars(caught.value))
    shown += caplog.text

    assert "not with" in shown
    for secret in (PASSWORD, BASIC.removeprefix("Basic "), "secret-token"):
        assert secret not in shown


def test_r21_signed_urls_are_in_no_message(client: Client) -> None:
    def handler(request: Received) -> Reply:
        if request.path == "/signed":
            return Reply(reset=True)
        return Reply(307, headers={"Location": "/signed?sig=very-secret"})

    with http_server(handler) as server:
        with pytest.raises(Unavailable) as caught:
            client.repository(Reference(server.name, "x")).open(LAYER)

    assert "very-secret" not in "".join(traceback.format_exception(caught.value))


def test_r21_the_log_of_the_registry_has_no_password(
    locked: RunningRegistry, client_with: ClientWith, repository_name: str
) -> None:
    image = random_image(10)
    copy(
        image.root,
        image.content,
        client_with(locked.name).repository(Reference(locked.name, repository_name)),
    )

    assert PASSWORD not in "".join(locked.log)


def test_r21_a_login_does_not_show_its_secrets() -> None:
    login = Login("me", "pass-secret", "identity-secret", "registry-secret")

    assert "secret" not in repr(OneLogin("x", login))


def test_cookies_are_not_kept(client: Client) -> None:
    with http_server(
        lambda request: Reply(200, b"layer", {"Set-Cookie": "id=1; Path=/"})
    ) as server:
        there = client.repository(Reference(server.name, "x"))
        for _ in range(2):
            read_small(there, LAYER, 9)

    assert ["", ""] == server.all("cookie")


def test_a_blob_with_a_content_encoding_is_taken_as_it_is(client: Client) -> None:
    data = b"\x1f\x8b not really"
    blob = Descriptor.of(mediatypes.OCI_LAYER_GZIP, data)
    headers = {"Content-Encoding": "gzip"}
    with http_server(lambda request: Reply(200, data, headers)) as server:
        assert data == read_small(client.repository(Reference(server.name, "x")), blob, 99)
    assert ["identity"] == server.all("accept-encoding")


def test_a_digest_with_another_algorithm_is_checked_by_it(client: Client) -> None:
    import hashlib

    digest = Digest("sha512:" + hashlib.sha512(b"layer").hexdigest())
    blob = Descriptor(mediatypes.OCI_LAYER, digest, 5)
    with http_server(lambda request: Reply(200, b"layer")) as server:
        there = client.repository(Reference(server.name, "x"))

        assert b"layer" == read_small(there, blob, 9)
        with pytest.raises(Corrupt):
            read_small(there, replace(blob, digest=Digest("sha512:" + "0" * 128)), 9)
