"""``pybuild build``, as a user runs it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest
from support.building import write_tree
from support.cli import COMMAND, Cli
from support.rootfs import busybox_root

NEEDS_ROOT = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces, overlayfs")
COPY = "FROM scratch\nCOPY f /\n"


@pytest.fixture
def context(tmp_path: Path) -> Path:
    return write_tree(tmp_path / "context", {"Dockerfile": COPY, "f": "x"})


@pytest.fixture
def busybox(cli: Cli, tmp_path: Path) -> Cli:
    """The command on a store that holds a static busybox."""
    busybox_root(tmp_path / "root")
    cli("import", tmp_path / "root", "busybox")
    return cli


def _config(cli: Cli, name: str) -> dict[str, object]:
    (image,) = json.loads(cli("inspect", name).stdout)
    config = image["Config"]
    assert isinstance(config, dict)
    return config


def test_progress_goes_to_standard_error_and_nothing_to_output(cli: Cli, context: Path) -> None:
    done = cli("build", context)

    assert done.stdout == ""
    assert re.search(r"#\d+ \[.*\] COPY f /\n#\d+ DONE \d+\.\ds\n", done.stderr)


def test_quiet_prints_the_image_id_alone(cli: Cli, context: Path) -> None:
    done = cli("build", "-q", "-t", "x", context)

    assert (done.stderr, bool(re.fullmatch(r"sha256:[0-9a-f]{64}", done.line))) == ("", True)
    assert json.loads(cli("inspect", "x").stdout)[0]["Id"] == done.line


def test_a_second_build_is_cached_and_gives_the_same_image(cli: Cli, context: Path) -> None:
    first = cli("build", "-q", context).line
    second = cli("build", "--progress=plain", context).stderr

    assert re.search(r"#\d+ CACHED\n", second)
    assert f"writing image {first}" in second


def test_no_cache_executes_again(cli: Cli, context: Path) -> None:
    cli("build", "-q", context)

    again = cli("build", "--no-cache", "--progress=plain", context).stderr

    assert re.search(r"COPY f /\n#\d+ DONE", again)


def test_json_progress_is_one_object_a_line(cli: Cli, context: Path) -> None:
    lines = cli("build", "--progress=json", context).stderr.splitlines()

    assert {"StepStarted", "StepEnded"} <= {json.loads(line)["event"] for line in lines}


def test_result_files_are_written(cli: Cli, context: Path, tmp_path: Path) -> None:
    number = cli(
        *("build", "-q", "-t", "x:1", "--iidfile", tmp_path / "id"),
        *("--metadata-file", tmp_path / "meta", context),
    ).line

    metadata = json.loads((tmp_path / "meta").read_text())
    assert number == (tmp_path / "id").read_text()
    assert number == metadata["containerimage.config.digest"]
    assert metadata["image.name"] == "docker.io/library/x:1"
    assert metadata["containerimage.digest"] == metadata["containerimage.descriptor"]["digest"]


def test_a_build_that_fails_writes_no_result(cli: Cli, tmp_path: Path) -> None:
    context = write_tree(tmp_path / "c", {"Dockerfile": "FROM scratch\nCOPY nothing /\n"})

    done = cli("build", "--iidfile", tmp_path / "id", context, status=1)

    assert not (tmp_path / "id").exists()
    assert "Dockerfile:2" in done.stderr


def test_several_tags_name_one_image(cli: Cli, context: Path) -> None:
    cli("build", "-q", "-t", "a", "-tb:2", "--tag=reg.example/c:3", context)

    (image,) = json.loads(cli("inspect", "a").stdout)
    assert {"a:latest", "b:2", "reg.example/c:3"} == set(image["RepoTags"])


def test_the_dockerfile_may_come_from_standard_input(cli: Cli, context: Path) -> None:
    cli("build", "-q", "-t", "x", "-f", "-", context, stdin=b"FROM scratch\nLABEL from=stdin\n")

    assert _config(cli, "x")["Labels"] == {"from": "stdin"}


def test_the_dockerfile_may_be_anywhere(cli: Cli, context: Path, tmp_path: Path) -> None:
    write_tree(tmp_path, {"other.Dockerfile": "FROM scratch\nCOPY f /g\nLABEL a=b\n"})

    cli("build", "-q", "-t", "x", "-f", "other.Dockerfile", "context", cwd=tmp_path)

    assert _config(cli, "x")["Labels"] == {"a": "b"}


def test_labels_and_arguments_are_taken(cli: Cli, tmp_path: Path) -> None:
    dockerfile = "FROM scratch\nARG A\nARG B\nARG C=kept\nLABEL a=$A b=$B c=$C\n"
    context = write_tree(tmp_path / "c", {"Dockerfile": dockerfile})
    words = ["--build-arg", "A=1=2", "--build-arg", "B", "--build-arg", "C", "--label", "d=e"]

    cli.with_env(B="from outside")("build", "-q", "-t", "x", *words, context)

    expected = {"a": "1=2", "b": "from outside", "c": "kept", "d": "e"}
    assert expected == _config(cli, "x")["Labels"]


@pytest.mark.parametrize(
    ("args", "env"),
    [
        (["--timestamp", "86400"], {}),
        (["--source-date-epoch=86400"], {}),
        (["--build-arg", "SOURCE_DATE_EPOCH=86400"], {}),
        ([], {"SOURCE_DATE_EPOCH": "86400"}),
        (["--timestamp", "86400"], {"SOURCE_DATE_EPOCH": "5"}),
    ],
    ids=str,
)
def test_no_time_is_later_than_asked(
    cli: Cli, context: Path, args: list[str], env: dict[str, str]
) -> None:
    cli.with_env(**env)("build", "-q", "-t", "x", *args, context)

    (image,) = json.loads(cli("inspect", "x").stdout)
    assert image["Created"].startswith("1970-01-02T00:00:00")


@pytest.mark.parametrize(
    ("args", "words"),
    [
        (["-t", "UPPER"], ["must be lower case", "upper"]),
        (["-t", "x@sha256:" + "0" * 64], ["not named by its digest"]),
        (["-f", "missing"], ["missing", "no such file"]),
        (["--platform", "a/b/c/d"], ["not a platform"]),
        (["--target", "nowhere"], ["nowhere"]),
    ],
    ids=str,
)
def test_what_cannot_be_built_is_status_1(
    cli: Cli, context: Path, args: list[str], words: list[str]
) -> None:
    done = cli("build", *args, context, status=1)

    assert [word for word in words if word not in done.stderr] == []
    assert "Traceback" not in done.stderr


def test_a_missing_context_is_named(cli: Cli, tmp_path: Path) -> None:
    assert "/nowhere" in cli("build", tmp_path / "nowhere", status=1).stderr


@NEEDS_ROOT
def test_a_command_that_fails_shows_what_it_said_and_where_it_stands(
    busybox: Cli, tmp_path: Path
) -> None:
    dockerfile = "FROM busybox\nRUN echo before; exit 3\n"
    context = write_tree(tmp_path / "c", {"Dockerfile": dockerfile})

    done = busybox("build", "--progress=plain", context, status=1)

    assert re.search(r"#\d+ \d+\.\d{3} before\n", done.stderr)
    assert "exit code: 3" in done.stderr
    assert "Dockerfile:2" in done.stderr


@NEEDS_ROOT
def test_a_quiet_build_that_fails_still_shows_what_the_command_said(
    busybox: Cli, tmp_path: Path
) -> None:
    context = write_tree(
        tmp_path / "c", {"Dockerfile": "FROM busybox\nRUN echo before; exit 3\nRUN true\n"}
    )

    done = busybox("build", "-q", context, status=1)

    assert (done.stdout, done.stderr[:7]) == ("", "before\n")


@NEEDS_ROOT
@pytest.mark.parametrize(
    ("args", "script", "output"),
    [
        (["--add-host", "db:10.0.0.7"], "grep db /etc/hosts", "10.0.0.7\tdb"),
        (["--add-host", "six=[fd00::7]"], "grep six /etc/hosts", "fd00::7\tsix"),
        (["--network=none"], "ls /sys/class/net", "lo"),
        (["--shm-size", "2m"], "df -k /dev/shm | tail -n 1 | tr -s ' ' | cut -d' ' -f2", "2048"),
        (["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn", "100"),
    ],
    ids=str,
)
def test_options_of_run_reach_it(
    busybox: Cli, tmp_path: Path, args: list[str], script: str, output: str
) -> None:
    context = write_tree(tmp_path / "c", {"Dockerfile": f"FROM busybox\nRUN {script}\n"})

    done = busybox("build", "--progress=plain", *args, context)

    assert re.search(rf"#\d+ \d+\.\d+ {re.escape(output)}\n", done.stderr)


@NEEDS_ROOT
def test_the_live_form_is_shown_on_a_terminal(busybox: Cli, tmp_path: Path) -> None:
    dockerfile = "FROM busybox\nRUN echo working; sleep 0.5; echo 'ready \\033[31m'\n"
    context = write_tree(tmp_path / "c", {"Dockerfile": dockerfile})
    master, slave = os.openpty()
    with subprocess.Popen(
        [COMMAND, "build", context], stderr=slave, env={**busybox.environment(), "TERM": "xterm"}
    ) as process:
        os.close(slave)
        shown = b""
        try:
            while data := os.read(master, 1 << 16):
                shown += data
        except OSError:  # EIO: the other side is closed
            pass
        os.close(master)
        process.wait()

    text = shown.decode()
    assert process.returncode == 0
    assert re.search(r"=> => working", text)
    assert re.search(r" => \[2/2\] RUN echo working.*  \d\.\ds\r\n", text)


def test_a_cached_build_imports_nothing_heavy(cli: Cli, context: Path) -> None:
    cli("build", "-q", "-t", "x", context)
    script = f"""
import os, sys
from pybuild.main import run
status = run(["build", "-q", "-t", "x", {str(context)!r}])
heavy = ["typer", "rich", "requests", "urllib3", "zstandard", "cryptography", "isal", "argparse",
         "asyncio", "http.client", "tarfile", "tempfile", "shutil", "subprocess", "click",
         "pydantic", "dockerfile_parse", "sqlite3", "socket", "ssl"]
print(status, [name for name in heavy if name in sys.modules])
"""
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=cli.environment(),
        capture_output=True,
        text=True,
        check=True,
    )

    assert done.stdout.splitlines()[-1] == "0 []"
