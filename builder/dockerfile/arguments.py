"""How the text after an instruction's flags is cut into arguments."""

from __future__ import annotations

import json
import re
from typing import NamedTuple

from builder.dockerfile.words import SPACE
from ocispec.errors import Invalid

_BLANK = "\t\v\f\r "
_SECOND = 1_000_000_000
_UNITS = {
    "ns": 1,
    "us": 1_000,
    "µs": 1_000,  # U+00B5
    "μs": 1_000,  # U+03BC
    "ms": 1_000_000,
    "s": _SECOND,
    "m": 60 * _SECOND,
    "h": 3600 * _SECOND,
}
_DURATION = r"(\d+(?:\.\d*)?|\.\d+)(ns|us|µs|μs|ms|s|m|h)"  # compiled only where one is used


class Arguments(NamedTuple):
    """*exec* is True for the JSON form."""

    words: tuple[str, ...]
    exec: bool


def command(text: str) -> Arguments:
    """A JSON array of strings, or else *text* as one argument (none if it is empty)."""
    words = json_strings(text)
    if words is None:
        return Arguments((text,) if text else (), False)
    return Arguments(words, True)


def listed(text: str) -> Arguments:
    """A JSON array of strings, or else *text* split at blanks, whatever its quotes say."""
    words = json_strings(text)
    return (
        Arguments(tuple(blank_separated(text)), False) if words is None else Arguments(words, True)
    )


def json_strings(text: str) -> tuple[str, ...] | None:
    """
    The strings of a JSON array, None if *text* is not one: then it is a shell command that begins
    with ``[``. Invalid if the array holds anything but strings.
    """
    text = text.strip(SPACE)
    if not text.startswith("["):
        return None
    try:
        value = json.loads(text, parse_constant=_reject)
    except (ValueError, RecursionError):
        return None
    if not all(isinstance(item, str) for item in value):
        raise Invalid(
            "when using JSON array syntax, arrays must be comprised of strings only",
            hint="put each item in double quotes",
        )
    return tuple(item if item.isascii() else _without_surrogates(item) for item in value)


def blank_separated(text: str) -> list[str]:
    """The words of *text*. No regular expression: every build would wait for it to compile."""
    for blank in "\t\v\f\r":
        text = text.replace(blank, " ")
    return [word for word in text.split(" ") if word]


def first_word(text: str) -> tuple[str, str]:
    """The first word of *text*, and the rest without the blanks between."""
    end = next((at for at, c in enumerate(text) if c in _BLANK), len(text))
    return text[:end], text[end:].lstrip(_BLANK)


def quoted_words(text: str, escape: str) -> list[str]:
    """*text* split at blanks outside quotes; quotes and escapes stay, for expand() to read."""
    words: list[str] = []
    word: list[str] = []
    quote = ""
    at = 0
    while at < len(text):
        c = text[at]
        at += 1
        if not quote and c in SPACE:
            if word:
                words.append("".join(word))
                word = []
            continue
        if c == escape and quote != "'":
            if at == len(text):
                break  # an escape at the very end is dropped
            c += text[at]
            at += 1
        elif c == quote:
            quote = ""
        elif not quote and c in "'\"":
            quote = c
        word.append(c)
    return [*words, "".join(word)] if word else words


def pairs(keyword: str, text: str, escape: str) -> tuple[tuple[tuple[str, str], ...], bool]:
    """``k=v k2=v2``, or the legacy ``k v``; the second value is True for that."""
    words = quoted_words(text, escape)
    if not words:
        raise Invalid(f"{keyword} requires at least one argument")
    if "=" not in words[0]:
        name, value = first_word(text)
        if not value:
            raise Invalid(f"{keyword} must have two arguments", hint=f"write {keyword} name=value")
        return ((name, value),), True
    found: list[tuple[str, str]] = []
    for word in words:
        name, equals, value = word.partition("=")
        if not equals:
            raise Invalid(
                f'Syntax error - can\'t find = in "{word}". Must be of the form: name=value',
                hint="a value with blanks needs quotes",
            )
        if not name:
            raise Invalid(f"{keyword} names can not be blank")
        found.append((name, value))
    return tuple(found), False


def duration(flag: str, text: str) -> int:
    """Nanoseconds, from what Go's time.ParseDuration reads: ``1h30m``, ``1.5s``, ``0``."""
    if text in ("", "0", "+0", "-0"):
        return 0
    body = text.removeprefix("+")
    parts = [match.groups() for match in re.finditer(_DURATION, body, re.ASCII)]
    if not parts or "".join(number + unit for number, unit in parts) != body or len(body) > 100:
        raise Invalid(f'time: invalid duration "{text}"', hint="write a number and a unit: 1m30s")
    total = sum(_scaled(number, _UNITS[unit]) for number, unit in parts)
    if total >= 1 << 63:
        raise Invalid(f'time: invalid duration "{text}"', hint="it is longer than 292 years")
    if 0 < total < 1_000_000:
        raise Invalid(f'Interval "{flag}" cannot be less than 1ms')
    return total


def _scaled(number: str, unit: int) -> int:
    whole, _, fraction = number.partition(".")
    return int(whole or "0") * unit + int(fraction or "0") * unit // int("1" + "0" * len(fraction))


def _reject(constant: str) -> object:
    raise ValueError(f"{constant} is not JSON")


def _without_surrogates(text: str) -> str:
    # A lone \ud800 is U+FFFD in Go; it could not be written as UTF-8. U+DC80 to U+DCFF are the
    # bytes of the file that were not UTF-8 (surrogateescape).
    return re.sub("[\ud800-\udc7f\udd00-\udfff]", "\ufffd", text)
