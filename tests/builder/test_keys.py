"""Keys differ when anything that a result depends on differs, and only then."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder import keys
from builder.plan import Copy, InlineFile, Run, Workdir
from ocispec.digest import Digest

PARENT = Digest.of(b"parent")
RUN = Run(("sh", "-c", "x"), ("A=1", "B=2"), ("http_proxy=p",), "/w", "me", "default")
COPY = Copy(("a", "b"), (), "/t/", "", "", False)


def key(preimage: Mapping[str, Any]) -> str:
    return keys.key_of(preimage)


@pytest.mark.parametrize(
    "change",
    [
        {"argv": ("sh", "-c", "y")},
        {"argv": ("sh", "-c x")},
        {"env": ("A=1",)},
        {"env": ("A=1,B=2",)},
        {"cwd": "/v"},
        {"user": "you"},
        {"network": "none"},
        {"stdin_files": (InlineFile("f", b"x"),)},
    ],
    ids=str,
)
def test_a_run_has_another_key_when_it_would_do_something_else(change: dict[str, Any]) -> None:
    other = RUN._replace(**change)

    assert key(keys.run(RUN, "linux/amd64", PARENT)) != key(keys.run(other, "linux/amd64", PARENT))


def test_a_proxy_is_not_in_the_key() -> None:
    other = RUN._replace(unkeyed_env=("http_proxy=q",))

    assert keys.run(RUN, "linux/amd64", PARENT) == keys.run(other, "linux/amd64", PARENT)


def test_platform_and_parent_are_in_the_key() -> None:
    ours = keys.run(RUN, "linux/amd64", PARENT)

    assert key(ours) != key(keys.run(RUN, "linux/arm64", PARENT))
    assert key(ours) != key(keys.run(RUN, "linux/amd64", Digest.of(b"other")))


@pytest.mark.parametrize(
    "change",
    [
        {"sources": ("a b",)},
        {"sources": ("b", "a")},
        {"target": "/t"},
        {"chown": "1"},
        {"chmod": "700"},
        {"unpack": True},
        {"inline": (InlineFile("a", b""),)},
    ],
    ids=str,
)
def test_a_copy_has_another_key_when_it_would_do_something_else(change: dict[str, Any]) -> None:
    origin = {"files": PARENT}
    other = COPY._replace(**change)

    assert key(keys.copy(COPY, origin, PARENT)) != key(keys.copy(other, origin, PARENT))


def test_files_and_filesystems_do_not_meet() -> None:
    assert key(keys.copy(COPY, {"files": PARENT}, PARENT)) != key(
        keys.copy(COPY, {"filesystem": PARENT}, PARENT)
    )


def test_a_workdir_depends_on_its_user() -> None:
    assert key(keys.workdir(Workdir("/w", ""), PARENT)) != key(
        keys.workdir(Workdir("/w", "1"), PARENT)
    )


@given(st.lists(st.text()), st.lists(st.text()))
def test_no_two_argument_vectors_have_one_key(one: list[str], other: list[str]) -> None:
    first = keys.run(RUN._replace(argv=tuple(one)), "linux/amd64", PARENT)
    second = keys.run(RUN._replace(argv=tuple(other)), "linux/amd64", PARENT)

    assert (one == other) == (key(first) == key(second))
