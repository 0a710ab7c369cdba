"""
The least that is a registry, to be asked by a test's handler for all that it does not do itself.

Unlike docker-registry it can be wrong on order: a test answers some requests by its own.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from urllib.parse import parse_qs, urlsplit

from support.httpserver import Received, Reply, document, errors
from support.images import Memory

from ocispec import mediatypes
from ocispec.digest import Digest
from ocispec.model import Descriptor

_MISSING = errors(404, "NAME_UNKNOWN", "nothing here")
_MANIFESTS = mediatypes.INDEXES | mediatypes.MANIFESTS


@dataclass(slots=True)
class SmallRegistry:
    """One repository, whatever it is called, with *content*; tags by name alone."""

    content: Memory = field(default_factory=Memory)
    tags: dict[str, Descriptor] = field(default_factory=dict)
    sessions: int = 0
    ranges: bool = True  # honour Range

    def __call__(self, request: Received) -> Reply:
        parts = urlsplit(request.target)
        head, _, last = parts.path.rpartition("/")
        match request.method, head.rpartition("/")[2]:
            case "GET" | "HEAD", "manifests":
                return self._manifest(last)
            case "PUT", "manifests":
                return self._put_manifest(last, request)
            case "GET" | "HEAD", "blobs":
                return self._blob(Digest(last), request.headers.get("range", ""))
            case "POST", "uploads":
                self.sessions += 1
                return Reply(202, headers={"Location": f"{parts.path}{self.sessions}?_state=s"})
            case "PUT", "uploads":
                digest = Digest(parse_qs(parts.query)["digest"][0])
                return self._put_blob(digest, request.body)
            case "DELETE", "uploads":
                return Reply(204, length=True)
            case "GET", "tags":
                body = json.dumps({"name": "x", "tags": sorted(self.tags) or None}).encode()
                return Reply(200, body)
            case _:
                return _MISSING

    def _manifest(self, which: str) -> Reply:
        root = self.tags.get(which)
        if root is None and ":" in which and Digest(which) in self.content.blobs:
            data = self.content.blobs[Digest(which)]
            root = Descriptor.of(json.loads(data)["mediaType"], data)
        if root is None:
            return errors(404, "MANIFEST_UNKNOWN", "manifest unknown")
        return document(root, self.content.blobs[root.digest])

    def _put_manifest(self, which: str, request: Received) -> Reply:
        root = self.content.add(request.headers["content-type"], request.body)
        if ":" not in which:
            self.tags[which] = root
        return Reply(201, headers={"Docker-Content-Digest": str(root.digest)})

    def _blob(self, digest: Digest, wanted: str) -> Reply:
        data = self.content.blobs.get(digest)
        if data is None:
            return errors(404, "BLOB_UNKNOWN", "blob unknown")
        if not self.ranges or not wanted:
            return Reply(200, data)
        first, _, last = wanted.removeprefix("bytes=").partition("-")
        start, end = int(first), int(last)
        span = f"bytes {start}-{end}/{len(data)}"
        return Reply(206, data[start : end + 1], {"Content-Range": span})

    def _put_blob(self, digest: Digest, data: bytes) -> Reply:
        if Digest.of(data) != digest:
            return errors(400, "DIGEST_INVALID", "provided digest did not match content")
        self.content.blobs[digest] = data
        return Reply(201, headers={"Docker-Content-Digest": str(digest)})
