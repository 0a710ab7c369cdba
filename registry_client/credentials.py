"""
Logins from docker's config.json: helper programs, the store of the platform, or written there.

A helper is a program ``docker-credential-NAME``. It is run without a shell, from the absolute
folders of PATH, with a time-out, and only if its name is one (CVE-2026-28406: a name with a path).
"""

from __future__ import annotations

import base64
import json
import os
import re
import select
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Protocol

from ocispec import canonical
from ocispec.errors import Denied, Invalid
from registry_client.errors import safe

if TYPE_CHECKING:
    import subprocess

_HELPER: Final = re.compile(r"[A-Za-z0-9._-]+")
_NOT_THERE: Final = "credentials not found in native keychain"
_TIMEOUT: Final = 30.0  # seconds for one helper: some ask the user for a passphrase
_MAX_ANSWER: Final = 1 << 20
_MAX_CONFIG: Final = 1 << 20
_HUB_SERVER: Final = "https://index.docker.io/v1/"
_HUB_NAMES: Final = ("docker.io", "index.docker.io", "registry-1.docker.io")


@dataclass(frozen=True, slots=True)
class Login:
    """A user and password, or a token that stands for them. Secrets are not in the repr."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)  # an OAuth2 refresh token
    registry_token: str = field(default="", repr=False)  # used as the bearer token itself


class Credentials(Protocol):
    """Who we are at a registry."""

    def login(self, registry: str, repository: str, /) -> Login | None:
        """The login for *repository* of *registry*, named as in references. None: anonymous."""


class Anonymous:
    """No login anywhere."""

    def login(self, _registry: str, _repository: str, /) -> Login | None:
        return None


@dataclass(frozen=True, slots=True)
class OneLogin:
    """One login for one registry."""

    registry: str
    known: Login

    def login(self, registry: str, _repository: str, /) -> Login | None:
        return self.known if registry == self.registry else None


class DockerConfig:
    """
    The logins that *path*, a config.json of docker or an auth.json of podman, has or points to.

    Read anew each time, so a ``docker login`` meanwhile counts; no file is no login. Helpers are
    looked for in *search*, as in PATH.
    """

    def __init__(self, path: Path, *, search: str, timeout: float = _TIMEOUT) -> None:
        self._path = path
        self._search = search
        self._timeout = timeout

    def login(self, registry: str, repository: str, /) -> Login | None:
        config = self._read()
        keys = tuple(_keys(registry, repository))
        server = _HUB_SERVER if registry in _HUB_NAMES else registry
        helpers = {_plain(key): name for key, name in _section(config, "credHelpers").items()}
        for key in keys:
            if key in helpers:
                own = server if key in (registry, *_HUB_NAMES) else key
                return self._ask(str(helpers[key]), own)
        store = config.get("credsStore")
        if isinstance(store, str) and store:
            login = self._ask(store, server)
            if login is not None:
                return login
        entries = {_plain(key): entry for key, entry in _section(config, "auths").items()}
        for key in keys:
            login = _written(entries.get(key), key)
            if login is not None:
                return login
        return None

    def _read(self) -> dict[str, Any]:
        try:
            with self._path.open("rb") as file:
                data = file.read(_MAX_CONFIG + 1)
        except (FileNotFoundError, NotADirectoryError):
            return {}
        if len(data) > _MAX_CONFIG:
            raise Invalid(f"{self._path}: more than {_MAX_CONFIG} bytes")
        try:
            return canonical.decode_object(data, str(self._path)) if data.strip() else {}
        except Invalid as error:
            # Without the cause, whose attributes hold the text with its secrets.
            raise Invalid(error.message, hint="log in again to have it written anew") from None

    def _ask(self, name: str, server: str) -> Login | None:
        if not _HELPER.fullmatch(name):
            raise Invalid(
                f"{self._path}: {safe(name)!r} is not the name of a credential helper",
                hint="it is the part after docker-credential-",
            )
        program = f"docker-credential-{name}"
        path = _find(program, self._search)
        if path is None:
            raise Denied(
                f"the credential helper {program} is not installed",
                hint=f"install it, or take it out of {self._path}",
            )
        status, answer = _run(path, server, self._timeout)
        if status != 0:
            text = answer.decode(errors="replace")
            if _NOT_THERE in text:
                return None
            raise Denied(f"{program} failed: {safe(text) or f'status {status}'}")
        try:
            fields = json.loads(answer)
            username, secret = str(fields["Username"]), str(fields["Secret"])
        except (ValueError, KeyError, TypeError, RecursionError):
            # Without the cause: its attributes hold the answer, and that the secret.
            raise Denied(f"{program} gave an answer that is not understood") from None
        if username == "<token>":
            return Login(identity_token=secret)
        return Login(username, secret)


def _keys(registry: str, repository: str) -> Iterator[str]:
    """What a login may be filed under, the most specific first (containers-auth.json(5))."""
    names = _HUB_NAMES if registry in _HUB_NAMES else (registry,)
    parts = repository.split("/")
    for count in range(len(parts), 0, -1):
        for name in names:
            yield f"{name}/{'/'.join(parts[:count])}"
    yield from names


def _plain(key: str) -> str:
    """A key without what old versions of docker put around the host: https://host/v1/."""
    key = key.removeprefix("https://").removeprefix("http://").rstrip("/")
    return key.removesuffix("/v1").removesuffix("/v2")


def _section(config: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    section = config.get(name)
    return section if isinstance(section, dict) else {}


def _written(entry: object, key: str) -> Login | None:
    if not isinstance(entry, dict):
        return None
    username, password = str(entry.get("username") or ""), str(entry.get("password") or "")
    auth = entry.get("auth")
    if isinstance(auth, str) and auth:
        try:
            text = base64.b64decode(auth, validate=True).decode()
        except ValueError:
            raise Invalid(f"the login for {key} is damaged", hint="log in again") from None
        username, _, password = text.partition(":")
        password = password.rstrip("\0")  # docker pads with these, and strips them, too
    login = Login(
        username,
        password,
        str(entry.get("identitytoken") or ""),
        str(entry.get("registrytoken") or ""),
    )
    return login if login != Login() else None


def _find(program: str, search: str) -> str | None:
    """*program* in the absolute folders of *search*: an empty one means the current directory."""
    for folder in search.split(os.pathsep):
        path = f"{folder}/{program}"
        if folder.startswith("/") and os.access(path, os.X_OK):
            return path
    return None


def _run(path: str, server: str, timeout: float) -> tuple[int, bytes]:
    """Exit status and answer of a helper that is asked for *server*."""
    import subprocess

    with subprocess.Popen(
        [path, "get"], stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    ) as helper:
        try:
            answer = _converse(helper, server.encode(), time.monotonic() + timeout)
            return helper.wait(timeout=timeout), answer
        except (TimeoutError, subprocess.TimeoutExpired):
            raise Denied(
                f"{path} did not answer within {timeout:g} seconds",
                hint="does it wait for a passphrase?",
            ) from None
        finally:
            helper.kill()  # nothing if it has ended


def _converse(helper: subprocess.Popen[bytes], question: bytes, deadline: float) -> bytes:
    """
    Ask, and read to the end of the answer. TimeoutError at *deadline*.

    Not Popen.communicate(): that has no limit of size, and waits for whoever else holds the pipe.
    """
    assert helper.stdin is not None
    assert helper.stdout is not None
    try:
        os.write(helper.stdin.fileno(), question)
        helper.stdin.close()
    except BrokenPipeError:
        pass  # it answers without listening, or has failed: what it says tells
    output = helper.stdout.fileno()
    poll = select.poll()
    poll.register(output, select.POLLIN)
    answer = b""
    while True:
        left = deadline - time.monotonic()
        if left <= 0 or not poll.poll(left * 1000):
            raise TimeoutError
        chunk = os.read(output, 1 << 16)
        if not chunk:
            return answer
        answer += chunk
        if len(answer) > _MAX_ANSWER:
            raise Denied(f"a credential helper answered more than {_MAX_ANSWER} bytes")
