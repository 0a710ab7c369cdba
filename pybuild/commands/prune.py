"""``prune``."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from typing import Final

from engine.prune import prune
from ocispec.errors import Usage
from pybuild.commands.opening import open_engine
from pybuild.units import human_size

_DURATION: Final = re.compile(r"(?:(\d+)d)?(?:(\d+)h)?(?:(\d+)m)?(?:(\d+)s)?")


def prune_command(
    root: str | None, *, all_: bool, force: bool, dry_run: bool, filters: Sequence[str]
) -> int:
    """Remove what is not needed, after asking."""
    age = _age(filters)
    if all_ and age is None:
        age = 0.0
    if not force and not dry_run and not _confirmed(age):
        return 0
    with open_engine(root) as engine:
        freed = prune(engine, cache_older_than=age, dry_run=dry_run)
    for digest in freed.images:
        print(f"{'would delete' if dry_run else 'deleted'}: {digest}")
    counts = f"{freed.records} cache records, {freed.blobs} blobs, {freed.snapshots} snapshots"
    print(f"{'Would remove' if dry_run else 'Removed'}: {counts}")
    print(f"Total {'reclaimable' if dry_run else 'reclaimed'} space: {human_size(freed.bytes)}")
    return 0


def _confirmed(age: float | None) -> bool:
    cache = "no build cache" if age is None else "the build cache"
    if age:
        cache += " that was not used for that long"
    print(f"WARNING! This will remove images without a name, what nothing refers to, and {cache}.")
    print("Are you sure you want to continue? [y/N] ", end="", flush=True)
    answer = sys.stdin.readline()
    if not answer.endswith("\n"):
        print()
    return answer.strip().lower() in ("y", "yes")


def _age(filters: Sequence[str]) -> float | None:
    age = None
    for text in filters:
        key, _, value = text.partition("=")
        match = _DURATION.fullmatch(value)
        if key != "until" or match is None or not value:
            raise Usage(f"invalid filter {text!r}", hint="until=24h is known")
        days, hours, minutes, seconds = (int(part or 0) for part in match.groups())
        age = float(((days * 24 + hours) * 60 + minutes) * 60 + seconds)
    return age
