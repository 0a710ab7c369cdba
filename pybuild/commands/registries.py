"""``pull`` and ``push``."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Final

from engine import transfer
from engine.engine import Engine
from ocispec.errors import Invalid, NotFound, Usage
from ocispec.model import Descriptor
from ocispec.platform import Platform, host
from ocispec.reference import Reference
from pybuild.commands.opening import open_engine

_SHORT: Final = 12  # digits of a layer's digest
_WORDS: Final = {"copied": "Pull complete", "exists": "Already exists"}
_PUSH_WORDS: Final = {
    "copied": "Pushed",
    "exists": "Layer already exists",
    "mounted": "Mounted from another repository",
}


def pull_command(
    root: str | None, *, name: str, quiet: bool, all_tags: bool, platform: str | None
) -> int:
    """Copy an image from its registry into the store."""
    if all_tags:
        raise Usage("--all-tags is not built yet", hint="pull the tags one by one")
    wanted = Platform.parse(platform) if platform else host()
    given = Reference.parse(name)
    ref = given.with_default_tag()
    if not quiet and ref != given:
        print("Using default tag: latest", flush=True)
    with open_engine(root) as engine:
        pull(engine, ref, wanted, quiet=quiet)
    print(ref)
    return 0


def pull(
    engine: Engine, ref: Reference, platform: Platform, *, quiet: bool, say: Say | None = None
) -> Descriptor:
    """Pull *ref*; each blob is reported as docker does, unless *quiet*."""
    if quiet:
        return transfer.pull(engine, ref, platform=platform)
    say = say or _say
    say(f"{ref.tag or ref.digest}: Pulling from {ref.repository}")
    before = _known(engine, ref)
    root = transfer.pull(engine, ref, platform=platform, on_blob=_reporter(_WORDS, say))
    say(f"Digest: {root.digest}")
    fresh = "Image is up to date" if before == root.digest else "Downloaded newer image"
    say(f"Status: {fresh} for {ref.familiar}")
    return root


def push_command(root: str | None, *, name: str, quiet: bool, all_tags: bool) -> int:
    """Copy an image from the store to its registry."""
    if all_tags:
        raise Usage("--all-tags is not built yet", hint="push the tags one by one")
    given = Reference.parse(name)
    if given.digest is not None:
        raise Invalid(f"{name}: a name with a digest cannot be pushed to", hint="write a tag")
    ref = given.with_default_tag()
    with open_engine(root) as engine:
        if quiet:
            transfer.push(engine, ref)
            print(ref)
            return 0
        if ref != given:
            print("Using default tag: latest")
        _say(f"The push refers to repository [{ref.name}]")
        pushed = transfer.push(engine, ref, on_blob=_reporter(_PUSH_WORDS, _say))
    print(f"{ref.tag}: digest: {pushed.digest} size: {pushed.size}")
    return 0


Say = Callable[[str], None]


def _say(line: str) -> None:
    print(line, flush=True)


def _reporter(words: dict[str, str], say: Say) -> Callable[[Descriptor, str], None]:
    """Prints one line for each blob; blobs are copied by several threads."""
    lock = threading.Lock()

    def report(blob: Descriptor, what: str) -> None:
        with lock:
            say(f"{blob.digest.hex[:_SHORT]}: {words.get(what, what)}")

    return report


def _known(engine: Engine, ref: Reference) -> str | None:
    try:
        return engine.store.resolve(ref).digest
    except NotFound:
        return None
