from __future__ import annotations

import pytest

from ocispec import errors
from ocispec.errors import Failed, Invalid, PybuildError, Usage

KINDS = [
    kind
    for kind in vars(errors).values()
    if isinstance(kind, type) and issubclass(kind, PybuildError) and kind is not Failed
]


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_each_kind_has_a_message_and_a_hint(kind: type[PybuildError]) -> None:
    error = kind("what went wrong", hint="what to do")

    assert (error.message, error.hint, str(error)) == (
        "what went wrong",
        "what to do",
        "what went wrong",
    )


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_a_hint_may_be_left_out(kind: type[PybuildError]) -> None:
    assert kind("what").hint == ""


def test_a_failed_command_has_a_status() -> None:
    assert Failed("make", status=2).status == 2


def test_bad_usage_is_invalid_input() -> None:
    assert issubclass(Usage, Invalid)


def test_the_tree_in_the_docstring_names_every_kind() -> None:
    drawn = {word for line in str(errors.__doc__).splitlines() for word in line.split()}

    assert {kind.__name__ for kind in [*KINDS, Failed]} <= drawn
