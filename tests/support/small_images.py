"""Images small enough to be made for each test, in an engine of its own."""

from __future__ import annotations

import io
import tarfile
from collections.abc import Mapping
from pathlib import Path

from support.rootfs import busybox_root

from engine.engine import Engine
from engine.importer import import_rootfs
from ocispec.model import Descriptor
from ocispec.reference import Reference


def ref(name: str) -> Reference:
    return Reference.parse(name).with_default_tag()


def busybox(engine: Engine, place: Path, name: str = "busybox", *changes: str) -> Descriptor:
    """An image of a static busybox, made in the new directory *place*."""
    busybox_root(place)
    return import_rootfs(engine, place, ref(name), changes=changes)


def image_of(
    engine: Engine, place: Path, files: Mapping[str, str], name: str | None, *changes: str
) -> Descriptor:
    """An image that holds *files*; *place* is a directory to make them in."""
    for path, text in files.items():
        (place / path).parent.mkdir(parents=True, exist_ok=True)
        (place / path).write_text(text)
    return import_rootfs(engine, place, None if name is None else ref(name), changes=changes)


def tar_of(members: Mapping[str, bytes]) -> bytes:
    """A tar of plain files; a value that starts with "-> " is a symlink's target."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w") as tar:
        for name, data in members.items():
            info = tarfile.TarInfo(name)
            if data.startswith(b"-> "):
                info.type, info.linkname = tarfile.SYMTYPE, data[3:].decode()
                tar.addfile(info)
                continue
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return out.getvalue()


def members_of(data: bytes) -> dict[str, bytes]:
    """The plain files of a tar."""
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return {m.name: tar.extractfile(m).read() for m in tar if m.isfile()}  # type: ignore[union-attr] # isfile
