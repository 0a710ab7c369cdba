"""Where registries are, which of them may speak plain HTTP, and who may be sent to whom."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from ocispec.errors import Denied, Invalid

_HUB: Final = "docker.io"
_HUB_HOST: Final = "registry-1.docker.io"
_PORTS: Final = {"http": 80, "https": 443}
# No character that two URL parsers could take differently, and no user:password.
_AUTHORITY: Final = re.compile(r"(?:\[[0-9A-Fa-f:.]+\]|[A-Za-z0-9._-]+)(?::[0-9]{1,5})?")
_ROOTS: Final = (  # as Go looks for them (crypto/x509, root_linux.go)
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
)
_VISIBLE: Final = re.compile(r"[!-~]{1,16384}")


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port: what credentials belong to (RFC 9110, "http Origin")."""

    scheme: str
    host: str  # lower case, IPv6 without brackets
    port: int

    @classmethod
    def of(cls, url: str) -> Origin:
        """The origin of the absolute *url*. Invalid if it is none that we would open."""
        if not _VISIBLE.fullmatch(url) or "\\" in url:
            raise Invalid(f"not a URL that can be opened: {url[:100]!r}")
        try:
            parts = urlsplit(url)
            port = parts.port
        except ValueError:
            raise Invalid(f"not a URL: {url[:100]!r}") from None
        if parts.scheme not in _PORTS or not _AUTHORITY.fullmatch(parts.netloc):
            raise Invalid(f"not an http or https URL: {url.partition('?')[0][:100]!r}")
        host = (parts.hostname or "").rstrip(".")
        last = host.rpartition(".")[2]
        if not host or host.startswith("."):
            raise Invalid(f"not a host: {parts.netloc!r}")
        if (last.isdigit() or last.startswith("0x")) and _address(host) is None:
            # getaddrinfo() takes 2130706433 and 0x7f.1 for 127.0.0.1; what looks like a number
            # must be an address that can be judged (WHATWG URL, "ends in a number").
            raise Invalid(f"not an address: {host!r}")
        return cls(parts.scheme, host, port or _PORTS[parts.scheme])

    @property
    def names(self) -> tuple[str, str]:
        """``host:port`` and ``host``, an IPv6 address in brackets."""
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}", host

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self}"

    def __str__(self) -> str:
        return self.names[self.port == _PORTS[self.scheme]]


@dataclass(frozen=True, slots=True)
class HostConfig:
    """
    What the user says of one host.

    An *insecure* host may have a certificate that is not trusted, or no TLS at all. Credentials
    are sent to token servers of the host's own domain, and to those in *token_hosts*.
    """

    insecure: bool = False
    plain_http: bool | None = None  # None: plain for loopback hosts, TLS for others
    ca_file: Path | None = None  # PEM, instead of the usual roots
    token_hosts: frozenset[str] = frozenset()


_UNNAMED: Final = HostConfig()


@dataclass(frozen=True, slots=True)
class Proxies:
    """Proxy URLs; *bypass* holds the hosts of NO_PROXY: ``host``, ``.domain``, ``*``, a network."""

    http: str | None = field(default=None, repr=False)
    https: str | None = field(default=None, repr=False)
    bypass: tuple[str, ...] = ()

    @classmethod
    def of_environment(cls, environ: Mapping[str, str]) -> Proxies:
        """
        The proxies that *environ* names, as curl and Go read it: lower case first.

        Not HTTP_PROXY for a CGI program, where it is a header of the request (CVE-2016-5386).
        """
        plain = environ.get("http_proxy")
        if plain is None and "REQUEST_METHOD" not in environ:
            plain = environ.get("HTTP_PROXY")
        tls = environ.get("https_proxy", environ.get("HTTPS_PROXY"))
        other = environ.get("all_proxy", environ.get("ALL_PROXY"))
        bypass = environ.get("no_proxy", environ.get("NO_PROXY", ""))
        rules = tuple(rule.strip() for rule in bypass.split(",") if rule.strip())
        return cls(_proxy(plain or other), _proxy(tls or other), rules)

    def for_origin(self, origin: Origin) -> str | None:
        if is_loopback(origin.host) or any(_matches(rule, origin) for rule in self.bypass):
            return None
        return self.https if origin.scheme == "https" else self.http


@dataclass(frozen=True, slots=True)
class Hosts:
    """All that is known of hosts before the first request."""

    named: Mapping[str, HostConfig] = field(default_factory=dict)  # keys: "host" or "host:port"
    proxies: Proxies = Proxies()
    roots: Path | None = None  # PEM of the CAs that are trusted; None: those of certifi

    def config(self, origin: Origin) -> HostConfig:
        for name in origin.names:
            if name in self.named:
                return self.named[name]
        return _UNNAMED

    def is_named(self, origin: Origin) -> bool:
        return any(name in self.named for name in origin.names)

    def candidates(self, registry: str) -> tuple[Origin, ...]:
        """
        Where the API of *registry*, a name as in references, may be: the first that answers is it.

        More than one only for insecure hosts: TLS that fails is never given up for plain HTTP
        elsewhere.
        """
        address = _HUB_HOST if registry == _HUB else registry
        tls, plain = Origin.of(f"https://{address}"), Origin.of(f"http://{address}")
        config = self.config(tls)
        if config.plain_http or (config.plain_http is None and is_loopback(tls.host)):
            return (plain,)
        if config.insecure:
            return (tls, plain)
        return (tls,)

    def verification(self, origin: Origin) -> bool | str:
        """What requests is told of certificates: a file of CAs, True for certifi's, or False."""
        config = self.config(origin)
        if config.insecure:
            return False
        roots = config.ca_file or self.roots
        return True if roots is None else str(roots)

    def check_hop(self, home: Origin, target: Origin) -> None:
        """
        Denied if the registry *home* must not send us to *target*.

        Not from TLS to plain HTTP, and not to addresses of this machine or network unless the
        registry is there, too: else a registry could have us ask what only we can reach (SSRF).
        """
        if target.scheme == "http" and home.scheme == "https" and not self.config(target).insecure:
            raise Denied(f"{home} sends us to {target} without TLS, which is refused")
        if (
            is_private(target.host)
            and target.host != home.host
            and not is_private(home.host)
            and not self.is_named(target)
        ):
            raise Denied(f"{home} sends us to the private address {target}, which is refused")

    def trusts_token_server(self, home: Origin, realm: Origin) -> bool:
        """
        True if the credentials for the registry *home* may be sent to *realm*.

        A challenge can name any host (go-containerregistry#2193, CVE-2026-33540).
        """
        if realm.scheme != "https" and realm.host != home.host:
            return False
        config = self.config(home)
        return (
            realm.host == home.host
            or realm.host in config.token_hosts
            or (_domain(realm.host) is not None and _domain(realm.host) == _domain(home.host))
        )


def system_roots(environ: Mapping[str, str]) -> Path | None:
    """The CAs that this system trusts, which may have its owner's own among them."""
    for name in (environ.get("SSL_CERT_FILE"), *_ROOTS):
        if name and Path(name).is_file():
            return Path(name)
    return None


def is_loopback(host: str) -> bool:
    """True for ``localhost`` and names below it, 127.0.0.0/8 and ::1."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    address = _address(host)
    return address is not None and address.is_loopback


def is_private(host: str) -> bool:
    """True for an address, not a name, that is not one of the public internet; and localhost."""
    address = _address(host)
    return is_loopback(host) if address is None else not address.is_global


def _address(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return None
    return getattr(address, "ipv4_mapped", None) or address


def _domain(host: str) -> str | None:
    """
    The domain that one owner has: the last two labels, or three below co.uk and its like.

    A heuristic: the list of public suffixes is too long to carry, and a registry that can be
    mistaken for its neighbour by it could ask for the credentials itself.
    """
    labels = host.split(".")
    if _address(host) is not None or len(labels) < 2:
        return None
    deep = len(labels[-1]) == 2 and len(labels[-2]) <= 3
    if deep and len(labels) < 3:
        return None
    return ".".join(labels[-3 if deep else -2 :])


def _proxy(url: str | None) -> str | None:
    """A proxy's URL; without a scheme it is one of plain HTTP, as curl has it."""
    return url if not url or "://" in url else f"http://{url}"


def _matches(rule: str, origin: Origin) -> bool:
    name, colon, port = rule.strip().lower().rpartition(":")
    if colon and port.isdigit() and not name.endswith(":"):
        if int(port) != origin.port:
            return False
        rule = name
    rule = rule.strip().lower().strip("[]")
    if rule == "*":
        return True
    address = _address(origin.host)
    if address is not None:
        try:
            return address in ipaddress.ip_network(rule, strict=False)
        except ValueError:
            return False
    domain = rule.removeprefix("*").lstrip(".")
    return bool(domain) and (origin.host == domain or origin.host.endswith("." + domain))
