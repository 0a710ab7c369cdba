"""A token server as docker-registry wants one: JSON web tokens, signed, for what is asked."""

from __future__ import annotations

import base64
import datetime as dt
import json
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, cast
from urllib.parse import parse_qs, urlsplit

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509.oid import NameOID

REFRESH_TOKEN = "refresh-token-of-the-user"


@dataclass(slots=True)
class TokenServer:
    """
    What it is, and what it was asked: each request's scopes.

    *life* is the seconds that its tokens hold, *actions* what it grants of what is asked.
    """

    url: str
    certificate: Path
    users: Mapping[str, str]
    key: ec.EllipticCurvePrivateKey
    der: bytes
    service: str = "registry.test"
    issuer: str = "tokens.test"
    life: int = 300
    asked: list[tuple[str, ...]] = field(default_factory=list)
    users_seen: list[str] = field(default_factory=list)  # "" for nobody
    methods: list[str] = field(default_factory=list)

    def token(self, user: str, scopes: list[str]) -> str:
        """A token for *user*: all may pull, those with a name may push."""
        access = []
        for scope in scopes:
            kind, _, rest = scope.partition(":")
            name, _, actions = rest.rpartition(":")
            granted = [a for a in actions.split(",") if user or a == "pull"]
            access.append({"type": kind, "name": name, "actions": granted})
        now = int(time.time())
        head = {"typ": "JWT", "alg": "ES256", "x5c": [base64.b64encode(self.der).decode()]}
        claims = {
            "iss": self.issuer,
            "sub": user,
            "aud": self.service,
            "exp": now + self.life,
            "nbf": now - 5,
            "iat": now,
            "jti": f"{now}-{len(self.asked)}",
            "access": access,
        }
        signed = f"{_b64(json.dumps(head).encode())}.{_b64(json.dumps(claims).encode())}"
        r, s = decode_dss_signature(self.key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
        return f"{signed}.{_b64(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


@contextmanager
def token_server(folder: Path, users: Mapping[str, str]) -> Iterator[TokenServer]:
    """A token server on a free port of 127.0.0.1; its certificate is in *folder*."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tokens.test")])
    now = dt.datetime.now(dt.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(days=1))
        .not_valid_after(now + dt.timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    path = folder / "tokens.pem"
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    der = certificate.public_bytes(serialization.Encoding.DER)
    with _Server(("127.0.0.1", 0), _Handler) as server:
        port = server.server_address[1]
        state = TokenServer(f"http://127.0.0.1:{port}/token", path, users, key, der)
        server.state = state
        thread = threading.Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        try:
            yield state
        finally:
            server.shutdown()
            thread.join()


class _Server(ThreadingHTTPServer):
    state: TokenServer


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        query = parse_qs(urlsplit(self.path).query)
        user = ""
        header = self.headers.get("Authorization", "")
        if header:
            pair = base64.b64decode(header.removeprefix("Basic ")).decode()
            user, _, password = pair.partition(":")
            if self._state.users.get(user) != password:
                self._answer(401, {"errors": [{"code": "DENIED", "message": f"not you: {pair}"}]})
                return
        self._grant("GET", user, query.get("scope", []))

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        form = parse_qs(self.rfile.read(length).decode())
        if form.get("refresh_token") != [REFRESH_TOKEN]:
            self._answer(401, {"errors": [{"code": "DENIED", "message": "unknown token"}]})
            return
        self._grant("POST", next(iter(self._state.users)), form["scope"][0].split(" "))

    def _grant(self, method: str, user: str, scopes: list[str]) -> None:
        state = self._state
        state.asked.append(tuple(scopes))
        state.users_seen.append(user)
        state.methods.append(method)
        self._answer(200, {"token": state.token(user, scopes), "expires_in": state.life})

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        body = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    @property
    def _state(self) -> TokenServer:
        return cast(_Server, self.server).state

    def log_request(self, code: int | str = "-", size: int | str = "-") -> None:
        """Nobody reads it."""


def _b64(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()
