"""What a sandbox stands on: overlays by every interface of the kernel, and plain directories."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest
from support.rootfs import TinyRoot, busybox_root, run

from runner.inside import linux, overlay
from runner.namespace import NamespaceRunner
from runner.spec import Mount

_WAYS = [overlay.by_descriptor, overlay.by_path, overlay.by_mount]


def _layers(directory: Path, count: int) -> list[Path]:
    layers = [directory / f"layer{number}" for number in range(count)]
    for number, layer in enumerate(layers):
        layer.mkdir()
        (layer / f"file{number}").touch()
    return layers


def _ends(directory: Path) -> list[tuple[str, str | None]]:
    for name in ("upper", "work", "scratch"):
        (directory / name).mkdir()
    return [("upperdir", str(directory / "upper")), ("workdir", str(directory / "work"))]


def _names(mount_fd: int) -> set[str]:
    directory = os.open(".", os.O_RDONLY, dir_fd=mount_fd)
    os.close(mount_fd)
    names = set(os.listdir(directory))
    os.close(directory)
    return names


class TestOverlay:
    @pytest.mark.parametrize("count", [1, 2, 128, 500])
    @pytest.mark.parametrize("way", _WAYS)
    def test_any_number_of_layers_that_the_kernel_can_stack(
        self,
        runner: NamespaceRunner,
        tmp_path: Path,
        way: Callable[[overlay.Options, int, str], int],
        count: int,
    ) -> None:
        del runner  # only tells that this is root
        layers = _layers(tmp_path, count)
        options = [("lowerdir+", str(layer)) for layer in layers] + _ends(tmp_path)

        mounted = way(options, 0, str(tmp_path / "scratch"))

        assert _names(mounted) == {f"file{number}" for number in range(count)}
        assert not os.path.ismount(tmp_path / "scratch")

    @pytest.mark.parametrize("name", ["a:b", "a,b=c", "a\\b", "a\nb", " a ", "a" * 250, "é\udcff"])
    @pytest.mark.parametrize("way", _WAYS)
    def test_any_character_in_a_path(
        self,
        runner: NamespaceRunner,
        tmp_path: Path,
        way: Callable[[overlay.Options, int, str], int],
        name: str,
    ) -> None:
        del runner
        if way == overlay.by_path and len(name) > 200:
            name = name[:100]  # fsconfig(2) takes strings of 255 bytes, the whole path included
        directory = tmp_path / name
        directory.mkdir()
        (layer,) = _layers(directory, 1)
        options = [("lowerdir+", str(layer)), *_ends(directory)]

        mounted = way(options, 0, str(directory / "scratch"))

        assert _names(mounted) == {"file0"}

    def test_too_many_layers_are_an_error_in_the_kernel_s_words(
        self, runner: NamespaceRunner, tmp_path: Path
    ) -> None:
        del runner
        options = [("lowerdir+", str(layer)) for layer in _layers(tmp_path, 501)]

        with pytest.raises(OSError, match="500"):
            overlay.mount(options + _ends(tmp_path), 0, str(tmp_path / "scratch"))

    def test_one_that_comes_up_read_only_is_an_error(
        self, runner: NamespaceRunner, tmp_path: Path
    ) -> None:
        """Rule 5."""
        del runner
        options = [("lowerdir+", str(_layers(tmp_path, 1)[0])), *_ends(tmp_path)]
        done = subprocess.run(["chattr", "+i", tmp_path / "work"], capture_output=True, check=False)
        if done.returncode:
            pytest.skip("needs a file system with immutable directories")
        try:
            with pytest.raises(OSError, match="read-only") as caught:
                overlay.mount(options, 0, str(tmp_path / "scratch"))
        finally:
            subprocess.run(["chattr", "-i", tmp_path / "work"], check=True)

        assert isinstance(caught.value, OSError)

    def test_an_upper_directory_is_used_once(self, runner: NamespaceRunner, root: TinyRoot) -> None:
        """Rule 7: volatile says that the second use would be of an unclean one."""
        first = run(runner, root.sandbox("true"))
        second = run(runner, root.sandbox("true"))

        assert (first.status, second.status) == (0, 125)
        assert "mount overlay" in second.exit.error

    def test_the_upper_directory_has_no_mark_of_the_mount(
        self, runner: NamespaceRunner, root: TinyRoot
    ) -> None:
        """Rule 6."""
        run(runner, root.shell("echo x > /etc/passwd; mkdir /a", hosts=b"x"))

        assert "trusted.overlay.uuid" not in os.listxattr(root.upper)

    def test_a_single_layer_may_hold_whiteouts(
        self, runner: NamespaceRunner, tmp_path: Path
    ) -> None:
        only = tmp_path / "only"
        busybox_root(only)
        for name in ("dev", "etc/hosts"):
            os.mknod(only / name, 0o20600, os.makedev(0, 0))
        root = TinyRoot.make(tmp_path / "root")
        root = TinyRoot(root.directory, (only,))

        result = run(runner, root.sandbox("cat", "/etc/hosts", hosts=b"hosts\n"))

        assert (result.stdout, root.left()) == ("hosts\n", [])

    def test_what_the_upper_directory_holds_is_seen(
        self, runner: NamespaceRunner, root: TinyRoot
    ) -> None:
        (root.upper / "etc").symlink_to("config")
        (root.upper / "config").mkdir()

        result = run(runner, root.sandbox("cat", "/config/hosts", hosts=b"hosts\n"))

        assert (result.stdout, root.left()) == ("hosts\n", ["config", "etc"])


class TestMountPoints:
    def test_their_directories_look_as_in_the_image(
        self, runner: NamespaceRunner, root: TinyRoot
    ) -> None:
        deep = root.top / "var/lib"
        deep.mkdir(parents=True)
        os.setxattr(deep, "user.note", b"kept")
        os.chown(deep, 7, 8)
        deep.chmod(0o2750)
        os.utime(deep, (1, 1_000_000_000))
        mounts = (Mount("tmpfs", "tmpfs", "/var/lib/cache/x"), Mount("tmpfs", "t", "/var/lib/y"))
        script = "stat -c '%a %u %g %Y' /var/lib /etc; touch /var/lib/new"

        result = run(runner, root.shell(script, mounts=mounts, hosts=b""))

        etc = (root.lowers[-1] / "etc").stat()
        assert result.stdout == f"2750 7 8 1000000000\n755 0 0 {int(etc.st_mtime)}\n"
        assert root.left() == ["var", "var/lib", "var/lib/new"]
        assert os.getxattr(root.upper / "var/lib", "user.note") == b"kept"
        copied = (root.upper / "var/lib").stat()
        assert (copied.st_mode & 0o7777, copied.st_uid, copied.st_gid) == (0o2750, 7, 8)

    def test_several_share_their_way(self, runner: NamespaceRunner, root: TinyRoot) -> None:
        paths = ["/a/b/c", "/a/b/d", "/a/e", "/etc/f/g", "/a/b/c/inner"]
        mounts = tuple(Mount("tmpfs", "tmpfs", path) for path in paths)

        result = run(runner, root.shell("ls -d " + " ".join(paths), mounts=mounts))

        assert (sorted(result.stdout.split()), root.left()) == (sorted(paths), [])


class TestPlainDirectory:
    @pytest.fixture
    def plain(self, tmp_path: Path) -> TinyRoot:
        root = TinyRoot.make(tmp_path / "plain")
        busybox_root(root.upper)
        return root

    def test_it_is_written_in_place(self, runner: NamespaceRunner, plain: TinyRoot) -> None:
        run(runner, plain.shell("touch /new", root=(_bind(plain),)))

        assert (plain.upper / "new").exists()

    def test_mount_points_are_taken_away_again(
        self, runner: NamespaceRunner, plain: TinyRoot
    ) -> None:
        mounts = (Mount("tmpfs", "t", "/mnt/a"), Mount("tmpfs", "t", "/mnt/b"))
        os.utime(plain.upper, (2, 2))
        os.utime(plain.upper / "etc", (1, 1))
        before = _state(plain.upper)

        result = run(
            runner, plain.shell("ls / /mnt", root=(_bind(plain),), mounts=mounts, hosts=b"")
        )

        assert result.stdout.split()[-2:] == ["a", "b"]
        assert _state(plain.upper) == before

    def test_what_the_command_put_into_one_stays(
        self, runner: NamespaceRunner, plain: TinyRoot
    ) -> None:
        mounts = (Mount("tmpfs", "t", "/mnt/a"),)
        os.utime(plain.upper, (2, 2))

        run(runner, plain.shell("touch /mnt/b", root=(_bind(plain),), mounts=mounts))

        assert sorted(os.listdir(plain.upper / "mnt")) == ["b"]
        assert plain.upper.stat().st_mtime == 2

    def test_a_parent_that_the_command_changed_keeps_its_time(
        self, runner: NamespaceRunner, plain: TinyRoot
    ) -> None:
        os.utime(plain.upper / "etc", (1, 1))

        run(runner, plain.shell("touch /etc/new", root=(_bind(plain),), hosts=b""))

        assert (plain.upper / "etc").stat().st_mtime > 1
        assert sorted(os.listdir(plain.upper / "etc")) == ["group", "new", "passwd"]


def _bind(root: TinyRoot) -> Mount:
    return Mount("bind", str(root.upper), "/")


def _state(root: Path) -> dict[str, tuple[int, int]]:
    paths = [root, *root.rglob("*")]
    return {str(path): (path.lstat().st_mode, path.lstat().st_mtime_ns) for path in paths}


def test_a_view_that_was_never_attached_can_be_bound(
    runner: NamespaceRunner, root: TinyRoot, tmp_path: Path
) -> None:
    layers = _layers(tmp_path, 2)
    (layers[0] / "sub").mkdir()
    (layers[0] / "sub/inner").touch()
    options = tuple(("lowerdir+", str(layer)) for layer in layers)
    view = linux.new_mount("overlay", options, linux.RDONLY)
    below = os.open("sub", os.O_PATH, dir_fd=view)
    mounts = (Mount("bind", f"fd:{view}", "/view", ("ro",)), Mount("bind", f"fd:{below}", "/sub"))
    try:
        sandbox = root.shell("echo /view/*; echo /sub/*; touch /view/x", mounts=mounts)
        first = run(runner, sandbox)
        second = run(runner, root.fresh().shell("ls /sub", mounts=mounts))
    except OSError as error:
        pytest.skip(f"needs Linux 6.15: {error}")
    finally:
        os.close(view)
        os.close(below)

    assert first.stdout == "/view/file0 /view/file1 /view/sub\n/sub/inner\n"
    assert "Read-only" in first.stderr
    assert second.stdout == "inner\n"
