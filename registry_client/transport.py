"""
HTTP, with nothing taken from the environment and nothing sent along that was not asked for.

Of requests only its adapter is used, which is a connection pool with TLS and proxies. A Session
would add credentials from ~/.netrc in place of ours, keep cookies, undo a blob's Content-Encoding
and read the bodies of redirects, however long.
"""

from __future__ import annotations

import hashlib
import io
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any, BinaryIO, Final
from urllib.parse import urljoin

from ocispec.digest import Digest
from ocispec.errors import Corrupt, Denied, Invalid, PybuildError, Unavailable
from registry_client.errors import safe
from registry_client.hosts import Hosts, Origin, is_private

if TYPE_CHECKING:
    import requests
    import requests.adapters

BLOCK: Final = 1 << 20  # bytes that are in memory for each blob under way
CONNECT_TIMEOUT: Final = 15.0  # seconds
READ_TIMEOUT: Final = 90.0  # seconds without a byte, not for a whole transfer
COMMIT_TIMEOUT: Final = 900.0  # seconds: at the end of an upload registries move the whole blob
_WORTH_READING: Final = 64 << 10  # bytes: less than a new connection costs
_MAX_HOPS: Final = 10
_REDIRECTS: Final = frozenset({301, 302, 303, 307, 308})


class Broken(Unavailable):
    """The connection failed. Whether the request was handled is not known; another may succeed."""


class _Unreadable(Exception):
    """What is sent cannot be read: not an OSError, which would be taken for the connection's."""

    def __init__(self, error: OSError) -> None:
        super().__init__()
        self.error = error


class Body:
    """
    What a request sends: *size* bytes of *file* from where it stands now; rewound by each sending.

    With a *digest* the last block is kept back until the bytes are known to be right: Corrupt
    instead, so that no registry ends up with wrong ones. *on_sent* gets the bytes sent so far.
    """

    def __init__(
        self,
        file: BinaryIO,
        size: int,
        digest: Digest | None = None,
        on_sent: Callable[[int], None] | None = None,
    ) -> None:
        self._file = file
        self._start = file.tell()
        self._size = size
        self._digest = digest
        self._on_sent = on_sent

    @classmethod
    def of(cls, data: bytes) -> Body:
        return cls(io.BytesIO(data), len(data))

    def __len__(self) -> int:
        return self._size

    def __iter__(self) -> Iterator[bytes]:
        # requests takes an iterable with a length as it is: Content-Length, never chunks, which
        # front ends of registries refuse.
        blocks = self._blocks()
        while True:
            try:
                block = next(blocks, b"")
            except OSError as error:
                raise _Unreadable(error) from error
            if not block:
                return
            yield block

    def _blocks(self) -> Iterator[bytes]:
        self._file.seek(self._start)
        seen = 0
        hashed = None if self._digest is None else hashlib.new(self._digest.algorithm)
        while seen < self._size:
            block = self._file.read(min(BLOCK, self._size - seen))
            if not block:
                raise Corrupt(f"{self._digest or 'body'}: {seen} of {self._size} bytes are there")
            seen += len(block)
            if hashed is not None:
                hashed.update(block)
                if seen == self._size:
                    self._check(hashed.hexdigest())
            yield block
            if self._on_sent is not None:
                self._on_sent(seen)

    def _check(self, digits: str) -> None:
        """Corrupt if the bytes that were read, which hash to *digits*, are not the blob."""
        if self._digest is not None and digits != self._digest.hex:
            raise Corrupt(
                f"blob {self._digest}: the bytes hash to {self._digest.algorithm}:{digits}",
                hint="the source is damaged",
            )
        if self._file.read(1):
            raise Corrupt(f"blob {self._digest}: there are more than its {self._size} bytes")


@dataclass(frozen=True, slots=True)
class Request:
    """*authorization* is kept apart from the other headers: it goes to the URL's origin only."""

    method: str
    url: str
    headers: Mapping[str, str] = field(default_factory=dict)
    body: Body | None = None
    authorization: str = field(default="", repr=False)
    timeout: float = READ_TIMEOUT


class Response:
    """The answer to a request; close() it, or read it to the end."""

    def __init__(self, answer: requests.Response, url: str, is_redirected: bool = False) -> None:
        self._answer = answer
        self.status: int = answer.status_code
        self.headers: Mapping[str, str] = answer.headers  # any case of the name will do
        self.url = url  # the last one
        self.is_redirected = is_redirected  # to another origin: what it says is not the registry's
        self._has_no_body = answer.request.method == "HEAD"

    @property
    def length(self) -> int | None:
        """Content-Length, if it is there and a number."""
        text = self.headers.get("Content-Length", "")
        return int(text) if text.isascii() and text.isdigit() and len(text) < 19 else None

    def read(self, size: int) -> bytes:
        """At most *size* bytes, as they came over the wire; Broken if the connection breaks."""
        import urllib3.exceptions

        try:
            data: bytes = self._answer.raw.read(size, decode_content=False)
        except (urllib3.exceptions.HTTPError, OSError, ValueError) as error:
            self.close()
            raise _explained(error, Origin.of(self.url)) from _cause(error)
        return data

    def body(self, limit: int) -> bytes:
        """The whole body; Invalid if it is longer than *limit*."""
        data = bytearray()
        while chunk := self.read(min(BLOCK, limit + 1 - len(data))):
            data += chunk
            if len(data) > limit:
                self.close()
                raise Invalid(f"{Origin.of(self.url)}: an answer of more than {limit} bytes")
        return bytes(data)

    def close(self) -> None:
        """Give the connection back, if little is left to read, else end it."""
        import urllib3.exceptions

        raw = self._answer.raw
        left = 0 if self._has_no_body else raw.length_remaining
        if left is not None and left <= _WORTH_READING:
            # urllib3 gives the connection back when it sees the end, even of nothing. Should it
            # break now, nobody wanted these bytes.
            with suppress(urllib3.exceptions.HTTPError, OSError, ValueError):
                raw.read(left + 1, decode_content=False)
        self._answer.close()

    def __enter__(self) -> Response:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class Transport:
    """The connections to the registry at *home*, and to where it sends us. For many threads."""

    def __init__(self, home: Origin, hosts: Hosts, user_agent: str) -> None:
        self.home = home
        self._hosts = hosts
        self._user_agent = user_agent
        self._lock = threading.Lock()  # guards the two below
        self._adapters: dict[Origin, requests.adapters.HTTPAdapter] = {}
        self._home_peers: set[str] = set()

    def send(self, request: Request) -> Response:
        """
        The answer, after redirects.

        The authorization is for the origin of the request's URL: whoever leaves it goes on without,
        even back to it. Broken, Unavailable or Denied if there is no answer.
        """
        start = Origin.of(request.url)
        left = False
        for _ in range(_MAX_HOPS):
            response = self._exchange(request, left)
            location = response.headers.get("Location")
            if response.status not in _REDIRECTS or not location:
                return response
            response.close()
            request = replace(request, url=self.resolve(request.url, location))
            if Origin.of(request.url) != start:
                left = True
                request = replace(request, authorization="")
            if request.method not in ("GET", "HEAD") and response.status not in (307, 308):
                raise Invalid(f"{start}: a {request.method} was answered by a redirect")
        raise Unavailable(f"{start}: more than {_MAX_HOPS} redirects")

    def resolve(self, base: str, location: str) -> str:
        """
        The URL that *location*, in an answer to a request for *base*, means.

        Its query stays as it is, byte for byte: it may be signed. Denied for where we do not go,
        Invalid for nowhere.
        """
        try:
            url = urljoin(base, location.partition("#")[0])
        except ValueError:
            raise Invalid(f"{Origin.of(base)} sends us to what is no URL") from None
        target = Origin.of(url)
        self._hosts.check_hop(Origin.of(base), target)
        self._hosts.check_hop(self.home, target)
        return url

    def close(self) -> None:
        with self._lock:
            for adapter in self._adapters.values():
                adapter.close()
            self._adapters.clear()

    def _exchange(self, request: Request, left: bool) -> Response:
        import requests

        origin = Origin.of(request.url)
        headers = {
            **request.headers,
            "User-Agent": self._user_agent,
            "Accept-Encoding": "identity",  # a blob is hashed as it is stored
        }
        if request.authorization:
            headers["Authorization"] = request.authorization
        body = request.body if request.body is None or len(request.body) else b""
        try:
            prepared = requests.Request(request.method, request.url, headers, data=body).prepare()
            prepared.url = request.url  # as it was, before it was quoted anew
            answer = self._adapter(origin).send(
                prepared,
                stream=True,
                timeout=(CONNECT_TIMEOUT, request.timeout),
                verify=self._hosts.verification(origin),
                proxies=self._proxies(origin),
            )
        except _Unreadable as unreadable:
            raise unreadable.error from None
        except (requests.RequestException, OSError, ValueError) as error:
            raise _explained(error, origin) from _cause(error)
        return Response(answer, request.url, left)

    def _proxies(self, origin: Origin) -> dict[str, str]:
        proxy = self._hosts.proxies.for_origin(origin)
        return {} if proxy is None else {origin.scheme: proxy}

    def _adapter(self, origin: Origin) -> requests.adapters.HTTPAdapter:
        """One for each origin: what is verified of TLS sticks to connections (CVE-2024-35195)."""
        import requests.adapters

        with self._lock:
            adapter = self._adapters.get(origin)
            if adapter is None:
                adapter = requests.adapters.HTTPAdapter(pool_maxsize=16)
                if self._hosts.verification(origin) is False:
                    _expect_no_verification()
                if not self._proxies(origin):
                    _check_peers(adapter, lambda peer: self._check_peer(origin, peer))
                self._adapters[origin] = adapter
            return adapter

    def _check_peer(self, origin: Origin, peer: str) -> None:
        """
        Denied if a registry of the internet sends us to a name for a private address.

        Before a byte is sent, and on the address that is connected to: a name can be looked up
        twice with two answers (go-containerregistry#2440).
        """
        with self._lock:
            if origin.host == self.home.host:
                self._home_peers.add(peer)
            known = tuple(self._home_peers)
        is_public = known and not any(map(is_private, known))
        if is_public and is_private(peer) and not self._hosts.is_named(origin):
            raise Denied(
                f"{self.home} sends us to {origin}, which is at the private address {peer}",
                hint="name the host in the configuration if it is meant",
            )


def _expect_no_verification() -> None:
    """The user said so of the host: no need to be warned of it with each connection."""
    import urllib3
    import urllib3.exceptions

    urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)


def _check_peers(adapter: requests.adapters.HTTPAdapter, check: Callable[[str], None]) -> None:
    """Let *check* see the address of each new connection of *adapter* before it is used."""
    import urllib3
    import urllib3.connection

    class PlainConnection(urllib3.connection.HTTPConnection):
        def _new_conn(self) -> Any:
            return _checked(super()._new_conn(), check)

    class TLSConnection(urllib3.connection.HTTPSConnection):
        def _new_conn(self) -> Any:
            return _checked(super()._new_conn(), check)

    class PlainPool(urllib3.HTTPConnectionPool):
        ConnectionCls = PlainConnection

    class TLSPool(urllib3.HTTPSConnectionPool):
        ConnectionCls = TLSConnection

    adapter.poolmanager.pool_classes_by_scheme = {"http": PlainPool, "https": TLSPool}


def _checked(connection: Any, check: Callable[[str], None]) -> Any:
    try:
        check(str(connection.getpeername()[0]))
    except (PybuildError, OSError):
        connection.close()
        raise
    return connection


def _cause(error: BaseException | None) -> OSError | None:
    """
    The system's error below those of requests and urllib3.

    Theirs have URLs in their texts, which may be signed, and requests with their headers.
    """
    import requests

    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OSError) and not isinstance(error, requests.RequestException):
            return error
        inner = [getattr(error, "reason", None), *error.args, error.__cause__, error.__context__]
        error = next((e for e in inner if isinstance(e, BaseException)), None)
    return None


def _explained(error: Exception, origin: Origin) -> PybuildError:
    import socket

    import requests

    cause = _cause(error)
    if isinstance(cause, ssl.SSLCertVerificationError):
        return Unavailable(
            f"{origin}: the certificate is not trusted: {safe(cause.verify_message)}",
            hint="give the CA that signed it, or mark the registry as insecure",
        )
    if isinstance(cause, socket.gaierror):
        text = f"{origin}: the name is not found: {cause.strerror}"
        return Broken(text) if cause.errno == socket.EAI_AGAIN else Unavailable(text)
    if isinstance(error, requests.exceptions.InvalidHeader):
        return Invalid(f"{origin}: a header cannot be sent")  # its text has the header's value
    if isinstance(cause, TimeoutError) or isinstance(error, requests.Timeout):
        return Broken(f"{origin}: no answer in time")
    if isinstance(cause, ssl.SSLError):
        reason = safe(cause.reason or "unknown reason").replace("_", " ").lower()
        hint = "does the registry speak plain HTTP? then mark it as insecure"
        return Broken(f"{origin}: TLS failed: {reason}", hint=hint)
    if cause is not None and cause.strerror:
        return Broken(f"{origin}: {cause.strerror.lower()}")
    return Broken(f"{origin}: the connection was cut", hint="a proxy or the registry ended it")
