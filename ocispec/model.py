"""
The documents of the image spec: descriptor, manifest, index, config (image-spec *.md).

Keys that pybuild does not know are kept in ``other``, so that reading and writing loses nothing.
Documents are read from registries and archives, so every field is checked: Invalid says which.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from ocispec import canonical, mediatypes
from ocispec.digest import DiffID, Digest
from ocispec.errors import Invalid
from ocispec.platform import Platform, normalise

MAX_DOCUMENT = 8 << 20  # bytes; the spec asks registries to take 4 MiB
MAX_CHILDREN = 10_000  # descriptors in one manifest or index


@dataclass(frozen=True, slots=True)
class Descriptor:
    """What a blob is and how to know it: media type, digest, size (descriptor.md)."""

    media_type: str
    digest: Digest
    size: int  # bytes, as stored
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None
    other: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def of(cls, media_type: str, data: bytes) -> Descriptor:
        return cls(media_type, Digest.of(data), len(data))

    @classmethod
    def from_json(cls, value: Any) -> Descriptor:
        fields = _object(value, "descriptor")
        size = fields.get("size")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 1 << 62:
            raise Invalid(f"descriptor: bad size {size!r}")
        platform = fields.get("platform")
        other = _rest(fields, "mediaType", "digest", "size", "annotations", "platform")
        known = None if platform is None else _platform(_object(platform, "platform"))
        if known is not None and known.json() != platform:
            other["platform"] = platform  # with os.version, os.features and what else it says
        return cls(
            _text(fields, "mediaType", "descriptor"),
            Digest(_text(fields, "digest", "descriptor")),
            size,
            _texts(fields.get("annotations"), "annotations"),
            known,
            other,
        )

    def json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            "mediaType": self.media_type,
            "digest": str(self.digest),
            "size": self.size,
        }
        if self.annotations:
            fields["annotations"] = dict(self.annotations)
        if self.platform is not None:
            fields["platform"] = self.platform.json()
        return fields | dict(self.other)


@dataclass(frozen=True, slots=True)
class Manifest:
    """One image: its config and its layers, base first (manifest.md)."""

    config: Descriptor
    layers: tuple[Descriptor, ...]
    media_type: str = mediatypes.OCI_MANIFEST
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    subject: Descriptor | None = None
    other: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def decode(cls, data: bytes, media_type: str) -> Manifest:
        fields = _document(data, "manifest", media_type)
        if "manifests" in fields:
            raise Invalid("manifest: has the keys of an index too")
        layers = _list(fields.get("layers"), "layers")
        subject = fields.get("subject")
        return cls(
            Descriptor.from_json(fields.get("config")),
            tuple(Descriptor.from_json(layer) for layer in layers),
            media_type,
            _texts(fields.get("annotations"), "annotations"),
            None if subject is None else Descriptor.from_json(subject),
            _rest(
                fields, "schemaVersion", "mediaType", "config", "layers", "annotations", "subject"
            ),
        )

    def encode(self) -> bytes:
        fields: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "config": self.config.json(),
            "layers": [layer.json() for layer in self.layers],
        }
        if self.subject is not None:
            fields["subject"] = self.subject.json()
        if self.annotations:
            fields["annotations"] = dict(self.annotations)
        return canonical.encode(fields | dict(self.other))

    def children(self) -> tuple[Descriptor, ...]:
        return (self.config, *self.layers)


@dataclass(frozen=True, slots=True)
class Index:
    """Several images under one name, or the names of a layout (image-index.md)."""

    manifests: tuple[Descriptor, ...]
    media_type: str = mediatypes.OCI_INDEX
    annotations: Mapping[str, str] = field(default_factory=dict, hash=False)
    other: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def decode(cls, data: bytes, media_type: str) -> Index:
        fields = _document(data, "index", media_type)
        if "layers" in fields or "config" in fields:
            raise Invalid("index: has the keys of a manifest too")
        return cls(
            tuple(
                Descriptor.from_json(child) for child in _list(fields.get("manifests"), "manifests")
            ),
            media_type,
            _texts(fields.get("annotations"), "annotations"),
            _rest(fields, "schemaVersion", "mediaType", "manifests", "annotations"),
        )

    def encode(self) -> bytes:
        fields: dict[str, Any] = {
            "schemaVersion": 2,
            "mediaType": self.media_type,
            "manifests": [child.json() for child in self.manifests],
        }
        if self.annotations:
            fields["annotations"] = dict(self.annotations)
        return canonical.encode(fields | dict(self.other))

    def children(self) -> tuple[Descriptor, ...]:
        return self.manifests


@dataclass(frozen=True, slots=True)
class History:
    """How one layer, or one change of the config, came to be (config.md, "history")."""

    created: str | None = None  # RFC 3339
    created_by: str | None = None
    comment: str | None = None
    author: str | None = None
    empty_layer: bool = False

    @classmethod
    def from_json(cls, value: Any) -> History:
        fields = _object(value, "history")
        texts = {
            key: None if (text := fields.get(key)) is None else str(text)
            for key in ("created", "created_by", "comment", "author")
        }
        return cls(empty_layer=bool(fields.get("empty_layer", False)), **texts)

    def json(self) -> dict[str, Any]:
        fields: dict[str, Any] = {
            key: text
            for key, text in (
                ("created", self.created),
                ("created_by", self.created_by),
                ("author", self.author),
                ("comment", self.comment),
            )
            if text is not None
        }
        if self.empty_layer:
            fields["empty_layer"] = True
        return fields


@dataclass(frozen=True, slots=True)
class ImageConfig:
    """
    The config document of an image (config.md).

    ``config`` is the part that containers run with, under the spec's own key names (``Env``,
    ``Entrypoint``, ``Cmd``, ``WorkingDir``, ``User``, ``ExposedPorts``, …), so that Docker's
    fields which OCI lacks (``Healthcheck``, ``Shell``, ``OnBuild``) are kept beside them.
    """

    platform: Platform
    diff_ids: tuple[DiffID, ...] = ()
    config: Mapping[str, Any] = field(default_factory=dict, hash=False)
    history: tuple[History, ...] = ()
    created: str | None = None  # RFC 3339
    author: str | None = None
    other: Mapping[str, Any] = field(default_factory=dict, hash=False)

    @classmethod
    def decode(cls, data: bytes) -> ImageConfig:
        fields = canonical.decode_object(data, "image config")
        rootfs = _object(fields.get("rootfs", {}), "rootfs")
        diff_ids = _list(rootfs.get("diff_ids"), "diff_ids")
        created, author = fields.get("created"), fields.get("author")
        return cls(
            _platform(fields),
            tuple(DiffID(Digest(str(diff_id))) for diff_id in diff_ids),
            _object(fields.get("config") or {}, "config"),
            tuple(History.from_json(entry) for entry in _list(fields.get("history"), "history")),
            None if created is None else str(created),
            None if author is None else str(author),
            _rest(
                fields,
                *("architecture", "os", "variant", "config", "rootfs"),
                *("history", "created", "author"),
            ),
        )

    def encode(self) -> bytes:
        fields: dict[str, Any] = self.platform.json()
        fields["config"] = dict(self.config)
        if self.created is not None:
            fields["created"] = self.created
        if self.author is not None:
            fields["author"] = self.author
        fields["history"] = [entry.json() for entry in self.history]
        fields["rootfs"] = {"type": "layers", "diff_ids": [str(d) for d in self.diff_ids]}
        return canonical.encode(fields | dict(self.other))


@dataclass(frozen=True, slots=True)
class Layer:
    """
    One changeset of a filesystem.

    ``identity`` is the digest of the change without times and without compression: what enters
    cache keys. ``diff_id`` is the digest of the tar that is exported.
    """

    diff_id: DiffID
    identity: Digest
    blob: Descriptor

    @classmethod
    def from_json(cls, value: Any) -> Layer:
        fields = _object(value, "layer")
        return cls(
            DiffID(Digest(_text(fields, "diffID", "layer"))),
            Digest(_text(fields, "identity", "layer")),
            Descriptor.from_json(fields.get("blob")),
        )

    def json(self) -> dict[str, Any]:
        return {
            "diffID": str(self.diff_id),
            "identity": str(self.identity),
            "blob": self.blob.json(),
        }


def _document(data: bytes, what: str, media_type: str) -> dict[str, Any]:
    if len(data) > MAX_DOCUMENT:
        raise Invalid(f"{what}: {len(data)} bytes are more than the {MAX_DOCUMENT} allowed")
    fields = canonical.decode_object(data, what)
    if fields.get("schemaVersion") != 2:
        raise Invalid(f"{what}: schemaVersion {fields.get('schemaVersion')!r} is not supported")
    if fields.get("mediaType", media_type) != media_type:
        raise Invalid(f"{what}: says it is {fields['mediaType']!r}, was served as {media_type!r}")
    return fields


def _platform(fields: Mapping[str, Any]) -> Platform:
    return normalise(
        str(fields.get("os") or ""),
        str(fields.get("architecture") or ""),
        str(fields.get("variant") or ""),
    )


def _object(value: Any, what: str) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise Invalid(f"{what}: a JSON object was expected")
    return value


def _list(value: Any, what: str) -> Sequence[Any]:
    if value is None:
        return ()  # Go writes null for an empty list
    if not isinstance(value, list) or len(value) > MAX_CHILDREN:
        raise Invalid(f"{what}: a list of at most {MAX_CHILDREN} was expected")
    return value


def _text(fields: Mapping[str, Any], key: str, what: str) -> str:
    value = fields.get(key)
    if not isinstance(value, str):
        raise Invalid(f"{what}: {key} must be a string")
    return value


def _texts(value: Any, what: str) -> dict[str, str]:
    fields = _object(value if value is not None else {}, what)
    if not all(isinstance(text, str) for text in fields.values()):
        raise Invalid(f"{what}: values must be strings")
    return fields


def _rest(fields: Mapping[str, Any], *known: str) -> dict[str, Any]:
    return {key: value for key, value in fields.items() if key not in known}
