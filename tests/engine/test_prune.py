"""What nothing needs goes; what something needs stays."""

from __future__ import annotations

from pathlib import Path

from support.building import Builder, write_tree
from support.small_images import image_of, ref

from engine import images
from engine.engine import Engine
from engine.prune import prune


def test_an_image_that_lost_its_name_goes(tmp_path: Path, engine: Engine) -> None:
    first = image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    second = image_of(engine, tmp_path / "b", {"f": "y"}, "one")

    freed = prune(engine)

    assert ((first.digest,), 3) == (freed.images, freed.blobs)
    assert [second] == [image.root for image in images.all_images(engine.store)]
    assert engine.store.check() == []


def test_a_dry_run_says_the_same_and_removes_nothing(tmp_path: Path, engine: Engine) -> None:
    image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    image_of(engine, tmp_path / "b", {"f": "y"}, "one")

    would = prune(engine, dry_run=True)
    images_then = len(list(images.all_images(engine.store)))
    did = prune(engine)

    assert (2, would) == (images_then, did)


def test_a_removed_image_frees_its_bytes(tmp_path: Path, engine: Engine) -> None:
    image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    images.remove(engine, "one")

    freed = prune(engine)

    assert freed.blobs == 3
    assert list((tmp_path / "store/blobs/sha256").iterdir()) == []


def test_the_build_cache_stays_unless_it_is_asked_for(tmp_path: Path) -> None:
    builder = Builder(tmp_path / "store")
    context = write_tree(tmp_path / "context", {"a": "x"})
    builder.build(context, "FROM scratch\nCOPY a /\n", tags=(ref("one"),))
    images.remove(builder.engine, "one")

    prune(builder.engine)
    kept = builder.build(context, "FROM scratch\nCOPY a /\n").cached_steps
    prune(builder.engine, cache_older_than=0)
    gone = builder.build(context, "FROM scratch\nCOPY a /\n").cached_steps

    assert (kept, gone) == (1, 0)


def test_what_a_session_uses_stays(tmp_path: Path, engine: Engine) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    with engine.store.session() as session:
        session.pin(manifest.digest)
        images.remove(engine, "one")

        prune(engine, cache_older_than=0)

        assert engine.store.has(manifest)
