"""/etc/hosts and /etc/resolv.conf, as BuildKit makes them."""

from __future__ import annotations

import pytest

from runner.netfiles import hosts_file, is_stub_only, resolv_conf


def test_the_hosts_file_names_the_loopback_the_host_and_what_was_added() -> None:
    made = hosts_file("box", [("db", "10.0.0.1"), ("six", "fd00::1")])

    expected = (
        b"127.0.0.1\tlocalhost\n"
        b"::1\tlocalhost ip6-localhost ip6-loopback\n"
        b"fe00::0\tip6-localnet\n"
        b"ff00::0\tip6-mcastprefix\n"
        b"ff02::1\tip6-allnodes\n"
        b"ff02::2\tip6-allrouters\n"
        b"127.0.0.1\tbox\n"
        b"10.0.0.1\tdb\n"
        b"fd00::1\tsix\n"
    )
    assert expected == made


@pytest.mark.parametrize(
    "host",
    [b"", b"nameserver 127.0.0.53\n", b"search a\nnameserver 192.0.2.1\noptions ndots:2\n"],
    ids=repr,
)
def test_in_the_hosts_network_its_resolver_is_used_as_it_is(host: bytes) -> None:
    assert host == resolv_conf(host, shares_network=True)


@pytest.mark.parametrize(
    ("host", "made"),
    [
        (b"nameserver 192.0.2.1\n", b"nameserver 192.0.2.1\n"),
        (b"nameserver 127.0.0.1\nnameserver 192.0.2.1\n", b"nameserver 192.0.2.1\n"),
        (
            b"search a b\nnameserver ::1\nnameserver fe80::1%eth0\n",
            b"search a b\nnameserver fe80::1%eth0\n",
        ),
        (
            b"#nameserver 127.0.0.1\nnameserver 192.0.2.1",
            b"#nameserver 127.0.0.1\nnameserver 192.0.2.1",
        ),
        (b"", b"nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
        (
            b"search a\nnameserver 127.0.0.53\n",
            b"search a\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n",
        ),
        (b"nameserver 127.0.0.53", b"nameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
        (b"search a", b"search a\nnameserver 8.8.8.8\nnameserver 8.8.4.4\n"),
        (b"nameserver \xff\nnameserver 127.1.2.3\n", b"nameserver \xff\n"),
    ],
    ids=repr,
)
def test_elsewhere_servers_of_the_loopback_are_left_out(host: bytes, made: bytes) -> None:
    assert made == resolv_conf(host, shares_network=False)


@pytest.mark.parametrize(
    ("host", "only"),
    [
        (b"nameserver 127.0.0.53\n", True),
        (b"search a\nnameserver 127.0.0.53\nnameserver 127.0.0.53\n", True),
        (b"nameserver 127.0.0.53\nnameserver 192.0.2.1\n", False),
        (b"nameserver 192.0.2.1\n", False),
        (b"", False),
    ],
    ids=repr,
)
def test_a_stub_resolver_is_known_when_it_is_the_only_one(host: bytes, only: bool) -> None:
    assert only == is_stub_only(host)
