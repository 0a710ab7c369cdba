"""The quick answer is given when nothing changed, and never when something did."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from support.building import write_tree
from support.cli import Cli

from builder.events import Event, Notice
from engine.answers import Question, find
from engine.build import BuildRequest, build
from engine.engine import Engine
from ocispec.errors import PybuildError
from ocispec.reference import Reference

DOCKERFILE = "FROM scratch\nARG v\nLABEL l=$v\nCOPY . /src\n"
OLD = 1_600_000_000


@pytest.fixture
def context(tmp_path: Path) -> Path:
    """A context whose files are old enough to be relied on."""
    root = write_tree(
        tmp_path / "context",
        {"Dockerfile": DOCKERFILE, "a": "A", "d/b": "B", ".dockerignore": "ignored\n"},
    )
    wait_until_settled(root)
    return root


def wait_until_settled(root: Path) -> None:
    """Until a change gives every file below *root* another change time."""
    newest = max(path.lstat().st_ctime_ns for path in [root, *root.rglob("*")])
    while time.time_ns() - newest < 60_000_000:
        time.sleep(0.01)


def answers(cli: Cli) -> list[Path]:
    folder = cli.root / "answers"
    return sorted(folder.iterdir()) if folder.exists() else []


def is_quick(cli: Cli, context: Path, *options: str) -> bool:
    """Build; was the builder not even loaded?"""
    done = cli.with_env(PYTHONPROFILEIMPORTTIME="1")("build", "-q", "-t", "x", *options, context)
    return "builder.solve" not in done.stderr


def image(cli: Cli, context: Path, *options: str) -> str:
    return cli("build", "-q", "-t", "x", *options, context).line


def test_the_second_build_is_answered_with_the_same_image(cli: Cli, context: Path) -> None:
    first = image(cli, context)

    assert len(answers(cli)) == 1
    assert is_quick(cli, context)
    assert first == image(cli, context)


def test_what_is_shown_is_what_a_cached_build_shows(cli: Cli, context: Path) -> None:
    image(cli, context)
    quick = cli("build", "-t", "x", context).stderr
    answers(cli)[0].unlink()
    ordinary = cli("build", "-t", "x", context).stderr

    assert _without_times(ordinary) == _without_times(quick)


def _without_times(text: str) -> list[str]:
    return [line.partition(" DONE ")[0] for line in text.splitlines()]


def _edit(context: Path) -> None:
    (context / "a").write_text("Z")


def _edit_unseen(context: Path) -> None:
    status = (context / "a").stat()
    (context / "a").write_text("Z")
    os.utime(context / "a", ns=(status.st_atime_ns, status.st_mtime_ns))


def _add(context: Path) -> None:
    (context / "d/new").write_text("N")


def _remove(context: Path) -> None:
    (context / "d/b").unlink()


def _chmod(context: Path) -> None:
    (context / "a").chmod(0o700)


def _chmod_directory(context: Path) -> None:
    (context / "d").chmod(0o700)


def _link(context: Path) -> None:
    (context / "a").unlink()
    (context / "a").symlink_to("d/b")


def _dockerfile(context: Path) -> None:
    (context / "Dockerfile").write_text(DOCKERFILE + "ENV e=1\n")


def _ignore(context: Path) -> None:
    (context / ".dockerignore").write_text("d\n")


def _own_ignore(context: Path) -> None:
    (context / "Dockerfile.dockerignore").write_text("d\n")


@pytest.mark.parametrize(
    "change",
    [
        _edit,
        _edit_unseen,
        _add,
        _remove,
        _chmod,
        _chmod_directory,
        _link,
        _dockerfile,
        _ignore,
        _own_ignore,
    ],
    ids=lambda change: change.__name__,
)
def test_a_change_is_never_answered_with_the_old_image(
    cli: Cli, context: Path, change: Callable[[Path], None]
) -> None:
    first = image(cli, context)
    change(context)
    second = image(cli, context)
    uncached = Cli(cli.root.with_name("other"))

    assert first != second
    assert _identity(cli, context) == _identity(uncached, context)


def _identity(cli: Cli, context: Path) -> str:
    """What the image holds, however it came to be."""
    place = cli.root.with_name("metadata")
    cli("build", "-q", "-t", "x", "--metadata-file", place, context)
    return str(json.loads(place.read_text())["pybuild.identity"])


@pytest.mark.parametrize(
    "options",
    [("--build-arg", "v=2"), ("--label", "a=b"), ("--timestamp", str(OLD)), ("-t", "y")],
    ids=" ".join,
)
def test_another_question_has_another_answer(
    cli: Cli, context: Path, options: tuple[str, ...]
) -> None:
    image(cli, context)

    assert not is_quick(cli, context, *options)


def test_the_environment_is_part_of_the_question(cli: Cli, context: Path) -> None:
    first = image(cli, context)
    dated = image(cli.with_env(SOURCE_DATE_EPOCH=str(OLD)), context)
    argued = image(cli.with_env(v="from here"), context, "--build-arg", "v")
    again = image(cli.with_env(v="from there"), context, "--build-arg", "v")

    assert len({first, dated, argued, again}) == 4


def test_a_name_that_moved_is_set_again(cli: Cli, context: Path) -> None:
    first = image(cli, context)
    cli("build", "-q", "-t", "x", "--label", "other=1", context)

    assert first == image(cli, context)
    assert json.loads(cli("inspect", "x").stdout)[0]["Id"] == first


def test_an_image_that_was_removed_is_built_again(cli: Cli, context: Path) -> None:
    image(cli, context)
    cli("rmi", "x")
    image(cli, context)

    assert "x" in cli("images").stdout


def test_a_damaged_answer_is_no_answer(cli: Cli, context: Path) -> None:
    first = image(cli, context)
    for place in answers(cli):
        place.write_bytes(place.read_bytes()[:-30])

    assert first == image(cli, context)


@pytest.mark.parametrize("option", ["--no-cache", "--pull"])
def test_a_build_that_is_to_be_done_is_done(cli: Cli, context: Path, option: str) -> None:
    image(cli, context)

    assert not is_quick(cli, context, option)


def test_a_context_that_is_too_young_is_looked_at_again(cli: Cli, context: Path) -> None:
    (context / "a").write_text("B")
    os.utime(context / "a", ns=(0, time.time_ns() + 3_600_000_000_000))  # a clock that went back
    image(cli, context)
    (context / "a").write_text("C")

    assert _identity(cli, context) == _identity(Cli(cli.root.with_name("other")), context)


def test_pruning_everything_leaves_no_answer(cli: Cli, context: Path) -> None:
    image(cli, context)
    cli("prune", "-a", "-f")

    assert answers(cli) == []


def test_a_dockerfile_from_a_pipe_is_read_once(cli: Cli, context: Path) -> None:
    def build() -> str:
        reading, writing = os.pipe()
        try:
            os.write(writing, DOCKERFILE.encode())
            os.close(writing)
            done = subprocess.run(
                cli.argv("build", "-q", "-f", f"/dev/fd/{reading}", context),
                pass_fds=(reading,),
                env=cli.environment(),
                capture_output=True,
                check=True,
                timeout=60,
            )
        finally:
            os.close(reading)
        return done.stdout.decode()

    first = build()
    _edit(context)

    assert first != build()


def test_an_image_that_is_its_own_base_grows_with_every_build(cli: Cli, context: Path) -> None:
    image(cli, context)
    (context / "Dockerfile").write_text("FROM x\nENV a=b\n")
    wait_until_settled(context)

    assert len({image(cli, context) for _ in range(3)}) == 3


@pytest.mark.parametrize("name", ["base", "x"])
def test_nothing_is_remembered_if_a_name_moved_during_the_build(
    tmp_path: Path, context: Path, name: str
) -> None:
    base, tag, moved = (Reference.parse(f"{text}:latest") for text in ("base", "x", name))
    (context / "Dockerfile").write_text("FROM base\nCOPY . /src\n")
    wait_until_settled(context)
    question = Question(tmp_path / "store", context, None, "")
    with Engine(tmp_path / "store") as engine:
        build(engine, BuildRequest(context, dockerfile_text=b"FROM scratch\n", tags=(base,)), print)
        other = build(
            engine, BuildRequest(context, dockerfile_text=b"FROM scratch\nENV a=b"), print
        )

        def move(event: Event) -> None:
            if isinstance(event, Notice) and event.text.startswith("naming to"):
                engine.store.tag(moved, other.manifest)

        build(engine, BuildRequest(context, tags=(tag,)), move, question)
        assert find(question) is None
        build(engine, BuildRequest(context, tags=(tag,)), print, question)
        assert find(question) is not None


def test_a_dockerfile_from_standard_input_has_no_ignore_file_of_its_own(
    tmp_path: Path, context: Path
) -> None:
    (context / "Dockerfile.dockerignore").write_text("d\n")
    (context / ".dockerignore").write_text("a\n")
    with Engine(tmp_path / "store") as engine:
        request = BuildRequest(context, dockerfile_text=b"FROM scratch\nCOPY d /\n")
        assert build(engine, request, print).steps == 1
        with pytest.raises(PybuildError, match=r"/a.: not found"):
            build(engine, BuildRequest(context, dockerfile_text=b"FROM scratch\nCOPY a /\n"), print)
