from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from contracts.runner_contract import RunnerContract
from support.rootfs import TinyRoot

_TOP = Path(__file__).parents[2]

_STARTER = """
import sys
from pathlib import Path
from runner.namespace import NamespaceRunner
from support.rootfs import TinyRoot
root = TinyRoot(Path(sys.argv[1]), tuple(map(Path, sys.argv[2:])))
script = "trap '' TERM HUP; sleep 1000 & echo ready; while :; do sleep 1000; done"
NamespaceRunner().start(root.shell(script), 0, 1, 2).wait()
"""


class TestNamespaceRunner(RunnerContract):
    pass


def test_a_sandbox_dies_with_the_process_that_started_it(root: TinyRoot) -> None:
    reading, writing = os.pipe()
    starter = subprocess.Popen(
        [sys.executable, "-c", _STARTER, root.directory, *root.lowers],
        stdout=writing,
        env={"PYTHONPATH": f"{_TOP}:{_TOP / 'tests'}"},
    )
    os.close(writing)
    with os.fdopen(reading, "rb", buffering=0) as pipe:
        assert pipe.read(6) == b"ready\n"

        starter.kill()

        assert pipe.read() == b""  # whoever held the other end is gone
    starter.wait()
