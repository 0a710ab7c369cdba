"""
A stored layer with no time later than an epoch (reproducible-builds.org, SOURCE_DATE_EPOCH).

The layer's identity stays what it is; its DiffID and blob are others. A layer that has no later
time is given back as it is.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

from layers.compress import decompressor
from layers.entry import SECOND, only_exported
from layers.identity import is_timed_pyc
from layers.layerwrite import LayerWriter, WrittenLayer
from layers.readahead import ReadAhead
from layers.tarread import tar_entries
from ocispec.content import Readable, VerifiedReader
from ocispec.errors import Corrupt
from ocispec.model import Layer

if TYPE_CHECKING:
    from layers.session import Session
    from layers.store import Store

_MAX_LINKS: Final = 40  # as Linux follows
_HEAD: Final = 16  # bytes of a .pyc before its code: magic, flags, source time, source size


def clamp(layer: Layer, epoch: int, store: Store, session: Session) -> WrittenLayer:
    """
    *layer* with every time after *epoch* (seconds) set to it.

    The time of its source in the head of a .pyc follows, where that source is in the same layer and
    was changed: else Python would compile it anew at every start. Corrupt if the stored blob is not
    what *layer* says.
    """
    seen = _survey(layer, epoch, store)
    if seen.newest_ns <= epoch * SECOND:
        return WrittenLayer(layer, seen.newest_ns // SECOND, seen.size, seen.entries)
    with LayerWriter(session, layer.blob.media_type) as out, _opened(layer, store) as tar:
        for entry, data in tar_entries(tar):
            changed = replace(only_exported(entry), mtime_ns=min(entry.mtime_ns, epoch * SECOND))
            source_time = seen.sources.get(source_of(entry.path) or "")
            if source_time is not None and entry.size >= _HEAD:
                out.copy(changed, _Retimed(entry.path, data, source_time, epoch))
            else:
                out.copy(changed, data)
        return out.finish()


@dataclass(slots=True)
class _Survey:
    newest_ns: int
    size: int
    entries: int
    sources: dict[str, int]  # .py files with a time after the epoch, and links to them: seconds


def _survey(layer: Layer, epoch: int, store: Store) -> _Survey:
    newest_ns = entries = 0
    sources: dict[str, int] = {}
    links: dict[str, str] = {}
    with _opened(layer, store) as tar:
        for entry, _ in tar_entries(tar):
            entries += 1
            newest_ns = max(newest_ns, entry.mtime_ns)
            if entry.path.endswith(".py"):
                sources.pop(entry.path, None)
                links.pop(entry.path, None)
                if entry.kind == "symlink":
                    links[entry.path] = entry.target
                elif entry.mtime_ns > epoch * SECOND and entry.kind in ("file", "link"):
                    sources[entry.path] = entry.mtime_ns // SECOND
        if tar.digest() != layer.diff_id:
            raise Corrupt(
                f"layer {layer.blob.digest}: its tar hashes to {tar.digest()}, not {layer.diff_id}"
            )
        return _Survey(newest_ns, tar.size, entries, {**sources, **dict(_linked(links, sources))})


def _linked(links: Mapping[str, str], sources: Mapping[str, int]) -> Iterator[tuple[str, int]]:
    """The times of the *sources* that *links* lead to: Python asks for those, not the links'."""
    for link in links:
        path, left = link, _MAX_LINKS
        while path in links and left:
            path, left = _target(path, links[path]), left - 1
        if path in sources:
            yield link, sources[path]


def _target(link: str, target: str) -> str:
    """The path that the symbolic *link* leads to, when no directory on the way is one."""
    return os.path.normpath(os.path.join("/", os.path.dirname(link), target)).lstrip("/")


@contextmanager
def _opened(layer: Layer, store: Store) -> Iterator[ReadAhead]:
    raw = VerifiedReader(store.open(layer.blob), layer.blob)
    try:
        with ReadAhead(decompressor(layer.blob.media_type, raw)) as tar:
            yield tar
    finally:
        raw.close()


def source_of(path: str) -> str | None:
    """
    The .py that the .pyc at *path* was compiled from; None if it is no .pyc.

    PEP 3147: ``__pycache__/name.tag.pyc`` beside name.py, or name.pyc in its place.
    """
    directory, _, name = path.rpartition("/")
    if not name.endswith(".pyc"):
        return None
    stem = name.removesuffix("c")
    if directory.rpartition("/")[2] == "__pycache__":
        directory = directory.rpartition("/")[0]
        stem = name.partition(".")[0] + ".py"
    return os.path.join(directory, stem)


class _Retimed:
    """The bytes of a .pyc, with *epoch* for the time of its source if it has that of *source*."""

    def __init__(self, path: str, data: Readable, source: int, epoch: int) -> None:
        self._path: str | None = path
        self._data = data
        self._source = source
        self._epoch = epoch

    def read(self, size: int = -1, /) -> bytes:
        data = self._data.read(size)
        if self._path is None:
            return data
        while data and len(data) < _HEAD:
            data += self._data.read(_HEAD - len(data))
        path, self._path = self._path, None
        # A .pyc with another time than its source's is stale, and must stay so.
        if is_timed_pyc(path, data) and data[8:12] == _packed(self._source):
            data = data[:8] + _packed(self._epoch) + data[12:]
        return data

    def close(self) -> None:
        self._data.close()


def _packed(seconds: int) -> bytes:
    return struct.pack("<I", seconds & 0xFFFFFFFF)
