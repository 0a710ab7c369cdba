"""What the end-to-end tests share: looks at a store and at the machine from outside."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from support.cli import Cli
from support.stores import left_over

from layers.store import Store

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces, overlayfs")
INSTALL = "RUN apt-get update && apt-get install -y --no-install-recommends"


def metadata(cli: Cli, context: Path, *args: str | Path) -> dict[str, Any]:
    """Build *context*; what ``--metadata-file`` says of the image."""
    file = context.with_name(f"{context.name}.metadata")
    cli("build", "-q", "--metadata-file", file, *args, context)
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def named(cli: Cli) -> dict[str, str]:
    """The digests that index.json gives, by name; "" is the images without one."""
    return {
        entry.get("annotations", {}).get("org.opencontainers.image.ref.name", ""): entry["digest"]
        for entry in json.loads((cli.root / "index.json").read_text())["manifests"]
    }


def missing_parts(root: Path) -> list[str]:
    """What images in the index of the store *root* want and the store does not have."""
    folder = root / "blobs/sha256"
    missing, todo = [], list(json.loads((root / "index.json").read_text())["manifests"])
    while todo:
        wanted = todo.pop()
        path = folder / wanted["digest"].removeprefix("sha256:")
        if not path.exists():
            missing.append(wanted["digest"])
        elif "manifest" in wanted["mediaType"] or "index" in wanted["mediaType"]:
            document = json.loads(path.read_bytes())
            todo += [document["config"]] if "config" in document else []
            todo += document.get("layers", []) + document.get("manifests", [])
    return missing


def faults(root: Path) -> dict[str, object]:
    """What is wrong with the store *root* when nobody is at work in it; nothing, if all is well."""
    found = {
        "damaged": Store(root).check(),
        "missing": missing_parts(root),
        "left over": left_over(root),
    }
    return {what: which for what, which in found.items() if which}


def content(root: Path) -> Mapping[str, object]:
    """The names and the blobs of the store *root*, to be compared with what it has later."""
    return {
        "index.json": (root / "index.json").read_bytes(),
        "blobs": sorted(os.listdir(root / "blobs/sha256")),
    }


@dataclass(frozen=True, slots=True)
class Machine:
    """What a program must give back to the machine."""

    mounts: list[str]
    processes: list[str]

    @classmethod
    def of(cls, place: Path) -> Machine:
        """The mounts of *place*, and the processes that have it among their words or variables."""
        mounts = Path("/proc/mounts").read_text().splitlines()
        return cls([line for line in mounts if str(place) in line], sorted(_processes(place)))


def _processes(place: Path) -> Iterator[str]:
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes()
            variables = (folder / "environ").read_bytes()
        except (FileNotFoundError, ProcessLookupError, PermissionError):
            continue  # it has ended, or is another's
        if folder.name != str(os.getpid()) and os.fsencode(place) in words + variables:
            yield f"{folder.name} {os.fsdecode(words.replace(bytes(1), b' '))}"
