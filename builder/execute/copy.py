"""
COPY and ADD: selected files become a change, written straight to its tar.

Nothing is copied on disk: the layer is unpacked only if a later step needs the files. The rules
are BuildKit's (``docs: Dockerfile reference, COPY``; fsutil's copier), point by point in
dockerfile conformance tests.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from typing import Final, NamedTuple

from builder.execute.place import Owner, Place, made_directory, parents
from builder.plan import Copy, InlineFile
from builder.selection import Picked
from layers.entry import Entry
from layers.layerwrite import LayerWriter
from layers.tree import Tree, TreeEntry
from ocispec.content import Readable
from ocispec.digest import Digest
from ocispec.errors import Invalid

_ROOT: Final = Owner(0, 0)  # who owns what comes from a context
IMPLICIT_MODE: Final = 0o755  # of parents that nobody asked for


class Item(NamedTuple):
    """One entry of the change, and how its bytes are read if it is a file."""

    entry: Entry
    read: Callable[[], Readable | bytes] | None = None
    content: Digest | None = None  # of the bytes, where it is known
    inode: tuple[int, int, int] | None = None  # equal for names of one file


class Source(NamedTuple):
    """What one source argument selected, and the tree it is in."""

    picked: Picked
    tree: Tree
    keep_owner: bool  # a stage's and an archive's files keep their owners
    named: frozenset[str] | None = None  # directories that an archive names; None: no archive


class Layout:
    """Collects the entries of one COPY by path, refusing what a copy on disk would refuse."""

    def __init__(self, op: Copy, place: Place, owner: Owner | None, now_ns: int) -> None:
        self._place = place
        self._owner = owner
        self._mode = int(op.chmod, 8) if op.chmod else None
        self._now_ns = now_ns
        self._wants_directory = op.target.endswith("/")
        self._root = place.real(op.target)
        status = place.lstat(self._root)
        self._root_exists = status is not None
        self._root_is_dir = status is not None and stat.S_ISDIR(status.st_mode)
        self.items: dict[str, Item] = {}
        self._shared: set[str] = set()  # directories that exist here and are copied onto

    def add(self, source: Source) -> None:
        """Lay out what *source* selected."""
        self._check_target(source.picked.is_directory)
        if source.picked.is_directory:
            self._add_directory(source)
            return
        entry = source.picked.entry
        assert entry is not None
        self._add_file(source.picked.name, self._item(entry, "", source))

    def add_inline(self, file: InlineFile) -> None:
        """Lay out a file that stands in the Dockerfile."""
        self._check_target(is_directory=False)
        owner = self._owner or Owner(0, 0)
        entry = Entry(
            path="",
            kind="file",
            mode=file.mode if self._mode is None else self._mode,
            uid=owner.uid,
            gid=owner.gid,
            size=len(file.data),
            mtime_ns=self._now_ns,
        )
        self._add_file(file.name, Item(entry, lambda: file.data, Digest.of(file.data)))

    def finish(self) -> list[Item]:
        """All entries in order, with the parents they need."""
        if not self.items:
            return []
        mode = IMPLICIT_MODE if self._mode is None else self._mode
        below = self._root + "/." if self._root_is_dir or self._wants_directory else self._root
        if self._root in self.items and self.items[self._root].entry.kind == "dir":
            below = self._root
        owner = self._owner or Owner(0, 0)
        try:
            above = parents(self._place, below.lstrip("/"), owner, mode, self._newest())
        except NotADirectoryError as error:
            raise Invalid(f"cannot copy to {error.filename}: not a directory") from error
        for path, entry in above.items():
            self.items.setdefault(path, Item(entry))
        return _with_links(self.items)

    def _newest(self) -> int:
        # The time of made parents follows from what is copied: the same tree, the same layer.
        return max(item.entry.mtime_ns for item in self.items.values())

    def _check_target(self, is_directory: bool) -> None:
        if self._root_exists and not self._root_is_dir and (is_directory or self._wants_directory):
            raise Invalid(f"cannot copy to non-directory: /{self._root}")

    def _add_file(self, name: str, item: Item) -> None:
        path = self._root
        if self._wants_directory or self._root_is_dir:
            path = _join(self._root, name)
            status = self._place.lstat(path) if self._root_is_dir else None
            if status is not None and stat.S_ISDIR(status.st_mode):
                raise Invalid(f"cannot replace directory /{path} with a file")
        self._put(path, item)

    def _add_directory(self, source: Source) -> None:
        root = self._root
        if self._root_is_dir:
            self._shared.add(root)
        elif root not in self.items:
            self._put_root(source)
        start = len(source.picked.path) + 1 if source.picked.path else 0
        for child in source.picked.below:
            path = _join(root, child.path[start:])
            self._check_child(path, child.kind == "dir")
            item = self._item(child, path, source)
            if path in self._shared and source.named is not None:
                item = self._kept(path, item, child.path in source.named)
            self._put(path, item)

    def _put_root(self, source: Source) -> None:
        """The target itself, which does not exist: only the contents of a source are copied."""
        entry = source.picked.entry
        mode = IMPLICIT_MODE if self._mode is None else self._mode
        owner = self._owner or Owner(0, 0)
        mtime_ns = self._now_ns if entry is None else entry.mtime_ns
        self._put(self._root, Item(made_directory(self._root, owner, mode, mtime_ns)))

    def _kept(self, path: str, item: Item, is_named: bool) -> Item:
        """A directory on the way to what an archive holds stays as the target has it."""
        status = None if is_named else self._place.lstat(path)
        return item if status is None else Item(self._place.directory(path, status))

    def _check_child(self, path: str, is_directory: bool) -> None:
        parent = path.rpartition("/")[0]
        if parent not in self._shared:
            return
        status = self._place.lstat(path)
        if status is None:
            return
        if not is_directory and stat.S_ISDIR(status.st_mode):
            raise Invalid(f"cannot replace directory /{path} with a file")
        if is_directory and not stat.S_ISDIR(status.st_mode):
            raise Invalid(
                f"cannot copy to non-directory: /{path}",
                hint="the target is a file or a link there; copy onto the directory it leads to",
            )
        if is_directory:
            self._shared.add(path)

    def _put(self, path: str, item: Item) -> None:
        earlier = self.items.get(path)
        if earlier is not None and (earlier.entry.kind == "dir") != (item.entry.kind == "dir"):
            raise Invalid(f"two sources disagree whether /{path} is a directory")
        if item.entry.path != path:
            item = item._replace(entry=replace(item.entry, path=path))
        self.items[path] = item

    def _item(self, entry: TreeEntry, path: str, source: Source) -> Item:
        # Called once a file: what stat(2) said is read without going through properties.
        status, kind = entry.status, entry.kind
        is_file = kind == "file"
        mode = entry.mode if self._mode is None or kind == "symlink" else self._mode
        owner = self._owner or _ROOT
        if source.keep_owner and self._owner is None:
            owner = Owner(status.st_uid, status.st_gid)
        is_node = kind in ("char", "block")
        made = Entry(
            path,
            kind,
            mode,
            owner.uid,
            owner.gid,
            status.st_size if is_file else 0,
            status.st_mtime_ns,
            entry.target,
            os.major(status.st_rdev) if is_node else 0,
            os.minor(status.st_rdev) if is_node else 0,
            kept_xattrs(entry, source.keep_owner),
        )
        if not is_file:
            return Item(made)
        inode = (id(source.tree), status.st_dev, status.st_ino) if status.st_nlink > 1 else None
        content = Digest(f"sha256:{entry.digest}")
        return Item(made, partial(source.tree.read, entry), content, inode)


def write(items: Iterable[Item], writer: LayerWriter) -> None:
    """Write the entries of a change, in order."""
    for item in items:
        if item.read is None:
            writer.add(item.entry)
            continue
        data = item.read()
        if isinstance(data, bytes):
            writer.add(item.entry, data, item.content)
            continue
        try:
            writer.add(item.entry, data, item.content)
        finally:
            data.close()


def check_sources(op: Copy, found: Sequence[Sequence[Picked]]) -> None:
    """Invalid if several files would go to a target that is not written as a directory."""
    count = sum(len(picked) for picked in found) + len(op.inline)
    if count > 1 and not op.target.endswith("/"):
        raise Invalid(
            "with more than one source file, the destination must be a directory and end with a /",
            hint=f"write {op.target}/ as the last argument",
        )


def refuse_devices(picked: Picked) -> None:
    """A build context is the user's own disk: its devices and pipes are not image content."""
    entries = picked.below if picked.entry is None else (picked.entry, *picked.below)
    for entry in entries:
        if entry.kind in ("char", "block", "fifo"):
            raise Invalid(
                f"/{entry.path} is a {entry.kind} in the build context",
                hint="name it in .dockerignore",
            )


def kept_xattrs(entry: TreeEntry, from_image: bool) -> Mapping[str, bytes]:
    """The attributes that are copied: of a context only what a program's rights depend on."""
    if from_image or not entry.xattrs:
        return entry.xattrs
    return {k: v for k, v in entry.xattrs.items() if k == "security.capability"}


def _with_links(items: Mapping[str, Item]) -> list[Item]:
    first: dict[tuple[int, int, int], str] = {}
    ordered: list[Item] = []
    for path in sorted(items, key=os.fsencode):
        item = items[path]
        if item.inode is not None:
            known = first.setdefault(item.inode, path)
            if known != path:
                entry = replace(item.entry, kind="link", target=known, size=0)
                item = Item(entry)
        ordered.append(item)
    return ordered


def _join(root: str, name: str) -> str:
    return f"{root}/{name}" if root else name
