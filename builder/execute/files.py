"""COPY, ADD and WORKDIR executed: their change is written straight to its tar in the store."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack

from builder.context import LocalContext, StageFiles
from builder.execute import unpack, workdir
from builder.execute.copy import Item, Layout, Source, check_sources, write
from builder.execute.place import Owner, Place
from builder.plan import Copy, Workdir
from builder.selection import Picked
from builder.stack import Stack
from builder.tools import Tools
from layers.layerwrite import LayerWriter, WrittenLayer
from runner.users import as_id, lookup_user

Files = LocalContext | StageFiles


def execute_workdir(op: Workdir, parent: Stack, tools: Tools) -> WrittenLayer:
    """Make the directory *op* names on top of *parent*."""
    with tools.snapshots().view(tools.unpacked(parent)) as root:
        user = lookup_user(root, op.user)
        now_ns = int(tools.clock() * 1e9)
        items = workdir.lay_out(op.path, Place(root), Owner(user.uid, user.gid), now_ns)
        return _write(items, tools)


def execute_copy(
    op: Copy, parent: Stack, files: Files, found: Sequence[Sequence[Picked]], tools: Tools
) -> WrittenLayer:
    """Copy what was *found* in *files* onto *parent*."""
    check_sources(op, found)
    with ExitStack() as opened:
        root = opened.enter_context(tools.snapshots().view(tools.unpacked(parent)))
        layout = Layout(op, Place(root), _owner(op, root), int(tools.clock() * 1e9))
        for several in found:
            for picked in several:
                layout.add(_source(op, files, picked, tools, opened))
        for file in op.inline:
            layout.add_inline(file)
        return _write(layout.finish(), tools)


def _owner(op: Copy, root: int) -> Owner | None:
    """Who owns what is copied, if ``--chown`` says so; names are looked up in the target."""
    if not op.chown:
        return None
    number = as_id(op.chown)
    if number is not None:
        return Owner(number, number)
    user = lookup_user(root, op.chown)
    return Owner(user.uid, user.gid)


def _source(op: Copy, files: Files, picked: Picked, tools: Tools, opened: ExitStack) -> Source:
    if op.unpack and picked.entry is not None and picked.entry.kind == "file":
        archive = f"{files.tree.root}/{picked.path}"
        if unpack.is_archive(archive):
            tree, named = opened.enter_context(unpack.unpacked(archive, tools.session))
            entries = tree.scan(None)
            tree.digests(entries)
            whole = Picked(picked.name, None, "", entries)
            return Source(whole, tree, keep_owner=True, named=named)
    return files.source(picked)


def _write(items: Sequence[Item], tools: Tools) -> WrittenLayer:
    with LayerWriter(tools.session) as writer:
        write(items, writer)
        return writer.finish()
