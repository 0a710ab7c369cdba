"""Images in the store: listed, found by name or ID, inspected, tagged, removed."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from engine.engine import Engine
from layers.store import Store
from ocispec import mediatypes
from ocispec.content import read_small
from ocispec.digest import Digest
from ocispec.errors import Conflict, Corrupt, Invalid, NotFound
from ocispec.model import MAX_DOCUMENT, Descriptor, ImageConfig, Index, Manifest
from ocispec.platform import Platform, host
from ocispec.reference import Reference

_ID_DIGITS = frozenset("0123456789abcdef")


class StoredImage(NamedTuple):
    """An image of the store: its root document, one platform's manifest, and its names."""

    root: Descriptor
    manifest: Manifest
    manifest_digest: Digest
    config: ImageConfig
    names: tuple[Reference, ...]  # without digests

    @property
    def id(self) -> Digest:
        """What docker calls the image ID: the config's digest."""
        return self.manifest.config.digest

    @property
    def size(self) -> int:
        """Bytes of all layers, as stored."""
        return sum(layer.size for layer in self.manifest.layers)


def load(
    store: Store,
    root: Descriptor,
    names: Sequence[Reference] = (),
    platform: Platform | None = None,
) -> StoredImage:
    """
    The image *root* for *platform*; NotFound if it has none.

    Without *platform* this machine's is preferred, then any that is in the store.
    """
    if platform is not None:
        manifest_blob = select_platform(store, root, platform)
    else:
        manifest_blob = _preferred(store, root)
    data = read_small(store, manifest_blob, MAX_DOCUMENT)
    manifest = Manifest.decode(data, manifest_blob.media_type)
    config = ImageConfig.decode(read_small(store, manifest.config, MAX_DOCUMENT))
    return StoredImage(root, manifest, manifest_blob.digest, config, tuple(names))


def select_platform(store: Store, root: Descriptor, platform: Platform) -> Descriptor:
    """The manifest for *platform* in an index, the first that matches; a manifest is its own."""
    if root.media_type in mediatypes.MANIFESTS:
        return root
    children = _children(store, root)
    for child in children:
        if child.platform is not None and platform.matches(child.platform):
            return child
    offered = ", ".join(str(child.platform) for child in children if child.platform)
    raise NotFound(f"no image for platform {platform}", hint=f"there are: {offered or 'none'}")


def _preferred(store: Store, root: Descriptor) -> Descriptor:
    if root.media_type in mediatypes.MANIFESTS:
        return root
    # A pull takes one platform's part of an index; the others are named, but not there.
    here = [child for child in _children(store, root) if store.has(child)]
    if not here:
        raise NotFound(f"nothing of the index {root.digest} is in the store", hint="pull it again")
    mine = [child for child in here if child.platform and host().matches(child.platform)]
    return (mine or here)[0]


def _children(store: Store, root: Descriptor) -> Sequence[Descriptor]:
    if root.media_type not in mediatypes.INDEXES:
        raise Invalid(f"{root.digest} is not an image but {root.media_type}")
    return Index.decode(read_small(store, root, MAX_DOCUMENT), root.media_type).manifests


def all_images(store: Store) -> Iterator[StoredImage]:
    """Every image, newest name first; those without a name last."""
    names: dict[Digest, list[Reference]] = {}
    roots: dict[Digest, Descriptor] = {}
    for ref, root in store.images.names():
        names.setdefault(root.digest, []).append(ref)
        roots[root.digest] = root
    for digest in reversed(list(names)):
        yield load(store, roots[digest], names[digest])
    for root in store.images.unnamed():
        yield load(store, root)


def find(store: Store, text: str) -> StoredImage:
    """
    The image that *text* names: a reference, or the first digits of an image ID or digest.

    NotFound if there is none, Invalid if an ID fits several.
    """
    try:
        root = store.images.resolve(Reference.parse(text).with_default_tag())
    except (Invalid, NotFound):
        digits = text.removeprefix("sha256:")
        if len(digits) >= 3 and _ID_DIGITS.issuperset(digits):
            return _by_id(store, digits, text)
        raise NotFound(
            f"no such image: {text}", hint="pybuild images lists what there is"
        ) from None
    names = [name for name, other in store.images.names() if other.digest == root.digest]
    return load(store, root, names)


def _by_id(store: Store, digits: str, text: str) -> StoredImage:
    found = {
        image.root.digest: image
        for image in all_images(store)
        if image.id.hex.startswith(digits) or image.root.digest.hex.startswith(digits)
    }
    if len(found) > 1:
        raise Invalid(f"image ID {text} fits {len(found)} images", hint="write more digits")
    if not found:
        raise _no_such(text)
    return next(iter(found.values()))


def _no_such(text: str) -> NotFound:
    return NotFound(f"no such image: {text}", hint="pybuild images lists what there is")


def tag(engine: Engine, source: str, target: Reference) -> None:
    """Let *target* name the image *source* too."""
    image = find(engine.store, source)
    with engine.store.session() as session:
        if not session.pin(image.root.digest):
            raise Corrupt(f"image {source}: its manifest is missing", hint="pull or build it again")
        session.tag(target.with_default_tag(), image.root)


def remove(engine: Engine, text: str, *, force: bool = False) -> list[str]:
    """
    Take a name away, or with an ID all names; the image goes with its last name, as ``rmi`` does.

    The lines that docker prints. The bytes stay until prune: the cache may still use them.
    """
    images = engine.store.images
    image = find(engine.store, text)
    try:
        ref: Reference | None = Reference.parse(text).with_default_tag()
        if ref not in image.names:
            ref = None
    except Invalid:
        ref = None
    if ref is None and len(image.names) > 1 and not force:
        raise Conflict(
            f"unable to delete {text}: the image has {len(image.names)} names",
            hint="name one of them, or use -f to remove them all",
        )
    doomed = image.names if ref is None else (ref,)
    lines = []
    for name in doomed:
        images.untag(name)
        lines.append(f"Untagged: {name.familiar}")
    if set(doomed) == set(image.names):
        images.forget(frozenset({image.root.digest}))
        lines.append(f"Deleted: {image.id}")
    return lines


def inspected(image: StoredImage) -> dict[str, Any]:
    """What ``docker inspect`` prints of an image."""
    config = image.config
    settings = dict(config.config)
    return {
        "Id": image.id,
        "RepoTags": [name.familiar for name in image.names],
        "RepoDigests": sorted({f"{n.familiar_name}@{image.root.digest}" for n in image.names}),
        "Parent": "",
        "Comment": config.history[-1].comment or "" if config.history else "",
        "Created": config.created or "",
        "DockerVersion": "",
        "Author": config.author or "",
        "Config": settings,
        "Architecture": config.platform.architecture,
        **({"Variant": config.platform.variant} if config.platform.variant else {}),
        "Os": config.platform.os,
        "Size": image.size,
        "RootFS": {"Type": "layers", "Layers": list(config.diff_ids)},
        "Metadata": {"LastTagTime": "0001-01-01T00:00:00Z"},
        "Descriptor": replace(image.root, annotations={}).json(),
    }


class HistoryRow(NamedTuple):
    """One line of ``history``, newest first."""

    id: str  # the image's, or "<missing>"
    created: str
    created_by: str
    size: int  # bytes of the layer, as stored; 0 for a change of the config
    comment: str


def history(image: StoredImage) -> list[HistoryRow]:
    """The image's history, newest first, each layer with its size."""
    sizes = iter(image.manifest.layers)
    rows = []
    for entry in image.config.history:
        layer = None if entry.empty_layer else next(sizes, None)
        rows.append(
            HistoryRow(
                "<missing>",
                entry.created or "",
                entry.created_by or "",
                0 if layer is None else layer.size,
                entry.comment or "",
            )
        )
    rows.reverse()
    if rows:
        rows[0] = rows[0]._replace(id=str(image.id))
    return rows
