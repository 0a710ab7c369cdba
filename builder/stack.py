"""A filesystem as the stack of changes that make it: what a step gives and builds on."""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

from ocispec import canonical
from ocispec.digest import Digest, chain_id
from ocispec.model import Layer


class Made(NamedTuple):
    """A layer and when it was made; *newest* is the latest time in its tar, seconds since 1970."""

    layer: Layer
    created: float  # seconds since 1970; 0 for a base image's layers, which have their own history
    newest: int = 0
    empty: bool = False  # no entries: the command changed nothing


class Stack:
    """Layers, base first. Immutable; its digests are computed once, on use."""

    def __init__(self, layers: tuple[Made, ...] = ()) -> None:
        self.layers = layers

    @cached_property
    def snapshot(self) -> str | None:
        """The name of the unpacked stack in the store; None for the empty filesystem."""
        if not self.layers:
            return None
        return chain_id([made.layer.diff_id for made in self.layers]).hex

    @cached_property
    def identity(self) -> Digest:
        """
        What this filesystem is, without times and compression: the parent's part of a key.

        A change without entries changes nothing, so what follows it is not rebuilt for it.
        """
        changes = [str(made.layer.identity) for made in self.layers if not made.empty]
        return Digest.of(canonical.encode(changes))

    def plus(self, made: Made) -> Stack:
        return Stack((*self.layers, made))

    def parent(self) -> Stack:
        return Stack(self.layers[:-1])
