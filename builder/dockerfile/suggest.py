"""The name that was probably meant."""

from __future__ import annotations

from collections.abc import Iterable

_FARTHEST = 2  # edits; BuildKit's util/suggest has the same limit


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A hint that names the nearest of *known*, or "" if none is near. Case does not count."""
    folded = name.lower()
    if not folded or len(folded) > 100:
        return ""
    near = sorted((_distance(folded, other.lower()), other) for other in known)
    if not near or near[0][0] > min(_FARTHEST, len(folded) - 1):
        return ""
    return f"did you mean {near[0][1]}?"


def _distance(a: str, b: str) -> int:
    """Levenshtein's, with a swap of neighbours as one edit."""
    before: list[int] = []
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        current = [i]
        for j, y in enumerate(b, 1):
            cost = min(row[j] + 1, current[j - 1] + 1, row[j - 1] + (x != y))
            if i > 1 and j > 1 and x == b[j - 2] and a[i - 2] == y:
                cost = min(cost, before[j - 2] + 1)
            current.append(cost)
        before, row = row, current
    return row[-1]
