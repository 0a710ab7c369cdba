"""
index.json: the names of a store's images (image-spec image-layout.md).

An entry's name is the whole reference, in the annotation that skopeo, umoci and containerd read.
An entry without a name is an image that lost its name to a newer one; prune removes it. The file
is written beside and renamed, under a lock, so that concurrent writers lose nothing.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Final

from layers.durable import sync_directory, write_file
from layers.locks import locked
from ocispec import mediatypes
from ocispec.digest import Digest
from ocispec.errors import Invalid, NotFound
from ocispec.model import Descriptor, Index
from ocispec.reference import Reference

REF_NAME: Final = "org.opencontainers.image.ref.name"
_CONTAINERD_NAME: Final = "io.containerd.image.name"
_NAMES: Final = (REF_NAME, _CONTAINERD_NAME)

Entries = Sequence[Descriptor]


class Images:
    """The names in the store at *root*. Holds nothing: every call reads the file anew."""

    def __init__(self, root: Path) -> None:
        self._root = root
        self._path = root / "index.json"

    def names(self) -> list[tuple[Reference, Descriptor]]:
        """Every name and what it names, as they were made."""
        return [
            (ref, _bare(entry)) for entry in self.entries() if (ref := _named(entry)) is not None
        ]

    def unnamed(self) -> list[Descriptor]:
        """The images that have lost their name, each once."""
        entries = self.entries()
        named = {entry.digest for entry in entries if _named(entry) is not None}
        bare = {entry.digest: _bare(entry) for entry in entries if entry.digest not in named}
        return list(bare.values())

    def entries(self) -> tuple[Descriptor, ...]:
        """The file's descriptors, annotations included."""
        try:
            data = self._path.read_bytes()
        except FileNotFoundError:
            return ()
        return Index.decode(data, mediatypes.OCI_INDEX).manifests

    def resolve(self, ref: Reference) -> Descriptor:
        """What *ref* names. NotFound; a digest in *ref* wins over its tag."""
        entries = self.entries()
        if ref.digest is not None:
            found = [entry for entry in entries if entry.digest == ref.digest]
        else:
            name = str(ref)
            found = [e for e in entries if e.annotations.get(REF_NAME) == name]
            found = found or [e for e in entries if _named(e) == ref]
        if not found:
            raise _no_such(ref)
        return _bare(found[0])

    def tag(self, ref: Reference, root: Descriptor) -> None:
        """Let *ref* name *root*. Nothing is written if it does already."""
        ref = replace(ref, digest=None)
        if ref.tag is None:
            raise Invalid(f"{ref.familiar} has no tag")
        names = {_CONTAINERD_NAME: str(ref), REF_NAME: str(ref)}
        new = replace(root, annotations={**_others(root), **names})

        def change(entries: Entries) -> Entries:
            if new in entries:
                return entries
            kept = [_bare(entry) if _named(entry) == ref else entry for entry in entries]
            return _without_doubles([*kept, new])

        self._change(change)

    def keep(self, root: Descriptor) -> None:
        """Keep *root* without a name."""
        self._change(lambda entries: _without_doubles([*entries, _bare(root)]))

    def untag(self, ref: Reference) -> Descriptor:
        """
        Take the name away; what it named, which is kept only under its other names.

        NotFound if nothing has the name.
        """
        ref = replace(ref, digest=None)
        removed: list[Descriptor] = []

        def change(entries: Entries) -> Entries:
            removed.extend(entry for entry in entries if _named(entry) == ref)
            return [entry for entry in entries if _named(entry) != ref]

        self._change(change)
        if not removed:
            raise _no_such(ref)
        return _bare(removed[0])

    def forget(self, digests: frozenset[Digest], *, holding_locks: bool = False) -> None:
        """Drop every entry, named or not, of the images *digests*; gc holds both locks already."""

        def change(entries: Entries) -> Entries:
            return [entry for entry in entries if entry.digest not in digests]

        if holding_locks:
            self._write(change(self.entries()), nullcontext())
        else:
            self._change(change)

    def _change(self, change: Callable[[Entries], Entries]) -> None:
        # Always this lock before gc's: gc takes both in the same order.
        with locked(self._root / "images.lock", exclusive=True):
            before = self.entries()
            after = tuple(change(before))
            if after != before:
                self._write(after, self._shared_gc_lock())

    def _write(self, entries: Entries, publishing: AbstractContextManager[None]) -> None:
        # In tmp/ without a session: gc holds the lock of the images, too, before it tidies up.
        temporary = self._root / "tmp" / f"index-{os.getpid()}-{os.urandom(4).hex()}"
        try:
            write_file(temporary, Index(tuple(entries)).encode())
            # gc marks under the exclusive lock: it sees the names before or after, never half.
            with publishing:
                temporary.rename(self._path)
        finally:
            temporary.unlink(missing_ok=True)
        sync_directory(self._root)

    def _shared_gc_lock(self) -> AbstractContextManager[None]:
        return locked(self._root / "gc.lock", exclusive=False)


def _named(entry: Descriptor) -> Reference | None:
    """
    The name of *entry*, if it has one that can be read.

    Others write the tag alone there (image-layout.md); docker's archives have the rest beside it.
    """
    text = entry.annotations.get(REF_NAME, "")
    full = entry.annotations.get(_CONTAINERD_NAME, "")
    if not text or full.endswith(f":{text}"):
        text = full
    try:
        return replace(Reference.parse(text), digest=None).with_default_tag()
    except Invalid:
        return None


def _no_such(ref: Reference) -> NotFound:
    return NotFound(f"no such image: {ref.familiar}", hint="pybuild images lists what there is")


def _without_doubles(entries: Entries) -> Entries:
    """Unnamed entries of images that have a name, or stand there twice, are of no use."""
    named = {entry.digest for entry in entries if _named(entry) is not None}
    kept: list[Descriptor] = []
    for entry in entries:
        if _named(entry) is None:
            if entry.digest in named:
                continue
            named.add(entry.digest)
        kept.append(entry)
    return kept


def _bare(entry: Descriptor) -> Descriptor:
    return replace(entry, annotations=_others(entry))


def _others(entry: Descriptor) -> dict[str, str]:
    return {key: text for key, text in entry.annotations.items() if key not in _NAMES}
