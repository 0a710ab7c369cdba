"""The root that the command sees: the image's files, and what is mounted on them."""

from __future__ import annotations

import errno
import os
import stat

from runner.inside import linux, overlay, stubs, system
from runner.inside.inroot import locate

TYPE_CHECKING = False
if TYPE_CHECKING:
    from runner.inside.request import MountRequest, Request

# A directory that every host has. It is covered in this mount namespace only; from then on nothing
# of the host below it is used.
_SCRATCH = "/dev"
_STUBS, _EMPTY, _FILES, _ROOT = (
    f"{_SCRATCH}/{name}" for name in ("stubs", "empty", "files", "root")
)

_NOTHING_SPECIAL = linux.NOSUID | linux.NODEV | linux.NOEXEC
_ATTRIBUTES = {
    "ro": linux.RDONLY,
    "nosuid": linux.NOSUID,
    "nodev": linux.NODEV,
    "noexec": linux.NOEXEC,
}
_NEUTRAL = frozenset(("rw", "bind", "rbind", "suid", "dev", "exec"))


class Sources:
    """Detached mounts of the binds of a request, and whether each mount is of a directory."""

    def __init__(self, root: int | None, mounts: list[int | None]) -> None:
        self.root = root
        self.mounts = mounts


def open_sources(request: Request, descriptors: dict[int, int]) -> Sources:
    """
    A detached copy of what each bind is to show.

    To be called in the caller's own mount namespace: the kernel lets nobody else copy a mount that
    was never attached, as a view of a snapshot is (fs/namespace.c, may_copy_tree).
    """
    root = request["root"]
    return Sources(
        _bind(root, descriptors) if root["type"] == "bind" else None,
        [_bind(m, descriptors) if m["type"] == "bind" else None for m in request["mounts"]],
    )


def prepare(request: Request, sources: Sources) -> stubs.Placeholders:
    """Make missing mount points where the root is a plain directory; see stubs.py."""
    placeholders = stubs.Placeholders()
    if sources.root is not None:
        lacking = stubs.missing(sources.root, _targets(request, sources))
        try:
            placeholders.make(sources.root, lacking)
        except OSError:
            placeholders.remove()
            raise
    return placeholders


def build(request: Request, sources: Sources, *, devices: bool) -> system.Root:
    """
    Mount everything. In a mount namespace of our own, and in the sandbox's other namespaces.

    *devices*: whether device nodes in the image may be used, because something else says which.
    """
    # Before anything of the host is covered: a store may well be in /dev/shm.
    options = overlay.held(overlay.parse(request["root"]["options"]))
    _make_scratch()
    attributes = 0 if devices else linux.NODEV
    root = _mount_root(request, sources, options, attributes)
    mounted = system.mount_all(root, request["shm_size"], attributes)
    system.mask(mounted, request["masked_paths"], request["readonly_paths"])
    for number, (target, content) in enumerate(request["files"].items()):
        file = _file(f"{_FILES}/{number}", bytes.fromhex(content))
        _attach(mounted, target, file, follow=False)
    for entry, source in zip(request["mounts"], sources.mounts, strict=True):
        if source is None:
            _attach(mounted, entry["target"], _mount(entry, attributes), follow=True)
            continue
        if attributes:
            linux.set_attributes(source, attributes, recursive="rbind" in entry["options"])
        _attach(mounted, entry["target"], source, follow=True)
    if request["read_only"]:
        linux.set_attributes(root, linux.RDONLY)
    return mounted


def pivot(root: int) -> None:
    """Make *root* the root of this mount namespace and let go of the host's."""
    old = os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    os.fchdir(root)
    linux.pivot_root(".", ".")
    # pivot_root(2), "pivot_root(".", ".")": the old root is now on top of the new one.
    os.fchdir(old)
    linux.mount(None, b".", None, linux.MS_REC | linux.MS_SLAVE, None)
    linux.unmount(b".", linux.MNT_DETACH)
    os.close(old)
    os.chdir("/")


def _make_scratch() -> None:
    options = (("source", "pybuild"), ("mode", "755"))
    scratch = linux.new_mount("tmpfs", options, _NOTHING_SPECIAL)
    _attach_at(scratch, _SCRATCH)
    for path in (_STUBS, _EMPTY, _FILES, _ROOT):
        os.mkdir(path, 0o755)


def _mount_root(
    request: Request, sources: Sources, options: overlay.Options, attributes: int
) -> int:
    entry = request["root"]
    if sources.root is not None:
        root = sources.root
        if attributes:
            linux.set_attributes(root, attributes)
    elif entry["type"] == "overlay":
        if _make_stubs(options, _targets(request, sources)):
            options = [("lowerdir+", _STUBS), *options]
        root = overlay.mount(options, attributes, _ROOT)
    else:
        raise OSError(errno.EINVAL, f"root: mount type {entry['type']!r} is not known")
    _attach_at(root, _ROOT)
    return root


def _make_stubs(options: overlay.Options, targets: list[stubs.Target]) -> bool:
    """Fill the stub layer with what the lower directories lack; whether anything is in it."""
    view = _view(options)
    try:
        lacking = stubs.missing(view, targets)
        if lacking:
            layer = os.open(_STUBS, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            stubs.make_layer(view, lacking, layer)
            os.close(layer)
        return bool(lacking)
    finally:
        os.close(view)


def _view(options: overlay.Options) -> int:
    """The directory tree as the image has it, before anything is mounted."""
    upper = next((value for key, value in options if key == "upperdir"), None)
    layers = [value for key, value in options if key == "lowerdir+"]
    with os.scandir(upper or _EMPTY) as entries:
        if next(entries, None) is not None:
            layers.insert(0, upper)
    if len(layers) == 1 and layers[0]:
        return os.open(layers[0], os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    # An overlay without an upper directory has two lower ones at least.
    layers += [_EMPTY] * (2 - len(layers))
    dropped = ("upperdir", "workdir", "lowerdir+", "volatile")
    rest = [(key, value) for key, value in options if key not in dropped]
    return overlay.mount([("lowerdir+", layer) for layer in layers] + rest, linux.RDONLY, _ROOT)


def _targets(request: Request, sources: Sources) -> list[stubs.Target]:
    targets = [stubs.Target(name, is_directory=True, follow=False) for name in system.DIRECTORIES]
    targets += [stubs.Target(path, is_directory=False, follow=False) for path in request["files"]]
    for entry, source in zip(request["mounts"], sources.mounts, strict=True):
        is_directory = source is None or _is_directory(source)
        targets.append(stubs.Target(entry["target"], is_directory=is_directory, follow=True))
    return targets


def _bind(entry: MountRequest, descriptors: dict[int, int]) -> int:
    recursive = "rbind" in entry["options"]
    kind, _, number = entry["source"].partition(":")
    try:
        if kind == "fd":
            fd = linux.clone_tree("", descriptors[int(number)], recursive=recursive)
        else:
            fd = linux.clone_tree(entry["source"], recursive=recursive, follow=True)
    except OSError as error:
        code = error.errno or errno.EIO
        raise OSError(code, f"bind source {entry['source']}: {os.strerror(code)}") from None
    # Private, or what the host mounts below the source later on would appear in the sandbox.
    linux.set_attributes(fd, _attributes(entry), propagation=linux.MS_PRIVATE, recursive=recursive)
    return fd


def _mount(entry: MountRequest, attributes: int) -> int:
    attributes |= _attributes(entry)
    options = overlay.parse(
        [o for o in entry["options"] if o not in _ATTRIBUTES and o not in _NEUTRAL]
    )
    if entry["type"] == "tmpfs":
        return linux.new_mount("tmpfs", (("source", "tmpfs"), *options), attributes)
    if entry["type"] == "overlay":
        return overlay.mount(options, attributes, _ROOT)
    raise OSError(errno.EINVAL, f"mount type {entry['type']!r} is not known", entry["target"])


def _attributes(entry: MountRequest) -> int:
    return sum(_ATTRIBUTES.get(option, 0) for option in set(entry["options"]))


def _attach(mounted: system.Root, path: str, mount_fd: int, *, follow: bool) -> None:
    """Mount on *path* inside the root, whatever links the image has put there."""
    is_directory = _is_directory(mount_fd)
    flags = os.O_PATH | (0 if follow else os.O_NOFOLLOW) | (os.O_DIRECTORY if is_directory else 0)
    try:
        try:
            target = linux.open_in_root(mounted.root, path, flags)
        except FileNotFoundError:
            _make_target(mounted.root, path, is_directory=is_directory, follow=follow)
            target = linux.open_in_root(mounted.root, path, flags)
        _check_target(mounted, target)
        linux.attach(mount_fd, target)
    except OSError as error:
        raise OSError(error.errno or errno.EIO, f"mount on {path}: {error.strerror}") from None
    os.close(target)
    os.close(mount_fd)


def _make_target(root: int, path: str, *, is_directory: bool, follow: bool) -> None:
    """A mount point inside an earlier mount, such as a tmpfs; never in the image's own files."""
    place = locate(root, path, follow=follow)
    parent = linux.open_in_root(root, "/".join(place.parts), os.O_RDONLY | os.O_DIRECTORY)
    try:
        if os.fstat(parent).st_dev == os.fstat(root).st_dev:
            raise OSError(errno.ENOENT, "the image hides the mount point")
        stubs.make(parent, place.missing, is_directory=is_directory)
    finally:
        os.close(parent)


def _check_target(mounted: system.Root, target: int) -> None:
    status = os.fstat(target)
    # Whoever can put files of his own into /proc can redirect what is written to it later
    # (runc, CVE-2025-52881).
    if status.st_dev == os.fstat(mounted.proc).st_dev:
        raise OSError(errno.EPERM, "nothing may be mounted below /proc")
    if os.path.samestat(status, os.fstat(mounted.root)):
        raise OSError(errno.EINVAL, "the root itself is not a mount target")


def _attach_at(mount_fd: int, path: str) -> None:
    target = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    linux.attach(mount_fd, target)
    os.close(target)


def _file(path: str, content: bytes) -> int:
    """A read-only mount of a new file."""
    file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o644)
    os.fchmod(file, 0o644)  # whatever the umask
    while content:
        content = content[os.write(file, content) :]
    os.close(file)
    fd = linux.clone_tree(path)
    linux.set_attributes(fd, linux.RDONLY | _NOTHING_SPECIAL)
    return fd


def _is_directory(fd: int) -> bool:
    return stat.S_ISDIR(os.fstat(fd).st_mode)
