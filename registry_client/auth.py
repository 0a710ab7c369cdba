"""Who we are for one repository: challenges are learnt from, tokens are fetched and kept."""

from __future__ import annotations

import base64
import re
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final
from urllib.parse import urlencode

from ocispec import canonical
from ocispec.errors import Denied, Invalid
from registry_client import challenge
from registry_client.challenge import Challenge
from registry_client.credentials import Credentials, Login
from registry_client.errors import MAX_BODY, error_for, safe
from registry_client.hosts import Hosts, Origin
from registry_client.transport import Body, Request, Response

_MAX_ANSWER: Final = 1 << 20
_LEAST_LIFE: Final = 60.0  # seconds: what a token without expires_in has (distribution, "token")
_MOST_LIFE: Final = 24 * 3600.0
_SENDABLE: Final = re.compile(r"[!-~]+")
_CLIENT: Final = "pybuild"


@dataclass(frozen=True, slots=True)
class _Token:
    text: str = field(repr=False)
    until: float  # of the monotonic clock


class Auth:
    """
    What goes into the Authorization header of requests for *repository* of *registry*.

    Nothing until the registry has challenged us. *home* is where the registry is, *send* sends a
    request to a token server. Threads that need the same token wait for one to fetch it.
    """

    def __init__(
        self,
        registry: str,
        repository: str,
        credentials: Credentials,
        *,
        home: Callable[[], Origin],
        hosts: Hosts,
        send: Callable[[Request], Response],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._registry = registry
        self._repository = repository
        self._credentials = credentials
        self._home = home
        self._hosts = hosts
        self._send = send
        self._clock = clock
        self._lock = threading.Lock()  # guards all below
        self._challenge: Challenge | None = None
        self._widened: dict[tuple[str, ...], tuple[str, ...]] = {}  # scopes needed -> asked for
        self._tokens: dict[tuple[str, ...], _Token] = {}  # by scopes needed
        self._login: Login | None = None
        self._is_login_known = False
        self._secrets: set[str] = set()

    def header(self, scopes: Sequence[str]) -> str:
        """The header for a request that needs *scopes*; empty if none is needed, or known."""
        with self._lock:
            return self._header(tuple(scopes))

    def renew(self, header: str, scopes: Sequence[str], used: str) -> bool:
        """
        Learn from the challenge in *header*, which answered a request with the header *used*.

        True if header() now gives another one. Denied if the token server gives us none.
        """
        needed = tuple(scopes)
        with self._lock:
            found = _chosen(challenge.parse(header))
            if found is None:
                return False
            if self._challenge is not None and used != self._header(needed):
                return True  # another thread was here first
            self._challenge = found
            if found.scheme == "bearer":
                asked = challenge.scopes(needed, found.params.get("scope", ""))
                self._widened[needed] = asked
                self._tokens.pop(needed, None)
            return self._header(needed) not in ("", used)

    def redact(self, body: bytes) -> bytes:
        """*body* without our secrets, should the registry quote what it was sent."""
        with self._lock:
            return _without(body, self._secrets)

    def advice(self) -> str:
        """What the user can do about a refusal."""
        with self._lock:
            if self._is_login_known and self._login is None:
                return f"there are no credentials for {self._registry}: log in with docker login"
            return f"do the credentials for {self._registry} allow this?"

    def _header(self, needed: tuple[str, ...]) -> str:
        if self._challenge is None:
            return ""
        login = self._find_login()
        if self._challenge.scheme == "basic":
            return _basic(login) if login is not None and login.username else ""
        if login is not None and login.registry_token:
            return f"Bearer {login.registry_token}"
        token = self._tokens.get(needed)
        if token is None or self._clock() >= token.until:
            token = self._fetch(self._challenge, self._widened.get(needed, needed), login)
            self._secrets.add(token.text)
            self._tokens[needed] = token
        return f"Bearer {token.text}"

    def _find_login(self) -> Login | None:
        if not self._is_login_known:
            login = self._credentials.login(self._registry, self._repository)
            if login is not None:
                secrets = (login.password, login.identity_token, login.registry_token)
                self._secrets.update(secret for secret in secrets if secret)
                self._secrets.add(_basic(login).removeprefix("Basic "))
                if not all(map(_is_sendable, (login.registry_token, *secrets[1:]))):
                    raise Invalid(f"the token for {self._registry} has characters no token has")
            self._login = login
            self._is_login_known = True
        return self._login

    def _fetch(self, found: Challenge, scopes: tuple[str, ...], login: Login | None) -> _Token:
        realm, home = found.params.get("realm", ""), self._home()
        try:
            origin = Origin.of(realm)
        except Invalid as error:
            raise Denied(f"{home} names a token server that is none: {error.message}") from error
        self._hosts.check_hop(home, origin)
        hint = f"there are no credentials for {self._registry}: log in with docker login"
        if login is not None:
            hint = f"do the credentials for {self._registry} still hold?"
            if not self._hosts.trusts_token_server(home, origin):
                login = None
                hint = f"your credentials are not sent to {origin}, which may not belong to {home}"
        service = found.params.get("service", "")
        asked_at = self._clock()
        with self._ask(realm, service, scopes, login) as response:
            if response.status != 200:
                body = _without(response.body(MAX_BODY), self._secrets)
                refusal = error_for(response.status, body, f"{origin} gives no token")
                refusal.hint = hint if isinstance(refusal, Denied) else refusal.hint
                raise refusal
            return _read_token(response.body(_MAX_ANSWER), str(origin), asked_at)

    def _ask(
        self, realm: str, service: str, scopes: tuple[str, ...], login: Login | None
    ) -> Response:
        if login is not None and login.identity_token:
            # distribution's "oauth" specification: one scope field, with blanks.
            form = {
                "grant_type": "refresh_token",
                "service": service,
                "client_id": _CLIENT,
                "scope": " ".join(scopes),
                "refresh_token": login.identity_token,
            }
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = Body.of(urlencode(form).encode())
            return self._send(Request("POST", realm, headers, body))
        # distribution's "token" specification: a scope parameter for each.
        query = [("service", service)] if service else []
        query += [("scope", scope) for scope in scopes]
        url = realm + ("&" if "?" in realm else "?") + urlencode(query)
        authorization = _basic(login) if login is not None and login.username else ""
        return self._send(Request("GET", url, authorization=authorization))


def _chosen(challenges: Sequence[Challenge]) -> Challenge | None:
    """The one to answer: a token is worth less to who steals it than a password."""
    for scheme in ("bearer", "basic"):
        for found in challenges:
            if found.scheme == scheme:
                return found
    return None


def _basic(login: Login) -> str:
    pair = f"{login.username}:{login.password}"
    return "Basic " + base64.b64encode(pair.encode()).decode()


def _is_sendable(text: str) -> bool:
    return not text or _SENDABLE.fullmatch(text) is not None


def _without(body: bytes, secrets: set[str]) -> bytes:
    for secret in secrets:
        body = body.replace(secret.encode(), b"***")
    return body


def _read_token(data: bytes, server: str, now: float) -> _Token:
    fields = canonical.decode_object(data, f"the answer of {server}")
    text = fields.get("token") or fields.get("access_token")
    if not isinstance(text, str) or not _SENDABLE.fullmatch(text):
        raise Denied(f"{server} answered without a token")
    try:
        life = min(max(float(fields.get("expires_in") or 0), _LEAST_LIFE), _MOST_LIFE)
    except (TypeError, ValueError):
        raise Denied(
            f"{server}: a token that expires in {safe(str(fields['expires_in']))}"
        ) from None
    # By our clock: issued_at may be skewed. Renewed early, so that it holds while it is used.
    return _Token(text, now + min(life * 0.8, life - 10))
