"""COPY, ADD and WORKDIR: steps that put files into the filesystem."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Final

from builder.dockerfile.instructions import Add
from builder.dockerfile.instructions import Copy as CopyInstruction
from builder.dockerfile.instructions import Workdir as WorkdirInstruction
from builder.lower.state import StageState, Steps
from builder.plan import Change, Copy, InlineFile, Workdir
from ocispec.errors import Invalid, Unsupported

_OCTAL: Final = re.compile(r"[0-7]{1,5}")
_REMOTE: Final = re.compile(r"https?://|git@|ssh://|git://")


def lower_workdir(state: StageState, item: WorkdirInstruction, steps: Steps) -> None:
    """The directory becomes the current one, and a step makes it unless it is the root."""
    path = state.absolute(state.expand(item.path)).rstrip("/") or "/"
    state.config["WorkingDir"] = path
    if path == "/":
        state.note(f"WORKDIR {path}")
        return
    op = Workdir(path, state.user)
    state.root = steps.add(op, (state.root,), state, item.span, item.original)
    state.changes.append(Change(f"WORKDIR {path}", state.root, state.author or ""))


def lower_copy(
    state: StageState, item: CopyInstruction, steps: Steps, origin: Callable[[str], int]
) -> None:
    """Append the step of a COPY; *origin* gives the step that ``--from`` means."""
    for flag, given in (("--link", item.link), ("--parents", item.parents)):
        if given:
            raise _unsupported("COPY", flag)
    if item.excludes:
        raise _unsupported("COPY", "--exclude")
    inputs = (state.root, origin(item.from_)) if item.from_ else (state.root,)
    _append(state, item, steps, inputs, unpack=False)


def lower_add(state: StageState, item: Add, steps: Steps) -> None:
    """Append the step of an ADD of local files."""
    for flag, given in (
        ("--link", item.link),
        ("--exclude", bool(item.excludes)),
        ("--checksum", bool(item.checksum)),
        ("--keep-git-dir", item.keep_git_dir is not None),
    ):
        if given:
            raise _unsupported("ADD", flag)
    _append(state, item, steps, (state.root,), unpack=item.unpack is not False)


def _append(
    state: StageState,
    item: CopyInstruction | Add,
    steps: Steps,
    inputs: tuple[int, ...],
    *,
    unpack: bool,
) -> None:
    name = type(item).__name__.upper()
    sources = tuple(state.expand(source) for source in item.sources)
    if isinstance(item, Add):
        _refuse_remote(sources)
    target = state.absolute(state.expand(item.dest))
    chown, chmod = state.expand(item.chown), state.expand(item.chmod)
    if chmod and not (_OCTAL.fullmatch(chmod) and int(chmod, 8) <= 0o7777):
        raise Invalid(
            f"invalid chmod parameter: {chmod!r}", hint="write an octal mode from 0 to 07777"
        )
    inline = tuple(
        inline_file(doc.name, state.expand_body(doc.text) if doc.expand else doc.text)
        for doc in item.heredocs
    )
    if len(sources) + len(inline) > 1 and not target.endswith("/"):
        raise Invalid(
            f"when using {name} with more than one source file, the destination must be a"
            " directory and end with a /",
            hint=f"write {item.dest}/",
        )
    op = Copy(sources, inline, target, chown, chmod, unpack)
    state.root = steps.add(op, inputs, state, item.span, item.original)
    flags = (f" --chown={chown}" if chown else "") + (f" --chmod={chmod}" if chmod else "")
    words = [*sources, *(f"<<{file.name}" for file in inline), target]
    state.changes.append(
        Change(f"{name}{flags} {' '.join(words)} # buildkit", state.root, state.author or "")
    )


def inline_file(name: str, text: str, mode: int = 0o644) -> InlineFile:
    """A heredoc as a file. Invalid if its name is not that of a file in one directory."""
    if "/" in name or name in ("", ".", ".."):
        raise Invalid(
            f"a heredoc's name is its file's name, which {name!r} cannot be",
            hint="choose a name without a slash; the last argument says where the file goes",
        )
    return InlineFile(name, text.encode("utf-8", "surrogateescape"), mode)


def _refuse_remote(sources: tuple[str, ...]) -> None:
    for source in sources:
        if _REMOTE.match(source):
            raise Unsupported(
                f"ADD {source}: remote sources are not supported in this version",
                hint="fetch it in a RUN, or into the context before the build",
            )


def _unsupported(name: str, flag: str) -> Unsupported:
    return Unsupported(f"{name} {flag} is not supported in this version")
