"""``prune``: what no image, no cache record and no running command needs is removed."""

from __future__ import annotations

from engine.engine import Engine
from layers.gc import Freed, Policy, collect


def prune(engine: Engine, *, cache_older_than: float | None = None, dry_run: bool = False) -> Freed:
    """
    Remove images without a name and whatever nothing refers to.

    The build cache stays, but for what was not used for *cache_older_than* seconds; 0 is all of
    it. With *dry_run* nothing is removed, and the answer is what would be.
    """
    return collect(engine.store, Policy(cache_older_than, unnamed_images=True), dry_run=dry_run)
