"""Numbers as people write and read them, in docker's forms."""

from __future__ import annotations

import re
from typing import Final

from ocispec.errors import Usage

_SIZE: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?) ?([kmgtp]?)(?:i?b)?", re.IGNORECASE)
_UNITS: Final = ("B", "kB", "MB", "GB", "TB", "PB")


def size_in_bytes(text: str, flag: str) -> int:
    """``64m``, ``1.5g``, ``1024``: binary units, as docker's RAMInBytes. Usage if it is no size."""
    match = _SIZE.fullmatch(text.strip())
    if match is None:
        raise Usage(f"invalid size {text!r} for {flag}", hint="write a number and b, k, m or g")
    return int(float(match[1]) * 1024 ** " kmgtp".index(match[2].lower() or " "))


def added_host(text: str) -> tuple[str, str]:
    """``name:address`` or ``name=address`` of ``--add-host``. Usage if it is not."""
    import ipaddress

    name, _, address = text.partition("=" if "=" in text else ":")
    plain = address.removeprefix("[").removesuffix("]")
    try:
        ipaddress.ip_address(plain)
    except ValueError:
        raise Usage(f"invalid host {text!r} for --add-host", hint="write NAME:ADDRESS") from None
    if not name:
        raise Usage(f"invalid host {text!r} for --add-host", hint="write NAME:ADDRESS")
    return name, plain


def human_size(size: float) -> str:
    """As docker prints sizes: decimal units, three significant digits."""
    unit = 0
    while size >= 999.5 and unit < len(_UNITS) - 1:
        size, unit = size / 1000, unit + 1
    return f"{size:.3g}{_UNITS[unit]}"


def human_age(seconds: float) -> str:
    """As docker prints how long ago something was."""
    for limit, divisor, name in (
        (60, 1, "second"),
        (3600, 60, "minute"),
        (48 * 3600, 3600, "hour"),
        (14 * 86400, 86400, "day"),
        (60 * 86400, 7 * 86400, "week"),
        (2 * 365 * 86400, 30 * 86400, "month"),
    ):
        if seconds < limit:
            return _count(int(seconds // divisor), name)
    return _count(int(seconds // (365 * 86400)), "year")


def _count(number: int, name: str) -> str:
    if number < 1:
        return "Less than a second ago"
    if number == 1 and name != "second":
        return f"{'About an' if name == 'hour' else 'About a'} {name} ago"
    return f"{number} {name}{'s' if number != 1 else ''} ago"
