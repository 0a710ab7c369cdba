from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from contracts.runner_contract import RunnerContract
from contracts.runner_mounts_contract import RunnerMountsContract
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


_UNPRIVILEGED = """
import os
import sys
from runner.namespace import NamespaceRunner
from runner.spec import Mount, Sandbox
from ocispec.errors import Unsupported
os.setgroups([])
os.setresgid(65534, 65534, 65534)
os.setresuid(65534, 65534, 65534)
try:
    NamespaceRunner().start(Sandbox(("true",), (Mount("bind", "/", "/"),)), 0, 1, 2)
except Unsupported as error:
    print(error.hint)
"""


class TestNamespaceRunner(RunnerContract):
    pass


class TestNamespaceRunnerMounts(RunnerMountsContract):
    pass


def test_without_the_privileges_it_is_unsupported(root: TinyRoot) -> None:
    if os.geteuid() != 0:
        pytest.skip("needs root, to give it up")
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", _UNPRIVILEGED],
        env={"PYTHONPATH": str(_TOP)},
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.stdout, done.stderr) == (
        "it takes root with CAP_SYS_ADMIN, and Linux 5.12\n",
        "",
    )


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
