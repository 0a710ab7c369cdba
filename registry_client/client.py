"""The client: registries that are connected to once, repositories in them."""

from __future__ import annotations

import os
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path

from ocispec.reference import Reference
from registry_client.credentials import Anonymous, Credentials, DockerConfig
from registry_client.hosts import HostConfig, Hosts, Proxies, system_roots
from registry_client.registry import Registry
from registry_client.repository import OnProgress, Repository
from registry_client.retry import Retries

_USER_AGENT = "pybuild"


class Client:
    """All registries that are spoken to. For many threads; close() it."""

    def __init__(
        self,
        credentials: Credentials | None = None,
        hosts: Hosts | None = None,
        *,
        user_agent: str = _USER_AGENT,
        retries: Retries | None = None,
    ) -> None:
        self._credentials = credentials or Anonymous()
        self._hosts = hosts or Hosts()
        self._user_agent = user_agent
        self._retries = retries or Retries()
        self._stopped = threading.Event()
        self._lock = threading.Lock()  # guards the one below
        self._registries: dict[str, Registry] = {}

    @classmethod
    def configured(
        cls,
        docker_config: Path | None,
        *,
        named: Mapping[str, HostConfig] | None = None,
        environ: Mapping[str, str] = os.environ,
    ) -> Client:
        """
        The client of a user's command, with the logins of the config.json at *docker_config*.

        From *environ* come the proxies, the CAs that are trusted, and where helpers are.
        """
        hosts = Hosts(named or {}, Proxies.of_environment(environ), system_roots(environ))
        if docker_config is None:
            return cls(None, hosts)
        return cls(DockerConfig(docker_config, search=environ.get("PATH", os.defpath)), hosts)

    def registry(self, name: str) -> Registry:
        """The registry *name*, as in references."""
        with self._lock:
            if name not in self._registries:
                self._registries[name] = Registry(
                    name,
                    self._hosts,
                    user_agent=self._user_agent,
                    retries=self._retries,
                    stopped=self._stopped,
                )
            return self._registries[name]

    def repository(
        self,
        ref: Reference,
        *,
        on_progress: OnProgress | None = None,
        mount_from: Sequence[str] = (),
    ) -> Repository:
        """The repository that *ref* is in."""
        return Repository(
            self.registry(ref.registry),
            ref.repository,
            self._credentials,
            on_progress=on_progress,
            mount_from=mount_from,
        )

    def close(self) -> None:
        """End all connections, and waits for another attempt."""
        self._stopped.set()
        with self._lock:
            for registry in self._registries.values():
                registry.close()
            self._registries.clear()

    def __enter__(self) -> Client:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
