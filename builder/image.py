"""Layers, config and history become an image: config, manifest, and their blobs in the store."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import replace
from typing import Any, NamedTuple

from builder.plan import Output
from builder.stack import Stack
from layers.session import Session
from ocispec import mediatypes
from ocispec.model import Descriptor, History, ImageConfig, Layer, Manifest

COMMENT = "buildkit.dockerfile.v0"  # what tools that read the history look for
_BEGINNING = "1970-01-01T00:00:00Z"


class BuiltImage(NamedTuple):
    """An image in the store, not yet named."""

    manifest: Descriptor
    config: Descriptor


def timestamp(seconds: float) -> str:
    """*seconds* since 1970 as RFC 3339 with microseconds, in UTC; whole seconds without."""
    whole = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(seconds))
    fraction = round((seconds % 1) * 1_000_000)
    return f"{whole}.{fraction:06d}Z" if 0 < fraction < 1_000_000 else f"{whole}Z"


def document(output: Output, results: Sequence[Stack | None], epoch: int | None) -> ImageConfig:
    """
    The config of *output*; diff IDs are still those of the layers as they were made.

    A change of the config alone bears the time of the layer before it: then a rebuild that finds
    every layer in the cache gives the same document, to the byte. *epoch* caps every time.
    """
    made = _capped(output.config.created or _BEGINNING, epoch)
    history = list(output.config.history)
    for change in output.changes:
        if change.step is not None:
            stack = results[change.step]
            assert stack is not None
            created = stack.layers[-1].created
            made = timestamp(created if epoch is None else min(created, epoch))
        history.append(
            History(
                created=made,
                created_by=change.created_by,
                comment=COMMENT,
                author=change.author or None,
                empty_layer=change.step is None,
            )
        )
    root = results[output.root]
    assert root is not None
    return replace(
        output.config,
        created=made if output.changes else output.config.created,
        history=tuple(history),
        diff_ids=tuple(layer.layer.diff_id for layer in root.layers),
    )


def _capped(text: str, epoch: int | None) -> str:
    """The time *text* of a base image, or *epoch* if that is earlier."""
    if epoch is None:
        return text
    from datetime import UTC, datetime

    try:
        made = datetime.fromisoformat(text)
    except ValueError:
        return text  # as whoever made the base wrote it
    seconds = (made if made.tzinfo else made.replace(tzinfo=UTC)).timestamp()
    return text if seconds <= epoch else timestamp(epoch)


def store_image(config: ImageConfig, layers: Sequence[Layer], session: Session) -> BuiltImage:
    """Put config and manifest of an image with *layers*, base first, into the store."""
    config = replace(config, diff_ids=tuple(layer.diff_id for layer in layers))
    config_blob = session.put_bytes(mediatypes.OCI_CONFIG, _encoded(config))
    manifest = Manifest(config_blob, tuple(replace(layer.blob, other={}) for layer in layers))
    return BuiltImage(session.put_bytes(mediatypes.OCI_MANIFEST, manifest.encode()), config_blob)


def _encoded(config: ImageConfig) -> bytes:
    """
    The document of *config*.

    A Dockerfile in another encoding than UTF-8 reaches commands byte by byte; JSON cannot hold
    it, so a reader sees U+FFFD there, as in the images of builders written in Go.
    """
    try:
        return config.encode()
    except UnicodeEncodeError:
        readable = replace(
            config,
            config=_readable(config.config),
            author=_readable(config.author),
            history=tuple(History.from_json(_readable(entry.json())) for entry in config.history),
        )
        return readable.encode()


def _readable(value: Any) -> Any:
    match value:
        case str():
            return value.encode("utf-8", "surrogateescape").decode("utf-8", "replace")
        case dict():
            return {_readable(key): _readable(each) for key, each in value.items()}
        case list() | tuple():
            return [_readable(each) for each in value]
        case _:
            return value
