"""What a hostile registry must not get from us or show through us: rules R9, R10, R16, R21."""

from __future__ import annotations

import base64
import io
import logging
import traceback
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path

import pytest
from support.hostile import BASIC, LAYER, never
from support.httpserver import Received, Reply, errors, http_server
from support.images import Memory, random_image
from support.registry import PASSWORD, RunningRegistry
from support.smallregistry import SmallRegistry

from ocispec.content import read_small
from ocispec.copy import copy
from ocispec.errors import Denied, Unavailable
from ocispec.reference import Reference
from registry_client.client import Client
from registry_client.credentials import Login, OneLogin
from registry_client.hosts import HostConfig, Hosts, Proxies

ClientWith = Callable[..., Client]


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
        server = stack.enter_context(http_server(Reply(200, b"layer")))

        assert read_small(client.repository(Reference(server.name, "x")), LAYER, 9) == b"layer"
    assert proxy.received == []


def test_r10_the_login_of_a_proxy_goes_to_the_proxy_only(client_with: ClientWith) -> None:
    with ExitStack() as stack:
        other = stack.enter_context(http_server(Reply(200, b"layer")))

        def through(request: Received) -> Reply:
            assert request.target.startswith("http://10.1.2.3/v2/x/blobs/")
            return Reply(307, headers={"Location": f"{other.url}/x"})

        proxy = stack.enter_context(http_server(through))
        address = f"http://proxyuser:proxysecret@{proxy.name}"
        hosts = Hosts({"10.1.2.3": HostConfig(plain_http=True)}, proxies=Proxies(http=address))
        there = client_with("10.1.2.3", hosts=hosts).repository(Reference("10.1.2.3", "x"))

        assert read_small(there, LAYER, 9) == b"layer"
    assert proxy.all("proxy-authorization")[0].startswith("Basic ")
    assert other.all("proxy-authorization") == [""]
    assert "proxysecret" not in repr(hosts)


HOSTILE = "\x1b[2J\x1b]0;owned\x07\r\n\u202egnp.exe\u0000 ok"


@pytest.mark.parametrize("form", ["json", "text"])
def test_r16_words_of_the_registry_cannot_drive_a_terminal(client: Client, form: str) -> None:
    text = Reply(403, HOSTILE.encode())
    reply = errors(403, "DENIED", HOSTILE) if form == "json" else text
    with http_server(reply) as server, pytest.raises(Denied) as caught:
        client.repository(Reference(server.name, "x")).open(LAYER)

    assert caught.value.message.isprintable()
    assert "ok" in caught.value.message


def test_r16_words_of_the_registry_are_few(client: Client) -> None:
    with http_server(Reply(403, b"so " * 1_000_000)) as server, pytest.raises(Denied) as caught:
        client.repository(Reference(server.name, "x")).open(LAYER)

    assert len(caught.value.message) < 1000


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

    with http_server(handler) as server, pytest.raises(Unavailable) as caught:
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
    with http_server(Reply(200, b"layer", {"Set-Cookie": "id=1; Path=/"})) as server:
        there = client.repository(Reference(server.name, "x"))
        for _ in range(2):
            read_small(there, LAYER, 9)

    assert server.all("cookie") == ["", ""]
