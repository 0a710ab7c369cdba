"""``pull`` and ``push``, as a user runs them."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.building import write_tree
from support.cli import Cli
from support.registry import PASSWORD, USER, RunningRegistry, open_registry, password_registry
from support.rootfs import busybox_root


@pytest.fixture(scope="module")
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningRegistry]:
    with open_registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


def _image(cli: Cli, place: Path, name: str) -> str:
    """The ID of a new image *name*."""
    return cli("import", write_tree(place / "files", {"f": name}), name).line


def test_an_image_goes_and_comes_back(cli: Cli, tmp_path: Path, registry: RunningRegistry) -> None:
    name = f"{registry.name}/team/app:v1"
    number = _image(cli, tmp_path, name)
    other = cli.at(tmp_path / "other")

    pushed = cli("push", name).stdout
    pulled = other("pull", name).stdout

    digest = r"sha256:[0-9a-f]{64}"
    assert f"The push refers to repository [{registry.name}/team/app]" in pushed
    assert re.search(rf"\nv1: digest: {digest} size: \d+\n$", pushed)
    assert re.search(rf"^v1: Pulling from team/app\n(?s:.*)Digest: {digest}\n", pulled)
    assert f"Status: Downloaded newer image for {name}\n{name}\n" in pulled
    assert number == other("images", "-q", "--no-trunc").line
    assert "Status: Image is up to date" in other("pull", name).stdout


def test_quiet_prints_the_name_alone(cli: Cli, tmp_path: Path, registry: RunningRegistry) -> None:
    name = f"{registry.name}/quiet:v1"
    _image(cli, tmp_path, name)

    assert name == cli("push", "-q", name).line
    assert name == cli("pull", "-q", name).line


def test_latest_is_the_default_tag(cli: Cli, tmp_path: Path, registry: RunningRegistry) -> None:
    name = f"{registry.name}/default"
    _image(cli, tmp_path, name)

    pushed = cli("push", name).stdout

    assert pushed.startswith("Using default tag: latest\n")


def test_what_is_not_there_is_an_error(cli: Cli, registry: RunningRegistry) -> None:
    name = f"{registry.name}/nothing:v1"

    for done in (cli("pull", name, status=1), cli("push", name, status=1)):
        assert (done.stderr[:7], "Traceback" in done.stderr) == ("ERROR: ", False)


def test_logins_come_from_dockers_config(cli: Cli, tmp_path: Path) -> None:
    with password_registry(tmp_path / "registry") as registry:
        name = f"{registry.name}/secret:v1"
        _image(cli, tmp_path, name)
        login = {"username": USER, "password": PASSWORD}
        config = {"auths": {registry.name: login}}
        (tmp_path / "docker").mkdir()
        (tmp_path / "docker/config.json").write_text(json.dumps(config))

        refused = cli("push", name, status=1)
        cli.with_env(DOCKER_CONFIG=str(tmp_path / "docker"))("push", name)

    assert "there are no credentials" in refused.stderr
    assert PASSWORD not in refused.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces, overlayfs")
def test_run_and_build_pull_what_is_missing(
    cli: Cli, tmp_path: Path, registry: RunningRegistry
) -> None:
    name = f"{registry.name}/busybox:v1"
    busybox_root(tmp_path / "root")
    cli("import", tmp_path / "root", name)
    cli("push", "-q", name)
    context = write_tree(tmp_path / "c", {"Dockerfile": f"FROM {name}\nRUN echo built\n"})

    ran = cli.at(tmp_path / "a")("run", name, "echo", "hello")
    built = cli.at(tmp_path / "b")("build", "--progress=plain", context)

    assert ran.stdout == "hello\n"
    assert "Unable to find image" in ran.stderr
    assert re.search(r"#\d+ \d+\.\d+ built\n", built.stderr)
