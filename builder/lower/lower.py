"""A Dockerfile becomes a plan: what the target needs is lowered, nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Final

from builder.dockerfile import words
from builder.dockerfile.instructions import (
    Add,
    Arg,
    Copy,
    From,
    Instruction,
    Run,
    Workdir,
)
from builder.dockerfile.parse import Dockerfile, parse_trigger
from builder.dockerfile.source import SourceFile, Span
from builder.lower import config, files, run
from builder.lower.state import (
    PATH,
    PROXY_ARGS,
    BaseImage,
    Resolve,
    Settings,
    StageState,
    Steps,
    checked,
    env_pairs,
)
from builder.plan import Base, Output, Plan, Step
from builder.stages import Stage, Stages, is_index
from ocispec.errors import Denied, Invalid, NotFound, Unavailable, Unsupported
from ocispec.model import ImageConfig
from ocispec.platform import Platform

SCRATCH: Final = "scratch"
_STEPS: Final = (Run, Copy, Add, Workdir)


class Lowering:
    """Lowers stages on demand, each once. One use a build."""

    def __init__(self, dockerfile: Dockerfile, settings: Settings, resolve: Resolve) -> None:
        self._source = dockerfile.source
        self._escape = dockerfile.escape
        self._stages = Stages.of(dockerfile.instructions)
        self._settings = settings
        self._resolve = resolve
        self._steps = Steps()
        self._done: dict[int, StageState] = {}
        self._images: dict[tuple[str, Platform], int] = {}
        self._used_args: set[str] = set()
        self._spans: list[Span] = []  # of the instructions being lowered, the innermost last
        self._globals = self._global_args()

    def plan(self) -> Plan:
        """The plan for the target of the settings."""
        try:
            return self._plan()
        except (Denied, NotFound, Unavailable, Unsupported) as error:
            if not self._spans:
                raise
            raise self._source.placed(self._spans[-1], error) from error

    def _plan(self) -> Plan:
        target = self._stages.target(self._settings.target)
        for stage in self._needed(target):
            self._stage(stage)
        state = self._stage(target)
        if self._settings.labels:
            labels = {**(state.config.get("Labels") or {}), **self._settings.labels}
            state.config["Labels"] = labels
        image = replace(
            state.image,
            config={key: value for key, value in state.config.items() if value is not None},
            author=state.author or state.image.author,
        )
        output = Output(state.root, image, tuple(state.changes))
        return Plan(tuple(map(_titled, self._steps.all)), {image.platform: output})

    def _needed(self, target: Stage) -> list[Stage]:
        """
        *target*, last, and before it what it needs, as far as the file tells.

        So a stage is lowered after those it stands on, and a long chain of them does not nest.
        """
        needed: dict[int, Stage] = {}
        pending = [target]
        while pending:
            stage = pending.pop()
            if stage.number in needed:
                continue
            needed[stage.number] = stage
            with self._at(stage.head.span):
                base = words.expand(stage.head.base, self._globals, escape=self._escape)
            found = [self._stages.named(base, stage.number)]
            found += [
                self._stages.meant(item.from_, stage.number)
                for item in stage.body
                if isinstance(item, Copy) and item.from_
            ]
            pending += [stage for stage in found if stage is not None]
        return [needed[number] for number in sorted(needed)]

    def unused_args(self) -> list[str]:
        """Build arguments that no instruction of the plan declared."""
        known = self._used_args | PROXY_ARGS | {"SOURCE_DATE_EPOCH"}
        return sorted(set(self._settings.build_args) - known)

    def _global_args(self) -> dict[str, str]:
        values = _platform_args(self._settings)
        for name in values.keys() & self._settings.build_args.keys():
            values[name] = self._settings.build_args[name]
            self._used_args.add(name)
        for item in self._stages.global_args:
            with self._at(item.span):
                for name, default in item.args:
                    self._used_args.add(name)
                    if name in self._settings.build_args:
                        values[name] = self._settings.build_args[name]
                    elif default is not None:
                        values[name] = words.expand(default, values, escape=self._escape)
        return values

    @contextmanager
    def _at(self, span: Span) -> Iterator[None]:
        """What goes wrong inside has its place at *span*, if not further inside."""
        self._spans.append(span)
        with self._source.at(span):
            yield
        self._spans.pop()

    def _stage(self, stage: Stage) -> StageState:
        done = self._done.get(stage.number)
        if done is not None:
            return done
        with self._at(stage.head.span):
            state = self._begin(stage)
        triggers = self._triggers(state, stage)
        body = (*triggers, *stage.body)
        state.total = 1 + sum(isinstance(item, _STEPS) for item in body)
        if isinstance(self._steps.all[state.root].op, Base):
            self._name_base(state)
        for item in body:
            with self._at(item.span):
                self._instruction(state, stage, item)
        self._done[stage.number] = state
        return state

    def _begin(self, stage: Stage) -> StageState:
        """The state right after FROM."""
        head = stage.head
        name = words.expand(head.base, self._globals, escape=self._escape)
        if not name:
            raise Invalid(f"base name ({head.base}) should not be blank")
        parent = self._stages.named(name, stage.number)
        if parent is not None:
            return self._stage(parent).child(self._label(stage))
        platform = self._settings.platform
        if head.platform:
            text = words.expand(head.platform, self._globals, escape=self._escape)
            if not text:
                raise Invalid(f"empty platform value from expression {head.platform}")
            platform = Platform.parse(text)
        image = self._image(name, platform)
        root = self._base_step(name, platform, image, stage)
        settings = checked(image.config.config, name)
        if "PATH" not in env_pairs(settings):
            settings["Env"] = [*(settings.get("Env") or ()), f"PATH={PATH}"]
        return StageState(
            label=self._label(stage),
            root=root,
            config=settings,
            image=replace(image.config, config={}),
            escape=self._escape,
            env=env_pairs(settings),
        )

    def _image(self, name: str, platform: Platform) -> BaseImage:
        if name == SCRATCH:
            empty = ImageConfig(platform, config={"WorkingDir": "/"})
            return BaseImage(SCRATCH, empty, ())
        try:
            return self._resolve(name, platform)
        except (Denied, NotFound, Unavailable) as error:
            raise type(error)(error.message, error.hint or self._stages.hint(name)) from error

    def _base_step(self, name: str, platform: Platform, image: BaseImage, stage: Stage) -> int:
        key = (name, platform)
        if key not in self._images:
            op = Base(image.shown, image.layers)
            self._steps.add_base(op, stage.head.span)
            self._images[key] = len(self._steps.all) - 1
        return self._images[key]

    def _name_base(self, state: StageState) -> None:
        step = self._steps.all[state.root]
        if not step.title:
            prefix = f"{state.label} " if state.label else ""
            assert isinstance(step.op, Base)
            title = f"[{prefix}1/{state.total}] FROM {step.op.name}"
            self._steps.all[state.root] = step._replace(title=title)

    def _label(self, stage: Stage) -> str:
        if stage.name:
            return stage.name
        return f"stage-{stage.number}" if len(self._stages.stages) > 1 else ""

    def _triggers(self, state: StageState, stage: Stage) -> Sequence[Instruction]:
        """The base's ONBUILD instructions, which run once and are not inherited further."""
        texts = state.config.pop("OnBuild", None) or ()
        parsed: list[Instruction] = []
        for text in texts:
            trigger = parse_trigger(SourceFile("ONBUILD", str(text).encode()))
            # What goes wrong later is shown at the FROM that brought the trigger in.
            parsed.append(trigger._replace(span=stage.head.span))
        return parsed

    def _instruction(self, state: StageState, stage: Stage, item: Instruction) -> None:
        match item:
            case Arg():
                self._arg(state, item)
            case Run():
                run.lower(state, item, self._steps, self._proxies())
            case Copy():
                files.lower_copy(state, item, self._steps, lambda name: self._origin(name, stage))
            case Add():
                files.lower_add(state, item, self._steps)
            case Workdir():
                files.lower_workdir(state, item, self._steps)
            case From():
                raise AssertionError("a stage's body has no FROM")
            case _:
                config.lower(state, item)

    def _arg(self, state: StageState, item: Arg) -> None:
        shown = []
        for name, default in item.args:
            self._used_args.add(name)
            value = self._settings.build_args.get(name)
            if value is None and default is not None:
                value = state.expand(default)
            if value is None:
                value = self._globals.get(name)
            if value is not None:
                state.env[name] = value
            state.args[name] = value
            shown.append(name if value is None else f"{name}={value}")
        state.note(f"ARG {' '.join(shown)}")

    def _proxies(self) -> dict[str, str]:
        return {k: v for k, v in self._settings.build_args.items() if k in PROXY_ARGS}

    def _origin(self, name: str, stage: Stage) -> int:
        """The step whose filesystem ``--from=name`` means: a stage, its index, or an image."""
        found = self._stages.meant(name, stage.number)
        if found is not None:
            return self._stage(found).root
        if is_index(name):
            raise Invalid(
                f"invalid from flag value {name}: refers to a stage that is not before this one"
            )
        if self._stages.named(name, len(self._stages.stages)) is not None:
            raise NotFound(
                f"stage {name!r} comes later in the file",
                hint="a stage can only be copied from after it is defined",
            )
        platform = self._settings.platform
        image = self._image(name, platform)
        return self._base_step(name, platform, image, stage)


def _titled(step: Step) -> Step:
    """*step* with a title, which an image that is only copied from has not got from a stage."""
    if step.title or not isinstance(step.op, Base):
        return step
    return step._replace(title=f"FROM {step.op.name}")


def _platform_args(settings: Settings) -> dict[str, str]:
    values: dict[str, str] = {}
    for prefix, platform in (("TARGET", settings.platform), ("BUILD", settings.build_platform)):
        values[f"{prefix}PLATFORM"] = str(platform)
        values[f"{prefix}OS"] = platform.os
        values[f"{prefix}ARCH"] = platform.architecture
        values[f"{prefix}VARIANT"] = platform.variant
    return values
