"""Expected results that are kept in files."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

TESTDATA = Path(__file__).resolve().parents[2] / "testdata"


def matches_golden(value: Mapping[str, Sequence[object]], path: Path) -> bool:
    """
    True if *path* holds *value* as JSON, one line for each item of each list. With GOLDENS=write
    in the environment it is written first.
    """
    lists = (f"{json.dumps(name)}: {_lines(items)}" for name, items in value.items())
    text = "{" + ",\n".join(lists) + "}\n"
    if os.environ.get("GOLDENS") == "write":
        path.write_text(text, encoding="ascii")
    return path.read_text(encoding="ascii") == text


def _lines(items: Sequence[object]) -> str:
    return "[" + ",\n  ".join(json.dumps(item) for item in items) + "]"
