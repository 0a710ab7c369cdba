"""``import``: a root filesystem, as a tar or a directory, becomes an image of one layer."""

from __future__ import annotations

import os
import stat
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

from builder.dockerfile.instructions import Workdir
from builder.dockerfile.parse import parse
from builder.dockerfile.source import SourceFile
from builder.execute.copy import Item, write
from builder.image import store_image, timestamp
from builder.lower import config as config_instructions
from builder.lower.state import StageState
from engine.engine import Engine
from layers.entry import WHITEOUT, Entry
from layers.layerwrite import LayerWriter
from layers.streams import plain_tar
from layers.tarread import tar_entries
from layers.tree import Tree, TreeEntry
from ocispec.content import Readable
from ocispec.errors import Invalid, NotFound
from ocispec.model import Descriptor, History, ImageConfig, Layer
from ocispec.platform import Platform, host
from ocispec.reference import Reference

_ALLOWED: Final = (
    *("CMD", "ENTRYPOINT", "ENV", "EXPOSE", "HEALTHCHECK", "LABEL", "ONBUILD", "STOPSIGNAL"),
    *("USER", "VOLUME", "WORKDIR", "SHELL"),
)
_HINT: Final = f"allowed are {', '.join(_ALLOWED)}"


def import_rootfs(
    engine: Engine,
    source: Path | None,
    ref: Reference | None,
    *,
    changes: Sequence[str] = (),
    message: str = "",
    platform: Platform | None = None,
) -> Descriptor:
    """
    Make an image of the tar or directory *source*; None is a tar on standard input.

    *changes* are Dockerfile instructions for its config, as ``docker import --change`` takes them.
    Invalid for a tar that a layer cannot be made from.
    """
    settings = _changed(changes)
    now = timestamp(time.time())
    with engine.store.session() as session:
        with LayerWriter(session) as writer:
            if source is not None and source.is_dir():
                write(_directory_items(source), writer)
            else:
                with _opened(source) as stream:
                    _copy_tar(stream, writer)
            layer = writer.finish().layer
        image = _config(settings, layer, message, now, platform or host())
        built = store_image(image, [layer], session)
        if ref is not None:
            session.tag(ref, built.manifest)
        else:
            session.keep(built.manifest)
        return built.manifest


def _config(
    settings: dict[str, Any], layer: Layer, message: str, now: str, platform: Platform
) -> ImageConfig:
    history = History(created=now, comment=message or "Imported from -")
    return ImageConfig(platform, (layer.diff_id,), settings, (history,), now)


def _changed(changes: Sequence[str]) -> dict[str, Any]:
    """The ``config`` that *changes* make of an empty one."""
    state = StageState(
        label="",
        root=0,
        config={},
        image=ImageConfig(host()),
        escape="\\",
        env={},
    )
    for text in changes:
        source = SourceFile("--change", b"FROM scratch\n" + os.fsencode(text))
        _, *items = parse(source).instructions
        if not items:
            raise Invalid("an empty text is not a valid change command", hint=_HINT)
        for item in items:
            if isinstance(item, Workdir):
                state.config["WorkingDir"] = state.absolute(state.expand(item.path))
            elif isinstance(item, config_instructions.ConfigInstruction):
                config_instructions.lower(state, item)
            else:
                keyword = item.original.split(maxsplit=1)[0].upper()
                raise Invalid(f"{keyword} is not a valid change command", hint=_HINT)
    return {key: value for key, value in state.config.items() if value is not None}


@contextmanager
def _opened(source: Path | None) -> Iterator[Readable]:
    if source is None:
        yield plain_tar(sys.stdin.buffer)
        return
    try:
        file = source.open("rb")
    except FileNotFoundError:
        raise NotFound(f"{source}: no such file or directory") from None
    with file:
        yield plain_tar(file)


def _copy_tar(stream: Readable, writer: LayerWriter) -> None:
    """Each member as it is, so that the layer is what the tar unpacks to, in our own form."""
    for entry, data in tar_entries(stream):
        if not entry.path and entry.kind != "dir":
            raise Invalid("the root of the archive is not a directory")
        if any(part.startswith(WHITEOUT) for part in entry.path.split("/")):
            raise Invalid(
                f"{entry.path}: names that start with {WHITEOUT} mark deletions in layers"
            )
        writer.add(entry, data if entry.kind == "file" and entry.size else None)


def _directory_items(root: Path) -> Iterator[Item]:
    """The entries of a directory, with its owners, devices, hard links and attributes."""
    tree = Tree(root, None, keep_bytes=0)
    first: dict[tuple[int, int], str] = {}
    for found in tree.scan(None):
        if found.kind == "file" and found.nlink > 1:
            known = first.setdefault((found.dev, found.ino), found.path)
            if known != found.path:
                yield Item(Entry(found.path, "link", target=known, mode=found.mode))
                continue
        if found.kind == "file":
            tree.digests([found])
        yield _item(tree, found)


def _item(tree: Tree, found: TreeEntry) -> Item:
    is_file = found.kind == "file"
    entry = Entry(
        path=found.path,
        kind=found.kind,
        mode=stat.S_IMODE(found.mode),
        uid=found.uid,
        gid=found.gid,
        size=found.size if is_file else 0,
        mtime_ns=found.mtime_ns,
        target=found.target,
        major=os.major(found.rdev),
        minor=os.minor(found.rdev),
        xattrs=found.xattrs,
    )
    return Item(entry, (lambda: tree.read(found)) if is_file else None)
