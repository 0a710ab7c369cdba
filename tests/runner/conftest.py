from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.rootfs import BUSYBOX, TinyRoot, busybox_root

from runner.namespace import NamespaceRunner

pytest.register_assert_rewrite("contracts.runner_contract", "contracts.runner_mounts_contract")


@pytest.fixture(scope="session")
def busybox(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a busybox system, for many tests to stand on."""
    if not BUSYBOX.exists():
        pytest.skip("needs /bin/busybox of Debian's busybox-static")
    root = tmp_path_factory.mktemp("busybox")
    busybox_root(root)
    return root


@pytest.fixture
def root(busybox: Path, tmp_path: Path) -> TinyRoot:
    return TinyRoot.make(tmp_path / "root", busybox)


@pytest.fixture(scope="session")
def runner() -> Iterator[NamespaceRunner]:
    if os.geteuid() != 0:
        pytest.skip("needs root: this runner has no user namespaces yet")
    runner = NamespaceRunner()
    yield runner
    runner.close()
