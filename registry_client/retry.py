"""When a request that failed is tried again, and how long to wait before."""

from __future__ import annotations

import email.utils
from dataclasses import dataclass

from ocispec.errors import Unavailable


@dataclass(frozen=True, slots=True)
class Retries:
    """
    How often, and how long: waits double from *first* to *most* seconds, by a random part of them.

    A registry may ask for a wait of its own (Retry-After); one longer than *patience* is an error.
    """

    attempts: int = 5
    first: float = 0.5
    most: float = 30.0
    patience: float = 300.0

    def wait(self, attempt: int, luck: float) -> float:
        """Seconds to wait after *attempt*, which counts from 1; *luck* is from 0 to 1."""
        # Full jitter: clients that failed together must not come back together.
        return min(self.most, self.first * 2.0 ** (attempt - 1)) * luck

    def asked_wait(self, header: str, now: float, what: str) -> float:
        """
        The seconds that a Retry-After header asks for, 0 if it is none that we can read.

        *now* is the time as Unix seconds. Unavailable, naming *what*, if it is too long to wait.
        """
        seconds = retry_after(header, now)
        if seconds > self.patience:
            raise Unavailable(
                f"{what}: the registry asks to wait for {seconds:.0f} seconds",
                hint="the rate limit is used up; a login often has a higher one",
            )
        return seconds


def retry_after(header: str, now: float) -> float:
    """
    Seconds from *now* that a Retry-After header means: a number, or a date (RFC 9110 10.2.3).

    0 if it is neither, or in the past.
    """
    text = header.strip()
    if text.isascii() and text.isdigit():
        return float(text[:9])
    try:
        return max(0.0, email.utils.parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError):
        return 0.0
