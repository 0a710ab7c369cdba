"""
The plan: what a build does, as data, before anything is done.

A step gives a filesystem (a Stack). Its inputs are steps with smaller numbers, so a plan cannot
have a cycle. ENV, CMD, LABEL and the like make no steps: they are in the output's config.

Named tuples and not dataclasses, since every build imports them: see instructions.py.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Literal, NamedTuple, TypeAlias

from builder.dockerfile.source import Span
from ocispec.model import ImageConfig, Layer
from ocispec.platform import Platform

Network: TypeAlias = Literal["default", "none", "host"]


class Base(NamedTuple):
    """A base image (``FROM``); no layers for ``scratch``. *name* is what was asked for."""

    name: str
    layers: tuple[Layer, ...]  # identity is the diff ID: nobody looked inside


class InlineFile(NamedTuple):
    """A file whose bytes stand in the Dockerfile (a heredoc)."""

    name: str
    data: bytes
    mode: int = 0o644


class Run(NamedTuple):
    """A command on top of input 0."""

    argv: tuple[str, ...]
    env: tuple[str, ...]  # NAME=value, sorted by name
    unkeyed_env: tuple[str, ...]  # proxies: the command sees them, the key does not
    cwd: str
    user: str
    network: Network
    stdin_files: tuple[InlineFile, ...] = ()  # heredoc scripts, put in /dev/pipes for the command


class Copy(NamedTuple):
    """Files of the context, or of input 1 if there is one, copied onto input 0."""

    sources: tuple[str, ...]  # relative to the source's root, may hold wildcards
    inline: tuple[InlineFile, ...]
    target: str  # absolute; a "/" at the end means a directory
    chown: str  # "" is 0:0 for a context, and as it was for a stage
    chmod: str  # "" or octal
    unpack: bool  # ADD: a source that is a tar archive is unpacked


class Workdir(NamedTuple):
    """A directory on top of input 0, with its missing parents."""

    path: str  # absolute
    user: str


Op: TypeAlias = Base | Run | Copy | Workdir


class Step(NamedTuple):
    op: Op
    inputs: tuple[int, ...]  # indexes into Plan.steps, each below this step's own
    span: Span | None
    title: str  # "[build 3/7] RUN make"


class Change(NamedTuple):
    """One history entry of the image: made by *step*, or by the config alone if it is None."""

    created_by: str
    step: int | None
    author: str = ""


class Output(NamedTuple):
    """An image to make: the filesystem of step *root*, and the config around it."""

    root: int
    config: ImageConfig  # history and diff_ids are the base image's
    changes: tuple[Change, ...]  # what this build adds to the base's history


class Plan(NamedTuple):
    steps: tuple[Step, ...]
    outputs: Mapping[Platform, Output]
