from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from support.trees import ROOT_ONLY, tree

from layers import linux


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return tree(tmp_path / "root", {"a": "1", "d/b": "2", "out": "-> /a", "up": "-> ../../../a"})


class TestRename:
    def test_a_free_name_is_taken(self, root: Path) -> None:
        linux.rename_noreplace(root / "a", root / "new")

        assert (root / "new").read_text() == "1"
        assert not (root / "a").exists()

    @pytest.mark.parametrize("target", ["a", "d", "out"])
    def test_what_is_there_is_not_replaced(self, root: Path, target: str) -> None:
        (root / "other").write_text("other")

        with pytest.raises(FileExistsError) as raised:
            linux.rename_noreplace(root / "other", root / target)

        assert raised.value.filename == str(root / target)
        assert (root / "other").read_text() == "other"

    def test_an_empty_directory_is_not_replaced_either(self, root: Path) -> None:
        (root / "empty").mkdir()

        with pytest.raises(FileExistsError):
            linux.rename_noreplace(root / "d", root / "empty")

    def test_a_missing_source_is_an_error_with_a_path(self, root: Path) -> None:
        with pytest.raises(FileNotFoundError, match="renameat2") as raised:
            linux.rename_noreplace(root / "none", root / "new")

        assert raised.value.filename == str(root / "none")


def test_a_file_system_that_cannot_share_blocks_says_no(tmp_path: Path) -> None:
    with (tmp_path / "source").open("wb+") as source, Path("/dev/null").open("wb") as target:
        assert not linux.clone_file(source.fileno(), target.fileno())


def test_syncfs_needs_an_open_file() -> None:
    with pytest.raises(OSError, match="syncfs"):
        linux.syncfs(-1)


def test_importing_it_does_not_load_ctypes() -> None:
    program = "import sys, layers.linux; sys.exit('ctypes' in sys.modules)"
    subprocess.run(
        [sys.executable, "-c", program], check=True, cwd=Path(linux.__file__).parent.parent
    )


@ROOT_ONLY
class TestMounts:
    def test_a_detached_mount_is_a_directory_and_goes_with_its_descriptor(self) -> None:
        before = Path("/proc/self/mounts").read_bytes()
        mount = linux.fsmount_new("tmpfs", [("mode", "700"), ("size", "1m")])
        try:
            os.mkdir("d", dir_fd=mount)

            assert os.listdir(f"/proc/self/fd/{mount}") == ["d"]
            assert os.fstat(mount).st_mode == 0o40700
            assert not os.get_inheritable(mount)
            assert before == Path("/proc/self/mounts").read_bytes()
        finally:
            os.close(mount)

    def test_attributes_are_set_from_the_beginning(self) -> None:
        mount = linux.fsmount_new("tmpfs", (), linux.MOUNT_ATTR_RDONLY | linux.MOUNT_ATTR_NODEV)
        try:
            flags = os.fstatvfs(mount).f_flag
        finally:
            os.close(mount)

        assert flags & os.ST_RDONLY
        assert flags & os.ST_NODEV

    @pytest.mark.parametrize(
        ("fstype", "option", "said"),
        [("tmpfs", "nosuch", "tmpfs: .*nosuch"), ("nosuchfs", "a", "fsopen: ")],
    )
    def test_the_error_is_in_the_words_of_the_kernel(
        self, fstype: str, option: str, said: str
    ) -> None:
        with pytest.raises(OSError, match=said):
            linux.fsmount_new(fstype, [option])

    def test_a_failed_mount_leaves_no_descriptor(self) -> None:
        before = os.listdir("/proc/self/fd")
        with pytest.raises(OSError, match="tmpfs"):
            linux.fsmount_new("tmpfs", ["nosuch"])

        assert os.listdir("/proc/self/fd") == before

    def test_a_bind_can_be_read_only_where_its_source_is_not(self, root: Path) -> None:
        mount = linux.bind_fd(str(root), attrs=linux.MOUNT_ATTR_RDONLY)
        try:
            with pytest.raises(OSError, match="Read-only"):
                os.unlink("a", dir_fd=mount)
        finally:
            os.close(mount)
        (root / "a").unlink()

    def test_a_bind_of_a_link_is_of_the_link(self, root: Path) -> None:
        mount = linux.bind_fd(str(root / "out"))
        try:
            assert os.readlink("", dir_fd=mount) == "/a"
        finally:
            os.close(mount)
