"""What a hostile command or image may not do. Each test names the rule or the attack it is for."""

from __future__ import annotations

import errno
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest
from support.elf import call64
from support.groups import abandoned_groups
from support.rootfs import TinyRoot, run

from runner.capabilities import ALL_CAPABILITIES, mask
from runner.namespace import NamespaceRunner
from runner.spec import MASKED_PATHS, READONLY_PATHS, Limits, Mount

_TRAP = """
import os
os.close(os.open("/trapped", os.O_CREAT | os.O_WRONLY))
raise SystemExit(66)
"""


def _capabilities(text: str) -> dict[str, int]:
    return {
        name: int(value, 16)
        for name, value in re.findall(r"^(Cap\w+):\t(\w+)$", text, re.MULTILINE)
    }


def _interpreters() -> list[str]:
    """Every Python of this machine that is new enough; the one that runs the tests at least."""
    newer = [sys.executable, "/usr/bin/python3", "python3.12", "python3.13"]
    probe = "import sys; sys.exit(sys.version_info < (3, 11))"
    return [
        name
        for name in newer
        if subprocess.run(
            [shutil.which(name) or "false", "-c", probe], capture_output=True, check=False
        ).returncode
        == 0
    ]


class TestPrivileges:
    def test_root_has_docker_s_capabilities(self, runner: NamespaceRunner, root: TinyRoot) -> None:
        result = run(runner, root.sandbox("cat", "/proc/self/status"))

        docker = 0xA80425FB
        assert _capabilities(result.stdout) == {
            "CapInh": 0,
            "CapPrm": docker,
            "CapEff": docker,
            "CapBnd": docker,
            "CapAmb": 0,
        }

    @pytest.mark.parametrize("no_new_privs", [False, True])
    @pytest.mark.parametrize("seccomp", [False, True])
    def test_a_user_has_none_but_a_bounding_set(
        self, runner: NamespaceRunner, root: TinyRoot, seccomp: bool, no_new_privs: bool
    ) -> None:
        sandbox = root.sandbox(
            "cat", "/proc/self/status", uid=1000, seccomp=seccomp, no_new_privs=no_new_privs
        )

        result = run(runner, sandbox)

        found = _capabilities(result.stdout)
        assert found == {
            "CapInh": 0,
            "CapPrm": 0,
            "CapEff": 0,
            "CapBnd": 0xA80425FB,
            "CapAmb": 0,
        }
        assert f"Seccomp:\t{2 if seccomp else 0}\n" in result.stdout
        assert f"NoNewPrivs:\t{int(no_new_privs)}\n" in result.stdout

    def test_a_capability_that_we_lack_ourselves_is_left_out(
        self, runner: NamespaceRunner, root: TinyRoot
    ) -> None:
        ours = _capabilities(Path("/proc/self/status").read_text())["CapPrm"]

        result = run(
            runner, root.sandbox("cat", "/proc/self/status", capabilities=ALL_CAPABILITIES)
        )

        assert _capabilities(result.stdout)["CapEff"] == mask(ALL_CAPABILITIES) & ours

    @pytest.mark.skipif(os.uname().machine != "x86_64", reason="the test program is for x86_64")
    def test_set_user_id_programs_work_as_with_docker(
        self, runner: NamespaceRunner, root: TinyRoot
    ) -> None:
        setresuid = 117
        (root.top / "suid").write_bytes(call64(setresuid, 0, 0, 0))
        (root.top / "suid").chmod(0o4755)

        allowed = run(runner, root.sandbox("/suid", uid=1000))
        denied = run(runner, root.fresh().sandbox("/suid", uid=1000, no_new_privs=True))

        assert (allowed.status, denied.status) == (0, errno.EPERM)


class TestDescriptors:
    def test_only_the_three_streams_are_open(self, runner: NamespaceRunner, root: TinyRoot) -> None:
        """B1: a leaked descriptor of a host directory (runc, CVE-2024-21626)."""
        held = os.open("/", os.O_PATH)
        mounts = (Mount("bind", f"fd:{held}", "/mnt"),)
        sandbox = root.shell("cd /proc/self/fd; echo *", mounts=mounts)

        result = run(runner, sandbox)
        os.close(held)

        assert result.stdout == "0 1 2 3\n"  # and the directory that the shell reads

    def test_the_runner_leaks_none(self, runner: NamespaceRunner, root: TinyRoot) -> None:
        sandbox = root.sandbox("true", cwd="/absent", hosts=b"x")
        run(runner, sandbox)
        zygote = runner._zygote
        assert zygote is not None
        before = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), zygote.pid)]

        for _ in range(20):
            run(runner, sandbox)

        after = [len(os.listdir(f"/proc/{pid}/fd")) for pid in (os.getpid(), zygote.pid)]
        assert after == before

    @pytest.mark.parametrize(
        "path", ["/proc/self/fd/4/../../..", "/proc/1/root", "/proc/self/root", "/proc/1/cwd"]
    )
    def test_the_working_directory_is_no_magic_link(
        self, runner: NamespaceRunner, root: TinyRoot, path: str
    ) -> None:
        """B1 and B9: WORKDIR leads out through /proc."""
        (root.top / "link").symlink_to(path)

        statuses = {
            run(runner, root.fresh().sandbox("pwd", cwd=cwd)).status for cwd in (path, "/link")
        }

        assert statuses <= {126, 127}

    def test_a_working_directory_link_stays_inside(
        self, runner: NamespaceRunner, root: TinyRoot
    ) -> None:
        """B9: WORKDIR is a link to a directory of the host."""
        (root.top / "link").symlink_to("../../../../../etc")

        result = run(runner, root.sandbox("cat", "passwd", cwd="/link"))

        assert result.stdout == (root.lowers[-1] / "etc/passwd").read_text()


class TestProc:
    @pytest.mark.parametrize(
        "name", ["exe", "root", "cwd", "fd/0", "fd/3", "environ", "maps", "mem"]
    )
    def test_pid_1_shows_nothing(self, runner: NamespaceRunner, root: TinyRoot, name: str) -> None:
        """Rule 4."""
        path = f"/proc/1/{name}"
        script = f"cat {path} || ls {path}/ || readlink {path}"

        result = run(runner, root.shell(script))

        assert (result.stdout, result.status != 0) == ("", True)

    @pytest.mark.parametrize("path", [*filter(os.path.exists, MASKED_PATHS)])
    def test_a_masked_path_is_empty(
        self, runner: NamespaceRunner, root: TinyRoot, path: str
    ) -> None:
        result = run(runner, root.shell(f"test -d {path} && ls -A {path} || cat {path}"))

        assert (result.status, result.stdout) == (0, "")

    @pytest.mark.parametrize("path", [*filter(os.path.exists, READONLY_PATHS)])
    def test_a_read_only_path_is_read_only(
        self, runner: NamespaceRunner, root: TinyRoot, path: str
    ) -> None:
        result = run(runner, root.sandbox("grep", f" {path} ", "/proc/mounts"))

        assert result.stdout.split()[3].split(",")[0] == "ro"

    def test_sys_and_its_cgroups_are_read_only(
        self, runner: NamespaceRunner, root: TinyRoot
    ) -> None:
        result = run(runner, root.sandbox("grep", " /sys", "/proc/mounts"))

        modes = {line.split()[3].split(",")[0] for line in result.stdout.splitlines()}
        assert modes == {"ro"}

    @pytest.mark.parametrize("target", ["/proc", "/proc/self", "/proc/sys/kernel", "/link"])
    def test_nothing_is_mounted_below_proc(
        self, runner: NamespaceRunner, root: TinyRoot, target: str
    ) -> None:
        """B2: procfs write redirection (runc, CVE-2025-52881)."""
        (root.top / "link").symlink_to("/proc/sys")
        mounts = (Mount("tmpfs", "tmpfs", target),)

        result = run(runner, root.sandbox("true", mounts=mounts))

        assert result.status == 125

    def test_no_mount_of_the_host_is_left(self, runner: NamespaceRunner, root: TinyRoot) -> None:
        result = run(runner, root.sandbox("cut", "-d ", "-f2", "/proc/mounts"))

        known = ("/proc", "/sys", "/dev")
        assert [p for p in result.stdout.splitlines() if not p.startswith(known)] == ["/"]


class TestInterpreter:
    @pytest.mark.parametrize("link", ["/proc/self/exe", "/proc/1/exe", "/proc/thread-self/exe"])
    def test_an_image_cannot_execute_it(
        self, runner: NamespaceRunner, root: TinyRoot, link: str
    ) -> None:
        """Rule 2: /bin/tool is a link to whatever executes it (runc, CVE-2019-5736)."""
        (root.top / "tool").symlink_to(link)

        result = run(runner, root.sandbox("/tool", "-c", "print('executed')"))

        assert (result.status, result.stdout) == (126, "")

    def test_nobody_can_overwrite_it(self, runner: NamespaceRunner, root: TinyRoot) -> None:
        """Rule 2."""
        runner.warm()
        assert runner._zygote is not None

        executable = f"/proc/{runner._zygote.pid}/exe"
        run(runner, root.sandbox("true"))  # by now it has seen to itself
        flags = os.statvfs(executable).f_flag

        assert flags & os.ST_RDONLY
        assert flags & os.ST_NOEXEC
        with pytest.raises(OSError, match="Read-only file system"):
            os.utime(executable)

    def test_nothing_is_imported_from_the_image(
        self, runner: NamespaceRunner, root: TinyRoot
    ) -> None:
        """Rule 1, on the way of a success, of errors, and of errors in messages."""
        library = sysconfig.get_path("stdlib")
        package = str(Path(__file__).parents[2])
        for place in ("", library, f"{library}/site-packages", "/usr/lib/python3", package):
            folder = root.top / place.lstrip("/")
            folder.mkdir(parents=True, exist_ok=True)
            for name in ("traceback", "locale", "pwd", "warnings", "linecache", "runpy"):
                (folder / f"{name}.py").write_text(_TRAP)
            for name in ("encodings", "runner", "json", "ctypes"):
                (folder / name).mkdir(exist_ok=True)
                (folder / name / "__init__.py").write_text(_TRAP)
        odd = "\udcff\N{SNOWMAN}"
        sandboxes = [
            root.sandbox("true"),
            root.sandbox(odd),
            root.sandbox("true", cwd=f"/{odd}"),
            root.sandbox("true", rlimits={"nofile": (1 << 40, 1 << 40)}),
            root.sandbox("true", mounts=(Mount("tmpfs", "tmpfs", "/t", (f"mode={odd}",)),)),
        ]

        statuses = []
        for sandbox in sandboxes:
            root.fresh()
            statuses.append(run(runner, sandbox).status)
            assert root.left() == []

        assert statuses == [0, 127, 127, 125, 125]


class TestDevices:
    def test_nodes_can_be_made_but_only_known_ones_opened(
        self, runner: NamespaceRunner, root: TinyRoot
    ) -> None:
        script = """
            mknod /disk b 254 0 && mknod /mem c 1 1 && mknod /null c 1 3 && echo made
            head -c 1 /disk; head -c 1 /mem; head -c 1 /null && echo opened
        """

        result = run(runner, root.shell(script))

        assert result.stdout == "made\nopened\n"
        assert result.stderr.count("Operation not permitted") == 2

    def test_dev_has_what_programs_expect(self, runner: NamespaceRunner, root: TinyRoot) -> None:
        result = run(runner, root.sandbox("ls", "/dev"))

        names = "core fd full mqueue null ptmx pts random shm stderr stdin stdout tty urandom zero"
        assert result.stdout.split() == names.split()

    def test_shm_has_the_size_asked_for(self, runner: NamespaceRunner, root: TinyRoot) -> None:
        script = "df -k /dev/shm | tail -1 | tr -s ' ' | cut -d' ' -f2"

        result = run(runner, root.shell(script, shm_size=1 << 20))

        assert result.stdout == "1024\n"


class TestProcesses:
    def test_a_killed_monitor_takes_the_sandbox_with_it(
        self, runner: NamespaceRunner, root: TinyRoot
    ) -> None:
        reading, writing = os.pipe()
        script = "trap '' TERM HUP; setsid sleep 1000 & while :; do sleep 1000; done"
        process = runner.start(root.shell(script), writing, writing, writing)
        os.close(writing)
        status = Path(f"/proc/{process.pid}/status").read_text()
        (monitor,) = re.findall(r"^PPid:\t(\d+)$", status, re.MULTILINE)

        os.kill(int(monitor), 9)

        with os.fdopen(reading, "rb") as pipe:
            assert pipe.read() == b""
        end = process.wait(60)
        assert (end.status, end.error) == (125, "the monitor of the sandbox was killed")

    def test_a_zygote_that_has_died_is_replaced(self, root: TinyRoot) -> None:
        runner = NamespaceRunner()
        runner.warm()
        assert runner._zygote is not None
        os.kill(runner._zygote.pid, 9)
        os.waitid(os.P_PID, runner._zygote.pid, os.WEXITED | os.WNOWAIT)

        result = run(runner, root.sandbox("true"))
        runner.close()

        assert result.status == 0

    @pytest.mark.parametrize("name", _interpreters())
    def test_other_interpreters_run_it(self, root: TinyRoot, name: str) -> None:
        program = (
            "import sys; from pathlib import Path; from support.rootfs import TinyRoot, run;"
            "from runner.namespace import NamespaceRunner;"
            "root = TinyRoot(Path(sys.argv[1]), tuple(map(Path, sys.argv[2:])));"
            "runner = NamespaceRunner();"
            "print(run(runner, root.shell('exit 3')).status); runner.close()"
        )
        top = Path(__file__).parents[2]

        done = subprocess.run(
            [name, "-W", "error", "-c", program, root.directory, *root.lowers],
            capture_output=True,
            env={"PYTHONPATH": f"{top}:{top / 'tests'}", "PYTHONDONTWRITEBYTECODE": "1"},
            check=True,
        )

        assert done.stdout == b"3\n"


class TestLimits:
    def test_running_out_of_memory_is_told(self, runner: NamespaceRunner, root: TinyRoot) -> None:
        script = "head -c 100m /dev/zero | tail -c 90m"

        result = run(runner, root.shell(script, limits=Limits(memory=32 << 20)))

        assert result.exit.oom

    def test_a_command_within_its_memory_is_not_out_of_it(
        self, runner: NamespaceRunner, root: TinyRoot
    ) -> None:
        result = run(runner, root.sandbox("true", limits=Limits(memory=32 << 20)))

        assert (result.status, result.exit.oom) == (0, False)

    def test_the_number_of_processes_is_limited(
        self, runner: NamespaceRunner, root: TinyRoot
    ) -> None:
        script = "sleep 1000 & sleep 1000 & sleep 1000 & sleep 1000 & echo never"

        result = run(runner, root.shell(script, limits=Limits(pids=4)))

        assert (result.stdout, "can't fork" in result.stderr) == ("", True)

    def test_no_group_is_left(self, root: TinyRoot) -> None:
        own = Path("/proc/self/cgroup").read_text()
        runner = NamespaceRunner()
        result = run(runner, root.sandbox("true", limits=Limits(memory=1 << 30, cpus=1.5)))
        runner.close()

        assert result.status == 0
        assert abandoned_groups() == []
        assert Path("/proc/self/cgroup").read_text() == own
