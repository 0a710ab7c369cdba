"""A build: a request becomes an image in the store."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import NamedTuple

from builder.context import LocalContext
from builder.dockerfile.parse import parse
from builder.dockerfile.source import SourceFile, Span
from builder.epoch import capped
from builder.events import Event, Notice, OnEvent, StepEnded, StepStarted, Warned
from builder.ignore import Ignore
from builder.image import BuiltImage, document, store_image
from builder.lower.lower import Lowering
from builder.lower.state import BaseImage, Settings
from builder.plan import Base, Output, Plan
from builder.records import LocalCache
from builder.solve import Solver
from builder.stack import Stack
from builder.tools import Running, StepSettings, Tools
from engine.answers import Answer, Question, recorded, remember
from engine.engine import Engine
from layers.session import Session
from ocispec.content import read_small
from ocispec.digest import Digest
from ocispec.errors import (
    Corrupt,
    Denied,
    Failed,
    Invalid,
    NotFound,
    PybuildError,
    Unavailable,
    Unsupported,
)
from ocispec.model import MAX_DOCUMENT, Descriptor, ImageConfig, Layer, Manifest
from ocispec.platform import Platform, host
from ocispec.reference import Reference


@dataclass(frozen=True, slots=True)
class BuildRequest:
    """All that a build depends on, but for the store and the clock."""

    context: Path
    dockerfile: Path | None = None  # None: Dockerfile in the context
    dockerfile_text: bytes | None = None  # from standard input; then dockerfile is None
    tags: tuple[Reference, ...] = ()
    target: str | None = None
    build_args: Mapping[str, str | None] = field(default_factory=dict, hash=False)
    labels: Mapping[str, str] = field(default_factory=dict, hash=False)
    platform: Platform | None = None
    no_cache: bool = False
    pull: bool = False
    network: str = "default"
    add_hosts: tuple[tuple[str, str], ...] = ()  # name, address
    shm_size: int | None = None  # bytes
    ulimits: Mapping[str, tuple[int, int]] = field(default_factory=dict, hash=False)
    epoch: int | None = None  # seconds since 1970; no time in the image is later
    resolv_conf: bytes = b""  # of this machine


@dataclass(frozen=True, slots=True)
class BuildResult:
    """The image that a build made or found."""

    manifest: Descriptor
    config: Digest
    steps: int
    cached_steps: int
    identity: Digest  # of the filesystem, without times


def build(
    engine: Engine, request: BuildRequest, show: OnEvent, question: Question | None = None
) -> BuildResult:
    """
    Build *request*; the image is in the store, under its tags, when this returns.

    With the *question* that *request* was made from, the answer is kept for the next time.

    Invalid with the place drawn for a bad Dockerfile, Failed for a command that fails; the store
    then holds no more than the steps that were done, for the next build.
    """
    inputs = _Inputs(request)
    source = inputs.dockerfile()
    dockerfile = parse(source)
    seen: list[Event] = []

    def on_event(event: Event) -> None:
        if question is not None:
            seen.append(event)
        show(event)

    platform = request.platform or host()
    bases: list[_ResolvedBase] = []
    with engine.store.session() as session:
        lowering = Lowering(
            dockerfile,
            _settings(request, platform),
            partial(_resolve, engine, session, request, on_event, bases),
        )
        plan = lowering.plan()
        for name in lowering.unused_args():
            on_event(Warned(f"the build argument {name} is not used by any ARG of this build"))
        cache = LocalCache(engine.store, session)
        context = LocalContext(request.context, inputs.ignore(), _index(engine, request))
        tools = _tools(engine, session, request, cache, context, on_event)
        solver = Solver(
            plan,
            tools,
            lambda error, span: _located(error, span, source),
            use_cache=not request.no_cache,
            jobs=engine.jobs,
        )
        try:
            results = solver.solve()
        finally:
            tools.context.save()
        (output,) = plan.outputs.values()
        root = results[output.root]
        assert root is not None
        image = _export(engine, session, request, plan, output, results, on_event)
        steps = sum(not isinstance(step.op, Base) for step in plan.steps)
        if question is not None and not any(isinstance(event, Warned) for event in seen):
            titles, notices = recorded(seen)
            answer = Answer(
                image.manifest.json(), image.config.digest, root.identity, titles, notices
            )
            remember(
                question,
                session,
                answer,
                index=_index_if_it_holds(engine, request, image, bases),
                read=inputs.read,
                context=context.fingerprint(),
                keys=cache.used,
            )
        return BuildResult(image.manifest, image.config.digest, steps, solver.cached, root.identity)


class _ResolvedBase(NamedTuple):
    """What a FROM or ``--from`` was taken for."""

    ref: Reference
    platform: Platform
    root: Descriptor


class _Inputs:
    """The Dockerfile and the ignore file of a build, and what was read to find them."""

    def __init__(self, request: BuildRequest) -> None:
        self._request = request
        self.read: dict[str, bytes | None] = {}  # by path; None: it is not there
        self._question = Question(Path(), request.context, request.dockerfile, "")

    def dockerfile(self) -> SourceFile:
        request = self._request
        if not request.context.is_dir():
            raise NotFound(f"unable to prepare context: path {str(request.context)!r} not found")
        if request.dockerfile_text is not None:
            return SourceFile("Dockerfile", request.dockerfile_text)
        candidates = self._question.dockerfiles()
        for path in candidates:
            data = self._bytes(path)
            if data is not None:
                return SourceFile(path.name, data)
        raise NotFound(
            f"failed to read dockerfile: open {candidates[0]}: no such file or directory",
            hint="name it with -f",
        )

    def ignore(self) -> Ignore:
        """The Dockerfile's own ignore file, else the context's (dockerfile reference)."""
        candidates = self._question.ignore_files()
        if self._request.dockerfile_text is not None:
            del candidates[0]  # it belongs to the Dockerfile of the context, which is another one
        for path in candidates:
            data = self._bytes(path)
            if data is not None:
                return Ignore.parse(data)
        return Ignore.parse(b"")

    def _bytes(self, path: Path) -> bytes | None:
        data: bytes | None
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            data = None
        except IsADirectoryError:
            raise Invalid(f"{path} is a directory", hint="-f names a file") from None
        self.read[str(path)] = data
        return data


def _settings(request: BuildRequest, platform: Platform) -> Settings:
    args = {name: value for name, value in request.build_args.items() if value is not None}
    if request.epoch is not None:
        args.setdefault("SOURCE_DATE_EPOCH", str(request.epoch))
    return Settings(platform, host(), args, request.labels, request.target)


def _resolve(
    engine: Engine,
    session: Session,
    request: BuildRequest,
    on_event: OnEvent,
    bases: list[_ResolvedBase],
    name: str,
    platform: Platform,
) -> BaseImage:
    from engine.transfer import ensure_image

    ref = Reference.parse(name).with_default_tag()
    root = ensure_image(engine, ref, pull_always=request.pull, platform=platform, on_event=on_event)
    bases.append(_ResolvedBase(ref, platform, root))
    manifest = Manifest.decode(read_small(engine.store, root, MAX_DOCUMENT), root.media_type)
    config = ImageConfig.decode(read_small(engine.store, manifest.config, MAX_DOCUMENT))
    if len(config.diff_ids) != len(manifest.layers):
        raise Invalid(f"{ref.familiar}: the config has other layers than the manifest")
    for blob in (root, manifest.config, *manifest.layers):
        if not session.pin(blob.digest):
            raise NotFound(f"{ref.familiar}: blob {blob.digest} is missing", hint="pull it again")
    if not platform.matches(config.platform):
        on_event(
            Warned(
                f"base image {ref.familiar} was pulled with platform {config.platform},"
                f" expected {platform}"
            )
        )
    layers = tuple(
        Layer(diff_id, Digest(diff_id), blob)
        for diff_id, blob in zip(config.diff_ids, manifest.layers, strict=True)
    )
    shown = str(ref) if ref.digest else f"{ref}@{root.digest}"
    return BaseImage(shown, config, layers)


def _index_if_it_holds(
    engine: Engine, request: BuildRequest, image: BuiltImage, bases: Sequence[_ResolvedBase]
) -> bytes | None:
    """
    index.json, if it still names the bases that were built on, and the image by all its tags.

    Another process may have moved a name meanwhile, or this build that of its own base.
    """
    from engine.transfer import stored

    store = engine.store
    path = store.root / "index.json"
    index = path.read_bytes()
    named = dict(store.images.names())
    holds = all(tag in named and named[tag].digest == image.manifest.digest for tag in request.tags)
    holds = holds and all(stored(store, base.ref, base.platform) == base.root for base in bases)
    return index if holds and index == path.read_bytes() else None


def _index(engine: Engine, request: BuildRequest) -> Path:
    """The stat index of the request's context."""
    name = Digest.of(str(request.context).encode("utf-8", "surrogateescape")).hex[:32]
    return engine.store.root / "statindex" / name


def _tools(
    engine: Engine,
    session: Session,
    request: BuildRequest,
    cache: LocalCache,
    context: LocalContext,
    on_event: OnEvent,
) -> Tools:
    return Tools(
        store=engine.store,
        session=session,
        cache=cache,
        snapshots=engine.snapshots,
        runner=engine.runner,
        context=context,
        on_event=on_event,
        clock=time.time,
        platform=str(request.platform or host()),
        settings=StepSettings(
            network=request.network,
            add_hosts=request.add_hosts,
            shm_size=request.shm_size or 64 << 20,
            rlimits=request.ulimits,
            resolv_conf=request.resolv_conf,
        ),
        running=Running(),
    )


def _export(
    engine: Engine,
    session: Session,
    request: BuildRequest,
    plan: Plan,
    output: Output,
    results: Sequence[Stack | None],
    on_event: OnEvent,
) -> BuiltImage:
    number, started = len(plan.steps) + 1, time.monotonic()
    on_event(StepStarted(number, "exporting to image"))
    root = results[output.root]
    assert root is not None
    config = document(output, results, request.epoch)
    base = len(output.config.diff_ids)
    layers = [made.layer for made in root.layers[:base]]
    for made in root.layers[base:]:
        if request.epoch is None:
            layers.append(made.layer)
        else:
            layers.append(capped(made, request.epoch, engine.store, session))
    image = store_image(config, layers, session)
    on_event(Notice(number, f"writing image {image.config.digest}"))
    for tag in request.tags:
        session.tag(tag, image.manifest)
        on_event(Notice(number, f"naming to {tag}"))
    if not request.tags:
        session.keep(image.manifest)
    on_event(StepEnded(number, False, time.monotonic() - started))
    return image


def _located(error: PybuildError, span: Span, source: SourceFile) -> PybuildError:
    """*error* with the lines it is about drawn under it; its kind and status stay."""
    if isinstance(error, Failed):
        shown = f"{span}: {error.message}\n{source.draw(span)}"
        return Failed(shown, error.hint, status=error.status)
    if isinstance(error, Invalid | NotFound):
        return source.error(span, error.message, error.hint)
    if isinstance(error, Corrupt | Denied | Unavailable | Unsupported):
        return source.placed(span, error)
    return error
