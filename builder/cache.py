"""The cache as the solver sees it: a key gives what was made under it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from builder.stack import Made
from ocispec.digest import CacheKey


class Cache(Protocol):
    """Where results are found again. A hit is pinned: it stays until the build ends."""

    def get(self, key: CacheKey) -> Made | None:
        """What was made under *key*, if all of it is still there."""

    def put(self, key: CacheKey, made: Made, preimage: Mapping[str, Any]) -> None:
        """Remember *made*; *preimage* is kept so that a later miss can be explained."""
