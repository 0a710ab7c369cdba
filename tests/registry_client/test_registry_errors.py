from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocispec.errors import Conflict, Corrupt, Denied, Invalid, NotFound, Unavailable, Unsupported
from registry_client.errors import codes, error_for, safe, words


def body(*errors: object) -> bytes:
    return json.dumps({"errors": errors}).encode()


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, Invalid),
        (401, Denied),
        (403, Denied),
        (404, NotFound),
        (405, Unsupported),
        (408, Unavailable),
        (409, Conflict),
        (413, Unsupported),
        (415, Unsupported),
        (416, Invalid),
        (429, Unavailable),
        (500, Unavailable),
        (501, Unsupported),
        (503, Unavailable),
        (599, Unavailable),
    ],
)
def test_each_status_is_a_kind(status: int, kind: type[Exception]) -> None:
    error = error_for(status, b"", "the thing")

    assert type(error) is kind
    assert error.message == f"the thing: the registry answered {status}"


def test_a_digest_that_is_invalid_is_corrupt() -> None:
    said = body({"code": "DIGEST_INVALID", "message": "provided digest did not match"})

    assert isinstance(error_for(400, said, "x"), Corrupt)


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        (b"", ""),
        (body({"code": "DENIED", "message": "not yours"}), "not yours"),
        (body({"code": "DENIED", "message": "a"}, {"code": "X", "message": "b"}), "a; b"),
        (body({"code": "DENIED", "message": "a"}, {"code": "X", "message": "a"}), "a"),
        (body({"code": "DENIED"}), "DENIED"),
        (body({}), "unknown error"),
        (body("text", 7, None), '{"errors": ["text", 7, null]}'),
        (b"429 Too Many Requests", "429 Too Many Requests"),
        (b"Too\nMany\r\nRequests\n", "Too Many Requests"),
        (b"<html><body>nginx</body></html>", ""),
        (b"\xff\xfe", "��"),
        (b"[" * 100_000, "[" * 500 + "…"),
    ],
    ids=range(12),
)
def test_the_registrys_own_words_are_shown(said: bytes, expected: str) -> None:
    assert words(said) == expected


@given(st.text(max_size=700))
def test_what_is_shown_is_one_printable_line(text: str) -> None:
    shown = safe(text)

    assert shown.isprintable()
    assert len(shown) <= 501


@given(st.binary(max_size=200))
def test_any_body_has_words_and_codes(data: bytes) -> None:
    assert words(data).isprintable()
    assert isinstance(codes(data), tuple)
