"""Typer's ``build`` and the one that is read by hand are the same."""

from __future__ import annotations

from typing import Any

import pytest
from typer.main import get_command

from pybuild.cli import app
from pybuild.options import BUILD, complete, parse


def _typer_build() -> Any:
    group: Any = get_command(app)
    return group.commands["build"]


def test_every_option_is_in_the_help_with_its_flags() -> None:
    made = {
        parameter.name: (*parameter.opts, *parameter.secondary_opts)
        for parameter in _typer_build().params
        if parameter.param_type_name == "option" and parameter.name != "help"
    }

    assert {o.name: o.flags for o in BUILD if o.name != "help"} == made


@pytest.mark.parametrize(
    "words",
    [
        ["."],
        ["-t", "a", "-t", "b:1", "--tag=c", "."],
        [".", "-q", "--no-cache", "--pull"],
        ["--build-arg", "A=b", "--build-arg=C", "--label", "x=y=z", "--", "."],
        ["--network=none", "--progress", "plain", "--jobs", "3", "."],
        ["-f", "-", "--target=x", "--platform", "linux/amd64", "."],
        ["--source-date-epoch=5", "--iidfile=a", "--metadata-file", "b", "."],
        ["--ulimit", "nofile=1:2", "--shm-size", "1g", "--add-host", "a:::1", "--root=/x", "."],
    ],
    ids=" ".join,
)
def test_a_command_line_means_the_same(words: list[str]) -> None:
    values, rest = parse(BUILD, words)

    given = dict(_typer_build().make_context("build", list(words)).params)
    context = given.pop("context")
    lists = {k: list(v) if isinstance(v, tuple) else v for k, v in given.items()}
    assert (values, rest) == (complete(BUILD, lists), [context])
