"""``pybuild run``, as a user runs it."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest
from support.cli import Cli
from support.rootfs import busybox_root

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces, overlayfs")


@pytest.fixture(scope="module")
def cli(tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The command on a store that holds a static busybox."""
    place = tmp_path_factory.mktemp("run")
    busybox_root(place / "root")
    made = Cli(place / "store")
    made("import", "-c", 'CMD ["echo", "default"]', place / "root", "busybox")
    return made


@pytest.mark.parametrize(
    ("args", "status", "stdout"),
    [
        (["busybox"], 0, "default\n"),
        (["--rm", "busybox", "echo", "-n", "--x", "-e"], 0, "--x -e"),
        (["-e", "A=b", "-eC=d=e", "busybox", "sh", "-c", "echo $A$C"], 0, "bd=e\n"),
        (["-w", "/etc", "-u", "app", "busybox", "sh", "-c", "pwd; id -un"], 0, "/etc\napp\n"),
        (["-h", "box", "busybox", "hostname"], 0, "box\n"),
        (["--entrypoint", "echo", "busybox", "x"], 0, "x\n"),
        (["--entrypoint", "", "busybox", "echo", "x"], 0, "x\n"),
        (["--network", "none", "busybox", "ls", "/sys/class/net"], 0, "lo\n"),
        (["busybox", "sh", "-c", "exit 42"], 42, ""),
        (["busybox", "sh", "-c", "kill -TERM $$"], 143, ""),
        (["busybox", "nothing"], 127, ""),
        (["busybox", "/etc/passwd"], 126, ""),
        (["--pull=never", "nothing"], 125, ""),
        (["-v", "relative:/x", "busybox"], 125, ""),
        (["-u", "nobody-here", "busybox"], 125, ""),
        (["-m", "much", "busybox"], 125, ""),
        (["--network", "bridge", "busybox"], 125, ""),
        (["--nope", "busybox"], 2, ""),
        ([], 2, ""),
    ],
    ids=str,
)
def test_a_command_runs_as_with_docker(cli: Cli, args: list[str], status: int, stdout: str) -> None:
    done = cli("run", *args, status=status)

    assert stdout == done.stdout
    assert "Traceback" not in done.stderr


def test_standard_input_is_passed_on_only_with_i(cli: Cli) -> None:
    with_i = cli("run", "-i", "busybox", "cat", stdin=b"hello")
    without = cli("run", "busybox", "cat", stdin=b"hello")

    assert (with_i.stdout, without.stdout) == ("hello", "")


def test_a_file_of_variables_is_read(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "env").write_text("# a comment\n\nA=from file\nHERE\nMISSING\n")

    done = cli.with_env(HERE="outside")(
        *("run", "--env-file", tmp_path / "env", "-e", "A=last", "busybox"),
        *("sh", "-c", 'echo "$A $HERE ${MISSING-unset}"'),
    )

    assert done.line == "last outside unset"


def test_why_a_command_did_not_start_is_told(cli: Cli) -> None:
    done = cli("run", "busybox", "nothing", status=127)

    assert done.stderr.startswith("ERROR: ")
    assert "nothing" in done.stderr


def test_a_terminal_without_input_is_refused_for_i(cli: Cli) -> None:
    done = cli("run", "-it", "busybox", status=125)

    assert "not a terminal" in done.stderr


def test_a_terminal_is_given_without_input(cli: Cli) -> None:
    done = cli("run", "-t", "busybox", "sh", "-c", "test -t 1 && tty")

    assert done.stdout == "/dev/pts/0\r\n"


def test_a_terminal_is_joined_with_ours(cli: Cli) -> None:
    master, slave = os.openpty()
    script = "stty size; read line; echo got $line; read never"
    with subprocess.Popen(["stty", "rows", "33", "cols", "77"], stdin=slave) as sized:
        assert sized.wait() == 0
    with subprocess.Popen(
        cli.argv("run", "-it", "busybox", "sh", "-c", script),
        stdin=slave,
        stdout=slave,
        stderr=slave,
        env=cli.environment(),
        start_new_session=True,
    ) as process:
        os.close(slave)
        shown = _read_until(master, b"33 77\r\n")
        os.write(master, b"hello\r")
        shown += _read_until(master, b"got hello\r\n")
        os.write(master, b"\x03")  # Ctrl-C: the container's terminal makes SIGINT of it
        status = process.wait(20)
    os.close(master)

    assert status == 130
    assert b"33 77" in shown


def _read_until(fd: int, end: bytes) -> bytes:
    data = b""
    while end not in data:
        data += os.read(fd, 1 << 16)
    return data
