"""Debian's docker-registry on a free loopback port, with an empty store."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_CONFIG = """\
version: 0.1
log: {{level: info, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {place}/data}}}}
http: {{addr: "127.0.0.1:0", secret: shared}}
"""
_LISTENS = re.compile(r"listening on (127\.0\.0\.1:[0-9]+)")


@contextmanager
def empty_registry(place: Path) -> Iterator[str]:
    """Runs while the block does; gives host:port."""
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    config, log = place / "config.yml", place / "log"
    config.write_text(_CONFIG.format(place=place))
    with log.open("wb") as out:
        command = ["docker-registry", "serve", str(config)]
        process = subprocess.Popen(command, stdout=out, stderr=out)
    try:
        yield _address(log, process)
    finally:
        process.terminate()
        process.wait()


def _address(log: Path, process: subprocess.Popen[bytes]) -> str:
    while process.poll() is None:
        if found := _LISTENS.search(log.read_text()):
            return found[1]
        time.sleep(0.02)
    raise ChildProcessError(f"docker-registry ended: {log.read_text()}")
