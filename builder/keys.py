"""
Cache keys: the digest of what a step's result depends on, and nothing else.

A key is the digest of its pre-image, a JSON document with sorted keys. JSON frames every value, so
no two different inputs have one pre-image; values are the expanded ones. The pre-image is kept
with the record. Times, secrets, proxy variables and labels are never in it.

RUN has one key. COPY from a stage has two: the first knows the whole source filesystem, the second
(asked when the first misses) only the files that are copied; both lead to the same record.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from builder.plan import Copy, Run, Workdir
from ocispec import canonical
from ocispec.digest import CacheKey, Digest

FORMAT = 2  # raised when the meaning of a pre-image changes, so that old records never match


def key_of(preimage: Mapping[str, Any]) -> CacheKey:
    """The key with this pre-image."""
    return CacheKey(Digest.of(canonical.encode_sorted(preimage)))


def run(op: Run, platform: str, parent: Digest) -> dict[str, Any]:
    """The pre-image of a RUN on a filesystem with identity *parent*."""
    return {
        "format": FORMAT,
        "op": "run",
        "argv": list(op.argv),
        "env": list(op.env),
        "cwd": op.cwd,
        "user": op.user,
        "network": op.network,
        "files": [[file.name, Digest.of(file.data), file.mode] for file in op.stdin_files],
        "platform": platform,
        "parent": parent,
    }


def workdir(op: Workdir, parent: Digest) -> dict[str, Any]:
    """The pre-image of a WORKDIR; owner names are resolved in *parent*."""
    return {
        "format": FORMAT,
        "op": "workdir",
        "path": op.path,
        "user": op.user,
        "parent": parent,
    }


def copy(op: Copy, origin: Mapping[str, Any], parent: Digest) -> dict[str, Any]:
    """
    The pre-image of a COPY or ADD.

    *origin* says what is copied: ``{"files": digest}`` for the selected files, or
    ``{"filesystem": identity}`` for whatever the sources select in that filesystem.
    """
    return {
        "format": FORMAT,
        "op": "copy",
        "sources": list(op.sources),
        "inline": [[file.name, Digest.of(file.data), file.mode] for file in op.inline],
        "target": op.target,
        "chown": op.chown,
        "chmod": op.chmod,
        "unpack": op.unpack,
        "origin": dict(origin),
        "parent": parent,
    }


def result(parent: Digest, change: Digest) -> dict[str, Any]:
    """The pre-image under which a change is found again when a step is re-executed to it."""
    return {"format": FORMAT, "op": "result", "change": change, "parent": parent}
