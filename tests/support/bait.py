"""A root to unpack hostile tars into, with files around it that must stay as they are."""

from __future__ import annotations

import io
import os
from pathlib import Path

from support.trees import listing, tree

from layers.apply import Applied, apply

OUT = f"/tmp/pybuild-bait-{os.getpid()}"  # short: a tar header has 100 bytes for a link


class Arena:
    """A root to unpack into, a tree below it, and bait around it."""

    def __init__(self, base: Path) -> None:
        self.base = base
        self.root = base / "root"
        self.root.mkdir()
        self.lower = base / "lower"
        self.lower.mkdir()
        bait: dict[str, str | bytes | None] = {
            "victim": "safe",
            "dir/": None,
            "dir/file": "safe",
            "x": "safe",
            "f": "safe",
            "link": "-> victim",
            "etc/passwd": "safe",
        }
        self.bait = tuple(
            tree(place, bait) for place in (base / "outside", base / "cwd", Path(OUT))
        )
        self._before = self._bait_now()

    def unpack(self, tar: bytes) -> Applied:
        """Apply *tar*; an AssertionError if the bait was touched, whatever came of the tar."""
        root, lower = (os.open(path, os.O_RDONLY) for path in (self.root, self.lower))
        try:
            return apply(io.BytesIO(tar), root, lower_fd=lower)
        finally:
            os.close(root)
            os.close(lower)
            assert self._before == self._bait_now()

    def _bait_now(self) -> list[dict[str, tuple[object, ...]]]:
        return [listing(place) for place in self.bait]
