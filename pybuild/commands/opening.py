"""The engine as the command line opens it."""

from __future__ import annotations

from engine.engine import Engine
from pybuild import places


def open_engine(root: str | None, jobs: int | None = None) -> Engine:
    """An engine on the store of ``--root`` or the surroundings; a context manager."""
    store = places.store_root(root)
    return Engine(store, jobs=jobs, docker_config=places.docker_config())
