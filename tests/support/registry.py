"""
The registry of Debian's package docker-registry, run on a free port of 127.0.0.1.

Open, with a password file, or with tokens; and a proxy or redirecting one if a test wants it.
"""

from __future__ import annotations

import json
import re
import shutil
import subprocess
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from support.tokenserver import TokenServer, token_server

USER, PASSWORD = "testuser", "correct horse:battery"
_PROGRAM = "docker-registry"
_LISTENS = re.compile(r"listening on (127\.0\.0\.1:[0-9]+)")


@dataclass(slots=True)
class RunningRegistry:
    """A registry that runs; *name* is what references begin with."""

    name: str
    data: Path
    log: list[str] = field(default_factory=list)  # lines, growing
    tokens: TokenServer | None = None

    def blob(self, digest: str) -> Path:
        """The file that the registry has the blob *digest* in."""
        algorithm, _, digits = digest.partition(":")
        folder = self.data / "docker/registry/v2/blobs" / algorithm / digits[:2]
        return folder / digits / "data"


@contextmanager
def open_registry(folder: Path, **config: Any) -> Iterator[RunningRegistry]:
    """One that takes anything from anybody; *config* overrides sections of its configuration."""
    with _running(folder, config) as registry:
        yield registry


@contextmanager
def password_registry(folder: Path, **config: Any) -> Iterator[RunningRegistry]:
    """One with Basic authentication, for USER with PASSWORD only."""
    htpasswd = shutil.which("htpasswd")
    if htpasswd is None:
        pytest.skip("htpasswd is not installed")
    folder.mkdir(parents=True, exist_ok=True)
    entry = subprocess.run(
        [htpasswd, "-B", "-C4", "-i", "-n", USER],
        input=PASSWORD.encode(),
        capture_output=True,
        check=True,
    )
    (folder / "htpasswd").write_bytes(entry.stdout)
    auth = {"htpasswd": {"realm": 'a "realm", really', "path": str(folder / "htpasswd")}}
    with _running(folder, {"auth": auth, **config}) as registry:
        yield registry


@contextmanager
def token_registry(folder: Path, **config: Any) -> Iterator[RunningRegistry]:
    """One that takes tokens of its own token server, for USER with PASSWORD; all may pull."""
    folder.mkdir(parents=True, exist_ok=True)
    with token_server(folder, {USER: PASSWORD}) as tokens:
        auth = {
            "token": {
                "realm": tokens.url,
                "service": tokens.service,
                "issuer": tokens.issuer,
                "rootcertbundle": str(tokens.certificate),
            }
        }
        with _running(folder, {"auth": auth, **config}) as registry:
            registry.tokens = tokens
            yield registry


@contextmanager
def _running(folder: Path, config: Mapping[str, Any]) -> Iterator[RunningRegistry]:
    program = shutil.which(_PROGRAM)
    if program is None:
        pytest.skip(f"{_PROGRAM} is not installed")
    data = folder / "data"
    data.mkdir(parents=True)
    path = folder / "config.yml"
    whole = {
        "version": "0.1",
        "log": {"level": "info", "accesslog": {"disabled": False}},
        "storage": {"filesystem": {"rootdirectory": str(data)}, "delete": {"enabled": True}},
        "http": {"addr": "127.0.0.1:0", "secret": "shared", "headers": {}},
        **config,
    }
    path.write_text(json.dumps(whole))  # JSON is YAML, too
    with subprocess.Popen(
        [program, "serve", str(path)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        assert process.stdout is not None
        log: list[str] = []
        try:
            name = _address(process.stdout, log)
            reader = threading.Thread(target=log.extend, args=(process.stdout,))
            reader.start()
            yield RunningRegistry(name, data, log)
        finally:
            process.terminate()
            process.wait()
    reader.join()


def _address(lines: Iterator[str], log: list[str]) -> str:
    for line in lines:
        log.append(line)
        if found := _LISTENS.search(line):
            return found[1]
    raise AssertionError("the registry did not start: " + "".join(log))
