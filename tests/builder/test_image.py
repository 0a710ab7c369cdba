"""The config document of an image: its history and its times."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.image import document, store_image, timestamp
from builder.plan import Change, Output
from builder.stack import Made, Stack
from layers.store import Store
from ocispec.content import read_small
from ocispec.digest import DiffID, Digest
from ocispec.model import MAX_DOCUMENT, Descriptor, History, ImageConfig, Layer
from ocispec.platform import Platform

DIFF_ID = DiffID(Digest.of(b"tar"))
LAYER = Layer(DIFF_ID, Digest.of(b"identity"), Descriptor("application/x", Digest.of(b"b"), 1))
BASE = ImageConfig(
    Platform("linux", "amd64"),
    history=(History(created="2020-01-01T00:00:00Z", created_by="base"),),
    created="2020-01-01T00:00:00Z",
)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "store")


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "1970-01-01T00:00:00Z"),
        (1_700_000_000.5, "2023-11-14T22:13:20.500000Z"),
    ],
)
def test_a_time_is_written_as_rfc_3339(seconds: float, text: str) -> None:
    assert text == timestamp(seconds)


@given(st.floats(0, 1 << 32))
def test_every_time_has_a_form(seconds: float) -> None:
    assert timestamp(seconds).endswith("Z")


def test_a_change_of_the_config_bears_the_time_of_the_layer_before_it() -> None:
    stack = Stack((Made(LAYER, 1_700_000_000),))
    changes = (Change("ENV a=b", None), Change("RUN x", 0), Change("CMD c", None))
    made = document(Output(0, BASE, changes), [stack], None)

    assert [
        "2020-01-01T00:00:00Z",
        "2020-01-01T00:00:00Z",
        "2023-11-14T22:13:20Z",
        "2023-11-14T22:13:20Z",
    ] == [entry.created for entry in made.history]
    assert made.created == "2023-11-14T22:13:20Z"
    assert [False, True, False, True] == [entry.empty_layer for entry in made.history]


def test_an_epoch_caps_what_this_build_made() -> None:
    stack = Stack((Made(LAYER, 1_700_000_000),))
    made = document(Output(0, BASE, (Change("RUN x", 0),)), [stack], 1_600_000_000)

    assert made.created == "2020-09-13T12:26:40Z"


def test_an_epoch_caps_what_the_base_lends_its_time_to() -> None:
    late = replace(BASE, created="2020-01-01T02:00:00.123456789+02:00")
    changes = (Change("ENV a=b", None),)

    before, after = (
        document(Output(0, late, changes), [Stack()], epoch)
        for epoch in (1_500_000_000, 1_600_000_000)
    )
    assert [before.created, before.history[-1].created] == ["2017-07-14T02:40:00Z"] * 2
    assert [after.created, after.history[-1].created] == [late.created] * 2


def test_bytes_that_are_not_utf_8_are_replaced_as_other_builders_do(store: Store) -> None:
    odd = "Jos\udce9"
    config = replace(
        BASE,
        config={"Labels": {odd: odd}, "Cmd": [odd], "Healthcheck": {"Retries": 3}},
        author=odd,
        history=(History(created_by=f"LABEL {odd}", author=odd),),
    )
    with store.session() as session:
        image = store_image(config, [LAYER], session)
    stored = ImageConfig.decode(read_small(store, image.config, MAX_DOCUMENT))
    shown = "Jos\N{REPLACEMENT CHARACTER}"

    assert stored.config == {
        "Labels": {shown: shown},
        "Cmd": [shown],
        "Healthcheck": {"Retries": 3},
    }
    assert [stored.author, stored.history[0].created_by] == [shown, f"LABEL {shown}"]


def test_an_image_that_nothing_was_changed_of_keeps_its_time() -> None:
    assert document(Output(0, BASE, ()), [Stack()], 5).created == BASE.created
