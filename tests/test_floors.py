"""Imports go down only, and each third-party package has one door."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FLOORS = (
    ("ocispec",),
    ("attest", "layers", "registry_client"),
    ("runner",),
    ("builder",),
    ("engine",),
    ("pybuild",),
)
FLOOR_OF = {package: floor for floor, names in enumerate(FLOORS) for package in names}
DOORS = {
    "cryptography": "attest/keys.py",
    "dockerfile_parse": "builder/lint/portable.py",
    "isal": "layers/compress.py",
    "requests": "registry_client/transport.py",
    "rich": "pybuild/tty.py",
    "typer": "pybuild/cli.py",
    "urllib3": "registry_client/transport.py",
    "zstandard": "layers/compress.py",
}
MODULES = sorted(path for package in FLOOR_OF for path in (ROOT / package).rglob("*.py"))


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_module_imports_from_below_only(module: Path) -> None:
    own = module.relative_to(ROOT).parts[0]

    above = [name for name in _imported(module) if name != own and not _below(name, own)]

    assert above == []


@pytest.mark.parametrize("module", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_a_third_party_package_is_imported_by_its_door_only(module: Path) -> None:
    place = str(module.relative_to(ROOT))

    elsewhere = [
        name
        for name in _imported(module)
        if name not in FLOOR_OF and name not in sys.stdlib_module_names and DOORS.get(name) != place
    ]

    assert elsewhere == []


def test_every_package_of_the_distribution_has_a_floor() -> None:
    packages = {path.parent.name for path in ROOT.glob("*/py.typed")}

    assert set(FLOOR_OF) == packages


def _below(name: str, own: str) -> bool:
    return name not in FLOOR_OF or FLOOR_OF[name] < FLOOR_OF[own]


def _imported(module: Path) -> Iterator[str]:
    """The top-level names of all that *module* imports, wherever the statement stands."""
    for node in ast.walk(ast.parse(module.read_bytes())):
        if isinstance(node, ast.Import):
            yield from (alias.name.partition(".")[0] for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert not node.level, f"{module}:{node.lineno}: imports are absolute"
            yield str(node.module).partition(".")[0]
