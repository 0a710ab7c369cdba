"""Both ways to install it work, bring all files, and ignore the current directory."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGES = sorted(path.parent.name for path in ROOT.glob("*/py.typed"))


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("wheel")
    _run(sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", out, _sources(out))
    (path,) = out.glob("*.whl")
    return path


@pytest.fixture
def hostile(tmp_path: Path) -> Path:
    """A directory whose modules have the names of ours and of what we use, and must not run."""
    directory = tmp_path / "hostile"
    directory.mkdir()
    for name in (*PACKAGES, "typer", "rich", "json", "dataclasses"):
        (directory / f"{name}.py").write_text("raise SystemExit('imported from the cwd')\n")
    return directory


@pytest.mark.slow
def test_the_wheel_holds_every_module_and_data_file(wheel: Path) -> None:
    tracked = subprocess.run(
        ["git", "ls-files", *PACKAGES], cwd=ROOT, capture_output=True, text=True, check=True
    ).stdout.splitlines()

    with zipfile.ZipFile(wheel) as archive:
        missing = sorted(set(tracked) - set(archive.namelist()))

    assert missing == []


@pytest.mark.slow
def test_the_wheel_holds_nothing_but_its_packages(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        tops = {name.partition("/")[0] for name in archive.namelist()}

    assert {*PACKAGES, f"pybuild_oci-{_version()}.dist-info"} == tops


@pytest.mark.slow
def test_the_command_starts_from_an_installed_wheel(
    wheel: Path, tmp_path: Path, hostile: Path
) -> None:
    command = _install(tmp_path / "venv", wheel)

    assert _version() in _run(command, "version", cwd=hostile)
    assert "--tag" in _run(command, "build", "--help", cwd=hostile)


@pytest.mark.slow
def test_the_command_starts_from_an_editable_install(tmp_path: Path, hostile: Path) -> None:
    command = _install(tmp_path / "venv", "-e", _sources(tmp_path))

    assert _version() in _run(command, "version", cwd=hostile)
    assert "--tag" in _run(command, "build", "--help", cwd=hostile)


def test_the_installed_command_ignores_modules_of_the_current_directory(hostile: Path) -> None:
    command = Path(sys.executable).with_name("pybuild")

    assert _version() in _run(command, "version", cwd=hostile)


def _sources(near: Path) -> Path:
    """A copy of what is installed from: an install writes beside its sources."""
    copy = near / "sources"
    copy.mkdir()
    tracked = _run("git", "ls-files", "-z", *PACKAGES, "pyproject.toml", "README.md", cwd=ROOT)
    for name in filter(None, tracked.split("\0")):
        place = copy / name
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_bytes((ROOT / name).read_bytes())
    return copy


def _install(place: Path, *what: str | Path) -> Path:
    venv.create(place, with_pip=True)
    _run(place / "bin/pip", "install", "-q", "--disable-pip-version-check", *what)
    return place / "bin/pybuild"


def _version() -> str:
    return str(tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"])


def _run(*argv: str | Path, cwd: Path | None = None) -> str:
    """What it prints; without PYTHON* settings, which an installed command must not need."""
    env = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    done = subprocess.run(
        list(map(str, argv)), cwd=cwd, env=env, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, f"{argv}: {done.stdout}{done.stderr}"
    return done.stdout
