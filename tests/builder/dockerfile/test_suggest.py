"""The name that was probably meant."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile.suggest import did_you_mean

_KNOWN = ("RUN", "COPY", "ADD", "ENTRYPOINT", "ENV")


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("RUNN", "RUN"),
        ("run", "RUN"),
        ("COYP", "COPY"),
        ("ENTRYPONIT", "ENTRYPOINT"),
        ("ENTPOINT", "ENTRYPOINT"),
        ("EVN", "ENV"),
    ],
)
def test_a_name_that_is_near_is_suggested(name: str, expected: str) -> None:
    assert f"did you mean {expected}?" == did_you_mean(name, _KNOWN)


@pytest.mark.parametrize("name", ["", "X", "INCLUDE", "x" * 1000])
def test_nothing_is_suggested_for_a_name_that_is_far(name: str) -> None:
    assert did_you_mean(name, _KNOWN) == ""


@given(st.text(max_size=20))
def test_a_known_name_suggests_itself(name: str) -> None:
    expected = f"did you mean {name}?" if name.lower() else ""

    assert expected == did_you_mean(name, (name,))
