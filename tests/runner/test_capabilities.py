from __future__ import annotations

import re
from pathlib import Path

import pytest

from ocispec.errors import Invalid
from runner.capabilities import ALL_CAPABILITIES, DEFAULT_CAPABILITIES, mask, normalise

_HEADER = Path("/usr/include/linux/capability.h")


@pytest.mark.parametrize("name", ["net_raw", "NET_RAW", "CAP_NET_RAW", "cap_net_raw"])
def test_names_have_one_form(name: str) -> None:
    assert normalise(name) == "CAP_NET_RAW"


def test_an_unknown_name_is_invalid() -> None:
    with pytest.raises(Invalid):
        normalise("NET_ROW")


def test_the_default_is_docker_s() -> None:
    assert mask(DEFAULT_CAPABILITIES) == 0xA80425FB


@pytest.mark.oracle
def test_numbers_are_those_of_the_kernel_s_header() -> None:
    if not _HEADER.exists():
        pytest.skip(f"needs {_HEADER} (Debian: linux-libc-dev)")
    defined = re.findall(r"^#define (CAP_\w+)\s+(\d+)$", _HEADER.read_text(), re.MULTILINE)

    assert {name: 1 << int(number) for name, number in defined} == {
        name: mask([name]) for name in ALL_CAPABILITIES
    }
