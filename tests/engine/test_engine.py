"""The engine opens cheaply, and each of its parts once."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from engine.engine import Engine
from ocispec.errors import Invalid


def test_a_new_store_is_an_oci_layout(tmp_path: Path) -> None:
    with Engine(tmp_path / "a/store"):
        found = sorted(path.name for path in (tmp_path / "a/store").iterdir())

    assert {"oci-layout", "index.json", "blobs"} <= set(found)


def test_parts_are_made_once(engine: Engine) -> None:
    assert engine.snapshots() is engine.snapshots()
    assert engine.runner() is engine.runner()


def test_a_closed_engine_may_be_closed_again(engine: Engine) -> None:
    engine.runner()
    engine.close()

    engine.close()


def test_a_file_is_no_store(tmp_path: Path) -> None:
    (tmp_path / "file").touch()

    with pytest.raises(Invalid, match="is not a directory"):
        Engine(tmp_path / "file")


def test_opening_imports_nothing_heavy(tmp_path: Path) -> None:
    script = f"""
import sys, pathlib
from engine.engine import Engine
with Engine(pathlib.Path({str(tmp_path / "store")!r})):
    pass
heavy = ["requests", "typer", "rich", "zstandard", "cryptography", "isal", "ctypes", "asyncio",
         "argparse", "subprocess", "tempfile", "shutil", "http.client", "tarfile"]
print([name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, check=True
    )

    assert done.stdout.strip() == "[]"
