"""Images to and from registries: pull, push, and the base images that a build needs."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace

from builder.events import Notice, OnEvent, StepEnded, StepStarted
from engine.engine import Engine
from engine.images import load, select_platform
from layers.store import Store
from ocispec import mediatypes
from ocispec.errors import Denied, NotFound, PybuildError
from ocispec.model import Descriptor
from ocispec.platform import Platform
from ocispec.reference import Reference

OnBlob = Callable[[Descriptor, str], None]  # what happened to a blob: copied, exists, mounted


def pull(
    engine: Engine,
    ref: Reference,
    *,
    platform: Platform,
    on_blob: OnBlob | None = None,
) -> Descriptor:
    """
    Copy the image *ref* for *platform* into the store and name it; its manifest.

    Of an index only the manifest for the platform is taken. What was asked for by its digest is
    found again by that digest.
    """
    from ocispec.copy import copy  # with its threads not for a base that is there

    repository = engine.client().repository(ref)
    asked = repository.resolve(ref)
    with engine.store.session() as session:
        root = asked
        if asked.media_type in mediatypes.INDEXES:
            data = repository.open(asked)
            try:
                session.put(asked, data)
            finally:
                data.close()
            root = replace(select_platform(engine.store, asked, platform), platform=None)
        copy(root, repository, session, jobs=max(engine.jobs, 4), on_blob=on_blob)
        if ref.digest is not None:
            session.keep(asked)
        if ref.tag is not None:
            session.tag(ref, root)
    return root


def push(engine: Engine, ref: Reference, *, on_blob: OnBlob | None = None) -> Descriptor:
    """Copy the image *ref* from the store to its registry, under the same name; its manifest."""
    from ocispec.copy import copy

    root = engine.store.resolve(ref)
    # Layers of a base image are in the repository that it came from: a registry that mounts them
    # from there need not be sent them.
    neighbours = {
        name.repository for name, _ in engine.store.images.names() if name.registry == ref.registry
    }
    repository = engine.client().repository(ref, mount_from=sorted(neighbours))
    copy(root, engine.store, repository, jobs=max(engine.jobs, 4), on_blob=on_blob)
    repository.tag(ref, root)
    return root


def ensure_image(
    engine: Engine, ref: Reference, *, pull_always: bool, platform: Platform, on_event: OnEvent
) -> Descriptor:
    """
    The manifest of *ref* for *platform*: the store's, or pulled if it is missing or *pull_always*.

    The store's is taken for another platform only if the registry has none that fits.
    """
    ours = None if pull_always else stored(engine.store, ref, platform)
    if ours is not None and _fits(engine.store, ours, platform):
        return ours
    try:
        return _pulled(engine, ref, platform, on_event)
    except PybuildError as error:
        if ours is not None:
            return ours
        if isinstance(error, NotFound | Denied):
            raise NotFound(
                f"{ref.familiar}: {error.message}",
                hint=error.hint or "is the name right, and are you logged in?",
            ) from error
        raise


def stored(store: Store, ref: Reference, platform: Platform) -> Descriptor | None:
    """The manifest of *ref* for *platform* in *store*; None if it is not there."""
    try:
        found = select_platform(store, store.resolve(ref), platform)
    except NotFound:
        return None
    return found if store.has(found) else None


def _fits(store: Store, root: Descriptor, platform: Platform) -> bool:
    its = load(store, root).config.platform
    return platform.matches(its) or not its.architecture  # which some tools leave out


def _pulled(engine: Engine, ref: Reference, platform: Platform, on_event: OnEvent) -> Descriptor:
    started = time.monotonic()
    on_event(StepStarted(0, f"[internal] load metadata for {ref}"))

    def report(blob: Descriptor, what: str) -> None:
        on_event(Notice(0, f"{blob.digest} {blob.size} {what}"))

    try:
        root = pull(engine, ref, platform=platform, on_blob=report)
    except PybuildError as error:
        on_event(StepEnded(0, False, time.monotonic() - started, error.message))
        raise
    on_event(StepEnded(0, False, time.monotonic() - started))
    return root
