"""
Several processes that build and collect in one store, each killed now and again; a program.

    python storestress.py STORE SECONDS SEED careful|careless

The builders use what they find in the store, as a cache does, and read at the end all that they
used. What is printed is JSON of Outcome. A careless builder looks without a pin: if no failure
comes of that, the stress is not worth its name.
"""

from __future__ import annotations

import json
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from support.stores import blobs, left_over, put_image, put_snapshot

from layers.gc import Policy, collect
from layers.session import Session
from layers.store import Store
from ocispec import mediatypes
from ocispec.content import read_small
from ocispec.digest import Digest
from ocispec.model import MAX_DOCUMENT, Descriptor, Manifest
from ocispec.reference import Reference

BUILDERS, COLLECTORS = 5, 2
KINDS = 40  # of layers and of snapshots: few, so that they are found, used and removed all the time
NAMES = 6
FAILED = 77


class Outcome(NamedTuple):
    kills: int
    failures: int  # builders that missed what they had found
    damaged: int  # blobs at the end that are not what their name says
    dangling: int  # names at the end of images that are not whole
    left_over: list[str]  # after a last gc


class Careless(Session):
    def _pin(self, text: str, path: Path) -> bool:
        del text  # the pin that is not made
        return path.exists()


def stress(root: Path, seconds: float, seed: int, kind: type[Session]) -> Outcome:
    """Let them work for *seconds*, or until the first failure."""
    chance = random.Random(seed)
    store = Store.at(root)
    children: dict[int, Callable[[int], None]] = {}
    kills = failures = 0

    def start(work: Callable[[int], None]) -> None:
        number = chance.randrange(1 << 30)
        pid = os.fork()
        if pid == 0:
            _child(work, number)
        children[pid] = work

    for _ in range(BUILDERS):
        start(lambda number: _build_for_ever(root, number, kind))
    for _ in range(COLLECTORS):
        start(lambda number: _collect_for_ever(store, number))
    end = time.monotonic() + seconds
    while time.monotonic() < end and not failures:
        time.sleep(chance.random() * 0.08)
        os.kill(chance.choice(list(children)), signal.SIGKILL)
        kills += 1
        pid, status = os.wait()
        failures += os.WIFEXITED(status)
        start(children.pop(pid))
    for pid in children:
        os.kill(pid, signal.SIGKILL)
    for pid in children:
        failures += os.WIFEXITED(os.waitpid(pid, 0)[1])
    damaged, dangling = len(store.check()), _dangling(store)
    collect(store)
    return Outcome(kills, failures, damaged, dangling, left_over(root))


def _child(work: Callable[[int], None], number: int) -> None:
    try:
        work(number)
    except BaseException:  # noqa: BLE001  # whatever it is, it is the failure that is looked for
        traceback.print_exc()
    finally:
        os._exit(FAILED)


def _build_for_ever(root: Path, number: int, kind: type[Session]) -> None:
    chance = random.Random(number)
    while True:
        with kind(root) as session:
            for _ in range(chance.randrange(1, 4)):
                _build(Store(root), session, chance)


def _build(store: Store, session: Session, chance: random.Random) -> None:
    words = [f"{chance.randrange(KINDS)} " * 3000 for _ in range(chance.randrange(1, 4))]
    used = {word: Digest.of(word.encode()) for word in words}
    for word, digest in used.items():
        if not session.pin(digest):
            session.put_bytes(mediatypes.OCI_LAYER_GZIP, word.encode())
    snapshot = f"{chance.randrange(KINDS)}"
    if not session.pin_snapshot(snapshot):
        put_snapshot(session, snapshot)
    time.sleep(chance.random() * 0.01)  # what a build takes; meanwhile gc runs
    for word, digest in used.items():
        assert word.encode() == store.path(digest).read_bytes(), "a blob has changed"
    file = store.root / "snapshots" / snapshot / "fs" / "file"
    assert snapshot == file.read_text(), "a snapshot has changed"
    if chance.random() < 0.3:
        image = put_image(session, *words)
        session.tag(Reference.parse(f"example.org/i{chance.randrange(NAMES)}:v1"), image.root)


def _collect_for_ever(store: Store, number: int) -> None:
    chance = random.Random(number)
    while True:
        collect(store, Policy(unnamed_images=chance.random() < 0.5))
        time.sleep(chance.random() * 0.03)


def _dangling(store: Store) -> int:
    """How many named images lack a part."""
    there = blobs(store)
    return sum(not there.issuperset(_parts(store, root)) for _, root in store.images.names())


def _parts(store: Store, root: Descriptor) -> set[Digest]:
    if not store.has(root):
        return {root.digest}
    manifest = Manifest.decode(read_small(store, root, MAX_DOCUMENT), root.media_type)
    return {root.digest, *(child.digest for child in manifest.children())}


if __name__ == "__main__":
    where, duration, first, how = sys.argv[1:]
    sessions = {"careful": Session, "careless": Careless}
    found = stress(Path(where), float(duration), int(first), sessions[how])
    print(json.dumps(found._asdict()))
