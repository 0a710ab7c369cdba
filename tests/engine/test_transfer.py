"""Images go to registries and come back; what is there is not asked for again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.building import Builder, write_tree
from support.registry import RunningRegistry, open_registry
from support.small_images import image_of, ref

from builder.events import Event, Notice, StepEnded, StepStarted
from engine import images
from engine.engine import Engine
from engine.importer import import_rootfs
from engine.transfer import ensure_image, pull, push
from ocispec import mediatypes
from ocispec.digest import Digest
from ocispec.errors import NotFound, Unavailable
from ocispec.model import Descriptor, Index
from ocispec.platform import Platform, host
from ocispec.reference import Reference


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with open_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.fixture
def other(tmp_path: Path) -> Iterator[Builder]:
    """A second store, to pull into."""
    builder = Builder(tmp_path / "other")
    yield builder
    builder.engine.close()


def _pushed(
    registry: RunningRegistry, engine: Engine, place: Path, name: str
) -> tuple[Reference, Descriptor]:
    """A new image in the registry, under *name*."""
    target = Reference.parse(f"{registry.name}/{name}")
    image_of(engine, place, {"f": name}, None)
    manifest = image_of(engine, place, {"f": name}, str(target))
    assert manifest == push(engine, target)
    return target, manifest


def _ensure(
    engine: Engine, target: Reference, *, always: bool = False, platform: Platform | None = None
) -> tuple[Descriptor, list[Event]]:
    events: list[Event] = []
    found = ensure_image(
        engine,
        target,
        pull_always=always,
        platform=platform or host(),
        on_event=events.append,
    )
    return found, events


def test_an_image_comes_back_as_it_went(
    tmp_path: Path, registry: RunningRegistry, engine: Engine, other: Builder
) -> None:
    target, manifest = _pushed(registry, engine, tmp_path / "a", "back:v1")
    seen: list[str] = []

    pulled = pull(other.engine, target, platform=host(), on_blob=lambda _, what: seen.append(what))

    assert manifest == pulled
    assert other.files(other.engine.store.resolve(target)) == {"f": "back:v1"}
    assert seen == ["copied"] * 3
    assert other.engine.store.check() == []


def test_what_is_there_is_not_copied_again(
    tmp_path: Path, registry: RunningRegistry, engine: Engine, other: Builder
) -> None:
    target, _ = _pushed(registry, engine, tmp_path / "a", "again:v1")
    pull(other.engine, target, platform=host())
    seen: list[str] = []

    pull(other.engine, target, platform=host(), on_blob=lambda _, what: seen.append(what))

    assert seen == ["exists"] * 3


def test_of_an_index_the_platforms_image_is_taken(
    tmp_path: Path, registry: RunningRegistry, engine: Engine, other: Builder
) -> None:
    target, index = _pushed_index(registry, engine, tmp_path, "multi:v1")
    arm = Platform("linux", "riscv64")

    mine = pull(other.engine, target, platform=host())
    theirs = pull(other.engine, replace(target, tag="v1"), platform=arm)

    assert (index.manifests[0].digest, index.manifests[1].digest) == (mine.digest, theirs.digest)
    with pytest.raises(NotFound, match="no image for platform linux/s390x"):
        pull(other.engine, target, platform=Platform("linux", "s390x"))


def _pushed_index(
    registry: RunningRegistry, engine: Engine, place: Path, name: str
) -> tuple[Reference, Index]:
    """An index in the registry: of this machine's platform, and of riscv64."""
    children = []
    for number, platform in enumerate((host(), Platform("linux", "riscv64"))):
        files = write_tree(place / f"{name}{number}", {"f": str(platform)})
        manifest = import_rootfs(engine, files, None, platform=platform)
        children.append(replace(manifest, platform=platform))
    index = Index(tuple(children))
    target = Reference.parse(f"{registry.name}/{name}")
    with engine.store.session() as session:
        root = session.put_bytes(mediatypes.OCI_INDEX, index.encode())
        session.tag(target, root)
    push(engine, target)
    return target, index


def test_an_index_pulled_by_digest_is_found_by_it_again(
    tmp_path: Path, registry: RunningRegistry, engine: Engine, other: Builder
) -> None:
    target, index = _pushed_index(registry, engine, tmp_path, "pinned:v1")
    pinned = replace(target, tag=None, digest=Digest.of(index.encode()))

    first, events = _ensure(other.engine, pinned)
    second, silence = _ensure(other.engine, pinned)

    assert (index.manifests[0].digest, first.digest) == (first.digest, second.digest)
    assert (bool(events), silence) == (True, [])
    assert len(list(images.all_images(other.engine.store))) == 1


def test_a_base_that_is_missing_is_pulled_and_told_of(
    tmp_path: Path, registry: RunningRegistry, engine: Engine, other: Builder
) -> None:
    target, manifest = _pushed(registry, engine, tmp_path / "a", "base:v1")

    found, events = _ensure(other.engine, target)

    assert manifest == found
    kinds = [type(event) for event in events]
    assert ([StepStarted, StepEnded], {Notice}) == ([kinds[0], kinds[-1]], set(kinds[1:-1]))


def test_a_base_that_is_there_needs_no_registry(tmp_path: Path, engine: Engine) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, "127.0.0.1:1/none:v1")

    found, events = _ensure(engine, ref("127.0.0.1:1/none:v1"))

    assert (manifest, []) == (found, events)


def test_a_newer_base_is_pulled_when_asked_for(
    tmp_path: Path, registry: RunningRegistry, engine: Engine, other: Builder
) -> None:
    target, first = _pushed(registry, engine, tmp_path / "a", "moving:v1")
    pull(other.engine, target, platform=host())
    newer = image_of(engine, tmp_path / "b", {"f": "newer"}, str(target))
    push(engine, target)

    stays, _ = _ensure(other.engine, target)
    moves, _ = _ensure(other.engine, target, always=True)

    assert (first, newer) == (stays, moves)


def test_a_base_of_another_platform_gives_way_to_one_that_fits(
    tmp_path: Path, registry: RunningRegistry, engine: Engine, other: Builder
) -> None:
    target, index = _pushed_index(registry, engine, tmp_path, "foreign:v1")
    pull(other.engine, target, platform=Platform("linux", "riscv64"))

    found, _ = _ensure(other.engine, target)

    assert index.manifests[0].digest == found.digest


def test_a_base_of_another_platform_will_do_if_there_is_no_other(
    tmp_path: Path, registry: RunningRegistry, engine: Engine
) -> None:
    name = f"{registry.name}/only-here:v1"
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, name)

    found, _ = _ensure(engine, ref(name), platform=Platform("linux", "s390x"))

    assert manifest == found


def test_a_base_that_is_nowhere_is_not_found(registry: RunningRegistry, engine: Engine) -> None:
    events: list[Event] = []
    with pytest.raises(NotFound, match="nowhere"):
        ensure_image(
            engine,
            Reference.parse(f"{registry.name}/nowhere:v1"),
            pull_always=False,
            platform=host(),
            on_event=events.append,
        )

    assert isinstance(events[-1], StepEnded)
    assert events[-1].error


def test_an_image_that_is_not_there_is_not_pushed(
    registry: RunningRegistry, engine: Engine
) -> None:
    with pytest.raises(NotFound):
        push(engine, Reference.parse(f"{registry.name}/nothing:v1"))


@pytest.mark.slow
def test_a_registry_that_is_not_there_is_unavailable(engine: Engine) -> None:
    with pytest.raises(Unavailable):
        pull(engine, ref("127.0.0.1:1/none:v1"), platform=host())


def test_a_layer_is_mounted_from_the_repository_it_came_from(
    tmp_path: Path, registry: RunningRegistry, engine: Engine
) -> None:
    _, manifest = _pushed(registry, engine, tmp_path / "a", "origin:v1")
    target = Reference.parse(f"{registry.name}/elsewhere:v1")
    images.tag(engine, f"{registry.name}/origin:v1", target)
    before = len(registry.log)

    push(engine, target)

    digest = images.load(engine.store, manifest).manifest.layers[0].digest
    assert any("mount=" in line for line in registry.log[before:]), digest
