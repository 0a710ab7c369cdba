"""Rows for people and for programs: docker's tables, JSON lines and templates."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Final

from pybuild.template import fields, render

_NARROWEST: Final = 10  # a column, with the blanks behind it; docker's tabwriter settings
_GAP: Final = 3


def table(heading: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """Lines with aligned columns."""
    lines = [heading, *rows]
    widths = [
        max(_NARROWEST, _GAP + max(len(line[column]) for line in lines))
        for column in range(len(heading) - 1)
    ]
    return [
        "".join([cell.ljust(width) for cell, width in zip(line, [*widths, 0], strict=True)])
        for line in lines
    ]


def formatted(
    rows: Sequence[Mapping[str, str]],
    form: str | None,
    headings: Mapping[str, str],
    default: Sequence[str],
) -> list[str]:
    """
    *rows* in docker's ``--format`` *form*: none or ``table``, ``json``, or a template.

    *headings* has each field's heading; *default* are the fields of the plain table.
    """
    if form == "json":
        return [json.dumps(dict(row), ensure_ascii=False, separators=(",", ":")) for row in rows]
    if form in (None, "", "table"):
        shown = [[row[name] for name in default] for row in rows]
        return table([headings[name] for name in default], shown)
    template = str(form)
    if not template.startswith("table "):
        return [render(template, row) for row in rows]
    template = template.removeprefix("table ").replace("\\t", "\t")
    heading = [headings.get(name, name.upper()) for name in fields(template)]
    cells = [render(template, row).split("\t") for row in rows]
    columns = len(template.split("\t"))
    if columns != len(heading):
        return [" ".join(heading), *(" ".join(row) for row in cells)]
    return table(heading, cells)
