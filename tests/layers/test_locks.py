from __future__ import annotations

import fcntl
import os
import subprocess
import sys
from pathlib import Path
from threading import Event, Thread

import pytest

from layers.locks import is_held, locked


@pytest.mark.parametrize(
    ("first", "second", "expected"),
    [(True, True, False), (True, False, False), (False, True, False), (False, False, True)],
    ids=["two exclusive", "exclusive, shared", "shared, exclusive", "two shared"],
)
def test_locks_exclude_each_other(
    tmp_path: Path, first: bool, second: bool, expected: bool
) -> None:
    path = tmp_path / "lock"
    with locked(path, exclusive=first), path.open() as other:
        operation = fcntl.LOCK_EX if second else fcntl.LOCK_SH
        try:
            fcntl.flock(other, operation | fcntl.LOCK_NB)
            taken = True
        except BlockingIOError:
            taken = False

    assert expected == taken


def test_threads_of_one_process_exclude_each_other(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    order = []
    waiting = Event()

    def wait() -> None:
        waiting.set()
        with locked(path, exclusive=True):
            order.append("second")

    with locked(path, exclusive=True):
        thread = Thread(target=wait)
        thread.start()
        waiting.wait()
        order.append("first")
    thread.join()

    assert order == ["first", "second"]


def test_a_lock_is_free_after_an_error(tmp_path: Path) -> None:
    with pytest.raises(KeyError), locked(tmp_path / "lock", exclusive=True):
        raise KeyError

    assert not is_held(tmp_path / "lock")


def test_a_lock_is_given_back_while_a_child_has_its_descriptor(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, exclusive=True):
        (fd,) = [int(n) for n in os.listdir("/proc/self/fd") if _leads_to(int(n), path)]
        command = [sys.executable, "-c", "import sys; sys.stdin.read()"]
        child = subprocess.Popen(command, stdin=subprocess.PIPE, pass_fds=[fd])
    held = is_held(path)
    child.communicate()

    assert not held


def test_a_lock_file_that_was_removed_meanwhile_locks_nobody_out(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    waiting, inode = Event(), []

    def wait() -> None:
        waiting.set()
        with locked(path, exclusive=True):
            inode.append(path.stat().st_ino)

    with locked(path, exclusive=True):
        old = os.open(path, os.O_RDONLY)  # so that the number of the file is not used again
        thread = Thread(target=wait)
        thread.start()
        waiting.wait()
        path.unlink()
    thread.join()
    os.close(old)

    assert inode == [path.stat().st_ino]


def test_a_lock_that_is_not_there_is_not_held(tmp_path: Path) -> None:
    assert not is_held(tmp_path / "lock")


def test_a_lock_of_this_process_is_held(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    with locked(path, exclusive=True):
        inside = is_held(path)

    assert (inside, is_held(path)) == (True, False)


def _leads_to(fd: int, path: Path) -> bool:
    try:
        return Path(f"/proc/self/fd/{fd}").readlink() == path
    except FileNotFoundError:
        return False
