"""What every Runner does with commands. A subclass gives the fixtures *runner* and *root*."""

from __future__ import annotations

import fcntl
import os
import re
import signal
import struct
import termios
import threading
from pathlib import Path

import pytest
from support.rootfs import TinyRoot, run

from ocispec.errors import Invalid
from runner.spec import HOST_NETWORK, Mount, Runner


class RunnerContract:
    """How commands start and end, and what they see; files are in RunnerMountsContract."""

    @pytest.mark.parametrize(
        ("script", "status"),
        [
            ("exit 0", 0),
            ("exit 3", 3),
            ("exit 255", 255),
            ("kill -TERM $$", 143),
            ("kill -KILL $$", 137),
            ("kill -ABRT $$", 134),
            ("no-such-command", 127),
        ],
    )
    def test_the_status_is_what_a_shell_would_say(
        self, runner: Runner, root: TinyRoot, script: str, status: int
    ) -> None:
        result = run(runner, root.shell(script))

        assert (status, "") == (result.status, result.exit.error)

    def test_a_command_that_is_not_in_path_is_127(self, runner: Runner, root: TinyRoot) -> None:
        result = run(runner, root.sandbox("nothing"))

        assert (result.status, result.exit.error) == (127, "nothing: not found in PATH")

    def test_a_command_path_that_is_missing_is_127(self, runner: Runner, root: TinyRoot) -> None:
        result = run(runner, root.sandbox("/bin/nothing"))

        assert (
            result.status,
            result.exit.error,
        ) == (127, "/bin/nothing: No such file or directory")

    @pytest.mark.parametrize(
        ("command", "why"),
        [
            ("/etc/passwd", "Permission denied"),
            ("/etc", "Permission denied"),
            ("/bin/garbage", "Exec format error"),
        ],
    )
    def test_what_cannot_be_executed_is_126(
        self, runner: Runner, root: TinyRoot, command: str, why: str
    ) -> None:
        (root.top / "bin").mkdir()
        (root.top / "bin/garbage").write_bytes(b"\0\0\0\0")
        (root.top / "bin/garbage").chmod(0o755)

        result = run(runner, root.sandbox(command))

        assert (126, f"{command}: {why}") == (result.status, result.exit.error)

    def test_path_is_looked_up_in_order_and_past_what_is_not_executable(
        self, runner: Runner, root: TinyRoot
    ) -> None:
        for directory, mode in (("a", 0o644), ("b", 0o755), ("c", 0o755)):
            (root.top / directory).mkdir()
            (root.top / directory / "tool").write_text(f"#!/bin/sh\necho {directory}\n")
            (root.top / directory / "tool").chmod(mode)

        result = run(runner, root.sandbox("tool", env=("PATH=/none::/a:/b:/c:/bin",)))

        assert (result.status, result.stdout) == (0, "b\n")

    def test_a_root_that_cannot_be_mounted_is_125(self, runner: Runner, root: TinyRoot) -> None:
        lost = Mount("overlay", "overlay", "/", ("lowerdir+=/no/such/directory",))

        result = run(runner, root.sandbox("true", root=(lost,)))

        assert result.status == 125
        assert "/no/such/directory" in result.exit.error

    def test_the_three_streams_are_the_given_ones(self, runner: Runner, root: TinyRoot) -> None:
        result = run(runner, root.shell("cat; echo problem >&2"), stdin=b"given")

        assert (result.stdout, result.stderr) == ("given", "problem\n")

    def test_the_environment_is_the_given_one_alone(self, runner: Runner, root: TinyRoot) -> None:
        odd = "ODD=\udcff=é"

        result = run(runner, root.sandbox("env", env=("PATH=/bin", "A=1", "A=2", odd)))

        assert {"PATH=/bin", "A=2", odd} == set(result.stdout.splitlines())

    def test_the_working_directory_is_the_given_one(self, runner: Runner, root: TinyRoot) -> None:
        (root.top / "srv").mkdir()
        (root.top / "link").symlink_to("/srv")

        result = run(runner, root.sandbox("pwd", "-P", cwd="/link"))

        assert result.stdout == "/srv\n"

    def test_a_missing_working_directory_is_an_error(self, runner: Runner, root: TinyRoot) -> None:
        result = run(runner, root.sandbox("true", cwd="/absent"))

        assert (
            result.status,
            result.exit.error,
        ) == (127, "working directory /absent: No such file or directory")

    def test_user_group_and_groups_are_the_given_ones(self, runner: Runner, root: TinyRoot) -> None:
        result = run(runner, root.sandbox("id", uid=1000, gid=1000, groups=(1000, 27, 4)))

        assert result.stdout == "uid=1000(app) gid=1000(app) groups=4,27,1000(app)\n"

    def test_a_user_may_write_to_dev_stdout(self, runner: Runner, root: TinyRoot) -> None:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb") as pipe:
            sandbox = root.shell("echo there > /dev/stdout", uid=1000)
            process = runner.start(sandbox, writing, writing, writing)
            os.close(writing)

            assert (process.wait(60).status, pipe.read()) == (0, b"there\n")

    def test_the_umask_is_022(self, runner: Runner, root: TinyRoot) -> None:
        before = os.umask(0o077)
        try:
            result = run(runner, root.shell("umask; touch /f; stat -c %a /f"))
        finally:
            os.umask(before)

        assert result.stdout == "0022\n644\n"

    def test_signals_are_as_at_the_start_of_a_program(self, runner: Runner, root: TinyRoot) -> None:
        result = run(runner, root.sandbox("grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"))

        masks = re.findall(r"[0-9a-f]{16}", result.stdout)
        assert [int(mask, 16) for mask in masks] == [0, 0, 0]

    def test_resource_limits_are_set(self, runner: Runner, root: TinyRoot) -> None:
        limits = {"nofile": (100, 200), "core": (0, 0)}

        result = run(runner, root.shell("ulimit -n; ulimit -Hn; ulimit -c", rlimits=limits))

        assert result.stdout == "100\n200\n0\n"

    def test_the_network_is_a_loopback_alone(self, runner: Runner, root: TinyRoot) -> None:
        result = run(runner, root.shell("ls /sys/class/net; ping -c 1 127.0.0.1 | grep -c ttl"))

        assert result.stdout == "lo\n1\n"

    def test_the_network_may_be_the_host_s(self, runner: Runner, root: TinyRoot) -> None:
        sandbox = root.sandbox("readlink", "/proc/self/ns/net", namespaces=HOST_NETWORK)

        result = run(runner, sandbox)

        assert f"{os.readlink('/proc/self/ns/net')}\n" == result.stdout

    def test_the_network_may_be_another_sandbox_s(
        self, runner: Runner, root: TinyRoot, busybox: Path, tmp_path: Path
    ) -> None:
        other = TinyRoot.make(tmp_path / "other", busybox)
        process = runner.start(other.shell("sleep 1000"), 0, 1, 2)
        path = f"/proc/{process.pid}/ns/net"
        its = os.readlink(path)

        result = run(
            runner,
            root.sandbox(
                "readlink", "/proc/self/ns/net", namespaces={**HOST_NETWORK, "network": path}
            ),
        )
        process.kill(signal.SIGKILL)
        process.wait(60)

        assert result.stdout == f"{its}\n"

    def test_the_hostname_is_the_given_one(self, runner: Runner, root: TinyRoot) -> None:
        result = run(runner, root.sandbox("hostname", hostname="builder"))

        assert result.stdout == "builder\n"

    def test_only_the_command_s_own_processes_are_seen(
        self, runner: Runner, root: TinyRoot
    ) -> None:
        result = run(runner, root.shell("echo $$; ls -d /proc/[0-9]*"))

        assert result.stdout == "2\n/proc/1\n/proc/2\n"

    def test_background_processes_end_with_the_command(
        self, runner: Runner, root: TinyRoot
    ) -> None:
        reading, writing = os.pipe()
        # Both keep the pipe open, one in a session of its own and deaf to SIGTERM.
        script = "sleep 1000 & setsid sh -c 'trap \"\" TERM; sleep 1000; sleep 1000' & exit 7"
        process = runner.start(root.shell(script), writing, writing, writing)
        os.close(writing)

        with os.fdopen(reading, "rb") as pipe:
            assert (process.wait(60).status, pipe.read()) == (7, b"")

    def test_orphans_are_reaped(self, runner: Runner, root: TinyRoot) -> None:
        script = """
            for i in $(seq 100); do (true &); done
            while ps -o stat | grep -q Z; do :; done
        """

        assert run(runner, root.shell(script)).status == 0

    def test_the_whole_tree_ends_when_the_time_is_up(self, runner: Runner, root: TinyRoot) -> None:
        script = "trap '' TERM INT HUP; (trap '' TERM; sleep 1000) & while :; do sleep 1000; done"

        result = run(runner, root.shell(script, timeout=0.2))

        assert (result.status, result.exit.error) == (124, "timed out after 0.2 s")

    def test_a_grace_lets_a_command_end_itself_when_the_time_is_up(
        self, runner: Runner, root: TinyRoot
    ) -> None:
        script = "trap 'echo bye; exit 0' TERM; sleep 1000 & wait"

        result = run(runner, root.shell(script, timeout=0.2, grace=60))

        assert (result.status, result.stdout) == (124, "bye\n")

    @pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT, signal.SIGUSR1])
    def test_a_signal_reaches_the_command(
        self, runner: Runner, root: TinyRoot, number: signal.Signals
    ) -> None:
        reading, writing = os.pipe()
        with os.fdopen(reading, "rb", buffering=0) as pipe:
            name = number.name.removeprefix("SIG")
            script = f"trap 'exit 9' {name}; echo ready; while :; do sleep 0.01; done"
            process = runner.start(root.shell(script), writing, writing, writing)
            os.close(writing)
            pipe.read(6)
            process.kill(number)

            assert process.wait(60).status == 9

    def test_sigkill_ends_everything(self, runner: Runner, root: TinyRoot) -> None:
        process = runner.start(root.shell("trap '' TERM; sleep 1000 & sleep 1000"), 0, 1, 2)

        process.kill(signal.SIGKILL)

        assert process.wait(60).status == 137

    def test_a_signal_to_an_ended_sandbox_is_nothing(self, runner: Runner, root: TinyRoot) -> None:
        process = runner.start(root.sandbox("true"), 0, 1, 2)
        process.wait(60)

        process.kill(signal.SIGTERM)

        assert process.wait(60).status == 0

    def test_a_signal_handler_may_send_one(self, runner: Runner, root: TinyRoot) -> None:
        script = "trap 'exit 9' TERM; while :; do sleep 0.01; done"
        process = runner.start(root.shell(script, timeout=60), 0, 1, 2)
        before = signal.signal(signal.SIGALRM, lambda *_: process.kill(signal.SIGTERM))
        try:
            signal.setitimer(signal.ITIMER_REAL, 0.05, 0.01)
            status = process.wait(60).status
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
            signal.signal(signal.SIGALRM, before)

        assert status in (9, 143)  # the shell may be hit before it has set its trap

    def test_wait_gives_up_after_its_own_timeout(self, runner: Runner, root: TinyRoot) -> None:
        process = runner.start(root.shell("sleep 1000"), 0, 1, 2)

        with pytest.raises(TimeoutError):
            process.wait(0.01)

        process.kill(signal.SIGKILL)
        process.wait(60)

    def test_the_pid_is_that_of_pid_1(self, runner: Runner, root: TinyRoot) -> None:
        process = runner.start(root.shell("sleep 1000"), 0, 1, 2)
        status = Path(f"/proc/{process.pid}/status").read_text()
        process.kill(signal.SIGKILL)
        process.wait(60)

        assert re.search(rf"^NSpid:\t{process.pid}\t1$", status, re.MULTILINE)

    def test_a_terminal_is_a_terminal(self, runner: Runner, root: TinyRoot) -> None:
        script = """
            read go; tty; test -t 2 && stty size
            trap 'echo caught; exit 5' INT; echo ready; read x
        """
        process = runner.start(root.shell(script, terminal=True), 0, 1, 2)
        assert process.terminal is not None
        fcntl.ioctl(process.terminal, termios.TIOCSWINSZ, struct.pack("4H", 33, 111, 0, 0))
        os.write(process.terminal, b"\n")
        seen = _read_until(process.terminal, b"ready\r\n")
        os.write(process.terminal, b"\x03")
        seen += _read_until(process.terminal, b"caught\r\n")
        status = process.wait(60).status
        os.close(process.terminal)

        assert b"/dev/pts/0\r\n33 111\r\n" in seen
        assert status == 5

    def test_hanging_up_the_terminal_ends_the_command(self, runner: Runner, root: TinyRoot) -> None:
        process = runner.start(root.shell("echo ready; read x", terminal=True), 0, 1, 2)
        assert process.terminal is not None
        _read_until(process.terminal, b"ready\r\n")

        os.close(process.terminal)

        assert process.wait(60).status in (1, 129)

    def test_sandboxes_start_from_many_threads(
        self, runner: Runner, busybox: Path, tmp_path: Path
    ) -> None:
        roots = [TinyRoot.make(tmp_path / f"root{number}", busybox) for number in range(16)]
        statuses: dict[int, int] = {}

        def one(number: int) -> None:
            statuses[number] = run(runner, roots[number].shell(f"exit {number}")).status

        threads = [threading.Thread(target=one, args=(number,)) for number in range(16)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

        assert {number: number for number in range(16)} == statuses

    def test_a_sandbox_without_a_command_is_invalid(self, runner: Runner, root: TinyRoot) -> None:
        with pytest.raises(Invalid):
            runner.start(root.sandbox(), 0, 1, 2)


def _read_until(fd: int, end: bytes) -> bytes:
    seen = b""
    while not seen.endswith(end):
        seen += os.read(fd, 4096)
    return seen
