"""One repository of a registry, as Source and Sink."""

from __future__ import annotations

import io
import re
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import BinaryIO, Final, cast

from ocispec import canonical, mediatypes
from ocispec.content import Readable, VerifiedReader
from ocispec.digest import Digest
from ocispec.errors import Denied, Invalid, NotFound, Unavailable, Unsupported
from ocispec.model import MAX_DOCUMENT, Descriptor
from ocispec.reference import Reference
from registry_client.credentials import Credentials
from registry_client.download import Download
from registry_client.errors import BUSY, safe
from registry_client.hosts import Origin
from registry_client.registry import Registry
from registry_client.transport import BLOCK, Body, Response
from registry_client.upload import Upload, check_digest

OnProgress = Callable[[Descriptor, int], None]  # a blob, and its bytes moved so far

_DOCUMENTS: Final = mediatypes.INDEXES | mediatypes.MANIFESTS
_ACCEPT: Final = ", ".join(mediatypes.ACCEPT)
_SCHEMA1: Final = "application/vnd.docker.distribution.manifest.v1"
_MAX_PAGES: Final = 1000
_MAX_PAGE: Final = 16 << 20  # bytes
_MAX_NEIGHBOURS: Final = 4  # each costs a request, and maybe a token, for a blob it has not
_MAX_KEPT: Final = 32  # documents that were just fetched or put
_PAGE: Final = 1000  # tags; ECR refuses to give more
_NEXT: Final = re.compile(r'<([^>]*)>[^,]*;\s*rel="?next"?', re.IGNORECASE)


class Repository:
    """
    The repository *name* of *registry*. For many threads.

    *mount_from* names repositories of the same registry that may already have what is put here,
    the likeliest first: only some are asked.
    *on_progress* is called from the threads that read and put.
    """

    def __init__(
        self,
        registry: Registry,
        name: str,
        credentials: Credentials,
        *,
        on_progress: OnProgress | None = None,
        mount_from: Sequence[str] = (),
    ) -> None:
        self._registry = registry
        self._name = name
        self._full = f"{registry.name}/{name}"  # for messages
        self._auth = registry.auth(name, credentials)
        self._on_progress = on_progress or _silent
        others = [other for other in mount_from if other != name]
        self._mount_from = tuple(others[:_MAX_NEIGHBOURS])
        self._upload = Upload(registry, name, self._auth, self._has_blob)
        self._lock = threading.Lock()  # guards the one below
        self._documents: dict[Digest, bytes] = {}

    def resolve(self, ref: Reference) -> Descriptor:
        """
        The descriptor that the digest of *ref*, or else its tag, names.

        Without the document if the registry's headers say enough: what is then opened is checked
        against the digest, so they need not be trusted.
        """
        which = ref.digest or ref.tag or "latest"
        with self._manifest("HEAD", which, pull=True) as response:
            if response.status in BUSY:
                raise self._registry.refusal(response, ref.familiar, self._auth)
            described = _described(response, ref.digest) if response.status == 200 else None
        # Else by GET: HEAD has no body to say why not, and some registries do not have it at all.
        return described or self._fetched(ref, which)

    def open(self, blob: Descriptor) -> Readable:
        if blob.media_type not in _DOCUMENTS:
            return self._download(blob)
        data = self._kept(blob.digest)
        if data is None:
            with self._manifest("GET", blob.digest, pull=True) as response:
                if response.status != 200:
                    raise self._registry.refusal(
                        response, f"{self._full}: manifest {blob.digest}", self._auth
                    )
                data = response.body(MAX_DOCUMENT)
        return VerifiedReader(io.BytesIO(data), blob)

    def has(self, blob: Descriptor) -> bool:
        if blob.media_type not in _DOCUMENTS:
            return self._has_blob(blob)
        with self._manifest("HEAD", blob.digest, pull=False) as response:
            return self._is_there(response, blob)

    def put(self, blob: Descriptor, data: Readable) -> None:
        if blob.media_type in _DOCUMENTS:
            if blob.size > MAX_DOCUMENT:
                raise Invalid(f"manifest {blob.digest}: more than {MAX_DOCUMENT} bytes")
            document = VerifiedReader(data, blob).read()
            self._put_document(blob.digest, blob, document)
            self._keep(blob.digest, document)
            return
        with _rewindable(data, blob) as file:
            self._upload.put(
                blob,
                file,
                mount_from=self._mountable(blob),
                on_sent=lambda sent: self._on_progress(blob, sent),
            )

    def tag(self, ref: Reference, root: Descriptor) -> None:
        """Let the tag of *ref* name *root*. Nothing to do without one: the digest names it."""
        if ref.tag is None:
            return
        data = self._kept(root.digest)
        if data is None:
            reader = self.open(root)
            try:
                data = reader.read()
            finally:
                reader.close()
        self._put_document(ref.tag, root, data)

    def tags(self) -> list[str]:
        """All tags, sorted."""
        tags: set[str] = set()
        path = f"/v2/{self._name}/tags/list"
        target = f"{path}?n={_PAGE}"
        for _ in range(_MAX_PAGES):
            response = self._request("GET", target, pull=True)
            if response.status != 200:
                raise self._registry.refusal(response, f"{self._full}: tags", self._auth)
            with response:
                page = _tags(response.body(_MAX_PAGE))
                link = _NEXT.search(response.headers.get("Link", ""))
            is_new = not tags.issuperset(page)
            tags.update(page)
            # Without a Link a full page may have a next one (crane's registry); what brings
            # nothing new ends it, as registries that ignore "last" would go round for ever.
            if not is_new or (link is None and len(page) != _PAGE):
                return sorted(tags)
            if link is None:
                target = f"{path}?n={_PAGE}&last={page[-1]}"
            else:
                target = self._next_page(response.url, link[1])
        raise Invalid(f"{self._full}: there is no end to the tags")

    def _next_page(self, base: str, link: str) -> str:
        target = self._registry.transport().resolve(base, link)
        if Origin.of(target) != Origin.of(base):
            raise Denied(f"{self._full}: the list of tags goes on at another host")
        return target

    def _request(
        self,
        method: str,
        target: str,
        *,
        pull: bool,
        headers: dict[str, str] | None = None,
        body: Body | None = None,
    ) -> Response:
        scope = f"repository:{self._name}:" + ("pull" if pull else "pull,push")
        return self._registry.request(
            method, target, self._auth, (scope,), headers=headers, body=body
        )

    def _manifest(self, method: str, which: str, *, pull: bool) -> Response:
        path = f"/v2/{self._name}/manifests/{which}"
        return self._request(method, path, pull=pull, headers={"Accept": _ACCEPT})

    def _fetched(self, ref: Reference, which: str) -> Descriptor:
        with self._manifest("GET", which, pull=True) as response:
            if response.status == 404:
                refusal = self._registry.refusal(response, ref.familiar, self._auth)
                raise NotFound(refusal.message, hint="is the name right, and the tag?")
            if response.status != 200:
                raise self._registry.refusal(response, ref.familiar, self._auth)
            data = response.body(MAX_DOCUMENT)
            media_type = _media_type(response) or _own_media_type(data)
        if media_type.startswith(_SCHEMA1):
            raise Unsupported(f"{ref.familiar}: the image is of Docker's schema 1, of before 2016")
        found = Digest.of(data)
        if ref.digest is not None:
            root = Descriptor(media_type, ref.digest, len(data))
            VerifiedReader(io.BytesIO(data), root).read()
        else:
            root = Descriptor(media_type, found, len(data))
        self._keep(root.digest, data)
        return root

    def _download(self, blob: Descriptor) -> Download:
        path = f"/v2/{self._name}/blobs/{blob.digest}"
        return Download(
            blob,
            request=lambda headers: self._request("GET", path, pull=True, headers=headers),
            refusal=lambda response: self._registry.refusal(
                response, f"{self._full}: blob {blob.digest}", self._auth
            ),
            wait=self._registry.wait,
            attempts=self._registry.retries.attempts,
            on_read=lambda seen: self._on_progress(blob, seen),
        )

    def _has_blob(self, blob: Descriptor) -> bool:
        path = f"/v2/{self._name}/blobs/{blob.digest}"
        with self._request("HEAD", path, pull=False) as response:
            return self._is_there(response, blob)

    def _is_there(self, response: Response, blob: Descriptor) -> bool:
        """
        False, too, if the registry will not say: putting it again is safe, and tells what is wrong.
        """
        if response.status in BUSY:
            raise self._registry.refusal(response, f"{self._full}: blob {blob.digest}", self._auth)
        return response.status == 200 and response.length in (None, blob.size)

    def _mountable(self, blob: Descriptor) -> str | None:
        """
        The neighbour to mount *blob* from: the only one, or the first that says it has it.

        The one that had the last is asked first: images share whole stacks of layers.
        """
        neighbours = self._mount_from
        if len(neighbours) <= 1:
            return next(iter(neighbours), None)
        for name in neighbours:
            scopes = (f"repository:{name}:pull",)
            path = f"/v2/{name}/blobs/{blob.digest}"
            try:
                response = self._registry.request("HEAD", path, self._auth, scopes)
            except Denied:
                continue
            with response:
                if response.status == 200:
                    self._mount_from = (name, *(other for other in neighbours if other != name))
                    return name
        return None

    def _put_document(self, which: str, blob: Descriptor, data: bytes) -> None:
        response = self._request(
            "PUT",
            f"/v2/{self._name}/manifests/{which}",
            pull=False,
            headers={"Content-Type": blob.media_type},
            body=Body.of(data),
        )
        if response.status not in (200, 201, 202):
            raise self._registry.refusal(response, f"{self._full}: manifest {which}", self._auth)
        with response:
            check_digest(response, blob.digest)
            is_confirmed = "Docker-Content-Digest" in response.headers
        # Google's registry said 201 for a repository that was not there (containers/image#1420).
        if not is_confirmed and not self.has(blob):
            raise Unavailable(f"{self._full}: manifest {which} was taken, but is not there")

    def _kept(self, digest: Digest) -> bytes | None:
        with self._lock:
            return self._documents.get(digest)

    def _keep(self, digest: Digest, data: bytes) -> None:
        with self._lock:
            self._documents[digest] = data
            while len(self._documents) > _MAX_KEPT:
                del self._documents[next(iter(self._documents))]


def _described(response: Response, wanted: Digest | None) -> Descriptor | None:
    """What the headers of a manifest say, if that is enough to know it by."""
    media_type = _media_type(response)
    try:
        digest = Digest(response.headers.get("Docker-Content-Digest", ""))
    except Invalid:
        return None
    if not media_type or media_type.startswith(_SCHEMA1) or response.length is None:
        return None
    if wanted not in (None, digest):
        return None
    return Descriptor(media_type, digest, response.length)


def _media_type(response: Response) -> str:
    return response.headers.get("Content-Type", "").partition(";")[0].strip().lower()


def _own_media_type(data: bytes) -> str:
    media_type = canonical.decode_object(data, "manifest").get("mediaType")
    if not isinstance(media_type, str):
        raise Invalid("the registry does not say what kind of manifest it sent")
    return safe(media_type)


def _tags(data: bytes) -> list[str]:
    """The tags of one page; null for none (docker-registry, once the last is deleted)."""
    tags = canonical.decode_object(data, "list of tags").get("tags") or []
    if not isinstance(tags, list):
        raise Invalid("list of tags: a list was expected")
    return [tag for tag in tags if isinstance(tag, str) and _is_tag(tag)]


def _is_tag(text: str) -> bool:
    try:
        return Reference.parse(f"localhost/x:{text}").tag == text
    except Invalid:
        return False


@contextmanager
def _rewindable(data: Readable, blob: Descriptor) -> Iterator[BinaryIO]:
    """
    *data* as a file that can be sent twice: itself if it is one, else through a temporary file.

    A request may have to be repeated: a token expires, a connection breaks.
    """
    if isinstance(data, io.IOBase) and data.seekable():
        yield cast(BinaryIO, data)
        return
    import tempfile

    reader = VerifiedReader(data, blob)
    with tempfile.SpooledTemporaryFile(max_size=BLOCK) as file:
        while chunk := reader.read(BLOCK):
            file.write(chunk)
        file.seek(0)
        yield cast(BinaryIO, file)


def _silent(_blob: Descriptor, _moved: int) -> None:
    """Nobody wants to know."""
