"""Images that try to bend the mounts of their sandbox: refused, or kept inside."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest
from support.rootfs import TinyRoot, run

from runner.namespace import NamespaceRunner
from runner.spec import Mount

_Change = Callable[[Path, Path], None]  # of the top layer; the other is a directory outside


def _link(path: str, target: str) -> _Change:
    def change(top: Path, outside: Path) -> None:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).symlink_to(target.replace("OUTSIDE", str(outside)))

    return change


def _file(path: str) -> _Change:
    def change(top: Path, _outside: Path) -> None:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        (top / path).write_text("image's\n")

    return change


def _directory(path: str) -> _Change:
    def change(top: Path, _outside: Path) -> None:
        (top / path).mkdir(parents=True)

    return change


def _whiteout(path: str) -> _Change:
    def change(top: Path, _outside: Path) -> None:
        (top / path).parent.mkdir(parents=True, exist_ok=True)
        os.mknod(top / path, 0o20600, os.makedev(0, 0))

    return change


_REFUSED = {
    f"{name} is a {kind}": change
    for name in ("dev", "proc", "sys")
    for kind, change in (
        ("link outside", _link(name, "OUTSIDE")),
        ("link up", _link(name, "../../..OUTSIDE")),
        ("link to a directory", _link(name, "etc")),
        ("magic link", _link(name, "/proc/self/root")),
        ("file", _file(name)),
    )
}
_REFUSED |= {
    "hosts is a directory": _directory("etc/hosts"),
    "etc is a file": _file("etc"),
    "etc is a loop": _link("etc", "etc"),
    "mount target is a loop": _link("mnt", "mnt"),
    "mount target leads into proc": _link("mnt", "/proc/self/cwd"),
    "mount target is a file": _file("mnt/in"),
}
_CONTAINED = {
    "nothing odd": _directory("srv"),
    "dev is deleted": _whiteout("dev"),
    "etc leads outside": _link("etc", "OUTSIDE"),
    "etc leads up": _link("etc", "../../../../OUTSIDE"),
    "etc is deleted": _whiteout("etc"),
    "resolv.conf leads outside": _link("etc/resolv.conf", "OUTSIDE/file"),
    "resolv.conf leads up": _link("etc/resolv.conf", "../../../../OUTSIDE/file"),
    "resolv.conf leads nowhere": _link("etc/resolv.conf", "/run/systemd/stub-resolv.conf"),
    "resolv.conf is a magic link": _link("etc/resolv.conf", "/proc/self/exe"),
    "hosts is deleted": _whiteout("etc/hosts"),
    "hosts is there": _file("etc/hosts"),
    "mount target leads outside": _link("mnt", "OUTSIDE"),
    "mount target leads up": _link("mnt", "../../../../OUTSIDE"),
    "mount target leads elsewhere": _link("mnt", "/var/lib/elsewhere"),
    "mount target is deleted": _whiteout("mnt"),
}


@pytest.fixture
def outside(tmp_path: Path) -> Path:
    directory = tmp_path / "outside"
    directory.mkdir()
    (directory / "file").write_text("host's\n")
    return directory


@pytest.mark.parametrize("change", _REFUSED.values(), ids=_REFUSED.keys())
def test_is_refused(
    runner: NamespaceRunner, root: TinyRoot, outside: Path, change: _Change
) -> None:
    change(root.top, outside)

    result = _run(runner, root, "echo ran")

    assert (result[0], result[1]) == (125, "")
    assert sorted(outside.iterdir()) == [outside / "file"]
    assert root.left() == []


@pytest.mark.parametrize("change", _CONTAINED.values(), ids=_CONTAINED.keys())
def test_is_contained(
    runner: NamespaceRunner, root: TinyRoot, outside: Path, change: _Change
) -> None:
    change(root.top, outside)
    script = """
        cat /etc/hosts /etc/resolv.conf
        test -c /dev/null && test -d /proc/self && ls /mnt/in
    """

    result = _run(runner, root, script)

    assert result == (0, "our hosts\nour resolv.conf\nmounted\n", "")
    assert (outside / "file").read_text() == "host's\n"
    assert sorted(outside.iterdir()) == [outside / "file"]
    assert root.left() == []


@pytest.mark.parametrize(
    "script",
    ["/bin/tool", "/proc/self/exe", "/proc/2/exe", "/proc/self/root/bin/tool", "/dev/fd/3"],
)
def test_a_command_that_leads_to_a_magic_link_runs_nothing_of_the_host(
    runner: NamespaceRunner, root: TinyRoot, script: str
) -> None:
    (root.top / "bin").mkdir()
    (root.top / "bin/tool").symlink_to("/proc/self/exe")

    result = run(runner, root.sandbox(script, "-c", "print('host')"))

    assert result.status in (126, 127)
    assert result.stdout == ""


def _run(runner: NamespaceRunner, root: TinyRoot, script: str) -> tuple[int, str, str]:
    mounted = root.directory / "bound"
    mounted.mkdir()
    (mounted / "mounted").touch()
    result = run(
        runner,
        root.shell(
            script,
            hosts=b"our hosts\n",
            resolv_conf=b"our resolv.conf\n",
            mounts=(Mount("bind", str(mounted), "/mnt/in"),),
        ),
    )
    return result.status, result.stdout, result.stderr
