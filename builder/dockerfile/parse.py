"""A Dockerfile's text to its instructions."""

from __future__ import annotations

from typing import NamedTuple

from builder.dockerfile import forms
from builder.dockerfile.arguments import json_strings
from builder.dockerfile.directives import Directive
from builder.dockerfile.heredocs import Heredoc, heredocs_in
from builder.dockerfile.instructions import Arg, From, Instruction, Maintainer, Onbuild, Trigger
from builder.dockerfile.lines import LineReader, LogicalLine
from builder.dockerfile.source import SourceFile, Span
from builder.dockerfile.words import SPACE


class Dockerfile(NamedTuple):
    """*comments* runs beside *instructions*: the comment lines above each, without their ``#``."""

    source: SourceFile
    escape: str
    directives: tuple[Directive, ...]
    instructions: tuple[Instruction, ...]
    comments: tuple[tuple[str, ...], ...]
    blank_continuations: tuple[Span, ...]  # instructions with a blank line inside


def parse(source: SourceFile) -> Dockerfile:
    """The instructions of *source*. DockerfileError, with the place, if it is not a Dockerfile."""
    reader = LineReader(source)
    instructions: list[Instruction] = []
    comments: list[tuple[str, ...]] = []
    blank: list[Span] = []
    in_stage = False
    while (line := reader.read()) is not None:
        instruction = _instruction(source, reader, line)
        in_stage = in_stage or isinstance(instruction, From)
        if not in_stage and not isinstance(instruction, Arg):
            hint = "the first instruction must be FROM; only ARG may come before it"
            raise source.error(instruction.span, "no build stage in current context", hint)
        instructions.append(instruction)
        comments.append(line.comments)
        if line.blank_inside:
            blank.append(instruction.span)
    last = Span(source.path, max(reader.count, 1), max(reader.count, 1))
    if not instructions:
        raise source.error(last, "file with no instructions", "it needs a FROM at least")
    if not in_stage:
        raise source.error(last, "dockerfile contains no stages to build", "add a FROM")
    return Dockerfile(
        source,
        reader.escape,
        reader.directives,
        tuple(instructions),
        tuple(comments),
        tuple(blank),
    )


def parse_trigger(source: SourceFile) -> Trigger:
    """The one instruction of an ONBUILD trigger, as it stands in a base image's config."""
    reader = LineReader(source)
    found: list[Instruction] = []
    while (line := reader.read()) is not None:
        found.append(_instruction(source, reader, line))
    if len(found) != 1:
        where = found[1].span if found else Span(source.path, 1, 1)
        raise source.error(where, "onbuild trigger should be a single expression")
    trigger = found[0]
    if isinstance(trigger, From | Maintainer | Onbuild):
        keyword = type(trigger).__name__.upper()
        raise source.error(trigger.span, f"{keyword} isn't allowed as an ONBUILD trigger")
    return trigger


def _instruction(source: SourceFile, reader: LineReader, line: LogicalLine) -> Instruction:
    span = Span(source.path, line.first, line.last)
    with source.at(span):
        parts = forms.split(line.text)
        inner = forms.split(parts.text) if parts.keyword == "ONBUILD" else parts
        heredocs: tuple[Heredoc, ...] = ()
        may_start = inner.keyword in ("RUN", "COPY", "ADD") and "<<" in line.text
        if may_start and json_strings(inner.text) is None:
            heredocs, span = reader.bodies(heredocs_in(line.text), span)
    with source.at(span):
        original = line.text.strip(SPACE)
        return forms.instruction(parts, span, original, reader.escape, heredocs)
