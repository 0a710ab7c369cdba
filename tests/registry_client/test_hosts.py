from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocispec.errors import Invalid
from registry_client.hosts import (
    HostConfig,
    Hosts,
    Origin,
    Proxies,
    is_loopback,
    is_private,
    system_roots,
)


@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("https://example.com", Origin("https", "example.com", 443)),
        ("http://EXAMPLE.com:80/x?y#z", Origin("http", "example.com", 80)),
        ("https://example.com.:5000/", Origin("https", "example.com", 5000)),
        ("http://[::1]:5000/v2/", Origin("http", "::1", 5000)),
        ("https://10.0.0.1/", Origin("https", "10.0.0.1", 443)),
        ("https://under_score.example/", Origin("https", "under_score.example", 443)),
    ],
)
def test_an_origin_is_scheme_host_and_port(url: str, origin: Origin) -> None:
    assert Origin.of(url) == origin


@pytest.mark.parametrize(
    ("origin", "text", "url"),
    [
        (Origin("https", "example.com", 443), "example.com", "https://example.com"),
        (Origin("https", "example.com", 80), "example.com:80", "https://example.com:80"),
        (Origin("http", "::1", 5000), "[::1]:5000", "http://[::1]:5000"),
    ],
)
def test_an_origin_is_shown_without_the_usual_port(origin: Origin, text: str, url: str) -> None:
    assert (str(origin), origin.url) == (text, url)


@given(st.text(max_size=60))
def test_any_text_is_an_origin_or_invalid(text: str) -> None:
    try:
        origin = Origin.of("https://" + text)
    except Invalid:
        return

    assert Origin.of(origin.url) == origin


@pytest.mark.parametrize(
    ("registry", "config", "urls"),
    [
        ("example.com", HostConfig(), ["https://example.com"]),
        ("docker.io", HostConfig(), ["https://registry-1.docker.io"]),
        ("example.com:5000", HostConfig(), ["https://example.com:5000"]),
        ("localhost:5000", HostConfig(), ["http://localhost:5000"]),
        ("localhost", HostConfig(), ["http://localhost"]),
        ("127.0.0.5:5000", HostConfig(), ["http://127.0.0.5:5000"]),
        ("[::1]:5000", HostConfig(), ["http://[::1]:5000"]),
        ("localhost.example.com", HostConfig(), ["https://localhost.example.com"]),
        ("10.0.0.1:5000", HostConfig(), ["https://10.0.0.1:5000"]),
        ("example.com", HostConfig(plain_http=True), ["http://example.com"]),
        ("localhost:5000", HostConfig(plain_http=False), ["https://localhost:5000"]),
        (
            "example.com",
            HostConfig(insecure=True),
            ["https://example.com", "http://example.com"],
        ),
        ("localhost:1", HostConfig(insecure=True), ["http://localhost:1"]),
    ],
)
def test_where_a_registry_may_be(registry: str, config: HostConfig, urls: list[str]) -> None:
    found = Hosts({registry: config}).candidates(registry)

    assert [origin.url for origin in found] == urls


@pytest.mark.parametrize(
    ("name", "url", "named"),
    [
        ("example.com", "https://example.com", True),
        ("example.com", "https://example.com:5000", True),
        ("example.com:5000", "https://example.com:5000", True),
        ("example.com:5000", "https://example.com", False),
        ("[::1]:5000", "http://[::1]:5000", True),
        ("[::1]", "http://[::1]:5000", True),
    ],
)
def test_a_host_is_named_with_or_without_its_port(name: str, url: str, named: bool) -> None:
    hosts = Hosts({name: HostConfig(insecure=True)})

    assert hosts.config(Origin.of(url)).insecure == named
    assert hosts.is_named(Origin.of(url)) == named


@pytest.mark.parametrize(
    ("rule", "url", "proxied"),
    [
        ("", "https://example.com", True),
        ("example.com", "https://example.com", False),
        ("example.com", "https://sub.example.com", False),
        ("example.com", "https://notexample.com", True),
        (".example.com", "https://sub.example.com", False),
        ("*.example.com", "https://sub.example.com", False),
        ("EXAMPLE.com", "https://example.com", False),
        ("example.com:5000", "https://example.com:5000", False),
        ("example.com:5000", "https://example.com", True),
        ("*", "https://example.com", False),
        ("10.0.0.0/8", "https://10.1.2.3", False),
        ("10.0.0.0/8", "https://11.1.2.3", True),
        ("10.1.2.3", "https://10.1.2.3", False),
        ("10.1.2.3", "https://10.1.2.4", True),
        ("fd00::/8", "https://[fd00::1]:5000", False),
        ("[fd00::1]:5000", "https://[fd00::1]:5000", False),
        ("other", "http://127.0.0.1:5000", False),
        ("other", "http://localhost", False),
    ],
)
def test_proxies_are_passed_by(rule: str, url: str, proxied: bool) -> None:
    proxies = Proxies("http://p", "http://p", (rule,))

    assert (proxies.for_origin(Origin.of(url)) is not None) == proxied


def test_each_scheme_has_a_proxy_of_its_own() -> None:
    proxies = Proxies("http://plain", "http://tls")

    assert proxies.for_origin(Origin.of("http://example.com")) == "http://plain"
    assert proxies.for_origin(Origin.of("https://example.com")) == "http://tls"


@pytest.mark.parametrize(
    ("environ", "plain", "tls"),
    [
        ({}, None, None),
        ({"http_proxy": "http://a", "https_proxy": "http://b"}, "http://a", "http://b"),
        ({"HTTP_PROXY": "http://a", "HTTPS_PROXY": "http://b"}, "http://a", "http://b"),
        ({"http_proxy": "http://a", "HTTP_PROXY": "http://b"}, "http://a", None),
        ({"HTTP_PROXY": "http://a", "REQUEST_METHOD": "GET"}, None, None),
        ({"ALL_PROXY": "http://a", "https_proxy": "http://b"}, "http://a", "http://b"),
        ({"https_proxy": "proxy:3128"}, None, "http://proxy:3128"),
        ({"https_proxy": "", "HTTPS_PROXY": "http://a"}, None, None),
    ],
)
def test_proxies_are_read_from_the_environment(
    environ: dict[str, str], plain: str | None, tls: str | None
) -> None:
    proxies = Proxies.of_environment(environ)

    assert (proxies.http or None, proxies.https or None) == (plain, tls)


def test_hosts_without_a_proxy_are_read_from_the_environment() -> None:
    proxies = Proxies.of_environment({"NO_PROXY": "a.com, .b.com ,,10.0.0.0/8"})

    assert proxies.bypass == ("a.com", ".b.com", "10.0.0.0/8")


def test_the_roots_of_the_environment_come_first(tmp_path: Path) -> None:
    (tmp_path / "mine.pem").touch()
    mine, absent = str(tmp_path / "mine.pem"), str(tmp_path / "absent.pem")

    assert system_roots({"SSL_CERT_FILE": mine}) == Path(mine)
    assert system_roots({"SSL_CERT_FILE": absent}) == system_roots({})


@pytest.mark.parametrize(
    ("config", "roots", "expected"),
    [
        (HostConfig(), None, True),
        (HostConfig(), Path("/roots"), "/roots"),
        (HostConfig(ca_file=Path("/own")), Path("/roots"), "/own"),
        (HostConfig(insecure=True, ca_file=Path("/own")), Path("/roots"), False),
    ],
)
def test_what_certificates_are_checked_with(
    config: HostConfig, roots: Path | None, expected: bool | str
) -> None:
    hosts = Hosts({"example.com": config}, roots=roots)

    assert hosts.verification(Origin.of("https://example.com")) == expected


@pytest.mark.parametrize(
    ("host", "loopback", "private"),
    [
        ("localhost", True, True),
        ("a.localhost", True, True),
        ("127.9.9.9", True, True),
        ("::1", True, True),
        ("10.0.0.1", False, True),
        ("192.168.0.1", False, True),
        ("169.254.169.254", False, True),
        ("100.64.0.1", False, True),
        ("0.0.0.0", False, True),
        ("fe80::1", False, True),
        ("fd00:ec2::254", False, True),
        ("::ffff:10.0.0.1", False, True),
        ("::ffff:127.0.0.1", True, True),
        ("8.8.8.8", False, False),
        ("2606:4700::1", False, False),
        ("example.com", False, False),
        ("notlocalhost", False, False),
    ],
)
def test_addresses_are_told_apart(host: str, loopback: bool, private: bool) -> None:
    assert (is_loopback(host), is_private(host)) == (loopback, private)
