"""The work that is measured."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from bench.builders import Builder
from bench.inputs import one_gigabyte, small_files
from bench.measure import Cost

BASE = "localhost/base:1"
_SOURCES = f'FROM {BASE}\nWORKDIR /src\nCOPY . .\nRUN cat src/d0/f1.txt | wc -c\nCMD ["sh"]\n'
_RUNS = f"FROM {BASE}\n" + "".join(f"RUN echo {number}\n" for number in range(10))
_COPY = f"FROM {BASE}\nCOPY . /src\n"


@dataclass(frozen=True, slots=True)
class Setting:
    """Where a scenario works: contexts are made once and shared, registries are named."""

    contexts: Path
    scratch: Path
    registry: str

    def context(self, name: str, make: Callable[[Path], Path]) -> Path:
        place = self.contexts / name
        return place if place.exists() else make(place)


def _nothing(_builder: Builder, _setting: Setting, _turn: int = 0) -> None:
    pass


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    name: str
    title: str
    base: str = "busybox"  # what tools/base makes
    repeat: int = 3
    once: Callable[[Builder, Setting], object] = _nothing  # not timed
    before: Callable[[Builder, Setting, int], object] = _nothing  # before each turn, not timed
    timed: Callable[[Builder, Setting], Cost]
    fresh: bool = False  # each turn begins with a store that holds only the base


def _small(setting: Setting) -> Path:
    return setting.context("small", lambda place: small_files(place, 200, 2000, _SOURCES))


def _large(setting: Setting) -> Path:
    return setting.context("large", lambda place: small_files(place, 20_000, 2048, _COPY))


def _runs(setting: Setting) -> Path:
    return setting.context("runs", lambda place: small_files(place, 1, 10, _RUNS))


def _gigabyte(setting: Setting) -> Path:
    return setting.context("gigabyte", lambda place: one_gigabyte(place, _COPY))


def _edit(builder: Builder, setting: Setting, turn: int) -> None:
    place = _small(setting) / "src/d0/f1.txt"
    place.write_text(f"{builder.name} changed this in turn {turn}\n")


def _forget(builder: Builder, setting: Setting, _turn: int) -> None:
    _archive(builder, setting).unlink(missing_ok=True)


def _archive(builder: Builder, setting: Setting) -> Path:
    return setting.scratch / f"{builder.name}.oci.tar"


def _save(builder: Builder, setting: Setting) -> Cost:
    return builder.save(_archive(builder, setting))


def _push(builder: Builder, setting: Setting) -> Cost:
    return builder.push(setting.registry, f"{builder.name}/image")


SCENARIOS: Sequence[Scenario] = (
    Scenario(
        name="noop",
        title="no-op rebuild, 200 files",
        base="debian",
        repeat=15,
        once=lambda builder, setting: builder.build(_small(setting)),
        timed=lambda builder, setting: builder.build(_small(setting)),
    ),
    Scenario(
        name="edit",
        title="one of 200 files changed: `COPY`, then `RUN`",
        base="debian",
        repeat=9,
        once=lambda builder, setting: builder.build(_small(setting)),
        before=_edit,
        timed=lambda builder, setting: builder.build(_small(setting)),
    ),
    Scenario(
        name="runs",
        title="ten `RUN echo` without cache",
        base="debian",
        repeat=5,
        once=lambda builder, setting: builder.build(_runs(setting)),
        timed=lambda builder, setting: builder.build(_runs(setting), cache=False),
    ),
    Scenario(
        name="copy",
        title="`COPY .` of 20,000 files of 2 KB, cold",
        repeat=5,
        timed=lambda builder, setting: builder.build(_large(setting)),
        fresh=True,
    ),
    Scenario(
        name="copy-noop",
        title="the same, no-op",
        repeat=9,
        once=lambda builder, setting: builder.build(_large(setting)),
        timed=lambda builder, setting: builder.build(_large(setting)),
    ),
    Scenario(
        name="save",
        title="1 GB layer: build, save as an OCI archive",
        timed=lambda builder, setting: builder.build(_gigabyte(setting)) + _save(builder, setting),
        before=_forget,
        fresh=True,
    ),
    Scenario(
        name="save-only",
        title="the same, the save alone",
        once=lambda builder, setting: builder.build(_gigabyte(setting)),
        before=_forget,
        timed=_save,
    ),
    Scenario(
        name="push",
        title="1 GB layer: build, push to a loopback registry",
        timed=lambda builder, setting: builder.build(_gigabyte(setting)) + _push(builder, setting),
        fresh=True,
    ),
    Scenario(
        name="push-only",
        title="the same, the push alone",
        once=lambda builder, setting: builder.build(_gigabyte(setting)),
        timed=_push,
    ),
)
