"""Stages: a Dockerfile cut at its FROM lines, and how a stage is called."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from builder.dockerfile.instructions import Arg, From, Instruction
from ocispec.errors import Invalid


class Stage(NamedTuple):
    """One FROM and the instructions up to the next."""

    number: int  # from 0
    head: From
    body: tuple[Instruction, ...]

    @property
    def name(self) -> str:
        """Lower case; "" if it has none."""
        return self.head.name


class Stages(NamedTuple):
    """The stages in order, and the ARGs before the first."""

    global_args: tuple[Arg, ...]
    stages: tuple[Stage, ...]

    @classmethod
    def of(cls, instructions: Sequence[Instruction]) -> Stages:
        """Cut at each FROM. The reader has made sure that only ARG comes before the first."""
        starts = [i for i, item in enumerate(instructions) if isinstance(item, From)]
        ends = [*starts[1:], len(instructions)]
        stages = []
        for index, (start, end) in enumerate(zip(starts, ends, strict=True)):
            head = instructions[start]
            assert isinstance(head, From)
            stages.append(Stage(index, head, tuple(instructions[start + 1 : end])))
        before = instructions[: starts[0]] if starts else instructions
        return cls(tuple(item for item in before if isinstance(item, Arg)), tuple(stages))

    def named(self, name: str, before: int) -> Stage | None:
        """The last stage called *name* among the first *before*, in any case of letters."""
        wanted = name.lower()
        for stage in reversed(self.stages[:before]):
            if stage.name and stage.name == wanted:
                return stage
        return None

    def meant(self, name: str, before: int) -> Stage | None:
        """The stage that *name* means among the first *before*: by name, else by its index."""
        stage = self.named(name, before)
        # No file has as many stages as ten digits; int() takes no more than some thousands.
        if stage is None and is_index(name) and len(name) < 10 and int(name) < before:
            stage = self.stages[int(name)]
        return stage

    def target(self, name: str | None) -> Stage:
        """The stage that ``--target`` means; the last one by default."""
        if not name:
            return self.stages[-1]
        stage = self.meant(name, len(self.stages))
        if stage is None:
            known = ", ".join(s.name for s in self.stages if s.name)
            raise Invalid(
                f"target stage {name!r} could not be found",
                hint=f"the stages are: {known}" if known else "no stage of this file has a name",
            )
        return stage

    def hint(self, name: str) -> str:
        """What may help whoever wrote *name*, which is no stage and no image either."""
        from difflib import get_close_matches

        known = [stage.name for stage in self.stages if stage.name]
        close = get_close_matches(name.lower(), known, 1, 0.6)
        if close:
            return f"did you mean the stage {close[0]}?"
        return "it is no stage of this file, so it was looked for as an image"


def is_index(name: str) -> bool:
    """True if *name* is the number of a stage rather than its name."""
    return name.isascii() and name.isdigit()
