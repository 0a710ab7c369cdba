"""``make bench``: both programs do the same work in turns; prints a Markdown table."""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

from bench.builders import Buildah, Builder, Pybuild
from bench.measure import Cost, adopt_orphans, median
from bench.registry import empty_registry
from bench.scenarios import BASE, SCENARIOS, Scenario, Setting

_BASE_TOOL = Path(__file__).parents[1] / "tools/base"


def main() -> None:
    options = _arguments()
    if os.geteuid():
        sys.exit("needs root: both programs mount overlays")
    chosen = [each for each in SCENARIOS if each.name in (options.scenario or each.name)]
    with tempfile.TemporaryDirectory(dir=options.place, prefix="pybuild-bench.") as made:
        place = Path(made)
        builders: list[Builder] = [Pybuild(place), Buildah(place)]
        if options.only:
            builders = [each for each in builders if each.name == options.only]
        adopt_orphans()
        print(_heading(builders), flush=True)
        for scenario in chosen:
            repeat = options.repeat or scenario.repeat
            print(_row(scenario, measure(scenario, builders, place, repeat)), flush=True)
        for builder in builders:
            builder.reset()


def measure(
    scenario: Scenario, builders: Sequence[Builder], place: Path, repeat: int
) -> list[list[Cost]]:
    """The costs of *repeat* turns for each builder; who goes first alternates."""
    rootfs = _rootfs(scenario.base)
    contexts = place / "contexts"
    contexts.mkdir(exist_ok=True)
    for builder in builders:
        setting = Setting(contexts, place, registry="")
        builder.reset()
        builder.add_base(rootfs, BASE)
        scenario.once(builder, setting)
    costs: list[list[Cost]] = [[] for _ in builders]
    for turn in range(repeat):
        order = list(zip(builders, costs, strict=True))
        for builder, own in order if turn % 2 == 0 else reversed(order):
            if scenario.fresh:
                builder.reset()
                builder.add_base(rootfs, BASE)
            with empty_registry(place / "registry") as registry:
                setting = Setting(contexts, place, registry)
                scenario.before(builder, setting, turn)
                own.append(scenario.timed(builder, setting))
            shutil.rmtree(place / "registry")
    return costs


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="bench", description=__doc__)
    names = [scenario.name for scenario in SCENARIOS]
    parser.add_argument("scenario", nargs="*", help=f"which ones: {', '.join(names)}")
    parser.add_argument("--repeat", type=int, help="turns for each program")
    parser.add_argument("--only", choices=["pybuild", "buildah"], help="measure one program alone")
    parser.add_argument(
        "--place", default="/dev/shm", help="where the stores and contexts are (default: tmpfs)"
    )
    options = parser.parse_args()
    if unknown := set(options.scenario) - set(names):
        parser.error(f"no such scenario: {', '.join(sorted(unknown))}")
    return options


def _rootfs(base: str) -> Path:
    done = subprocess.run([_BASE_TOOL, base], stdout=subprocess.PIPE, text=True, check=True)
    return Path(done.stdout.strip())


def _heading(builders: Sequence[Builder]) -> str:
    columns = [
        "median of",
        *(f"{builder.name} {what}" for builder in builders for what in ("wall", "cpu")),
        *(["wall ratio", "cpu ratio"] if len(builders) > 1 else []),
    ]
    return f"| | {' | '.join(columns)} |\n|---|{'---:|' * len(columns)}"


def _row(scenario: Scenario, costs: Sequence[Sequence[Cost]]) -> str:
    middle = [median(own) for own in costs]
    cells = [str(len(costs[0]))]
    cells += [f"{seconds:.3f} s" for cost in middle for seconds in (cost.wall, cost.cpu)]
    if len(middle) > 1:
        ours, theirs = middle
        cells += [f"{theirs.wall / ours.wall:.1f} ×", f"{theirs.cpu / ours.cpu:.1f} ×"]
    return f"| {scenario.title} | {' | '.join(cells)} |"


if __name__ == "__main__":
    main()
