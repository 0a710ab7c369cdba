"""What may be loaded into the process that becomes PID 1 of a sandbox."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

import pytest

from runner import inside

_FOLDER = Path(inside.__file__).parent
_TOP = _FOLDER.parents[1]


@pytest.mark.parametrize("path", sorted(_FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_it_imports_the_standard_library_and_its_own_kind(path: Path) -> None:
    tree = ast.parse(path.read_bytes())
    modules = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            modules |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            modules.add(node.module or "")
    foreign = {
        module
        for module in modules
        if module.partition(".")[0] not in sys.stdlib_module_names
        and not module.startswith("runner.inside")
    }

    assert foreign == set()


@pytest.mark.parametrize("path", sorted(_FOLDER.glob("*.py")), ids=lambda path: path.stem)
def test_it_imports_nothing_late(path: Path) -> None:
    """After pivot_root an import would load code from the image."""
    tree = ast.parse(path.read_bytes())
    functions = [
        node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    ]
    late = [
        node.lineno
        for function in functions
        for node in ast.walk(function)
        if isinstance(node, ast.Import | ast.ImportFrom)
    ]

    assert late == []


def test_it_loads_nothing_that_is_slow() -> None:
    program = (
        "import sys; sys.path.append(sys.argv[1]); import runner.inside.zygote;print(*sys.modules)"
    )

    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", program, _TOP],
        capture_output=True,
        text=True,
        check=True,
    )

    slow = {"typing", "dataclasses", "inspect", "subprocess", "tempfile", "pathlib", "threading"}
    slow |= {"logging", "asyncio", "traceback", "shutil", "random", "hashlib", "runner.spec"}
    assert set(done.stdout.split()) & slow == set()
