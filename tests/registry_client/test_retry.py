from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocispec.errors import Unavailable
from registry_client.retry import Retries, retry_after

NOW = 1_700_000_000.0  # 2023-11-14T22:13:20Z


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("", 0),
        ("0", 0),
        ("7", 7),
        (" 120 ", 120),
        ("-1", 0),
        ("1.5", 0),
        ("soon", 0),
        ("９", 0),
        ("Tue, 14 Nov 2023 22:13:50 GMT", 30),
        ("Tue, 14 Nov 2023 22:13:10 GMT", 0),
        ("Tuesday, 14-Nov-23 22:13:50 GMT", 30),
        ("Tue, 99 Nov 2023 22:13:50 GMT", 0),
    ],
)
def test_both_forms_of_retry_after_are_read(header: str, seconds: float) -> None:
    assert retry_after(header, NOW) == seconds


@given(st.text(max_size=60))
def test_any_header_is_some_seconds(header: str) -> None:
    assert retry_after(header, NOW) >= 0


def test_waits_double_to_a_limit() -> None:
    waits = [Retries(first=1.0, most=5.0).wait(attempt, 1.0) for attempt in range(1, 6)]

    assert waits == [1.0, 2.0, 4.0, 5.0, 5.0]


def test_waits_are_spread_by_luck() -> None:
    assert Retries(first=8.0).wait(1, 0.25) == 2.0


def test_a_wait_that_is_too_long_is_an_error() -> None:
    with pytest.raises(Unavailable, match="wait for 301 seconds"):
        Retries().asked_wait("301", NOW, "example.com")

    assert Retries().asked_wait("300", NOW, "example.com") == 300
