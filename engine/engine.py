"""The engine: one store and what works on it, opened piece by piece as it is needed."""

from __future__ import annotations

import os
import threading
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING

from layers.store import Store

if TYPE_CHECKING:
    # For annotations only: a cached build starts no runner and asks no registry.
    from layers.snapshots import Snapshots
    from registry_client.client import Client
    from runner.spec import Runner


class Engine:
    """
    The store at *root* with its snapshots, a runner and a registry client, each made on first use.

    A context manager; close() ends the runner and the client's connections. *jobs* is how many
    steps or blobs are worked on at once; one a processor by default.
    """

    def __init__(
        self, root: Path, *, jobs: int | None = None, docker_config: Path | None = None
    ) -> None:
        self.store = Store.at(root)
        self.jobs = jobs or os.cpu_count() or 1
        self._docker_config = docker_config
        self._lock = threading.Lock()  # guards the three below
        self._snapshots: Snapshots | None = None
        self._runner: Runner | None = None
        self._client: Client | None = None

    def snapshots(self) -> Snapshots:
        """The store's snapshots: overlayfs where it is to be had, else copies."""
        with self._lock:
            if self._snapshots is None:
                from layers.snapshots import snapshots_for

                self._snapshots = snapshots_for(self.store)
            return self._snapshots

    def runner(self) -> Runner:
        """The runner of sandboxes."""
        with self._lock:
            if self._runner is None:
                from runner.namespace import NamespaceRunner

                self._runner = NamespaceRunner()
            return self._runner

    def client(self) -> Client:
        """The registry client, with the credentials of docker's config file."""
        with self._lock:
            if self._client is None:
                from registry_client.client import Client

                self._client = Client.configured(self._docker_config)
            return self._client

    def close(self) -> None:
        """End what was started. Sandboxes that still run go on."""
        with self._lock:
            if self._runner is not None:
                self._runner.close()
                self._runner = None
            if self._client is not None:
                self._client.close()
                self._client = None

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
