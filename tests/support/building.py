"""Builds in a store of the test's own, without the command line, and a look at what came out."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from builder.events import Event, StepEnded, StepStarted
from engine.build import BuildRequest, BuildResult, build
from engine.engine import Engine
from layers.snapshots import SnapshotID
from ocispec.content import read_small
from ocispec.digest import chain_id
from ocispec.model import MAX_DOCUMENT, Descriptor, ImageConfig, Manifest


def write_tree(root: Path, files: Mapping[str, str | bytes | None]) -> Path:
    """Make *files* below *root*: text or bytes; None or a "/" at the end is a directory."""
    root.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        path = root / name
        if content is None or name.endswith("/"):
            path.mkdir(parents=True, exist_ok=True)
            continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content.encode() if isinstance(content, str) else content)
    return root


class Builder:
    """An engine on a store in *root*, and the events of its last build."""

    def __init__(self, root: Path) -> None:
        self.engine = Engine(root)
        self.events: list[Event] = []

    def build(self, context: Path, dockerfile: str | None = None, **options: Any) -> BuildResult:
        self.events = []
        text = None if dockerfile is None else dockerfile.encode()
        request = BuildRequest(context, dockerfile_text=text, **options)
        return build(self.engine, request, self.events.append)

    def cached(self) -> dict[str, bool]:
        """For each step of the last build, by the last part of its title: was it cached?"""
        titles = {e.step: e.title for e in self.events if isinstance(e, StepStarted)}
        return {
            titles[event.step].partition("] ")[2]: event.cached
            for event in self.events
            if isinstance(event, StepEnded) and "] " in titles[event.step]
        }

    def config(self, image: Descriptor) -> ImageConfig:
        manifest = self.manifest(image)
        return ImageConfig.decode(read_small(self.engine.store, manifest.config, MAX_DOCUMENT))

    def manifest(self, image: Descriptor) -> Manifest:
        data = read_small(self.engine.store, image, MAX_DOCUMENT)
        return Manifest.decode(data, image.media_type)

    @contextmanager
    def root(self, image: Descriptor) -> Iterator[Path]:
        """The image's filesystem, read-only."""
        if os.geteuid() != 0:
            pytest.skip("needs root: layers are unpacked with their owners")
        manifest, config = self.manifest(image), self.config(image)
        with self.engine.store.session() as session:
            parent: SnapshotID | None = None
            for diff_id, blob in zip(config.diff_ids, manifest.layers, strict=True):
                from ocispec.digest import Digest
                from ocispec.model import Layer

                layer = Layer(diff_id, Digest(diff_id), blob)
                snapshots = self.engine.snapshots()
                parent = snapshots.unpack(parent, layer, self.engine.store, session)
            if config.diff_ids:
                assert parent == chain_id(config.diff_ids).hex
            with self.engine.snapshots().view(parent) as fd:
                yield Path(f"/proc/self/fd/{fd}")

    def files(self, image: Descriptor) -> dict[str, str]:
        """
        Every path of the image and what is there: a file's text, ``dir``, ``-> target``.

        The mode and a foreign owner are added in brackets when they are not the usual ones.
        """
        with self.root(image) as root:
            return {path: _shown(root / path) for path in sorted(_walk(root))}


def _walk(root: Path) -> Iterator[str]:
    for directory, names, files in os.walk(root):
        for name in names + files:
            yield str((Path(directory) / name).relative_to(root))


def _shown(path: Path) -> str:
    status = path.lstat()
    mode = stat.S_IMODE(status.st_mode)
    owner = f" {status.st_uid}:{status.st_gid}" if (status.st_uid, status.st_gid) != (0, 0) else ""
    if stat.S_ISLNK(status.st_mode):
        return f"-> {path.readlink()}{owner}"
    if stat.S_ISDIR(status.st_mode):
        return "dir" + (f" [{mode:o}]" if mode != 0o755 else "") + owner
    if not stat.S_ISREG(status.st_mode):
        return f"special {mode:o}{owner}"
    text = path.read_bytes().decode(errors="replace")
    return text + (f" [{mode:o}]" if mode != 0o644 else "") + owner
