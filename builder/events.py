"""What happens in a build, as data. Rendering is the command line's affair."""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, TypeAlias


class StepStarted(NamedTuple):
    """A step left the queue: its cache is looked up, then it runs. *step* counts from 1."""

    step: int
    title: str  # "[build 3/7] RUN make"


class StepOutput(NamedTuple):
    """Bytes that the step's command wrote; *stream* is 1 or 2."""

    step: int
    stream: int
    data: bytes


class StepEnded(NamedTuple):
    """The step is done; *error* is empty unless it failed."""

    step: int
    cached: bool
    seconds: float
    error: str = ""


class Notice(NamedTuple):
    """A remark about the step, or about the build if *step* is 0."""

    step: int
    text: str


class Warned(NamedTuple):
    """Something that is probably not meant; *place* is ``file:line`` or empty."""

    text: str
    place: str = ""


Event: TypeAlias = StepStarted | StepOutput | StepEnded | Notice | Warned
OnEvent: TypeAlias = Callable[[Event], None]
