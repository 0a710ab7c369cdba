"""Whole files, against what they were when somebody looked at them closely."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from support.goldens import TESTDATA, matches_golden

from builder.dockerfile.instructions import Instruction, Run
from builder.dockerfile.parse import parse
from builder.dockerfile.source import SourceFile, Span

FILES = sorted((TESTDATA / "dockerfiles").glob("*.Dockerfile"))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_file_reads_as_it_did(path: Path) -> None:
    dockerfile = parse(SourceFile("Dockerfile", path.read_bytes()))
    value: dict[str, Sequence[object]] = {
        "escape": [dockerfile.escape],
        "directives": [[d.name, d.value, d.span.first] for d in dockerfile.directives],
        "blank continuations": [span.first for span in dockerfile.blank_continuations],
        "instructions": [_plain(item) for item in dockerfile.instructions],
        "comments": [list(comments) for comments in dockerfile.comments],
    }

    assert matches_golden(value, path.with_suffix(".json"))


def test_there_are_files() -> None:
    assert len(FILES) >= 6


def test_instructions_are_hashable_and_frozen() -> None:
    run = Run(Span("D", 1, 1), "RUN a", True, ("a",))

    assert len({run, run._replace(network="none"), run}) == 2
    with pytest.raises(AttributeError):
        run.shell = False  # type: ignore[misc]  # that it cannot be set is what is tested


def _plain(value: Instruction | object) -> object:
    """Named tuples as objects with their class; fields at their default are left out."""
    if isinstance(value, Span):
        return [value.first, value.last]
    if isinstance(value, tuple) and hasattr(value, "_fields") and hasattr(value, "_field_defaults"):
        defaults = value._field_defaults
        fields = {
            name: _plain(field)
            for name, field in zip(value._fields, value, strict=True)
            if name not in defaults or defaults[name] != field
        }
        return {"": type(value).__name__, **fields}
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    return value
