"""Real Dockerfiles on a real base: built, run, pushed, pulled into another store, run again."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.bases import network_arguments
from support.building import write_tree
from support.cli import Cli
from support.endtoend import INSTALL, NEEDS_ROOT, faults
from support.registry import open_registry

pytestmark = [NEEDS_ROOT, pytest.mark.slow]

CURL = f"""\
FROM debian:bookworm
{INSTALL} curl
ENTRYPOINT ["curl"]
CMD ["--version"]
"""
PYTHON = f"""\
FROM debian:bookworm
{INSTALL} python3 python3-pip
WORKDIR /app
COPY requirements.txt .
RUN pip install --break-system-packages --no-cache-dir -r requirements.txt
COPY app.py .
USER nobody
CMD ["python3", "app.py"]
"""
REQUIREMENTS = "six==1.16.0\n"
APP = 'import os, six\nprint("six", six.__version__, "as", os.getuid())\n'
COMPILED = f"""\
FROM debian:bookworm AS build
{INSTALL} gcc libc6-dev
WORKDIR /src
COPY hello.c .
RUN gcc -static -Os -o /hello hello.c

FROM scratch
COPY --from=build /hello /bin/hello
ENTRYPOINT ["/bin/hello"]
CMD ["nobody"]
"""
STALE = """
import pathlib, struct
for path in pathlib.Path("/").glob("usr/**/__pycache__/*.pyc"):
    source = path.parent.parent / f"{path.name.partition('.')[0]}.py"
    flags, seconds = struct.unpack("<4xII", path.read_bytes()[:12])
    fresh = flags or seconds == int(source.stat().st_mtime)
    print("fresh" if fresh else f"stale {path}")
"""
HELLO = r"""
#include <stdio.h>
int main(int count, char **words) { return printf("hello, %s\n", words[count - 1]) < 0; }
"""


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with open_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running.name


def build(cli: Cli, context: Path, name: str) -> None:
    cli("build", "-t", name, *network_arguments(), context)


def by_way_of_the_registry(cli: Cli, name: str, other: Cli) -> None:
    """Push *name* from the store of *cli*, pull it into that of *other*."""
    cli("push", name)
    other("pull", name)

    assert cli("inspect", name).stdout == other("inspect", name).stdout
    assert faults(other.root) == {}


def test_a_package_of_debian_is_installed(
    debian: Cli, cli: Cli, registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/tools/curl:1"

    build(debian, write_tree(tmp_path / "context", {"Dockerfile": CURL}), name)
    first = debian("run", "--rm", name).stdout
    by_way_of_the_registry(debian, name, cli)

    assert first.startswith("curl 7.")
    assert first == cli("run", "--rm", name).stdout


def test_the_installed_program_reaches_a_server_of_this_machine(
    debian: Cli, registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/tools/curl:2"
    build(debian, write_tree(tmp_path / "context", {"Dockerfile": CURL}), name)

    done = debian("run", "--rm", name, "-sS", f"http://{registry}/v2/_catalog")

    assert "repositories" in json.loads(done.stdout)


def test_a_package_of_pypi_is_installed(
    debian: Cli, cli: Cli, registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/app:python"
    files = {"Dockerfile": PYTHON, "requirements.txt": REQUIREMENTS, "app.py": APP}
    context = write_tree(tmp_path / "context", files)

    build(debian, context, name)
    by_way_of_the_registry(debian, name, cli)

    expected = "six 1.16.0 as 65534\n"
    assert [expected, expected] == [store("run", "--rm", name).stdout for store in (debian, cli)]


def test_only_what_depends_on_a_changed_file_is_built_again(debian: Cli, tmp_path: Path) -> None:
    files = {"Dockerfile": PYTHON, "requirements.txt": REQUIREMENTS, "app.py": APP}
    context = write_tree(tmp_path / "context", files)
    build(debian, context, "changing")
    (context / "app.py").write_text(APP.replace("six.__version__", "'changed'"))

    again = debian("build", "-t", "changing", *network_arguments(), "--progress=plain", context)

    assert again.stderr.count("CACHED") == 5  # all but the last COPY
    assert debian("run", "--rm", "changing").stdout == "six changed as 65534\n"


def test_times_that_an_epoch_changed_do_not_make_bytecode_stale(
    debian: Cli, tmp_path: Path
) -> None:
    files = {"Dockerfile": PYTHON, "requirements.txt": REQUIREMENTS, "app.py": APP}
    context = write_tree(tmp_path / "context", files)

    build(debian.with_env(SOURCE_DATE_EPOCH="1500000000"), context, "early")

    (image,) = json.loads(debian("inspect", "early").stdout)
    said = debian("run", "--rm", "early", "python3", "-c", STALE).stdout.splitlines()
    assert image["Created"].startswith("2017-07-14")
    assert len(said) > 300
    assert [line for line in said if line != "fresh"] == []


def test_a_program_compiled_in_one_stage_is_all_there_is_in_another(
    debian: Cli, cli: Cli, registry: str, tmp_path: Path
) -> None:
    name = f"{registry}/hello"
    context = write_tree(tmp_path / "context", {"Dockerfile": COMPILED, "hello.c": HELLO})

    build(debian, context, name)
    by_way_of_the_registry(debian, name, cli)

    (image,) = json.loads(cli("inspect", name).stdout)
    assert len(image["RootFS"]["Layers"]) == 1
    assert [store("run", name).stdout for store in (debian, cli)] == ["hello, nobody\n"] * 2
    assert cli("run", "--rm", name, "world").stdout == "hello, world\n"
