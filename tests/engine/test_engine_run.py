"""Commands run in images, as docker runs them."""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from typing import Any

import pytest
from support.small_images import busybox, image_of

from engine.engine import Engine
from engine.run import RunRequest, command, run
from ocispec.errors import Invalid, NotFound, PybuildError, Usage
from runner.spec import Exit

_CAPABILITIES = "sed -n 's/CapEff:.//p' /proc/self/status"
pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces and overlayfs")


class Ran:
    """An engine that holds busybox, and what the last command wrote."""

    def __init__(self, engine: Engine, place: Path) -> None:
        self.engine = engine
        self.place = place
        self.out = ""
        self.err = ""

    def __call__(self, *argv: str, image: str = "busybox", stdin: str = "", **options: Any) -> Exit:
        names = [self.place / name for name in ("in", "out", "err")]
        names[0].write_text(stdin)
        with names[0].open() as given, names[1].open("w") as out, names[2].open("w") as err:
            request = RunRequest(image, argv, **options)
            ended = run(self.engine, request, given.fileno(), out.fileno(), err.fileno())
        self.out, self.err = names[1].read_text(), names[2].read_text()
        return ended

    def says(self, *argv: str, **options: Any) -> str:
        """What the command writes; it must succeed."""
        ended = self(*argv, **options)
        assert ended.status == 0, (ended, self.err)
        return self.out


@pytest.fixture
def ran(engine: Engine, tmp_path: Path) -> Ran:
    busybox(engine, tmp_path / "root", "busybox", 'CMD ["echo", "the default"]')
    return Ran(engine, tmp_path)


def test_the_images_command_runs_by_default(ran: Ran) -> None:
    assert ran.says() == "the default\n"


def test_another_command_may_be_given(ran: Ran) -> None:
    assert ran.says("echo", "a b", "c") == "a b c\n"


def test_standard_input_is_passed_on(ran: Ran) -> None:
    assert ran.says("cat", stdin="hello") == "hello"


def test_outputs_stay_apart(ran: Ran) -> None:
    ran("sh", "-c", "echo out; echo err >&2")

    assert (ran.out, ran.err) == ("out\n", "err\n")


@pytest.mark.parametrize(
    ("argv", "status"),
    [
        (["true"], 0),
        (["sh", "-c", "exit 7"], 7),
        (["sh", "-c", "kill -9 $$"], 137),
        (["/nothing"], 127),
        (["nothing"], 127),
        (["/etc/passwd"], 126),
        (["/etc"], 126),
    ],
    ids=str,
)
def test_the_status_is_the_commands_own(ran: Ran, argv: list[str], status: int) -> None:
    assert status == ran(*argv).status


def test_what_it_writes_is_thrown_away(ran: Ran, tmp_path: Path) -> None:
    ran.says("touch", "/made")

    assert ran("ls", "/made").status == 1
    assert list((tmp_path / "store/tmp").iterdir()) == []
    assert list((tmp_path / "store/leases").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "script", "output"),
    [
        ({"env": ("A=b", "C=d=e")}, "echo $A $C", "b d=e\n"),
        ({"env": ("PATH=/bin:/x",)}, "echo $PATH", "/bin:/x\n"),
        ({}, "echo $PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin\n"),
        ({}, "echo $HOME; pwd; id -u", "/root\n/\n0\n"),
        ({"user": "app"}, "echo $HOME; id -u; id -g", "/\n1000\n1000\n"),
        ({"user": "7:8"}, "id -u; id -g", "7\n8\n"),
        ({"workdir": "/etc"}, "pwd", "/etc\n"),
        ({"workdir": "/new/x", "user": "1:1"}, "pwd; stat -c %u:%a . ..", "/new/x\n0:755\n0:755\n"),
        ({"hostname": "box"}, "hostname; grep -c box /etc/hosts", "box\n1\n"),
        ({"add_hosts": (("db", "10.0.0.9"),)}, "grep db /etc/hosts", "10.0.0.9\tdb\n"),
        ({"network": "none"}, "ls /sys/class/net", "lo\n"),
        ({"read_only": True}, "touch /a 2>/dev/null || echo no", "no\n"),
        ({"cap_drop": ("ALL",)}, _CAPABILITIES, f"{0:016x}\n"),
        ({"cap_drop": ("all",), "cap_add": ("kill",)}, _CAPABILITIES, f"{1 << 5:016x}\n"),
        ({"cap_drop": ("CAP_CHOWN",)}, "chown 1 /etc 2>/dev/null || echo no", "no\n"),
        ({"resolv_conf": b"search a.b\n"}, "cat /etc/resolv.conf", "search a.b\n"),
        (
            {"resolv_conf": b"nameserver 127.0.0.1\n", "network": "none"},
            "head -n 1 /etc/resolv.conf",
            "nameserver 8.8.8.8\n",
        ),
    ],
    ids=lambda value: str(value)[:50],
)
def test_options_reach_the_command(
    ran: Ran, options: dict[str, Any], script: str, output: str
) -> None:
    assert output == ran.says("sh", "-c", script, **options)


def test_a_volume_is_the_hosts_directory(ran: Ran, tmp_path: Path) -> None:
    (tmp_path / "shared").mkdir()

    ran.says("sh", "-c", "echo x >/mnt/f", volumes=(f"{tmp_path}/shared:/mnt",))
    refused = ran("touch", "/mnt/g", volumes=(f"{tmp_path}/shared:/mnt:ro",))

    assert ((tmp_path / "shared/f").read_text(), refused.status) == ("x\n", 1)
    assert [path.name for path in (tmp_path / "shared").iterdir()] == ["f"]


@pytest.mark.parametrize(
    "options",
    [
        {"volumes": ("name:/mnt",)},
        {"volumes": ("/etc",)},
        {"volumes": ("/etc:mnt",)},
        {"volumes": ("/etc:/mnt:weird",)},
        {"volumes": ("/nowhere/at/all:/mnt",)},
        {"cap_add": ("NOPE",)},
        {"user": "nobody-here"},
        {"image": "nothing"},
    ],
    ids=str,
)
def test_what_makes_no_sense_is_refused_before_anything_starts(
    ran: Ran, options: dict[str, Any]
) -> None:
    with pytest.raises((Usage, Invalid, NotFound)):
        ran("true", **options)


@pytest.mark.parametrize(
    ("entrypoint", "cmd", "given_entrypoint", "argv", "result"),
    [
        (["e"], ["c"], None, (), ("e", "c")),
        (["e"], ["c"], None, ("a",), ("e", "a")),
        (["e"], ["c"], ("x",), (), ("x",)),
        (["e"], ["c"], ("x",), ("a",), ("x", "a")),
        (["e"], ["c"], (), ("a",), ("a",)),
        (None, ["c"], None, (), ("c",)),
        (["e"], None, None, (), ("e",)),
    ],
    ids=str,
)
def test_entrypoint_and_command_join_as_dockers_do(
    entrypoint: Any,
    cmd: Any,
    given_entrypoint: tuple[str, ...] | None,
    argv: tuple[str, ...],
    result: tuple[str, ...],
) -> None:
    request = RunRequest("image", argv, given_entrypoint)

    assert result == command(request, {"Entrypoint": entrypoint, "Cmd": cmd})


@pytest.mark.parametrize("config", [{}, {"Cmd": []}, {"Cmd": "text"}, {"Entrypoint": [5]}], ids=str)
def test_a_config_without_a_command_is_an_error(config: dict[str, Any]) -> None:
    with pytest.raises(PybuildError):
        command(RunRequest("image"), config)


def test_a_command_that_the_image_lacks_is_not_found(engine: Engine, tmp_path: Path) -> None:
    image_of(engine, tmp_path / "empty", {"f": ""}, "empty")

    assert Ran(engine, tmp_path)("/nothing", image="empty").status == 127


def test_a_timeout_ends_it(ran: Ran) -> None:
    assert ran("sleep", "60", timeout=0.3).status == 124


def test_a_signal_is_passed_on(ran: Ran) -> None:
    script = "trap 'exit 42' TERM; echo ready; while :; do sleep 0.05; done"
    out = ran.place / "out"

    def kill_when_ready() -> None:
        while not (out.exists() and out.read_text()):
            pass
        os.kill(os.getpid(), signal.SIGTERM)

    killer = threading.Thread(target=kill_when_ready)
    before = signal.getsignal(signal.SIGTERM)
    out.write_text("")
    killer.start()
    ended = ran("sh", "-c", script, timeout=30)
    killer.join()

    assert (42, before) == (ended.status, signal.getsignal(signal.SIGTERM))


def test_a_working_directory_is_an_absolute_path(ran: Ran) -> None:
    with pytest.raises(Usage, match="working directory 'etc' is invalid"):
        ran("true", workdir="etc")


def test_an_image_may_have_a_working_directory_that_is_not_there(ran: Ran, tmp_path: Path) -> None:
    busybox(ran.engine, tmp_path / "other", "other", "WORKDIR /app")

    assert ran.says("pwd", image="other") == "/app\n"
