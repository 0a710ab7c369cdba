"""
A blob on its way to a registry: mounted from a neighbour if possible, else sent in one piece.

POST opens a session, one PUT with all the bytes closes it (distribution-spec, "Pushing a blob
monolithically", the POST-then-PUT form). The POST has no body, so it is what the token is fetched
and renewed for. What comes later, chunks and sessions that are taken up again, needs only another
way from _open() to the end.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import BinaryIO, Final
from urllib.parse import quote, urlencode

from ocispec.digest import Digest
from ocispec.errors import Corrupt, Denied, Invalid, PybuildError, Unavailable
from ocispec.model import Descriptor
from registry_client.auth import Auth
from registry_client.errors import BUSY
from registry_client.registry import Registry
from registry_client.transport import COMMIT_TIMEOUT, Body, Broken, Response

_STORED: Final = (200, 201, 204)


class Upload:
    """Uploads into the repository *name* of *registry*; *has* asks whether a blob is there."""

    def __init__(
        self, registry: Registry, name: str, auth: Auth, has: Callable[[Descriptor], bool]
    ) -> None:
        self._registry = registry
        self._what = f"{registry.name}/{name}: upload of"
        self._path = f"/v2/{name}/blobs/uploads/"
        self._auth = auth
        self._scopes = (f"repository:{name}:pull,push",)
        self._has = has

    def put(
        self,
        blob: Descriptor,
        file: BinaryIO,
        *,
        mount_from: str | None,
        on_sent: Callable[[int], None],
    ) -> None:
        """
        Bring *blob*, which *file* has the bytes of, into the repository.

        After a failure whose outcome is not known the registry is asked whether it has the blob
        before it is sent again, to a new session.
        """
        body = Body(file, blob.size, blob.digest, on_sent)
        attempts = self._registry.retries.attempts
        for attempt in range(1, attempts + 1):
            session = self._open(blob, mount_from)
            if session is None:
                return
            try:
                error = self._send(session, blob, body)
            except Broken as broken:
                error = broken
            except (PybuildError, OSError):
                self._cancel(session)
                raise
            if error is None or (isinstance(error, Unavailable) and self._has(blob)):
                return
            if attempt == attempts or not isinstance(error, Unavailable):
                self._cancel(session)
                raise error
            mount_from = None
            self._registry.wait(attempt)

    def _send(self, session: str, blob: Descriptor, body: Body) -> PybuildError | None:
        """Close *session* with the bytes; None if the registry has them now."""
        response = self._registry.request(
            "PUT",
            session + ("&" if "?" in session else "?") + f"digest={quote(blob.digest, safe=':')}",
            self._auth,
            self._scopes,
            headers={
                "Content-Type": "application/octet-stream",
                "Content-Length": str(blob.size),
            },
            body=body,
            once=True,
            timeout=COMMIT_TIMEOUT,
        )
        if response.status in _STORED:
            with response:
                check_digest(response, blob.digest)
            return None
        status = response.status
        error = self._registry.refusal(response, f"{self._what} {blob.digest}", self._auth)
        if status in BUSY or status in (404, 416):
            # 404: replicas that share no secret do not know each other's sessions
            # (distribution#2225). A new one may be luckier.
            return Unavailable(error.message, hint=error.hint)
        return error

    def _open(self, blob: Descriptor, mount_from: str | None) -> str | None:
        """The URL of a new session; None if the blob was mounted from *mount_from* instead."""
        if mount_from is not None:
            response = self._mount(blob, mount_from)
            if response is not None and response.status == 201:
                response.close()
                return None
            if response is not None and response.status == 202:
                # Not mounted, but this is a session as good as any.
                return self._session(response)
            if response is not None:
                response.close()
        response = self._registry.request("POST", self._path, self._auth, self._scopes)
        if response.status != 202:
            raise self._registry.refusal(response, f"{self._what} {blob.digest}", self._auth)
        return self._session(response)

    def _mount(self, blob: Descriptor, source: str) -> Response | None:
        """None if we may not even ask."""
        query = urlencode({"mount": blob.digest, "from": source}, safe=":/")
        scopes = (*self._scopes, f"repository:{source}:pull")
        try:
            return self._registry.request("POST", f"{self._path}?{query}", self._auth, scopes)
        except Denied:
            return None  # a token server may refuse a scope for the other repository

    def _session(self, response: Response) -> str:
        with response:
            location = response.headers.get("Location", "")
        if not location:
            raise Invalid(f"{self._registry.name}: an upload was begun without a Location")
        return self._registry.transport().resolve(response.url, location)

    def _cancel(self, session: str) -> None:
        """Best effort: the registry sweeps what is left, and may not let us delete anything."""
        try:
            self._registry.request("DELETE", session, self._auth, self._scopes, once=True).close()
        except PybuildError:
            return


def check_digest(response: Response, digest: Digest) -> None:
    """
    Corrupt if the registry says it stored another digest.

    It may use another algorithm (docker-registry 2.8 answers a sha512 push with sha256), and it
    may say nothing.
    """
    try:
        stored = Digest(response.headers.get("Docker-Content-Digest", ""))
    except Invalid:
        return
    if stored.algorithm == digest.algorithm and stored != digest:
        raise Corrupt(f"the registry stored {stored} in place of {digest}")
