"""The real command: what it prints, on which stream, and its status."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support.building import write_tree
from support.cli import COMMAND, Cli
from support.rootfs import busybox_root

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces, overlayfs")


@pytest.fixture
def small(cli: Cli, tmp_path: Path) -> Cli:
    """The command on a store that holds the image ``small:v1`` of one file."""
    root = write_tree(tmp_path / "small", {"f": "x"})
    cli("import", "-c", 'CMD ["/f"]', "-m", "made here", root, "small:v1")
    return cli


# ---- usage


@pytest.mark.parametrize(
    "args",
    [
        ["build"],
        ["build", "a", "b"],
        ["build", "--nope", "."],
        ["build", "--secret", "id=x", "."],
        ["build", "--progress=fancy", "."],
        ["build", "--platform=linux/amd64,linux/arm64", "."],
        ["build", "--shm-size=much", "."],
        ["build", "--ulimit=nofile", "."],
        ["build", "--add-host=x", "."],
        ["build", "--timestamp=yesterday", "."],
        ["build", "https://example.invalid/x.git"],
        ["build", "-"],
        ["nope"],
        ["images", "--nope"],
        ["images", "--filter", "nope=1"],
        ["tag", "one"],
        ["rmi"],
        ["pull", "--all-tags", "x"],
        ["push", "-a", "x"],
        ["--root"],
        ["prune", "--filter", "until=soon"],
        ["inspect", "--format", "{{range .}}", "small:v1"],
    ],
    ids=" ".join,
)
def test_wrong_usage_is_status_2_and_no_traceback(small: Cli, args: list[str]) -> None:
    done = small(*args, status=2)

    assert (done.stdout, "Traceback" in done.stderr) == ("", False)
    assert re.search(r"^(ERROR|Error|Usage)", done.stderr)


@pytest.mark.parametrize(
    "args",
    [
        ["--help"],
        ["build", "--help"],
        ["build", "-h"],
        ["build", ".", "--help"],
        ["build", "--help", "--nope"],
        ["run", "--help"],
        *([name, "--help"] for name in ("images", "import", "save", "load", "prune", "rmi")),
    ],
    ids=" ".join,
)
def test_help_is_printed(cli: Cli, args: list[str]) -> None:
    done = cli(*args)

    assert (done.stdout[:14], done.stderr) == ("Usage: pybuild", "")


def test_an_error_is_a_message_and_a_hint(cli: Cli) -> None:
    done = cli("inspect", "nothing", status=1)

    expected = "ERROR: no such image: nothing\nhint: pybuild images lists what there is\n"
    assert ("[]\n", expected) == (done.stdout, done.stderr)


def test_an_option_that_is_not_built_is_named(cli: Cli) -> None:
    done = cli("build", "--cache-to=type=inline", ".", status=2)

    assert "--cache-to" in done.stderr


# ---- where things are


def test_the_store_may_be_named_by_the_environment(small: Cli, tmp_path: Path) -> None:
    done = subprocess.run(
        [COMMAND, "images", "-q"],
        env={**os.environ, "PYBUILD_ROOT": str(small.root)},
        capture_output=True,
        text=True,
        check=True,
    )

    assert small("images", "-q").stdout == done.stdout


@pytest.mark.parametrize("form", ["before", "equals", "after"])
def test_the_store_may_be_named_by_an_option(cli: Cli, tmp_path: Path, form: str) -> None:
    context = write_tree(tmp_path / "context", {"Dockerfile": "FROM scratch\nCOPY Dockerfile /\n"})
    store = tmp_path / "elsewhere"
    words = {
        "before": ["--root", str(store), "build", str(context)],
        "equals": [f"--root={store}", "build", str(context)],
        "after": ["build", "--root", str(store), str(context)],
    }

    subprocess.run([COMMAND, *words[form]], env=cli.environment(), check=True, capture_output=True)

    assert (store / "oci-layout").exists()


def test_a_strangers_directory_is_no_store(cli: Cli, tmp_path: Path) -> None:
    (tmp_path / "home").mkdir()
    (tmp_path / "home/letter").touch()

    done = cli.at(tmp_path / "home")("images", status=1)

    assert "is not a store" in done.stderr
    assert [path.name for path in (tmp_path / "home").iterdir()] == ["letter"]


@pytest.mark.parametrize("start", ["command", "module"])
def test_modules_in_the_current_directory_are_not_imported(
    cli: Cli, tmp_path: Path, start: str
) -> None:
    trap = "open('/proc/self/fd/2', 'w').write('trapped'); raise SystemExit(99)\n"
    names = ("json", "typer", "rich", "engine", "layers", "ocispec", "builder", "stat", "shutil")
    write_tree(tmp_path / "cwd", {f"{name}.py": trap for name in names})
    words = [str(COMMAND)] if start == "command" else [sys.executable, "-m", "pybuild"]

    done = subprocess.run(
        [*words, "--root", str(cli.root), "images"],
        cwd=tmp_path / "cwd",
        capture_output=True,
        text=True,
        check=False,
    )

    assert (done.returncode, done.stderr) == (0, "")


# ---- images, inspect, history, tag, rmi


def test_images_are_a_table(small: Cli) -> None:
    heading, row = small("images").stdout.splitlines()

    assert heading.split() == ["REPOSITORY", "TAG", "IMAGE", "ID", "CREATED", "SIZE"]
    columns = re.split(r" {2,}", row)
    assert columns[:2] == ["small", "v1"]
    assert re.fullmatch(r"[0-9a-f]{12}", columns[2])
    assert re.fullmatch(r"[0-9.]+k?B", columns[4])


@pytest.mark.parametrize(
    ("args", "pattern"),
    [
        (["-q"], r"[0-9a-f]{12}\n"),
        (["-q", "--no-trunc"], r"sha256:[0-9a-f]{64}\n"),
        (["--digests"], r"(?s)REPOSITORY +TAG +DIGEST +IMAGE ID.*sha256:[0-9a-f]{64}.*"),
        (["--format", "{{.Repository}}:{{.Tag}}"], r"small:v1\n"),
        (["--format", "table {{.Tag}}\t{{.Repository}}"], r"TAG +REPOSITORY\nv1 +small\n"),
        (["-q", "small"], r"[0-9a-f]{12}\n"),
        (["-q", "small:v1"], r"[0-9a-f]{12}\n"),
        (["-q", "sm*"], r"[0-9a-f]{12}\n"),
        (["-q", "other"], r""),
        (["-q", "--filter", "reference=small:*"], r"[0-9a-f]{12}\n"),
        (["-q", "--filter", "dangling=true"], r""),
        (["-q", "-f", "label=a"], r""),
    ],
    ids=str,
)
def test_images_have_dockers_options(small: Cli, args: list[str], pattern: str) -> None:
    assert re.fullmatch(pattern, small("images", *args).stdout)


def test_images_as_json_are_one_object_a_line(small: Cli) -> None:
    row = json.loads(small("images", "--format", "json").line)

    assert (row["Repository"], row["Tag"]) == ("small", "v1")


def test_an_image_that_lost_its_name_is_listed_without_one(small: Cli, tmp_path: Path) -> None:
    small("import", write_tree(tmp_path / "b", {"f": "y"}), "small:v1")

    lines = small("images").stdout.splitlines()

    assert ["<none>", "<none>"] in [line.split()[:2] for line in lines]


def test_inspect_is_a_json_array(small: Cli) -> None:
    (image,) = json.loads(small("inspect", "small:v1").stdout)

    assert (image["Config"]["Cmd"], image["RepoTags"]) == (["/f"], ["small:v1"])


@pytest.mark.parametrize(
    ("form", "output"),
    [
        ("{{.Os}}", "linux\n"),
        ("{{json .Config.Cmd}}", '["/f"]\n'),
        ("{{index .RepoTags 0}}", "small:v1\n"),
        ("{{.Config.Cmd}} {{.Comment}}", "[/f] made here\n"),
    ],
)
def test_inspect_takes_a_template(small: Cli, form: str, output: str) -> None:
    assert output == small("inspect", "--format", form, "small:v1").stdout


def test_history_is_a_table(small: Cli) -> None:
    heading, row = small("history", "small:v1").stdout.splitlines()

    assert re.split(r" {2,}", heading) == ["IMAGE", "CREATED", "CREATED BY", "SIZE", "COMMENT"]
    assert row.endswith("made here")


def test_a_name_is_given_and_taken(small: Cli) -> None:
    small("tag", "small:v1", "other/name")
    first = small("rmi", "small:v1")
    second = small("rmi", "other/name")

    assert first.line == "Untagged: small:v1"
    assert second.stdout.startswith("Untagged: other/name:latest\nDeleted: sha256:")
    assert small("images", "-q").stdout == ""


def test_rmi_does_what_it_can(small: Cli) -> None:
    done = small("rmi", "nothing", "small:v1", status=1)

    assert "no such image: nothing" in done.stderr
    assert small("images", "-q").stdout == ""


# ---- import, save, load, prune, version


def test_import_prints_the_image_id(cli: Cli, tmp_path: Path) -> None:
    number = cli("import", write_tree(tmp_path / "a", {"f": "x"}), "a").line

    assert number == json.loads(cli("inspect", "a").stdout)[0]["Id"]


def test_import_reads_standard_input(cli: Cli, tmp_path: Path) -> None:
    write_tree(tmp_path / "a", {"f": "x"})
    tar = subprocess.run(["tar", "-C", tmp_path / "a", "-c", "."], capture_output=True, check=True)

    cli("import", "-", "a", stdin=tar.stdout)

    assert cli("images", "--format", "{{.Repository}}").line == "a"


@pytest.mark.parametrize("by_file", [True, False], ids=["files", "pipes"])
def test_an_image_is_saved_and_loaded(small: Cli, tmp_path: Path, by_file: bool) -> None:
    archive = tmp_path / "out.tar"
    other = small.at(tmp_path / "other")
    small("save", "-o", archive, "small:v1")
    if by_file:
        done = other("load", "-i", archive)
    else:
        piped = subprocess.run(
            small.argv("save", "small:v1"),
            env=small.environment(),
            capture_output=True,
            check=True,
        )
        assert archive.read_bytes() == piped.stdout
        done = other("load", stdin=piped.stdout)

    assert done.line == "Loaded image: small:v1"
    assert small("images", "-q").stdout == other("images", "-q").stdout


def test_a_save_that_fails_leaves_no_file(small: Cli, tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()

    small("save", "-o", tmp_path / "out/x.tar", "small:v1", "nothing", status=1)

    assert list((tmp_path / "out").iterdir()) == []


@pytest.mark.parametrize(("answer", "left"), [("y\n", 1), ("n\n", 2), ("", 2)], ids=repr)
def test_prune_asks_first(small: Cli, tmp_path: Path, answer: str, left: int) -> None:
    small("import", write_tree(tmp_path / "b", {"f": "y"}), "small:v1")

    small("prune", stdin=answer.encode())

    assert left == len(small("images", "-q").stdout.splitlines())


def test_prune_says_what_it_would_do(small: Cli, tmp_path: Path) -> None:
    small("import", write_tree(tmp_path / "b", {"f": "y"}), "small:v1")

    would = small("prune", "--dry-run").stdout
    did = small("prune", "-f").stdout

    assert re.search(r"would delete: sha256:.*\nWould remove: .* 3 blobs.*\nTotal", would)
    assert re.search(r"deleted: sha256:.*\nRemoved: .* 3 blobs.*\nTotal reclaimed space: .*B", did)


def test_the_version_is_told(cli: Cli) -> None:
    assert re.match(r"pybuild \d+\.\d+", cli("version").stdout)
    assert json.loads(cli("version", "--format", "json").stdout)["Platform"].startswith("linux/")


# ---- endings


def test_a_reader_that_goes_away_is_no_error(small: Cli, tmp_path: Path) -> None:
    with subprocess.Popen(
        small.argv("save", "small:v1"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=small.environment(),
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        said = process.stderr.read()
        status = process.wait()

    assert (said, status) == (b"", 141)


def test_a_full_disk_is_told_of(small: Cli) -> None:
    with Path("/dev/full").open("wb") as full:
        done = subprocess.run(
            small.argv("save", "small:v1"),
            env=small.environment(),
            stdout=full,
            stderr=subprocess.PIPE,
            text=True,
            check=False,
        )

    assert (done.returncode, done.stderr) == (1, "ERROR: No space left on device\n")


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("number", "said_last"),
    [
        (signal.SIGINT, "ERROR: interrupted\n"),
        (signal.SIGTERM, "ERROR: terminated\n"),
        (signal.SIGHUP, "ERROR: terminated\n"),
    ],
)
def test_a_signal_ends_a_build_cleanly(
    cli: Cli, tmp_path: Path, number: signal.Signals, said_last: str
) -> None:
    busybox_root(tmp_path / "root")
    cli("import", tmp_path / "root", "busybox")
    context = write_tree(tmp_path / "c", {"Dockerfile": "FROM busybox\nRUN echo up; sleep 60\n"})
    with subprocess.Popen(
        cli.argv("build", "--progress=plain", context),
        stderr=subprocess.PIPE,
        env=cli.environment(),
        text=True,
        start_new_session=True,
    ) as process:
        assert process.stderr is not None
        for line in process.stderr:
            if re.search(r"\d up$", line):
                break
        started = time.monotonic()
        process.send_signal(number)
        said = process.stderr.read()
        status = process.wait()

    assert (status, said.endswith(said_last)) == (128 + number, True)
    assert time.monotonic() - started < 20
    assert [*(cli.root / "tmp").iterdir(), *(cli.root / "leases").iterdir()] == []
