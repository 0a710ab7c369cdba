"""``save``, ``load`` and ``import``."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from engine import archives, images
from engine.importer import import_rootfs
from ocispec.errors import Usage
from ocispec.platform import Platform, host
from ocispec.reference import Reference
from pybuild.commands.opening import open_engine


def save_command(root: str | None, *, names: Sequence[str], output: str | None) -> int:
    """Write images as one tar, to *output* or standard output."""
    if output is None and sys.stdout.isatty():
        raise Usage("cowardly refusing to save to a terminal", hint="use -o, or redirect")
    with open_engine(root) as engine:
        if output is None:
            archives.save(engine, names, sys.stdout.buffer)
            return 0
        target = Path(output)
        # Beside it and then renamed: a reader finds the old file or the new one, whole.
        temporary = target.with_name(f".{target.name}.{os.getpid()}")
        try:
            with temporary.open("xb") as out:
                archives.save(engine, names, out)
            temporary.replace(target)
        finally:
            temporary.unlink(missing_ok=True)
    return 0


def load_command(root: str | None, *, source: str | None, quiet: bool) -> int:
    """Store the images of an archive, from *source* or standard input."""
    if source is None and sys.stdin.isatty():
        raise Usage("requested load from standard input, which is a terminal", hint="use -i")
    with open_engine(root) as engine:
        if source is None:
            loaded = archives.load(engine, sys.stdin.buffer)
        else:
            with Path(source).open("rb") as stream:
                loaded = archives.load(engine, stream)
    for name in () if quiet else loaded:
        kind = " ID" if name.startswith("sha256:") else ""
        print(f"Loaded image{kind}: {name}")
    return 0


def import_command(
    root: str | None,
    *,
    source: str,
    name: str | None,
    changes: Sequence[str],
    message: str,
    platform: str | None,
) -> int:
    """Make an image of a root file system; its ID is printed."""
    ref = Reference.parse(name).with_default_tag() if name else None
    wanted = Platform.parse(platform) if platform else host()
    if source.startswith(("http://", "https://")):
        raise Usage(f"{source}: import does not download", hint="fetch it and name the file")
    with open_engine(root) as engine:
        manifest = import_rootfs(
            engine,
            None if source == "-" else Path(source),
            ref,
            changes=changes,
            message=message,
            platform=wanted,
        )
        print(images.load(engine.store, manifest, platform=wanted).id)
    return 0
