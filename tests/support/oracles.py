"""Other programs whose word is taken: where one is missing, the test that asks it is skipped."""

from __future__ import annotations

import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest


def program(name: str) -> str:
    """The path of the program *name*; skips the test that asks, if it is not installed."""
    found = shutil.which(name)
    if found is None:
        pytest.skip(f"{name} is not installed")
    return found


def run(name: str, *args: str | Path, cwd: Path | None = None) -> str:
    """What *name* prints; an AssertionError with its words if it fails."""
    done = subprocess.run(
        [program(name), *map(str, args)], capture_output=True, text=True, cwd=cwd, check=False
    )
    assert done.returncode == 0, f"{name} {args}: {done.stdout}{done.stderr}"
    return done.stdout


def skopeo_inspect(reference: str) -> dict[str, Any]:
    """The manifest that skopeo reads at *reference*, a transport and a name."""
    found: dict[str, Any] = json.loads(run("skopeo", "inspect", "--raw", *_plain(reference)))
    return found


def skopeo_copy(source: str, target: str) -> None:
    run(
        "skopeo",
        "copy",
        "-q",
        "--insecure-policy",
        *_tls("src", source),
        *_tls("dest", target),
        source,
        target,
    )


def umoci_unpack(layout: Path, name: str, bundle: Path) -> Path:
    """Unpack the image that *layout* calls *name*; returns the root file system."""
    run("umoci", "unpack", "--image", f"{layout}:{name}", bundle)
    return bundle / "rootfs"


def _plain(reference: str) -> tuple[str, ...]:
    return (*(("--tls-verify=false",) if reference.startswith("docker://") else ()), reference)


def _tls(side: str, reference: str) -> tuple[str, ...]:
    return (f"--{side}-tls-verify=false",) if reference.startswith("docker://") else ()
