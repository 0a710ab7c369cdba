"""/etc/hosts and /etc/resolv.conf of a sandbox, made from the host's as BuildKit does."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

# Where systemd-resolved keeps the servers that its stub at 127.0.0.53 asks.
RESOLVED: Final = "/run/systemd/resolve/resolv.conf"
_STUB: Final = "127.0.0.53"
_PUBLIC: Final = (b"nameserver 8.8.8.8\n", b"nameserver 8.8.4.4\n")
_LOOPBACK: Final = (
    "127.0.0.1\tlocalhost",
    "::1\tlocalhost ip6-localhost ip6-loopback",
    "fe00::0\tip6-localnet",
    "ff00::0\tip6-mcastprefix",
    "ff02::1\tip6-allnodes",
    "ff02::2\tip6-allrouters",
)


def hosts_file(hostname: str, add_hosts: Sequence[tuple[str, str]]) -> bytes:
    """The names of the loopback interface and of *hostname*; then *add_hosts*, (name, address)."""
    lines = [*_LOOPBACK, f"127.0.0.1\t{hostname}"]
    lines += [f"{address}\t{name}" for name, address in add_hosts]
    return "".join(f"{line}\n" for line in lines).encode()


def resolv_conf(host_text: bytes, *, shares_network: bool) -> bytes:
    """
    The resolver's file for a sandbox, from the host's *host_text*.

    In the host's network it is the host's own. Elsewhere servers on the loopback interface cannot
    be reached and are left out; if none is left, public ones are named, as Docker does.
    """
    if shares_network:
        return host_text
    lines = host_text.splitlines(keepends=True)
    kept = [line for line in lines if not _is_loopback_server(line)]
    if not any(_server(line) for line in kept):
        if kept and not kept[-1].endswith(b"\n"):
            kept.append(b"\n")
        kept += _PUBLIC
    return b"".join(kept)


def is_stub_only(host_text: bytes) -> bool:
    """True if all that *host_text* names is systemd-resolved's stub: then RESOLVED is read."""
    servers = {_server(line) for line in host_text.splitlines()} - {""}
    return servers == {_STUB}


def _is_loopback_server(line: bytes) -> bool:
    import ipaddress  # 4 ms that a cached build does without

    text = _server(line)
    try:
        return bool(text) and ipaddress.ip_address(text.partition("%")[0]).is_loopback
    except ValueError:
        return False


def _server(line: bytes) -> str:
    words = line.split()
    if len(words) >= 2 and words[0] == b"nameserver":
        return words[1].decode("ascii", "replace")
    return ""
