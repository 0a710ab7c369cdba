"""What every Runner does with files. A subclass gives the fixtures *runner* and *root*."""

from __future__ import annotations

import os

from support.rootfs import TinyRoot, run

from runner.spec import Mount, Runner


class RunnerMountsContract:
    """What a command finds in its root, and what is left of it."""

    def test_writes_go_to_the_upper_directory(self, runner: Runner, root: TinyRoot) -> None:
        run(runner, root.shell("echo new > /tmp/file; rm /etc/group"))

        assert root.left() == ["etc", "etc/group", "tmp", "tmp/file"]

    def test_a_command_that_writes_nothing_leaves_nothing(
        self, runner: Runner, root: TinyRoot
    ) -> None:
        bound = root.directory / "bound"
        bound.mkdir()
        sandbox = root.shell(
            "ls -R /proc/self /sys/fs /dev /mnt /cache > /dev/null; cat /etc/hosts",
            hosts=b"127.0.0.1 localhost\n",
            resolv_conf=b"",
            mounts=(
                Mount("bind", str(bound), "/mnt/deep/down"),
                Mount("tmpfs", "tmpfs", "/cache"),
            ),
        )

        result = run(runner, sandbox)

        assert (result.stdout, root.left()) == ("127.0.0.1 localhost\n", [])

    def test_a_bind_shows_and_changes_its_source(self, runner: Runner, root: TinyRoot) -> None:
        bound = root.directory / "bound"
        bound.mkdir()
        (bound / "file").write_text("host")
        mounts = (Mount("bind", str(bound), "/mnt/here"),)

        result = run(runner, root.shell("cat /mnt/here/file; touch /mnt/here/new", mounts=mounts))

        assert (result.stdout, (bound / "new").exists()) == ("host", True)

    def test_a_read_only_bind_cannot_be_written(self, runner: Runner, root: TinyRoot) -> None:
        bound = root.directory / "file"
        bound.write_text("host")
        mounts = (Mount("bind", str(bound), "/etc/passwd", ("ro",)),)

        result = run(runner, root.shell("cat /etc/passwd; echo x > /etc/passwd", mounts=mounts))

        assert result.stdout == "host"
        assert "Read-only file system" in result.stderr
        assert bound.read_text() == "host"

    def test_a_bind_may_come_from_a_descriptor(self, runner: Runner, root: TinyRoot) -> None:
        (root.directory / "bound").mkdir()
        (root.directory / "bound/file").write_text("held open")
        held = os.open(root.directory / "bound", os.O_PATH)
        mounts = (Mount("bind", f"fd:{held}", "/mnt", ("ro",)),)
        reading, writing = os.pipe()

        process = runner.start(root.sandbox("cat", "/mnt/file", mounts=mounts), 0, writing, 2)
        os.close(held)
        os.close(writing)

        with os.fdopen(reading) as pipe:
            assert (pipe.read(), process.wait(60).status) == ("held open", 0)

    def test_a_tmpfs_has_the_size_and_mode_asked_for(self, runner: Runner, root: TinyRoot) -> None:
        mounts = (Mount("tmpfs", "tmpfs", "/t", ("size=65536", "mode=700")),)
        script = "stat -c %a /t; dd if=/dev/zero of=/t/f bs=1k count=65 2>&1 | grep -c space"

        result = run(runner, root.shell(script, mounts=mounts))

        assert result.stdout == "700\n1\n"

    def test_a_later_mount_may_be_inside_an_earlier_one(
        self, runner: Runner, root: TinyRoot
    ) -> None:
        bound = root.directory / "bound"
        bound.mkdir()
        (bound / "file").touch()
        mounts = (Mount("tmpfs", "tmpfs", "/t"), Mount("bind", str(bound), "/t/in/side"))

        result = run(runner, root.shell("ls /t/in/side", mounts=mounts))

        assert (result.stdout, root.left()) == ("file\n", [])

    def test_a_read_only_root_cannot_be_written(self, runner: Runner, root: TinyRoot) -> None:
        mounts = (Mount("tmpfs", "tmpfs", "/t"),)

        result = run(runner, root.shell("touch /t/f && touch /f", read_only=True, mounts=mounts))

        assert result.stderr == "touch: /f: Read-only file system\n"

    def test_hosts_and_resolv_conf_are_read_only_and_exact(
        self, runner: Runner, root: TinyRoot
    ) -> None:
        sandbox = root.shell(
            "cat /etc/hosts /etc/resolv.conf; echo x > /etc/hosts",
            hosts=b"1.2.3.4 here\n",
            resolv_conf=b"nameserver 9.9.9.9\n",
        )

        result = run(runner, sandbox)

        assert result.stdout == "1.2.3.4 here\nnameserver 9.9.9.9\n"
        assert "Read-only file system" in result.stderr
