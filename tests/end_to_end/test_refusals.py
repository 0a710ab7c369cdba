"""What cannot be done is refused with its place, a reason and a hint; nothing has changed then."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import NamedTuple

import pytest
from support.building import write_tree
from support.cli import COMMAND, Cli
from support.endtoend import NEEDS_ROOT, content, faults
from support.oracles import program
from support.registry import open_registry

BASE = "FROM scratch\n"


class Case(NamedTuple):
    dockerfile: str
    says: Sequence[str]  # regular expressions, of the place, the reason and the hint
    args: Sequence[str] = ()
    files: Mapping[str, str] = {}  # "-> target" is a symbolic link
    status: int = 1


CASES = {
    "an unknown instruction": Case(
        BASE + "RUNN true\n",
        ["^ERROR: Dockerfile:2: unknown instruction: RUNN", "^hint: did you mean RUN"],
    ),
    "an instruction in the wrong case of a word": Case(
        BASE + "\n# a comment\ncoppy \\\n  a /b\n",
        ["^ERROR: Dockerfile:4: unknown instruction: coppy", "^hint: did you mean COPY"],
    ),
    "an unknown flag of an instruction": Case(
        BASE + "COPY --chwon=1 Dockerfile /\n",
        ["^ERROR: Dockerfile:2: unknown flag: --chwon", "^hint: did you mean --chown"],
    ),
    "an unknown flag of the command": Case(
        BASE, ["^ERROR: unknown flag: --tga", "^hint: did you mean --tag"], ["--tga", "x"], status=2
    ),
    "a flag without its value": Case(
        BASE, ["^ERROR: flag needs an argument: -t", "^hint: "], ["-t"], status=2
    ),
    "a flag that is not built yet": Case(
        BASE, ["^ERROR: --secret .*not built yet", "^hint: "], ["--secret", "id=x"], status=2
    ),
    "a bad JSON form": Case(
        BASE + 'SHELL ["/bin/sh", -c]\n',
        ["^ERROR: Dockerfile:2: SHELL requires .* JSON form", "^hint: write SHELL"],
    ),
    "a missing file": Case(
        BASE + "LABEL a=b\nCOPY here nowhere /\n",
        ['^ERROR: Dockerfile:3: "/nowhere": not found', "^hint: the file is not in the build con"],
        files={"here": ""},
    ),
    "a file that is ignored": Case(
        BASE + "COPY here /\n",
        ['^ERROR: Dockerfile:2: "/here": not found', "^hint: .*dockerignore"],
        files={"here": "", ".dockerignore": "h*"},
    ),
    "a link to a file outside": Case(
        BASE + "COPY link /\n",
        ['^ERROR: Dockerfile:2: "/link": not found', "^hint: "],
        files={"link": "-> ../secret"},
    ),
    "a link to a directory outside": Case(
        BASE + "COPY up/secret /\n",
        ['^ERROR: Dockerfile:2: "/up/secret": not found', "^hint: "],
        files={"up": "-> ../"},
    ),
    "a link to an absolute path": Case(
        BASE + "COPY link/passwd /\n",
        ['^ERROR: Dockerfile:2: "/link/passwd": not found', "^hint: "],
        files={"link": "-> /etc"},
    ),
    "a link to itself": Case(
        BASE + "COPY link/passwd /\n",
        ["^ERROR: Dockerfile:2: .*link"],
        files={"link": "-> /link"},
    ),
    "an unterminated heredoc": Case(
        BASE + "COPY <<EOF /x\nbody\nEOT\n",
        ["^ERROR: Dockerfile:2: unterminated heredoc", "^hint: .*EOF"],
    ),
    "a stage that is not there": Case(
        "FROM scratch AS build\nFROM scratch\nCOPY --from=127.0.0.1:1/biuld /x /\n",
        ["^ERROR: Dockerfile:3: 127.0.0.1:1", "^hint: "],
    ),
    "a base that cannot be had": Case(
        "FROM scratch\nFROM 127.0.0.1:1/x:1\n", ["^ERROR: Dockerfile:2: 127.0.0.1:1", "^hint: "]
    ),
    "a stage that comes later": Case(
        "FROM scratch\nCOPY --from=b / /\nFROM scratch AS b\n",
        ["^ERROR: Dockerfile:2: stage 'b' comes later", "^hint: "],
        ["--target", "0"],
    ),
    "a target that is not there": Case(
        "FROM scratch AS build\n",
        ["^ERROR: target stage 'biuld' could not be found", "^hint: the stages are: build"],
        ["--target", "biuld"],
    ),
    "an option of RUN that is not built yet": Case(
        BASE + "RUN --mount=type=ssh true\n",
        ["^ERROR: Dockerfile:2: RUN --mount=type=ssh is not supported", "^hint: "],
    ),
    "no instruction at all": Case("# nothing\n", ["^ERROR: .*no instructions", "^hint: "]),
    "binary rubbish": Case("\x00\x01\x02\x1b[31m\n", ["^ERROR: Dockerfile:1: "]),
    "a bad tag": Case(BASE, ["^ERROR: invalid reference|lower case", "^hint: "], ["-t", "A b"]),
}


def make(root: Path, case: Case) -> Path:
    write_tree(root, {"Dockerfile": case.dockerfile})
    root.with_name("secret").write_text("not for an image")
    for name, text in case.files.items():
        if text.startswith("-> "):
            (root / name).symlink_to(text.removeprefix("-> "))
        else:
            (root / name).write_text(text)
    return root


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input_is_refused(cli: Cli, tmp_path: Path, case: Case) -> None:
    good = write_tree(tmp_path / "good", {"Dockerfile": BASE + "COPY f /\n", "f": ""})
    cli("build", "-t", "earlier", good)
    before = content(cli.root)

    context = make(tmp_path / "context", case)
    done = cli("build", "-t", "earlier", context, *case.args, status=case.status)

    assert [said for said in case.says if not re.search(said, done.stderr, re.MULTILINE)] == []
    assert done.stdout == ""
    assert "Traceback" not in done.stderr
    assert "\x1b" not in done.stderr
    assert content(cli.root) == before
    assert faults(cli.root) == {}


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("script", "status"),
    [("exit 7", "exit code: 7"), ("kill -9 $$", "exit code: 137"), ("nowhere", "exit code: 127")],
    ids=["status 7", "killed", "not found"],
)
def test_a_command_that_fails_is_shown_with_its_status(
    busybox: Cli, tmp_path: Path, script: str, status: str
) -> None:
    text = f"FROM busybox\nRUN touch /before\nRUN echo half >/half; {script}\n"
    context = write_tree(tmp_path / "context", {"Dockerfile": text})
    names = content(busybox.root)["index.json"]

    done = busybox("build", "--progress=plain", "-t", "busybox", context, status=1)
    once = content(busybox.root)
    busybox("build", "--progress=plain", "-t", "busybox", context, status=1)

    assert re.search(f"^ERROR: Dockerfile:3: .*{status}$", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert content(busybox.root)["index.json"] == names
    assert content(busybox.root) == once  # nothing of the step that failed is kept
    assert faults(busybox.root) == {}


@pytest.fixture
def user(tmp_path: Path) -> Iterator[tuple[str, ...]]:
    """The words before a command that make it an ordinary user's, who may write in tmp_path."""
    if os.geteuid() != 0:
        yield ()
        return
    setpriv = program("setpriv")
    words = (setpriv, "--reuid", "65534", "--regid", "65534", "--clear-groups")
    # pytest's own directories are for their owner alone.
    closed = [path for path in tmp_path.parents if path.stat().st_mode & 0o007 != 0o005]
    modes = {path: path.stat().st_mode & 0o7777 for path in closed}
    for path, mode in modes.items():
        path.chmod(mode | 0o055)
    os.chown(tmp_path, 65534, 65534)
    if subprocess.run([*words, COMMAND, "version"], capture_output=True, check=False).returncode:
        pytest.skip("needs an installation that other users may read")
    yield words
    for path, mode in modes.items():
        path.chmod(mode)


def test_an_ordinary_user_is_told_of_a_file_that_may_not_be_read(
    tmp_path: Path, user: tuple[str, ...]
) -> None:
    cli = Cli(tmp_path / "store", {"HOME": str(tmp_path)}, user)
    files = {"Dockerfile": BASE + "LABEL a=b\nCOPY src /src\n", "src/open": "o", "src/closed": ""}
    context = write_tree(tmp_path / "context", files)
    (context / "src/closed").chmod(0)
    cli("images")
    before = content(cli.root)

    done = cli("build", "-t", "x", context, status=1)

    assert re.search("^ERROR: Dockerfile:3: .*src/closed", done.stderr, re.MULTILINE)
    assert re.search("^hint: ", done.stderr, re.MULTILINE)
    assert "Traceback" not in done.stderr
    assert content(cli.root) == before
    assert faults(cli.root) == {}


def test_an_ordinary_user_builds_what_needs_no_command(
    tmp_path: Path, user: tuple[str, ...]
) -> None:
    cli = Cli(tmp_path / "store", {"HOME": str(tmp_path)}, user)
    text = BASE + 'COPY --chown=7:8 src /src/\nCMD ["/src/a"]\n'
    context = write_tree(tmp_path / "context", {"Dockerfile": text, "src/a": "a", "src/b/c": "c"})

    cli("build", "-t", "x", context)
    cli("save", "-o", tmp_path / "x.tar", "x")

    assert cli("history", "-q", "x").stdout != ""
    assert faults(cli.root) == {}


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 16 MB."""
    place = tmp_path / "disk"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=16m", "small", place], check=True)
    yield place
    subprocess.run(["umount", place], check=True)


@NEEDS_ROOT
@pytest.mark.parametrize(
    "step",
    ["COPY large /", "ADD large.tar /", "RUN cat /dev/zero >/x", "COPY large /\nRUN true"],
    ids=["COPY", "ADD", "RUN", "COPY that is unpacked"],
)
def test_a_full_disk_is_told_of_and_left_as_it_was(
    busybox: Cli, tmp_path: Path, small_disk: Path, step: str
) -> None:
    context = write_tree(tmp_path / "context", {"Dockerfile": f"FROM busybox\n{step}\n"})
    (context / "large").write_bytes(os.urandom(9 << 20))
    subprocess.run(["tar", "-cf", "large.tar", "large"], cwd=context, check=True)
    shutil.copytree(busybox.root, small_disk / "store")
    cli = busybox.at(small_disk / "store")
    cli("run", "busybox", "true")  # the base is unpacked
    (small_disk / "ballast").write_bytes(bytes(4 << 20))
    before = content(cli.root)

    done = cli("build", "-t", "busybox", context, status=1)

    # It is the program that says so, if a program fills the disk.
    said = "cat: write error: " if "RUN cat" in step else "^ERROR: .*"
    assert re.search(f"{said}no space left", done.stderr, re.MULTILINE | re.IGNORECASE)
    assert "Traceback" not in done.stderr
    assert content(cli.root)["index.json"] == before["index.json"]
    assert faults(cli.root) == {}
    (small_disk / "ballast").unlink()
    (context / "Dockerfile").write_text("FROM busybox\nRUN echo small >/small\n")
    cli("prune", "--all", "--force")
    cli("build", "-t", "small", context)
    assert cli("run", "small", "cat", "/small").stdout == "small\n"


@NEEDS_ROOT
def test_a_pull_to_a_full_disk_leaves_nothing(
    busybox: Cli, tmp_path: Path, small_disk: Path
) -> None:
    context = write_tree(tmp_path / "context", {"Dockerfile": "FROM scratch\nCOPY f /\n"})
    (context / "f").write_bytes(os.urandom(20 << 20))
    cli = busybox.at(small_disk / "store")
    cli("images")
    before = content(cli.root)
    with open_registry(tmp_path / "registry") as registry:
        busybox("build", "-q", "-t", f"{registry.name}/f:1", context)
        busybox("push", f"{registry.name}/f:1")

        done = cli("pull", f"{registry.name}/f:1", status=1)

    assert re.search("^ERROR: .*no space left", done.stderr, re.MULTILINE | re.IGNORECASE)
    assert "Traceback" not in done.stderr
    assert content(cli.root)["index.json"] == before["index.json"]
    assert faults(cli.root) == {}
