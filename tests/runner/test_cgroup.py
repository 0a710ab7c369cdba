from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from support.groups import abandoned_groups
from support.rootfs import TinyRoot

from runner.inside import cgroup
from runner.inside.cgroup import Hierarchies, Shared
from runner.namespace import NamespaceRunner

if TYPE_CHECKING:
    from runner.inside.request import LimitsRequest

_TOP = Path(__file__).parents[2]

_VERSION_2 = """\
22 1 8:1 / / rw,relatime shared:1 - ext4 /dev/sda1 rw
30 22 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate
"""
_HYBRID = """\
31 23 0:28 / /sys/fs/cgroup rw,relatime - tmpfs tmpfs rw,mode=755
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/x /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw
"""


def test_version_2_has_one_hierarchy() -> None:
    found = cgroup.find(_VERSION_2, "0::/user.slice/session-1.scope\n")

    assert (found.unified, found.top) == (
        "/sys/fs/cgroup/user.slice/session-1.scope",
        "/sys/fs/cgroup",
    )
    assert found.controllers == {}


def test_version_1_has_one_for_each_controller() -> None:
    found = cgroup.find(_HYBRID, "5:memory:/docker/x/y\n2:cpu,cpuacct:/\n0::/\n1:name=systemd:/\n")

    assert found.unified == "/sys/fs/cgroup/unified"
    assert found.controllers == {
        "cpu": "/sys/fs/cgroup/cpu,cpuacct",
        "cpuacct": "/sys/fs/cgroup/cpu,cpuacct",
        "memory": "/sys/fs/cgroup/memory/y",
    }


def _limits(
    memory: int | None = None,
    swap: int | None = None,
    pids: int | None = None,
    cpus: float | None = None,
) -> LimitsRequest:
    return {"memory": memory, "swap": swap, "pids": pids, "cpus": cpus}


def test_no_limits_need_no_group() -> None:
    group = Shared(Hierarchies(None, {})).group(_limits())

    assert (group.joins, group.filters_devices) == ([], False)


def test_limits_without_a_controller_are_an_error() -> None:
    with pytest.raises(OSError, match="no cgroup controller that we may use for memory, pids"):
        Shared(Hierarchies(None, {})).group(_limits(memory=1, pids=1))


def test_the_settings_of_both_versions() -> None:
    settings = cgroup.settings_for(_limits(memory=1 << 20, swap=4096, pids=9, cpus=1.5))

    assert settings == {
        "memory": (
            [
                ("memory.limit_in_bytes", "1048576"),
                ("memory.memsw.limit_in_bytes", "1052672"),
            ],
            [
                ("memory.oom.group", "1"),
                ("memory.max", "1048576"),
                ("memory.swap.max", "4096"),
            ],
        ),
        "pids": ([("pids.max", "10")], [("pids.max", "10")]),
        "cpu": (
            [("cpu.cfs_period_us", "100000"), ("cpu.cfs_quota_us", "150000")],
            [("cpu.max", "150000 100000")],
        ),
    }


class TestWhereControllersCanBeHad:
    """Directories stand for groups: this kernel may have its controllers in version 1."""

    @pytest.fixture
    def top(self, tmp_path: Path) -> Path:
        (tmp_path / "slice/scope").mkdir(parents=True)
        for name, enabled in (("", "cpu memory pids"), ("slice", "memory"), ("slice/scope", "")):
            (tmp_path / name / "cgroup.subtree_control").write_text(enabled)
        return tmp_path

    def test_what_is_enabled_already_is_left_alone(self, top: Path) -> None:
        found = cgroup.parent_for(str(top / "slice"), str(top), {"memory"})

        assert found == str(top / "slice")
        assert (top / "slice/cgroup.subtree_control").read_text() == "memory"

    def test_what_is_not_is_enabled(self, top: Path) -> None:
        found = cgroup.parent_for(str(top / "slice/scope"), str(top), {"pids", "cpu"})

        assert found == str(top / "slice/scope")
        assert (top / "slice/scope/cgroup.subtree_control").read_text() == "+cpu +pids"

    def test_upwards_from_one_where_it_cannot_be(self, top: Path) -> None:
        (top / "slice/scope/cgroup.subtree_control").unlink()
        (top / "slice/scope/cgroup.subtree_control").mkdir()  # cannot be written

        assert cgroup.parent_for(str(top / "slice/scope"), str(top), {"memory"}) == str(
            top / "slice"
        )

    def test_nowhere(self, top: Path) -> None:
        (top / "cgroup.subtree_control").unlink()

        with pytest.raises(OSError, match="no cgroup controller"):
            cgroup.parent_for(str(top), str(top), {"memory"})


class TestSweep:
    def test_what_a_killed_owner_left_is_removed(self, tmp_path: Path) -> None:
        (tmp_path / "pybuild-dead").mkdir()
        (tmp_path / "other").mkdir()

        cgroup.sweep(str(tmp_path))

        assert [path.name for path in tmp_path.iterdir()] == ["other"]

    def test_what_has_an_owner_is_kept(self, tmp_path: Path) -> None:
        (tmp_path / "pybuild-alive").mkdir()
        held = os.open(tmp_path / "pybuild-alive", os.O_RDONLY)
        fcntl.flock(held, fcntl.LOCK_SH)

        cgroup.sweep(str(tmp_path))
        os.close(held)

        assert (tmp_path / "pybuild-alive").exists()


_DEVICES = """
    mount -t tmpfs t /tmp 2> /dev/null && echo mounted
    for place in / /dev /dev/shm /mnt /tmp; do
        mknod $place/disk b DISK && mknod $place/tun c 10 200 || echo no nodes
        head -c 1 $place/disk > /dev/null 2>&1 && echo disk in $place
        (: < $place/tun) 2> /dev/null && echo tun in $place
    done
    mknod /null c 1 3
    head -c 1 /null 2> /dev/null && echo null
    for name in null zero full random urandom; do
        head -c 1 /dev/$name > /dev/null || echo no $name
    done
    echo x > /dev/null && test -r /proc/interrupts && head -c 1 /proc/interrupts
"""
_PROGRAM = """
import sys
from pathlib import Path
from runner.namespace import NamespaceRunner
from runner.spec import Mount
from support.rootfs import TinyRoot, run
runner = NamespaceRunner()
root = TinyRoot(Path(sys.argv[1]), tuple(map(Path, sys.argv[3:])))
result = run(runner, root.shell(sys.argv[2], mounts=(Mount("tmpfs", "tmpfs", "/mnt"),)))
print(result.stdout, result.stderr, sep="", end="")
runner.close()
"""


@pytest.mark.parametrize(
    ("hide", "works"),
    [
        pytest.param("true", "null\n", id="as the host is"),
        pytest.param("umount /sys/fs/cgroup/unified", "null\n", id="version 1 only"),
        pytest.param("umount -R /sys/fs/cgroup", "", id="no groups at all"),
    ],
)
def test_no_device_of_the_host_can_be_opened(
    runner: NamespaceRunner, root: TinyRoot, hide: str, works: str
) -> None:
    del runner  # only tells that this is root
    command = f'{hide} || exit 77; exec "$@"'
    disk = " ".join(Path("/proc/partitions").read_text().split()[4:6])  # after the headings
    layers = [str(layer) for layer in root.lowers]
    script = _DEVICES.replace("DISK", disk)
    arguments = [sys.executable, "-c", _PROGRAM, str(root.directory), script, *layers]

    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command, "sh", *arguments],
        env={"PATH": os.environ["PATH"], "PYTHONPATH": f"{_TOP}:{_TOP / 'tests'}"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 77:
        pytest.skip(f"needs a host where this works: {hide}")

    assert (done.stdout, done.stderr) == (works, "")
    assert abandoned_groups() == []
