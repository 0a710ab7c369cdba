"""The one JSON form that is written and hashed, and the one strict way JSON is read."""

from __future__ import annotations

import json
import re
from typing import Any, Final

from ocispec.errors import Invalid

_SURROGATE: Final = re.compile(r"\\u[dD][89a-fA-F]")


def encode(value: object) -> bytes:
    """*value* as UTF-8 JSON without blanks; keys in the order given, so documents keep theirs."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()


def encode_sorted(value: object) -> bytes:
    """As encode(), with sorted keys: for what is hashed and has no order of its own."""
    return json.dumps(
        value, ensure_ascii=True, separators=(",", ":"), allow_nan=False, sort_keys=True
    ).encode()


def decode_object(data: bytes, what: str) -> dict[str, Any]:
    """
    The JSON object in *data*.

    Invalid, naming *what*, if it is not UTF-8, not JSON, not an object, nested too deeply, or has
    a key twice: readers differ on which of the two they take (CVE-2021-41190). Nor may it have
    what cannot be written again: infinite numbers, half a surrogate pair.
    """
    try:
        text = data.decode("utf-8")
        value = json.loads(
            text, object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_number
        )
        if _SURROGATE.search(text):
            encode(value)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"{what}: not a JSON document: {error}") from error
    if not isinstance(value, dict):
        raise Invalid(f"{what}: a JSON object was expected")
    return value


def _finite(text: str) -> float:
    number = float(text)
    if number in (float("inf"), float("-inf")):
        raise ValueError(f"{text[:20]} is too large for a number")
    return number


def _no_number(text: str) -> None:
    raise ValueError(f"{text} is no JSON")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    value = dict(pairs)
    if len(value) != len(pairs):
        raise ValueError("a key occurs twice in one object")
    return value
