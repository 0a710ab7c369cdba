"""Templates and tables, as docker's ``--format`` has them."""

from __future__ import annotations

import pytest

from ocispec.errors import Invalid, Usage
from pybuild.tables import formatted, table
from pybuild.template import fields, render

VALUE = {
    "A": "text",
    "B": {"C": [1, "two"], "D": None, "k.e-y": "dotted"},
    "E": True,
    "F": {"b": 2, "a": 1},
}


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("", ""),
        ("plain", "plain"),
        ("{{.A}}", "text"),
        ("{{ .A }}-{{.E}}", "text-true"),
        ("{{- .A -}}", "text"),
        ("{{.B.C}}", "[1 two]"),
        ("{{.B.D}}", "<no value>"),
        ("{{.F}}", "map[a:1 b:2]"),
        ("{{json .B.C}}", '[1,"two"]'),
        ("{{json .F}}", '{"b":2,"a":1}'),
        ("{{json .B.D}}", "null"),
        ("{{index .B.C 1}}", "two"),
        ('{{index .B "k.e-y"}}', "dotted"),
        ('{{index .B "C" 0}}', "1"),
        (r"{{.A}}\t{{.E}}\n", "text\ttrue\n"),
    ],
    ids=repr,
)
def test_a_template_is_filled(template: str, text: str) -> None:
    assert text == render(template, VALUE)


@pytest.mark.parametrize(
    ("template", "kind"),
    [
        ("{{.X}}", Invalid),
        ("{{.A.X}}", Invalid),
        ("{{json .X}}", Invalid),
        ("{{index .B.C 9}}", Invalid),
        ('{{index .B "x"}}', Invalid),
        ("{{index .B.C x}}", Invalid),
        ("{{range .B.C}}", Usage),
        ("{{}}", Usage),
        ("{{upper .A}}", Usage),
        ("{{A}}", Usage),
    ],
    ids=repr,
)
def test_what_cannot_be_filled_is_an_error(template: str, kind: type[Exception]) -> None:
    with pytest.raises(kind):
        render(template, VALUE)


def test_the_fields_of_a_template_head_its_columns() -> None:
    assert fields("{{.A}} x {{.B.C}}") == ["A", "C"]


def test_a_table_is_aligned_as_dockers() -> None:
    lines = table(["A", "LONG HEADING", "Z"], [["a much longer cell", "b", "end"]])

    assert lines == [
        "A                    LONG HEADING   Z",
        "a much longer cell   b              end",
    ]


ROWS = [{"A": "1", "B": "x"}, {"A": "22", "B": "y"}]
HEADINGS = {"A": "FIRST", "B": "SECOND"}


@pytest.mark.parametrize(
    ("form", "lines"),
    [
        (None, ["FIRST     SECOND", "1         x", "22        y"]),
        ("table", ["FIRST     SECOND", "1         x", "22        y"]),
        ("json", ['{"A":"1","B":"x"}', '{"A":"22","B":"y"}']),
        ("{{.B}}{{.A}}", ["x1", "y22"]),
        ("table {{.B}}\\t{{.A}}", ["SECOND    FIRST", "x         1", "y         22"]),
        ("table {{.B}} {{.A}}", ["SECOND FIRST", "x 1", "y 22"]),
    ],
    ids=str,
)
def test_rows_are_printed_as_asked(form: str | None, lines: list[str]) -> None:
    assert lines == formatted(ROWS, form, HEADINGS, ["A", "B"])
