from __future__ import annotations

import io
import os
import random
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.layerstack import BASE, CHANGES, MORE, Layers
from support.trees import ROOT_ONLY, TIME, listing, overlay, settle, shell, tree

from layers.diff import diff
from layers.entry import Entry
from layers.inroot import remove_tree
from layers.layerwrite import LayerWriter
from layers.tarread import tar_entries
from ocispec.errors import Invalid, Unsupported

pytestmark = ROOT_ONLY


@pytest.fixture
def layers(tmp_path: Path) -> Iterator[Layers]:
    before = len(os.listdir("/proc/self/fd"))
    yield Layers(tmp_path)
    assert before == len(os.listdir("/proc/self/fd"))


def test_a_nasty_tree_comes_back_from_its_layers(layers: Layers) -> None:
    layers.base_layer(BASE)
    for script in (CHANGES, MORE):
        upper, seen = layers.change(script)
        _, tar = layers.diff(upper)
        layers.apply(tar)
        merged = layers.merged()

        # The root has no entry unless it was changed, and then only for more than its time.
        assert seen[""][:4] == merged[""][:4]
        del seen[""], merged[""]
        assert seen == merged


def test_what_was_unpacked_is_written_as_the_same_tar(layers: Layers) -> None:
    layers.base_layer(BASE)
    for script in (CHANGES, MORE):
        upper, _ = layers.change(script)
        written, tar = layers.diff(upper)
        below = list(layers.stack)
        unpacked = layers.apply(tar)
        top, layers.stack = layers.stack, below
        again, same = layers.diff(unpacked)
        layers.stack = top

        assert tar == same
        assert written.layer == again.layer


@pytest.mark.parametrize(
    ("script", "expected"),
    [
        ("true", []),
        ("echo 1 > d/e/f", ["d", "d/e", "d/e/f"]),
        ("echo 1 > d/e/new", ["d", "d/e", "d/e/new"]),
        ("rm d/e/f", ["d", "d/e", "d/e/.wh.f"]),
        ("rm -r d/e", ["d", "d/.wh.e"]),
        ("chmod 700 d/e", ["d", "d/e"]),
        ("chown 5 d/e/f", ["d", "d/e", "d/e/f"]),
        ("touch -d @5 d/e", ["d", "d/e"]),
        ("setfattr -n user.x -v 1 d", ["d"]),
        ("rm -r d/e; mkdir d/e", ["d", "d/e", "d/e/.wh..wh..opq"]),
        ("rm -r d/e; echo 1 > d/e", ["d", "d/e"]),
        ("rm l; mkdir l; touch l/x", ["l", "l/x"]),
        ("touch x; rm x", []),
        ("mkdir -p n/m; rm -r n", []),
        ("ln f g", ["f", "g"]),
        ("mv f g", [".wh.f", "g"]),
        ("chmod 700 .", [""]),
        ("touch a; touch B; touch a.b; mkdir aa", ["B", "a", "a.b", "aa"]),
        (
            "mkfifo p; mknod n c 1 3; ln -s x s; echo 1 > d/e/f; touch z",
            ["d", "d/e", "d/e/f", "n", "p", "s", "z"],
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_a_layer_holds_what_changed_its_parents_and_no_more(
    layers: Layers, script: str, expected: list[str]
) -> None:
    layers.base_layer("mkdir -p d/e; echo 1 > d/e/f; ln -s d l; echo 2 > f")
    # Directories get their times back, by which every one of them is copied up, too.
    put_back = "" if "touch -d" in script else f"find . -type d -exec touch -d @{TIME} {{}} +"

    assert expected == layers.paths(f"{script}\n{put_back}")


def test_a_directory_that_was_only_copied_up_is_left_out(layers: Layers, tmp_path: Path) -> None:
    layers.base_layer("mkdir -p d/e; echo 1 > d/e/f")

    _, tar = layers.diff(tree(tmp_path / "other", {"d/e/": None}))

    assert [entry.path for entry, _ in tar_entries(io.BytesIO(tar))] == []


def test_a_changed_file_in_tmp_keeps_its_parents_mode(layers: Layers) -> None:
    # moby/buildkit#154: engines that unpack a layer by itself made /tmp anew, as 755.
    layers.base_layer("mkdir -m 1777 tmp; echo 1 > tmp/f")
    upper, _ = layers.change("echo 2 > tmp/f")
    _, tar = layers.diff(upper)
    entries = [entry for entry, _ in tar_entries(io.BytesIO(tar))]

    assert [(entry.path, entry.mode) for entry in entries] == [("tmp", 0o1777), ("tmp/f", 0o644)]


def test_hard_links_are_links_to_the_first_name(layers: Layers) -> None:
    layers.base_layer("true")
    upper, _ = layers.change("echo 1 > b; ln b a; mkdir c; ln b c/d; ln -s x s; ln s t")
    _, tar = layers.diff(upper)
    kinds = {entry.path: (entry.kind, entry.target) for entry, _ in tar_entries(io.BytesIO(tar))}

    assert kinds == {
        "a": ("file", ""),
        "b": ("link", "a"),
        "c": ("dir", ""),
        "c/d": ("link", "a"),
        "s": ("symlink", "x"),
        "t": ("link", "s"),
    }


def test_a_socket_is_left_out(layers: Layers) -> None:
    layers.base_layer("true")

    assert layers.paths(
        "python3 -c \"import socket; socket.socket(socket.AF_UNIX).bind('s')\"; touch f"
    ) == ["f"]


def test_skipped_paths_are_left_out_with_all_below(layers: Layers) -> None:
    layers.base_layer("mkdir d")

    assert layers.paths(
        "mkdir dev; touch dev/null d/hosts d/f", skip=frozenset({"dev", "d/hosts"})
    ) == ["d", "d/f"]


def test_a_name_that_would_be_a_deletion_is_refused(layers: Layers) -> None:
    layers.base_layer("true")
    upper, _ = layers.change("mkdir d; touch d/.wh.x")

    with pytest.raises(Invalid, match=r"d/\.wh\.x"):
        layers.diff(upper)


@pytest.mark.parametrize("xattr", ["redirect", "metacopy"])
@pytest.mark.parametrize("name", ["d", "f"])
def test_what_an_overlay_may_not_have_done_is_refused(
    layers: Layers, tmp_path: Path, xattr: str, name: str
) -> None:
    layers.base_layer("true")
    upper = tree(tmp_path / "upper", {"d/": None, "f": "x"})
    os.setxattr(upper / name, f"trusted.overlay.{xattr}", b"/x")

    with pytest.raises(Unsupported, match=xattr):
        layers.diff(upper)


def test_the_other_form_of_a_whiteout_is_one(layers: Layers, tmp_path: Path) -> None:
    layers.base_layer("mkdir d; touch d/x d/y")
    upper = tree(tmp_path / "upper", {"d/x": b"", "d/new": b""})
    for name in ("x", "new"):
        os.setxattr(upper / "d" / name, "trusted.overlay.whiteout", b"")
    settle(upper)
    _, tar = layers.diff(upper)

    assert [entry.path for entry, _ in tar_entries(io.BytesIO(tar))] == ["d", "d/.wh.x"]


def test_without_a_lower_tree_everything_is_new(layers: Layers, tmp_path: Path) -> None:
    upper = tree(tmp_path / "upper", {"d/f": "x"})
    os.mknod(upper / "gone", 0o020000, 0)
    settle(upper)
    fd = os.open(upper, os.O_RDONLY)
    with layers.store.session() as session, LayerWriter(session) as out:
        diff(fd, None, out)
        written = out.finish()
    os.close(fd)

    assert written.entries == 2


def dig(depth: int) -> str:
    """A script that makes a file below *depth* directories, deeper than a path can be long."""
    steps = f"[(os.mkdir('d'), os.chdir('d')) for _ in range({depth})]"
    return f"""python3 -c "import os; {steps}; open('f', 'w').close()"\n"""


def removed(place: Path) -> None:
    """pytest's own removal recurses."""
    fd = os.open(place.parent, os.O_RDONLY)
    remove_tree(place.name, fd)
    os.close(fd)


def test_a_tree_of_5000_levels_is_written(layers: Layers) -> None:
    layers.base_layer("true")
    upper = layers.change_only(dig(5000))
    written, _ = layers.diff(upper)
    removed(upper)

    assert written.entries == 5001


def test_a_change_below_1500_levels_lists_every_one_of_them(layers: Layers, tmp_path: Path) -> None:
    lower, upper = tmp_path / "deep", tmp_path / "change"
    for place in (lower, upper):
        place.mkdir()
        shell(dig(1500), place)
    (upper / "d/g").touch()
    layers.stack = [lower]
    _, tar = layers.diff(upper)
    paths = [entry.path for entry, _ in tar_entries(io.BytesIO(tar))]
    for place in (lower, upper):
        removed(place)

    assert len(paths) == 1502
    assert paths[:3] == ["d", "d/d", "d/d/d"]
    assert paths[-2:] == ["d/" * 1500 + "f", "d/g"]


def random_changes(place: Path, chance: random.Random) -> None:
    """Thirty steps that may do anything a RUN may do, on few names so that they meet."""
    names = ["a", "b", "c"]

    def path() -> Path:
        return place.joinpath(*(chance.choice(names) for _ in range(chance.randint(1, 3))))

    for _ in range(30):
        one, other = path(), path()
        action = chance.randrange(9)
        try:
            if action == 0:
                one.mkdir(mode=chance.choice([0o700, 0o755, 0o1777]))
            elif action == 1:
                one.write_text(str(chance.random()))
            elif action == 2:
                one.unlink()
            elif action == 3:
                shell(f"rm -rf {one.relative_to(place)} 2>&- || true", place)
            elif action == 4:
                one.symlink_to(chance.choice(["a", "../c", "nowhere"]))
            elif action == 5:
                one.hardlink_to(other)
            elif action == 6:
                one.rename(other)
            elif action == 7:
                os.chown(one, chance.randrange(3), 0, follow_symlinks=False)
            else:
                os.setxattr(one, "user.x", str(chance.random()).encode(), follow_symlinks=False)
        except OSError:
            continue  # not possible now: as good a history as any


@pytest.mark.parametrize("seed", range(25))
def test_random_histories_come_back_from_their_layers(layers: Layers, seed: int) -> None:
    chance = random.Random(seed)
    layers.base_layer("true")
    for number in range(4):
        upper = layers.base / f"upper{number}"
        with overlay(*layers.stack, upper=upper) as merged:
            random_changes(merged, chance)
            seen = listing(merged)
        written, tar = layers.diff(upper)
        below = list(layers.stack)
        unpacked = layers.apply(tar)
        merged_now = layers.merged()
        del seen[""], merged_now[""]
        top, layers.stack = layers.stack, below
        again, _ = layers.diff(unpacked)
        layers.stack = top

        assert seen == merged_now
        assert written == again


def test_parts_of_a_second_make_no_difference(layers: Layers, tmp_path: Path) -> None:
    layers.base_layer("mkdir d")
    upper = tree(tmp_path / "upper", {"d/": None})
    os.utime(upper / "d", ns=(0, TIME * 10**9 + 5))

    assert layers.diff(upper)[0].entries == 0


def test_entries_carry_what_the_disk_has(layers: Layers) -> None:
    layers.base_layer("true")
    upper, _ = layers.change(
        "echo text > f; chown 5:6 f; chmod 4750 f; setfattr -n user.x -v 1 f; touch -d @99 f"
    )
    ((entry, _),) = tar_entries(io.BytesIO(layers.diff(upper)[1]))

    assert Entry("f", "file", 0o4750, 5, 6, 5, 99 * 10**9, xattrs={"user.x": b"1"}) == entry
