"""Errors become a message and a status, in one place."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ocispec.errors import Failed, Invalid, NotFound, Usage
from pybuild.failures import guarded


def _raising(error: BaseException) -> Callable[[], int]:
    def action() -> int:
        raise error

    return action


@pytest.mark.parametrize(
    ("error", "status", "said"),
    [
        (NotFound("no such", "look"), 1, "ERROR: no such\nhint: look\n"),
        (Invalid("bad"), 1, "ERROR: bad\n"),
        (Usage("wrong flag"), 2, "ERROR: wrong flag\n"),
        (Failed("exit code: 3", status=3), 1, "ERROR: exit code: 3\n"),
        (KeyboardInterrupt(), 130, "ERROR: interrupted\n"),
        (OSError(28, "No space left", "/x/y"), 1, "ERROR: /x/y: No space left\n"),
        (OSError("odd"), 1, "ERROR: odd\n"),
        (RecursionError(), 1, "ERROR: the input is nested too deeply\n"),
        (Invalid("evil \x1b[31m\ntext"), 1, "ERROR: evil \ufffd[31m\ntext\n"),
    ],
    ids=repr,
)
def test_an_error_is_told_and_counted(
    error: BaseException, status: int, said: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert status == guarded(_raising(error))
    assert ("", said) == capsys.readouterr()


def test_a_command_may_have_a_status_of_its_own_for_failures() -> None:
    assert guarded(_raising(Usage("wrong")), failed=125) == 125


def test_what_works_keeps_its_status() -> None:
    assert guarded(lambda: 42) == 42


def test_what_is_our_mistake_is_not_hidden() -> None:
    with pytest.raises(ZeroDivisionError):
        guarded(lambda: 1 // 0)
