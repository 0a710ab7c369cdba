"""``save`` and ``load``: images as one tar, in docker's form or as an OCI layout."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO, Final, TypeVar

from engine import images
from engine.engine import Engine
from layers.compress import GzipWriter
from layers.entry import Entry
from layers.images import REF_NAME
from layers.session import Session
from layers.streams import plain_tar
from layers.tarread import tar_entries
from layers.tarwrite import END, TarWriter, padding
from ocispec import canonical, mediatypes
from ocispec.content import Readable, VerifiedReader
from ocispec.digest import DiffID, Digest
from ocispec.errors import Corrupt, Invalid
from ocispec.model import MAX_DOCUMENT, Descriptor, ImageConfig, Index, Manifest
from ocispec.platform import host
from ocispec.reference import Reference

_Item = TypeVar("_Item")

_BLOCK: Final = 1 << 20
_MAX_NAMES: Final = 100_000
_LAYOUT: Final = b'{"imageLayoutVersion":"1.0.0"}'


def save(engine: Engine, names: Sequence[str], out: BinaryIO) -> None:
    """
    Write the images *names* as one tar that docker, podman and skopeo load.

    It is an OCI layout with docker's ``manifest.json`` beside it, as docker 25 and later write.
    """
    found = [images.find(engine.store, name) for name in names]
    tar = _TarOut(out)
    tar.add("oci-layout", _LAYOUT)
    done: set[Digest] = set()
    entries: list[Descriptor] = []
    listing: list[dict[str, Any]] = []
    for image, name in zip(found, names, strict=True):
        manifest = Descriptor(image.manifest.media_type, image.manifest_digest, 0)
        size = engine.store.path(manifest.digest).stat().st_size
        manifest = Descriptor(manifest.media_type, manifest.digest, size)
        for blob in (manifest, *image.manifest.children()):
            if blob.digest not in done:
                done.add(blob.digest)
                tar.add_blob(engine, blob)
        tags = _tags(image, name)
        entries += [_named(manifest, tag) for tag in tags] or [manifest]
        listing.append(
            {
                "Config": _blob_path(image.manifest.config.digest),
                "RepoTags": [tag.familiar for tag in tags],
                "Layers": [_blob_path(layer.digest) for layer in image.manifest.layers],
            }
        )
    tar.add("index.json", Index(tuple(entries)).encode())
    tar.add("manifest.json", canonical.encode(listing))
    tar.close()


def _tags(image: images.StoredImage, name: str) -> list[Reference]:
    with suppress(Invalid):
        ref = Reference.parse(name).with_default_tag()
        if ref in image.names:
            return [ref]
    return []


def _named(manifest: Descriptor, tag: Reference) -> Descriptor:
    annotations = {"io.containerd.image.name": str(tag), REF_NAME: tag.tag or ""}
    return Descriptor(manifest.media_type, manifest.digest, manifest.size, annotations)


def _blob_path(digest: Digest) -> str:
    return f"blobs/{digest.algorithm}/{digest.hex}"


class _TarOut:
    """A tar of plain files, in the order they are added, with no times in it."""

    def __init__(self, out: BinaryIO) -> None:
        self._out = out
        self._writer = TarWriter()
        self._directories: set[str] = set()

    def add(self, name: str, data: bytes) -> None:
        self._header(name, len(data))
        self._out.write(data + bytes(padding(len(data))))

    def add_blob(self, engine: Engine, blob: Descriptor) -> None:
        """A blob of the store, verified on the way."""
        self._header(_blob_path(blob.digest), blob.size)
        reader = VerifiedReader(engine.store.open(blob), blob)
        try:
            while chunk := reader.read(_BLOCK):
                self._out.write(chunk)
        finally:
            reader.close()
        self._out.write(bytes(padding(blob.size)))

    def close(self) -> None:
        self._out.write(END)
        self._out.flush()

    def _header(self, name: str, size: int) -> None:
        parts = name.split("/")[:-1]
        for depth in range(1, len(parts) + 1):
            directory = "/".join(parts[:depth])
            if directory not in self._directories:
                self._directories.add(directory)
                self._out.write(self._writer.header(Entry(directory, "dir", 0o755)))
        self._out.write(self._writer.header(Entry(name, "file", 0o644, size=size)))


def load(engine: Engine, stream: BinaryIO) -> list[str]:
    """
    Store the images of a docker or OCI archive; their names, or IDs where they have none.

    Every member goes into the session's scratch space under a number of its own: the archive's
    names are looked up among its members only, never on disk. Invalid for anything that does not
    fit together, Corrupt for wrong digests.
    """
    with engine.store.session() as session:
        archive = _Archive(session, plain_tar(stream))
        if archive.has("index.json") and archive.has("oci-layout"):
            return _load_layout(session, archive)
        if archive.has("manifest.json"):
            return _load_docker(session, archive)
        raise Invalid("the archive has neither index.json nor manifest.json")


class _Archive:
    """The members of an archive, unpacked to numbered files; links between members are kept."""

    def __init__(self, session: Session, stream: Readable) -> None:
        self._files: dict[str, Path] = {}
        self._links: dict[str, str] = {}
        directory = session.scratch("archive")
        for number, (entry, data) in enumerate(tar_entries(stream)):
            if number >= _MAX_NAMES:
                raise Invalid(f"the archive has more than {_MAX_NAMES} members")
            if entry.kind == "file":
                path = directory / str(number)
                with path.open("wb") as file:
                    while chunk := data.read(_BLOCK):
                        file.write(chunk)
                self._files[entry.path] = path
                self._links.pop(entry.path, None)
            elif entry.kind in ("symlink", "link"):
                base = entry.path.rpartition("/")[0] if entry.kind == "symlink" else ""
                self._links[entry.path] = _joined(base, entry.target)
                self._files.pop(entry.path, None)

    def has(self, name: str) -> bool:
        return self._find(name) is not None

    def path(self, name: str) -> Path:
        """The member *name* on disk. Invalid if there is none."""
        found = self._find(name)
        if found is None:
            raise Invalid(f"the archive has no member {name[:200]!r}, which its manifest names")
        return found

    def small(self, name: str) -> bytes:
        path = self.path(name)
        if path.stat().st_size > MAX_DOCUMENT:
            raise Invalid(f"{name[:200]!r} is larger than {MAX_DOCUMENT} bytes")
        return path.read_bytes()

    def _find(self, name: str) -> Path | None:
        for _ in range(40):
            if name in self._files:
                return self._files[name]
            if name not in self._links:
                return None
            name = self._links[name]
        return None


def _joined(base: str, target: str) -> str:
    parts = [] if target.startswith("/") else [part for part in base.split("/") if part]
    for part in target.split("/"):
        if part == "..":
            del parts[-1:]
        elif part not in ("", "."):
            parts.append(part)
    return "/".join(parts)


def _load_layout(session: Session, archive: _Archive) -> list[str]:
    index = Index.decode(archive.small("index.json"), mediatypes.OCI_INDEX)
    loaded = []
    for entry in index.manifests:
        root = _whole(archive, entry)
        _take(session, archive, root, 0)
        bare = Descriptor(root.media_type, root.digest, root.size)
        loaded.append(_name(session, bare, _layout_name(entry)))
    return loaded


def _layout_name(entry: Descriptor) -> str | None:
    name = entry.annotations.get("io.containerd.image.name")
    if name is None:
        # By the spec any text; a whole reference from pybuild and skopeo, a bare tag from others.
        text = entry.annotations.get(REF_NAME, "")
        name = text if "/" in text or ":" in text else None
    return name


def _whole(archive: _Archive, root: Descriptor) -> Descriptor:
    """
    *root*, or if it is an index of which parts are missing, the part for this machine.

    ``docker save`` writes an image's whole index, with the blobs of one platform.
    """
    name = _blob_path(root.digest)
    if root.media_type not in mediatypes.INDEXES or not archive.has(name):
        return root
    index = Index.decode(archive.small(name), root.media_type)
    if all(archive.has(_blob_path(child.digest)) for child in index.manifests):
        return root
    for child in index.manifests:
        fits = child.platform is None or host().matches(child.platform)
        if fits and archive.has(_blob_path(child.digest)):
            return child
    return root


def _take(session: Session, archive: _Archive, blob: Descriptor, depth: int) -> None:
    """Store *blob* after everything it refers to."""
    if depth > 8:
        raise Invalid("indexes are nested too deeply")
    name = _blob_path(blob.digest)
    document: Index | Manifest | None = None
    if blob.media_type in mediatypes.INDEXES:
        document = Index.decode(archive.small(name), blob.media_type)
    elif blob.media_type in mediatypes.MANIFESTS:
        document = Manifest.decode(archive.small(name), blob.media_type)
    if document is not None:
        for child in document.children():
            _take(session, archive, child, depth + 1)
    if not session.pin(blob.digest):
        with archive.path(name).open("rb") as file:
            session.put(blob, file)


def _load_docker(session: Session, archive: _Archive) -> list[str]:
    loaded = []
    for config_name, layer_names, tags in _listing(archive.small("manifest.json")):
        names = [Reference.parse(tag) for tag in tags]
        root = _docker_image(session, archive, config_name, layer_names)
        loaded += [_name(session, root, str(name)) for name in names]
        if not names:
            loaded.append(_name(session, root, None))
    return loaded


def _listing(data: bytes) -> list[tuple[str, list[str], list[str]]]:
    """Each image's config, layers and names, as the docker archive's manifest.json has them."""
    try:
        listing = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise Invalid(f"manifest.json is not a JSON document: {error}") from error
    images_ = []
    for entry in _list_of(dict, listing):
        config, tags = entry.get("Config"), entry.get("RepoTags")
        if not isinstance(config, str):
            raise Invalid("manifest.json: an image has no config")
        images_.append((config, _list_of(str, entry.get("Layers")), _list_of(str, tags or [])))
    return images_


def _list_of(kind: type[_Item], value: Any) -> list[_Item]:
    if not isinstance(value, list) or not all(isinstance(item, kind) for item in value):
        raise Invalid(f"manifest.json: a list of {kind.__name__} was expected")
    return value


def _docker_image(
    session: Session, archive: _Archive, config_name: str, layer_names: list[str]
) -> Descriptor:
    data = archive.small(config_name)
    config = ImageConfig.decode(data)
    if len(config.diff_ids) != len(layer_names):
        raise Invalid("the config has other layers than manifest.json")
    layers = []
    for diff_id, name in zip(config.diff_ids, layer_names, strict=True):
        found, blob = _docker_layer(session, archive.path(name))
        if found != diff_id:
            raise Corrupt(f"layer {name[:200]!r} unpacks to {found}, not to {diff_id}")
        layers.append(blob)
    config_blob = session.put_bytes(mediatypes.OCI_CONFIG, data)
    manifest = Manifest(config_blob, tuple(layers))
    return session.put_bytes(mediatypes.OCI_MANIFEST, manifest.encode())


def _docker_layer(session: Session, path: Path) -> tuple[DiffID, Descriptor]:
    """The layer in *path*, compressed as ours are; its tar stays as it is, to the byte."""
    hasher = hashlib.sha256()
    with path.open("rb") as file, session.ingest() as ingest:
        tar = plain_tar(file)
        compressor = GzipWriter(ingest.write)
        while chunk := tar.read(_BLOCK):
            hasher.update(chunk)
            compressor.write(chunk)
        compressor.close()
        blob = ingest.commit(mediatypes.OCI_LAYER_GZIP)
    return DiffID(Digest("sha256:" + hasher.hexdigest())), blob


def _name(session: Session, root: Descriptor, text: str | None) -> str:
    if text:
        ref = Reference.parse(text).with_default_tag()
        session.tag(ref, root)
        return ref.familiar
    session.keep(root)
    return str(root.digest)
