"""Numbers in docker's forms."""

from __future__ import annotations

import pytest

from ocispec.errors import Usage
from pybuild.units import added_host, human_age, human_size, size_in_bytes


@pytest.mark.parametrize(
    ("text", "size"),
    [
        ("0", 0),
        ("1024", 1024),
        ("1b", 1),
        ("64m", 64 << 20),
        ("64M", 64 << 20),
        ("64MB", 64 << 20),
        ("64MiB", 64 << 20),
        ("1.5g", 3 << 29),
        ("2 k", 2048),
        ("1t", 1 << 40),
    ],
)
def test_sizes_are_binary(text: str, size: int) -> None:
    assert size == size_in_bytes(text, "--shm-size")


@pytest.mark.parametrize("text", ["", "m", "-1", "1x", "1.2.3", "1e3", "nan", "٣"])
def test_what_is_no_size_is_refused(text: str) -> None:
    with pytest.raises(Usage, match="--shm-size"):
        size_in_bytes(text, "--shm-size")


@pytest.mark.parametrize(
    ("size", "text"),
    [
        (0, "0B"),
        (999, "999B"),
        (1000, "1kB"),
        (1234, "1.23kB"),
        (4_260_000, "4.26MB"),
        (123_456_789, "123MB"),
        (999_999, "1MB"),
        (5_000_000_000, "5GB"),
    ],
)
def test_sizes_are_printed_with_three_digits(size: int, text: str) -> None:
    assert text == human_size(size)


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0.5, "Less than a second ago"),
        (1, "1 second ago"),
        (59, "59 seconds ago"),
        (61, "About a minute ago"),
        (150, "2 minutes ago"),
        (3700, "About an hour ago"),
        (7300, "2 hours ago"),
        (47 * 3600, "47 hours ago"),
        (3 * 86400, "3 days ago"),
        (15 * 86400, "2 weeks ago"),
        (90 * 86400, "3 months ago"),
        (3 * 365 * 86400, "3 years ago"),
    ],
)
def test_ages_are_printed_as_docker_prints_them(seconds: float, text: str) -> None:
    assert text == human_age(seconds)


@pytest.mark.parametrize(
    ("text", "pair"),
    [
        ("db:10.0.0.1", ("db", "10.0.0.1")),
        ("db=10.0.0.1", ("db", "10.0.0.1")),
        ("six:fd00::1", ("six", "fd00::1")),
        ("six=[fd00::1]", ("six", "fd00::1")),
    ],
)
def test_a_host_is_a_name_and_an_address(text: str, pair: tuple[str, str]) -> None:
    assert pair == added_host(text)


@pytest.mark.parametrize("text", ["", "db", "db:", ":1.2.3.4", "db:host-gateway", "db:1.2.3"])
def test_what_is_no_host_is_refused(text: str) -> None:
    with pytest.raises(Usage):
        added_host(text)
