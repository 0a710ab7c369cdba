"""Content digests (image-spec descriptor.md, "Digests")."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Sequence
from typing import NewType, Self

from ocispec.errors import Invalid

_FORM = re.compile(r"sha256:[0-9a-f]{64}|sha512:[0-9a-f]{128}")


class Digest(str):
    """
    ``sha256:<hex>`` or ``sha512:<hex>``.

    The form is checked on construction, so a Digest is safe in a path or a URL (CVE-2024-3727);
    the content is not. Invalid for any other text.
    """

    __slots__ = ()

    def __new__(cls, text: str) -> Self:
        if not _FORM.fullmatch(text):
            raise Invalid(f"not a digest: {text[:160]!r}")
        return super().__new__(cls, text)

    @classmethod
    def of(cls, data: bytes) -> Self:
        return cls("sha256:" + hashlib.sha256(data).hexdigest())

    @property
    def algorithm(self) -> str:
        return self.partition(":")[0]

    @property
    def hex(self) -> str:
        return self.partition(":")[2]


DiffID = NewType("DiffID", Digest)  # one layer's tar, uncompressed
ChainID = NewType("ChainID", Digest)  # a stack of layers
CacheKey = NewType("CacheKey", Digest)  # an op and what it stands on


def chain_id(diff_ids: Sequence[DiffID]) -> ChainID:
    """
    The digest of a stack of layers, base first.

    Recursive in image-spec config.md, "Layer ChainID"; a loop here. ValueError for an empty
    stack: the empty filesystem has no ChainID.
    """
    if not diff_ids:
        raise ValueError("an empty stack has no ChainID")
    chain = ChainID(diff_ids[0])
    for diff_id in diff_ids[1:]:
        chain = next_chain_id(chain, diff_id)
    return chain


def next_chain_id(parent: ChainID | None, diff_id: DiffID) -> ChainID:
    """The ChainID of *diff_id* on top of *parent*."""
    if parent is None:
        return ChainID(diff_id)
    return ChainID(Digest.of(f"{parent} {diff_id}".encode()))
