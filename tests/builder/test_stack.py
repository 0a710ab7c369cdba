"""What a filesystem is called: by its layers for the store, by its content for the cache."""

from __future__ import annotations

from builder.stack import Made, Stack
from ocispec.digest import DiffID, Digest, chain_id
from ocispec.model import Descriptor, Layer


def made(name: str, *, identity: str = "", empty: bool = False) -> Made:
    diff_id = DiffID(Digest.of(name.encode()))
    blob = Descriptor("application/x", Digest.of(b"blob" + name.encode()), 1)
    layer = Layer(diff_id, Digest.of((identity or name).encode()), blob)
    return Made(layer, 0, empty=empty)


def test_the_empty_filesystem_has_no_snapshot() -> None:
    assert Stack().snapshot is None


def test_the_snapshot_is_named_by_the_chain_of_layers() -> None:
    one, two = made("1"), made("2")

    assert chain_id([one.layer.diff_id, two.layer.diff_id]).hex == Stack((one, two)).snapshot


def test_layers_that_differ_in_times_only_have_one_identity() -> None:
    early = Stack((made("early", identity="same"),))
    late = Stack((made("late", identity="same"),))

    assert early.identity == late.identity
    assert early.snapshot != late.snapshot


def test_an_empty_change_does_not_change_the_identity() -> None:
    below = Stack((made("1"),))

    assert below.identity == below.plus(made("nothing", empty=True)).identity


def test_the_order_of_layers_counts() -> None:
    assert Stack((made("1"), made("2"))).identity != Stack((made("2"), made("1"))).identity


def test_a_parent_is_the_stack_without_its_top() -> None:
    stack = Stack((made("1"),)).plus(made("2"))

    assert Stack((made("1"),)).snapshot == stack.parent().snapshot
