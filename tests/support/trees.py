"""Trees on disk: made from a few words, and listed so that two can be compared."""

from __future__ import annotations

import os
import stat
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pytest

TIME = 1_600_000_000
ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: owners, devices, trusted.*")


def tree(root: Path, what: Mapping[str, str | bytes | None]) -> Path:
    """
    Make *what* below *root*: "a": text or bytes, "d/": None, "l": "-> target", "h": "== other".

    Parents are made; every time is TIME, so that only what a test changes differs.
    """
    root.mkdir(parents=True, exist_ok=True)
    for path, content in what.items():
        place = root / path
        place.parent.mkdir(parents=True, exist_ok=True)
        if content is None:
            place.mkdir(exist_ok=True)
        elif isinstance(content, bytes):
            place.write_bytes(content)
        elif content.startswith("-> "):
            place.symlink_to(content.removeprefix("-> "))
        elif content.startswith("== "):
            place.hardlink_to(root / content.removeprefix("== "))
        else:
            place.write_text(content)
    settle(root)
    return root


def settle(root: Path, seconds: int = TIME) -> None:
    """Give everything below *root*, and itself, one time."""
    for path in (*root.rglob("*"), root):
        os.utime(path, (seconds, seconds), follow_symlinks=False)


def words(root: Path | str) -> dict[str, str]:
    """What is below *root*, in a few words each; for tests that compare a whole tree by eye."""
    return {path: _words(Path(root) / path) for path in _paths(Path(root)) if path}


def listing(root: Path | str, *, overlay: bool = False) -> dict[str, tuple[object, ...]]:
    """
    All that a layer can say of the tree *root*: "" is itself.

    Kind, mode, owner, whole seconds, xattrs, content, device, and the first name of a hard link's
    file. With *overlay* also what overlayfs keeps in xattrs.
    """
    paths = _paths(Path(root))
    names: dict[tuple[int, int], list[str]] = {}
    for path in paths:
        status = (Path(root) / path).lstat()
        if not stat.S_ISDIR(status.st_mode):
            # Not by st_nlink: some of the names may be hidden, or elsewhere.
            names.setdefault((status.st_dev, status.st_ino), []).append(path)
    first = {path: group[0] for group in names.values() if len(group) > 1 for path in group}
    return {path: (*_facts(Path(root) / path, overlay), first.get(path)) for path in paths}


def _paths(root: Path) -> list[str]:
    found, todo = [""], [""]
    while todo:
        parent = todo.pop()
        for name in os.listdir(root / parent):
            path = f"{parent}/{name}" if parent else name
            found.append(path)
            if stat.S_ISDIR((root / path).lstat().st_mode):
                todo.append(path)
    return sorted(found, key=os.fsencode)


def _words(path: Path) -> str:
    status = path.lstat()
    mode = status.st_mode
    if stat.S_ISDIR(mode):
        opaque = "trusted.overlay.opaque" in os.listxattr(path)
        return "opaque dir" if opaque else "dir"
    if stat.S_ISREG(mode):
        return path.read_bytes().decode("latin-1")
    if stat.S_ISLNK(mode):
        return f"-> {path.readlink()}"
    if stat.S_ISCHR(mode) and status.st_rdev == 0:
        return "whiteout"
    if stat.S_ISFIFO(mode):
        return "fifo"
    kind = "char" if stat.S_ISCHR(mode) else "block"
    return f"{kind} {os.major(status.st_rdev)}:{os.minor(status.st_rdev)}"


def _facts(place: Path, overlay: bool) -> tuple[object, ...]:
    status = place.lstat()
    mode = status.st_mode
    content: object = None
    if stat.S_ISREG(mode):
        content = place.read_bytes()
    elif stat.S_ISLNK(mode):
        content = os.readlink(place)
    elif stat.S_ISCHR(mode) or stat.S_ISBLK(mode):
        content = status.st_rdev
    xattrs = {
        name: os.getxattr(place, name, follow_symlinks=False)
        for name in os.listxattr(place, follow_symlinks=False)
        if overlay or not name.startswith(("trusted.overlay.", "user.overlay."))
    }
    return (
        stat.S_IFMT(mode),
        stat.S_IMODE(mode),
        status.st_uid,
        status.st_gid,
        int(status.st_mtime),
        xattrs,
        content,
    )


@contextmanager
def overlay(*lowers: Path, upper: Path | None = None) -> Iterator[Path]:
    """
    The merged tree of *lowers*, the topmost first, mounted without a place; its path.

    Changes go to *upper*, with a work directory beside it; without one it is read-only.
    """
    from layers.linux import FsOption, fsmount_new

    options: list[FsOption] = [("lowerdir+", str(lower)) for lower in lowers]
    if upper is not None:
        work = upper.with_name(f"{upper.name}.work")
        for place in (upper, work):
            place.mkdir(exist_ok=True)
        options += [("upperdir", str(upper)), ("workdir", str(work))]
    elif len(lowers) == 1:  # overlayfs wants two
        empty = lowers[0].with_name(f"{lowers[0].name}.empty")
        empty.mkdir(exist_ok=True)
        options.append(("lowerdir+", str(empty)))
    options += [("index", "off"), ("metacopy", "off"), ("redirect_dir", "off"), ("xino", "off")]
    fd = fsmount_new("overlay", options)
    try:
        yield Path(f"/proc/self/fd/{fd}")
    finally:
        os.close(fd)


def shell(script: str, place: Path) -> None:
    """Run *script* in *place*, which may be below an open descriptor; it stops at an error."""
    fd = os.open(place, os.O_RDONLY)
    try:
        command = ["bash", "-c", f"set -e; umask 022; cd /proc/self/fd/{fd}\n{script}"]
        subprocess.run(command, check=True, pass_fds=[fd])
    finally:
        os.close(fd)
