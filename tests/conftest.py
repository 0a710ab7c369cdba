"""Fixtures that every test may ask for, and the rule that CI skips nothing."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest
from hypothesis import settings
from support.bases import BUSYBOX, DEBIAN, import_base
from support.cli import Cli

# Machines are noisy: how long one example takes says nothing. In CI the examples are the same on
# every run, so that a change is judged by what it did.
settings.register_profile("ours", deadline=None, derandomize=os.environ.get("CI") == "true")
settings.load_profile("ours")


def pytest_configure() -> None:
    # Whoever starts the tests may ignore signals, as nohup and "&" do, and children inherit that.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for number in (signal.SIGHUP, signal.SIGTERM):
        signal.signal(number, signal.SIG_DFL)


@pytest.fixture
def cli(tmp_path: Path) -> Cli:
    """The command on an empty store."""
    return Cli(tmp_path / "store")


@pytest.fixture
def busybox(cli: Cli) -> Cli:
    """The command on a store that holds busybox."""
    import_base(cli, BUSYBOX)
    return cli


@pytest.fixture(scope="session")
def debian(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """
    The command on a store that holds debian:bookworm.

    One store for the whole session, since what tests build on it is worth keeping: each test
    gives its images names of its own.
    """
    cli = Cli(tmp_path_factory.mktemp("debian") / "store")
    import_base(cli, DEBIAN)
    return cli


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if _skipped_in_ci(terminalreporter.config):
        terminalreporter.write_line("CI=true: a skipped test is a failure", red=True)


def pytest_sessionfinish(session: pytest.Session) -> None:
    if _skipped_in_ci(session.config) and session.exitstatus == pytest.ExitCode.OK:
        session.exitstatus = pytest.ExitCode.TESTS_FAILED


def _skipped_in_ci(config: pytest.Config) -> bool:
    reporter = config.pluginmanager.get_plugin("terminalreporter")
    return os.environ.get("CI") == "true" and bool(reporter and reporter.stats.get("skipped"))
