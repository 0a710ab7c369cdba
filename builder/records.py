"""
The local cache: one small file a key, holding the result and the key's pre-image.

A record is JSON of one object. Anything else under its name (cut short, of another format, of
another key) is no hit: the step is done again and the record replaced.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder import keys
from builder.stack import Made
from layers.session import Session
from layers.store import Store
from ocispec import canonical
from ocispec.digest import CacheKey
from ocispec.errors import Invalid
from ocispec.model import Layer

FOLDER = "keys"


class LocalCache:
    """Cache over a store's ``keys/`` folder; what it returns is pinned by *session*."""

    def __init__(self, store: Store, session: Session) -> None:
        self._store = store
        self._session = session
        self.used: list[str] = []  # names of the records that were found or written

    def get(self, key: CacheKey) -> Made | None:
        data = self._store.read_record(FOLDER, key.hex)
        made = None if data is None else _decode(data, key)
        if made is None or not self._session.pin(made.layer.blob.digest):
            return None
        self._store.touch_record(FOLDER, key.hex)
        self.used.append(key.hex)
        return made

    def put(self, key: CacheKey, made: Made, preimage: Mapping[str, Any]) -> None:
        self.used.append(key.hex)
        self._session.put_record(FOLDER, key.hex, _encode(key, made, preimage))


def _encode(key: CacheKey, made: Made, preimage: Mapping[str, Any]) -> bytes:
    return canonical.encode_sorted(
        {
            "format": keys.FORMAT,
            "key": key,
            "layers": [made.layer.json()],
            "created": made.created,
            "newest": made.newest,
            "empty": made.empty,
            "preimage": dict(preimage),
        }
    )


def _decode(data: bytes, key: CacheKey) -> Made | None:
    try:
        fields = canonical.decode_object(data, "cache record")
        (layer,) = fields["layers"]
        made = Made(
            Layer.from_json(layer),
            float(fields["created"]),
            int(fields["newest"]),
            bool(fields["empty"]),
        )
        preimage = dict(fields["preimage"])
    except (Invalid, KeyError, TypeError, ValueError):
        return None
    current = fields.get("format") == keys.FORMAT and fields.get("key") == key
    return made if current and keys.key_of(preimage) == key else None
