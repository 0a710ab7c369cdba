"""Images are found, named, shown and removed as docker does it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.small_images import image_of, ref

from engine import images
from engine.engine import Engine
from ocispec import mediatypes
from ocispec.errors import Conflict, Invalid, NotFound
from ocispec.model import Descriptor, Index
from ocispec.platform import Platform


def test_an_image_is_found_by_name_by_id_and_by_digest(tmp_path: Path, engine: Engine) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, "some/image:v1")
    image = images.load(engine.store, manifest)
    texts = [
        *("some/image:v1", "docker.io/some/image:v1", f"some/image@{manifest.digest}"),
        *(image.id, image.id.hex, image.id.hex[:12], image.id.hex[:3], image.id[:12]),
        *(manifest.digest, manifest.digest.hex[:12]),
    ]

    found = {images.find(engine.store, text).id for text in texts}

    assert {image.id} == found


@pytest.mark.parametrize(
    "text", ["other", "some/image", "some/image:v2", "ff", "sha256:" + "0" * 64, "Upper", "a b", ""]
)
def test_what_is_not_there_is_not_found(tmp_path: Path, engine: Engine, text: str) -> None:
    image_of(engine, tmp_path / "a", {"f": "x"}, "some/image:v1")

    with pytest.raises(NotFound):
        images.find(engine.store, text)


def test_digits_that_fit_two_images_are_refused(tmp_path: Path, engine: Engine) -> None:
    known: dict[str, str] = {}
    number = 0
    while True:  # three digits repeat within some dozens of images
        manifest = image_of(engine, tmp_path / str(number), {"f": str(number)}, f"i{number}")
        digits = images.load(engine.store, manifest).id.hex[:3]
        if digits in known:
            break
        known[digits] = ""
        number += 1

    with pytest.raises(Invalid, match="fits 2 images"):
        images.find(engine.store, digits)


def test_a_tag_is_one_more_name(tmp_path: Path, engine: Engine) -> None:
    image_of(engine, tmp_path / "a", {"f": "x"}, "one")

    images.tag(engine, "one", ref("two"))

    assert (ref("one"), ref("two")) == images.find(engine.store, "two").names


def test_a_name_moves_and_leaves_its_image_unnamed(tmp_path: Path, engine: Engine) -> None:
    first = image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    image_of(engine, tmp_path / "b", {"f": "y"}, "one")

    names = {image.root.digest: image.names for image in images.all_images(engine.store)}

    assert names[first.digest] == ()


def test_removing_a_name_keeps_an_image_that_has_another(tmp_path: Path, engine: Engine) -> None:
    image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    images.tag(engine, "one", ref("two"))

    lines = images.remove(engine, "one")

    assert lines == ["Untagged: one:latest"]
    assert (ref("two"),) == images.find(engine.store, "two").names


def test_removing_the_last_name_removes_the_image(tmp_path: Path, engine: Engine) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    number = images.load(engine.store, manifest).id

    lines = images.remove(engine, "one")

    assert ["Untagged: one:latest", f"Deleted: {number}"] == lines
    assert list(images.all_images(engine.store)) == []


def test_removing_by_id_wants_force_if_there_are_several_names(
    tmp_path: Path, engine: Engine
) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    images.tag(engine, "one", ref("two"))
    number = images.load(engine.store, manifest).id

    with pytest.raises(Conflict, match="2 names"):
        images.remove(engine, number)
    lines = images.remove(engine, number, force=True)

    assert len(lines) == 3
    assert list(images.all_images(engine.store)) == []


def test_inspect_has_what_docker_has(tmp_path: Path, engine: Engine) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, "one", 'CMD ["sh"]', "ENV A=b")

    shown = images.inspected(images.find(engine.store, "one"))

    image = images.load(engine.store, manifest)
    expected = {
        "Id": image.id,
        "RepoTags": ["one:latest"],
        "RepoDigests": [f"one@{manifest.digest}"],
        "Architecture": image.config.platform.architecture,
        "Os": "linux",
        "Size": image.size,
        "RootFS": {"Type": "layers", "Layers": list(image.config.diff_ids)},
    }
    assert expected == {key: shown[key] for key in expected}
    assert (shown["Config"]["Cmd"], shown["Config"]["Env"]) == (["sh"], ["A=b"])


def test_history_names_the_image_in_its_newest_row(tmp_path: Path, engine: Engine) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    image = images.load(engine.store, manifest)

    (row,) = images.history(image)

    assert (image.id, image.manifest.layers[0].size) == (row.id, row.size)


def test_an_index_gives_the_image_of_the_platform(tmp_path: Path, engine: Engine) -> None:
    manifest = image_of(engine, tmp_path / "a", {"f": "x"}, "one")
    arm = Descriptor(
        manifest.media_type, manifest.digest, manifest.size, platform=Platform("linux", "arm64")
    )
    with engine.store.session() as session:
        root = session.put_bytes(mediatypes.OCI_INDEX, Index((arm,)).encode())
        session.tag(ref("multi"), root)

    found = images.load(engine.store, root, platform=Platform("linux", "arm64", "v8"))
    with pytest.raises(NotFound) as caught:
        images.load(engine.store, root, platform=Platform("linux", "riscv64"))

    assert manifest.digest == found.manifest_digest
    assert caught.value.hint == "there are: linux/arm64"
