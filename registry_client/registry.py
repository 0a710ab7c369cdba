"""One registry: its connections, and requests that are authorised and tried again."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from ocispec.errors import Cancelled, Denied, PybuildError, Unavailable
from registry_client.auth import Auth
from registry_client.credentials import Credentials
from registry_client.errors import BUSY, MAX_BODY, error_for
from registry_client.hosts import Hosts, Origin
from registry_client.retry import Retries
from registry_client.transport import READ_TIMEOUT, Body, Broken, Request, Response, Transport

_MAX_RENEWALS: Final = 2  # first for a token, then for one with the scope that was missed


class Registry:
    """
    The registry *name*, shared by its repositories and their threads.

    When it says that it is busy, all of them wait. *stopped* ends the waits.
    """

    def __init__(
        self,
        name: str,
        hosts: Hosts,
        *,
        user_agent: str,
        retries: Retries,
        stopped: threading.Event,
    ) -> None:
        self.name = name
        self.retries = retries
        self._hosts = hosts
        self._user_agent = user_agent
        self._stopped = stopped
        self._lock = threading.Lock()  # guards the two below
        self._transport: Transport | None = None
        self._quiet_until = 0.0  # of the monotonic clock

    def auth(self, repository: str, credentials: Credentials) -> Auth:
        return Auth(
            self.name,
            repository,
            credentials,
            home=lambda: self.transport().home,
            hosts=self._hosts,
            send=self.send,
        )

    def transport(self) -> Transport:
        """The connections to where the registry is: found out when it is first needed."""
        with self._lock:
            if self._transport is None:
                self._transport = self._found()
            return self._transport

    def request(
        self,
        method: str,
        target: str,
        auth: Auth,
        scopes: Sequence[str],
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | None = None,
        once: bool = False,
        timeout: float = READ_TIMEOUT,
    ) -> Response:
        """
        The answer to a request for *target*, a path or a URL that the registry gave us.

        Repeated with new credentials when they are asked for, and after failures unless *once*.
        A URL of another origin gets no credentials, whatever it asks for.
        """
        home = self.transport().home
        url = home.url + target if target.startswith("/") else target
        is_home = Origin.of(url) == home
        request = Request(method, url, headers or {}, body, timeout=timeout)
        renewals = 0
        while True:
            used = auth.header(scopes) if is_home else ""
            response = self.send(replace(request, authorization=used), once=once)
            if response.status != 401 or not is_home or response.is_redirected:
                return response
            wanted = response.headers.get("WWW-Authenticate", "")
            try:
                if renewals == _MAX_RENEWALS or not auth.renew(wanted, scopes, used):
                    return response
            except BaseException:
                response.close()
                raise
            response.close()
            renewals += 1

    def send(self, request: Request, *, once: bool = False) -> Response:
        """The answer to *request*; tried again, with waits, when there is none or "not now"."""
        attempts = 1 if once else self.retries.attempts
        for attempt in range(1, attempts + 1):
            self.wait_for_quiet()
            try:
                response = self.transport().send(request)
            except Broken:
                if attempt == attempts:
                    raise
                self.wait(attempt)
                continue
            if response.status not in BUSY or attempt == attempts:
                return response
            asked = response.headers.get("Retry-After", "")
            is_limit = response.status == 429
            response.close()
            seconds = self.retries.asked_wait(asked, time.time(), self.name)
            seconds = max(seconds, self.retries.wait(attempt, random.random()))
            if is_limit:
                self._keep_quiet(seconds)
            else:
                self._sleep(seconds)
        raise AssertionError("the last attempt returns or raises")

    def refusal(self, response: Response, what: str, auth: Auth) -> PybuildError:
        """The error that *response* is; closes it."""
        with response:
            try:
                body = auth.redact(response.body(MAX_BODY))
            except PybuildError:
                body = b""  # the status says enough
        error = error_for(response.status, body, what)
        if isinstance(error, Denied):
            error.hint = auth.advice()
        return error

    def wait(self, attempt: int) -> None:
        """Wait before another attempt. Cancelled if we are to stop."""
        self._sleep(self.retries.wait(attempt, random.random()))

    def wait_for_quiet(self) -> None:
        with self._lock:
            seconds = self._quiet_until - time.monotonic()
        if seconds > 0:
            self._sleep(seconds)

    def close(self) -> None:
        with self._lock:
            if self._transport is not None:
                self._transport.close()
                self._transport = None

    def _keep_quiet(self, seconds: float) -> None:
        with self._lock:
            self._quiet_until = max(self._quiet_until, time.monotonic() + seconds)

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise Cancelled(f"{self.name}: stopped")

    def _found(self) -> Transport:
        *others, last = self._hosts.candidates(self.name)
        for origin in others:
            transport = Transport(origin, self._hosts, self._user_agent)
            try:
                transport.send(Request("GET", origin.url + "/v2/")).close()
            except Unavailable:
                transport.close()
            else:
                return transport
        return Transport(last, self._hosts, self._user_agent)
