"""The same input gives the same image, whatever the machine's clock, zone, umask and cores."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest
from support.building import write_tree
from support.cli import Cli
from support.oracles import program

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="needs root: namespaces, overlayfs")

EPOCH = 1_700_000_000
DOCKERFILE = """\
FROM busybox AS a
RUN mkdir -p /out/d && echo a >/out/d/f && ln -s f /out/d/link && ln /out/d/f /out/d/hard
RUN chmod 4751 /out/d/f && chown 7:8 /out/d && mkfifo /out/fifo && mkdir -m 1777 /out/tmp

FROM busybox AS b
COPY src /src
RUN cp -a /src /copy && echo "$SOURCE_DATE_EPOCH" >/copy/new && date >/ignored

FROM busybox
COPY --from=a /out /out
COPY --from=b /copy /copy
COPY --chown=app --chmod=0640 src /app
WORKDIR /work/deep
COPY <<end .
inline
end
RUN touch made && rm -r /home && echo x >>/etc/passwd
ENV A=b
LABEL l="m"
CMD ["cat", "/copy/new"]
"""


@pytest.fixture
def stores(busybox: Cli, tmp_path: Path) -> tuple[Cli, Cli]:
    """Two stores that hold the same busybox, and nothing else."""
    other = busybox.at(tmp_path / "other" / "store")
    shutil.copytree(busybox.root, other.root)
    return busybox, other


@pytest.fixture
def contexts(tmp_path: Path) -> tuple[Path, Path]:
    """Two directories with the same files, made in another order and at another time."""
    files = {f"src/{name}": name * 99 for name in ("a", "b/c", "b/d", "é", "z.sh")}
    one = write_tree(tmp_path / "one", {**files, "Dockerfile": DOCKERFILE})
    two = write_tree(tmp_path / "two", dict(reversed([*files.items()])))
    (two / "Dockerfile").write_text(DOCKERFILE)
    for number, path in enumerate(sorted(two.rglob("*"))):
        os.utime(path, (EPOCH + 99 + number, EPOCH + 99 + number))
    for root in (one, two):
        for path in root.rglob("*"):
            path.chmod(0o755 if path.is_dir() or path.suffix == ".sh" else 0o644)
    return one, two


def test_with_an_epoch_all_machines_make_one_image(
    stores: tuple[Cli, Cli], contexts: tuple[Path, Path], tmp_path: Path
) -> None:
    epoch = {"SOURCE_DATE_EPOCH": str(EPOCH)}
    one = _elsewhere(stores[0], zone="UTC", umask="022", days=0)
    two = _elsewhere(stores[1], zone="Asia/Kathmandu", umask="077", days=400)

    first = _build(one.with_env(**epoch), contexts[0], tmp_path, "--jobs", "1")
    second = _build(two.with_env(**epoch), contexts[1], tmp_path, "--jobs", "4")

    assert first["containerimage.digest"] == second["containerimage.digest"]


def test_an_epoch_gives_the_same_image_from_the_cache_of_a_build_without_one(
    stores: tuple[Cli, Cli], contexts: tuple[Path, Path], tmp_path: Path
) -> None:
    _build(stores[0], contexts[0], tmp_path, "--build-arg", f"SOURCE_DATE_EPOCH={EPOCH}")

    cached = _build(stores[0], contexts[0], tmp_path, "--timestamp", str(EPOCH))
    fresh = _build(stores[1], contexts[0], tmp_path, "--timestamp", str(EPOCH))

    assert cached["containerimage.digest"] == fresh["containerimage.digest"]


def test_without_an_epoch_all_machines_make_the_same_files(
    stores: tuple[Cli, Cli], contexts: tuple[Path, Path], tmp_path: Path
) -> None:
    text = DOCKERFILE.replace(" && date >/ignored", "")
    for context in contexts:
        (context / "Dockerfile").write_text(text)
    one = _elsewhere(stores[0], zone="UTC", umask="022", days=0)
    two = _elsewhere(stores[1], zone="Asia/Kathmandu", umask="077", days=400)

    first = _build(one, contexts[0], tmp_path, "--jobs", "1")
    second = _build(two, contexts[1], tmp_path, "--jobs", "4")

    assert first["pybuild.identity"] == second["pybuild.identity"]
    assert first["containerimage.digest"] != second["containerimage.digest"]


def test_a_rebuild_that_hits_everything_gives_the_image_that_was(
    busybox: Cli, contexts: tuple[Path, Path], tmp_path: Path
) -> None:
    first = _build(busybox, contexts[0], tmp_path)
    later = _elsewhere(busybox, zone="Asia/Kathmandu", umask="077", days=400)

    assert (
        first["containerimage.digest"]
        == _build(later, contexts[0], tmp_path)["containerimage.digest"]
    )
    assert (
        first["containerimage.digest"]
        == _build(later, contexts[1], tmp_path)["containerimage.digest"]
    )


def _elsewhere(cli: Cli, *, zone: str, umask: str, days: int) -> Cli:
    """The command on a machine with another clock, time zone and umask."""
    clock = (program("faketime"), "-f", f"+{days}d") if days else ()
    shell = ("sh", "-c", f'umask {umask}; exec "$@"', "sh")
    # Times of files stay real, so that what is seen of a new file is not in the past.
    settings = {"NO_FAKE_STAT": "1", "FAKETIME_DONT_FAKE_MONOTONIC": "1", "TZ": zone}
    return Cli(cli.root, {**cli.env, **settings}, (*shell, *clock))


def _build(cli: Cli, context: Path, scratch: Path, *args: str) -> dict[str, str]:
    """What ``--metadata-file`` tells of the build."""
    result = scratch / "metadata"
    cli("build", "--progress=plain", "--metadata-file", result, *args, context)
    told: dict[str, str] = json.loads(result.read_text())
    return told
