"""What a registry answers when it will not: its own words, made safe, as one of our kinds."""

from __future__ import annotations

import json
from typing import Any, Final

from ocispec.errors import (
    Conflict,
    Corrupt,
    Denied,
    Invalid,
    NotFound,
    PybuildError,
    Unavailable,
    Unsupported,
)

MAX_BODY: Final = 64 << 10  # bytes of an error's body that are read
_MAX_TEXT: Final = 500  # characters that are shown
_MAX_ERRORS: Final = 5

# Statuses that say "not now". 499 and 522 are what nginx and Cloudflare make of a lost connection.
BUSY: Final = frozenset({408, 425, 429, 499, 500, 502, 503, 504, 522})


def error_for(status: int, body: bytes, what: str) -> PybuildError:
    """The error for *status*; *what* says what was asked for."""
    said = words(body)
    text = f"{what}: " + (said or f"the registry answered {status}")
    if status in BUSY:
        return Unavailable(text, hint="the registry is busy or broken; try again later")
    match status:
        case 401:
            return Denied(text, hint="log in, or check the credentials in docker's config.json")
        case 403:
            return Denied(text, hint="the account may not do this with the repository")
        case 404:
            return NotFound(text)
        case 409 | 412:
            return Conflict(text)
        case 405 | 415 | 501:
            return Unsupported(text, hint="the registry does not take this kind of content")
        case 413:
            return Unsupported(text, hint="the registry, or a proxy before it, limits uploads")
        case 400 if "DIGEST_INVALID" in codes(body):
            return Corrupt(text, hint="what arrived is not what was sent, or the file is damaged")
        case _ if status >= 500:
            return Unavailable(text)
        case _:
            return Invalid(text)


def codes(body: bytes) -> tuple[str, ...]:
    """The error codes in *body*, as in the distribution spec's table ("Error Codes")."""
    return tuple(str(entry.get("code", "")) for entry in _entries(body))


def words(body: bytes) -> str:
    """
    The messages in an error's *body*: the distribution spec's JSON, or its text as it is.

    Control characters are gone: a registry must not drive a terminal.
    """
    entries = _entries(body)
    if not entries:
        text = body.decode(errors="replace")
        return "" if text.lstrip().startswith("<") else safe(text)
    messages = [
        str(entry.get("message") or entry.get("code") or "unknown error")
        for entry in entries[:_MAX_ERRORS]
    ]
    return safe("; ".join(dict.fromkeys(messages)))


def safe(text: str) -> str:
    """*text* on one line, printable, not too long."""
    line = " ".join(text.split())
    # str.isprintable() is false for control characters and for those that turn the direction of
    # writing (CVE-2021-42574).
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in line)
    return shown if len(shown) <= _MAX_TEXT else shown[:_MAX_TEXT] + "…"


def _entries(body: bytes) -> list[dict[str, Any]]:
    try:
        document = json.loads(body.decode())
    except (ValueError, RecursionError):
        return []
    errors = document.get("errors") if isinstance(document, dict) else None
    if not isinstance(errors, list):
        return []
    return [entry for entry in errors if isinstance(entry, dict)]
