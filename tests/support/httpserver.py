"""
A small HTTP server whose answers a test makes: also such as no honest server gives.

One thread a connection; what it received is kept, in order. Requests are kept whole, so what must
not have been sent can be looked for.
"""

from __future__ import annotations

import io
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from ocispec.digest import Digest
from ocispec.model import Descriptor

_TLS = b"\x16"  # the first byte of a handshake
_PATIENCE = 20.0  # seconds for a client that says nothing
_REASONS = {200: "OK", 201: "Created", 202: "Accepted", 206: "Partial Content", 307: "Elsewhere"}


@dataclass(frozen=True, slots=True)
class Received:
    """A request; names of headers are in lower case. *connection* counts from 1."""

    method: str
    target: str
    headers: Mapping[str, str]
    body: bytes
    connection: int

    @property
    def path(self) -> str:
        return self.target.partition("?")[0]


@dataclass(frozen=True, slots=True)
class Reply:
    """
    An answer. Content-Length is added unless *headers* have it or *length* is false.

    Only the first *cut* bytes of the body are sent before the connection ends; with *reset* it
    ends before anything is sent.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    cut: int | None = None
    length: bool = True
    reset: bool = False


Handler = Callable[[Received], Reply]


@dataclass(slots=True)
class Server:
    """A server that runs; *name* is what references and URLs begin with."""

    name: str
    scheme: str
    received: list[Received] = field(default_factory=list)
    connections: int = 0

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.name}"

    @property
    def requests(self) -> list[str]:
        """Method and path of all that was received."""
        return [f"{request.method} {request.path}" for request in self.received]

    def all(self, header: str) -> list[str]:
        """The values of *header* in all that was received, "" where it was not."""
        return [request.headers.get(header, "") for request in self.received]


@contextmanager
def http_server(
    handler: Handler | Reply, *, host: str = "127.0.0.1", certificate: Path | None = None
) -> Iterator[Server]:
    """
    A server on a free port of *host* that gives the answer of *handler*, or always the same.

    With TLS if there is a *certificate*, a PEM with its key.

    127.0.0.2 and so on are other hosts that every Linux has.
    """
    context = None
    if certificate is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
    with socket.create_server((host, 0)) as listener:
        name = f"{host}:{listener.getsockname()[1]}"
        server = Server(name, "http" if context is None else "https")
        answer = (lambda _: handler) if isinstance(handler, Reply) else handler
        loop = _Loop(listener, context, answer, server)
        thread = threading.Thread(target=loop.run)
        thread.start()
        try:
            yield server
        finally:
            loop.stop()
            thread.join()


class _Loop:
    def __init__(
        self,
        listener: socket.socket,
        context: ssl.SSLContext | None,
        handler: Handler,
        server: Server,
    ) -> None:
        self._listener = listener
        self._context = context
        self._handler = handler
        self._server = server
        self._open: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []

    def run(self) -> None:
        while True:
            try:
                connection, _ = self._listener.accept()
            except OSError:
                break  # stop() shut it down
            self._server.connections += 1
            self._open.add(connection)
            thread = threading.Thread(
                target=self._serve, args=(connection, self._server.connections)
            )
            thread.start()
            self._threads.append(thread)
        for connection in tuple(self._open):
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join()

    def stop(self) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)

    def _serve(self, raw: socket.socket, number: int) -> None:
        connection = raw
        try:
            raw.settimeout(_PATIENCE)
            if self._context is not None:
                connection = self._context.wrap_socket(raw, server_side=True)
                self._open.add(connection)
            with connection.makefile("rb") as file:
                if file.peek(1)[:1] == _TLS:
                    connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\nTLS to a server without")
                    return
                while (request := _read(file, number)) is not None:
                    self._server.received.append(request)
                    reply = self._handler(request)
                    if not _send(connection, request, reply):
                        break
        except OSError:
            pass  # the client went away, or does not trust us
        finally:
            self._open -= {raw, connection}
            connection.close()
            raw.close()


def _read(file: io.BufferedReader, number: int) -> Received | None:
    first = file.readline().decode("latin-1").split()
    if len(first) != 3:
        return None
    headers: dict[str, str] = {}
    while line := file.readline().decode("latin-1").strip():
        name, _, value = line.partition(":")
        headers[name.lower()] = value.strip()
    length = int(headers.get("content-length", "0"))
    body = file.read(length)
    if len(body) < length:
        return None  # the client thought better of it
    return Received(first[0], first[1], headers, body, number)


def _send(connection: socket.socket, request: Received, reply: Reply) -> bool:
    """False if the connection must end."""
    if reply.reset:
        return False
    head = [f"HTTP/1.1 {reply.status} {_REASONS.get(reply.status, 'As Ordered')}"]
    head += [f"{name}: {value}" for name, value in reply.headers.items()]
    has_length = any(name.lower() == "content-length" for name in reply.headers)
    if reply.length and not has_length:
        head.append(f"Content-Length: {len(reply.body)}")
    body = b"" if request.method == "HEAD" else reply.body[: reply.cut]
    connection.sendall("\r\n".join([*head, "", ""]).encode("latin-1") + body)
    return reply.length and reply.cut is None


def errors(status: int, code: str, message: str, **headers: str) -> Reply:
    """An error as the distribution spec has them."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Reply(status, body, {"Content-Type": "application/json", **named})


def document(blob: Descriptor, data: bytes) -> Reply:
    """A manifest as registries serve it."""
    headers = {"Content-Type": blob.media_type, "Docker-Content-Digest": str(Digest.of(data))}
    return Reply(200, data, headers)
