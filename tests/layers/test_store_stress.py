from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.storestress import Outcome

ROOT = Path(__file__).parents[2]
SEED = 20240229


def test_processes_that_are_killed_at_work_harm_nobody(tmp_path: Path) -> None:
    outcome = _stress(tmp_path, 6, "careful")

    assert Outcome(outcome.kills, failures=0, damaged=0, dangling=0, left_over=[]) == outcome
    assert outcome.kills > 20


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4))
def test_processes_that_are_killed_at_work_for_long_harm_nobody(tmp_path: Path, seed: int) -> None:
    outcome = _stress(tmp_path, 30, "careful", seed)

    assert Outcome(outcome.kills, failures=0, damaged=0, dangling=0, left_over=[]) == outcome


def test_who_looks_without_a_pin_loses_what_was_found(tmp_path: Path) -> None:
    # Ends with the first failure. Without one, the tests above would prove nothing.
    assert _stress(tmp_path, 60, "careless").failures > 0


def _stress(tmp_path: Path, seconds: float, how: str, seed: int = SEED) -> Outcome:
    program = ROOT / "tests" / "support" / "storestress.py"
    done = subprocess.run(
        [sys.executable, str(program), str(tmp_path / "store"), str(seconds), str(seed), how],
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{ROOT / 'tests'}"},
        stdout=subprocess.PIPE,
        check=True,
    )
    return Outcome(**json.loads(done.stdout))
