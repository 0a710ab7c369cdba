from __future__ import annotations

import fcntl
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from layers import statindex
from layers.statindex import ROW, UNKNOWN, Table

PATHS = ["a", "b/c", "n\nl", "\udcff"]
TABLE = Table(
    statindex.joined(PATHS),
    bytes(range(ROW)) * len(PATHS),
    "".join(f"{number:064x}" for number in range(3)) + UNKNOWN,
    {1: {"security.capability": b"\0\xff", "user.k": b""}},
)


@pytest.fixture
def index(tmp_path: Path) -> Path:
    return tmp_path / "index"


def test_what_is_saved_is_loaded(index: Path) -> None:
    statindex.save(index, TABLE)

    assert statindex.load(index) == TABLE


def test_a_tree_without_files_has_a_table(index: Path) -> None:
    empty = Table(b"", b"", "", {})
    statindex.save(index, empty)

    assert statindex.load(index) == empty


def test_there_may_be_no_index(index: Path) -> None:
    assert statindex.load(index) is None


@given(st.data())
def test_a_damaged_index_is_none(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    index = tmp_path_factory.mktemp("index") / "index"
    statindex.save(index, TABLE)
    whole = index.read_bytes()
    at = data.draw(st.integers(0, len(whole) - 1))
    damaged = data.draw(
        st.sampled_from(
            [whole[:at], whole[:at] + bytes([whole[at] ^ 255]) + whole[at + 1 :], whole + b"x"]
        )
    )
    index.write_bytes(damaged)

    assert statindex.load(index) is None


def test_paths_are_split_as_they_were_joined() -> None:
    assert statindex.split(statindex.joined(PATHS)) == PATHS
    assert statindex.split(statindex.joined([])) == []


def test_only_files_whose_row_is_the_same_are_known() -> None:
    rows = TABLE.rows[: 2 * ROW] + bytes(ROW) + TABLE.rows[:ROW]

    found = list(statindex.known(TABLE, ["b/c", "new", "a", "\udcff"], rows))

    assert found == [(0, 1), (3, 3)]


def test_saving_leaves_nothing_beside_the_index(index: Path) -> None:
    statindex.save(index, TABLE)

    assert os.listdir(index.parent) == ["index"]


def test_what_a_killed_process_left_is_written_over(index: Path) -> None:
    (index.parent / "index.new").write_bytes(b"x" * 100_000)

    statindex.save(index, TABLE)

    assert statindex.load(index) == TABLE
    assert os.listdir(index.parent) == ["index"]


def test_an_index_that_another_process_writes_is_left_to_it(index: Path) -> None:
    with (index.parent / "index.new").open("wb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)

        statindex.save(index, TABLE)

    assert statindex.load(index) is None


def test_an_index_that_cannot_be_put_in_place_leaves_nothing(index: Path) -> None:
    (index / "in the way").mkdir(parents=True)

    with pytest.raises(IsADirectoryError):
        statindex.save(index, TABLE)

    assert os.listdir(index.parent) == ["index"]


@pytest.mark.parametrize("field", ["size", "mtime", "ctime", "inode", "mode"])
def test_a_row_is_another_when_a_field_is(field: str) -> None:
    numbers = {"mode": 0o100644, "inode": 2**64 - 1, "size": 5, "mtime": -1, "ctime": 7}

    assert _row(**numbers) != _row(**{**numbers, field: numbers[field] - 1})


def _row(mode: int, inode: int, size: int, mtime: int, ctime: int) -> bytes:
    named = {"st_mtime_ns": mtime, "st_ctime_ns": ctime}
    return statindex.rows([os.stat_result((mode, inode, 1, 1, 0, 0, size, 0, 0, 0), named)])
