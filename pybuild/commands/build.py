"""``build``: values of the command line become a request; the result is printed."""

from __future__ import annotations

import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from engine import answers
from ocispec.errors import Invalid, Usage
from pybuild import places, progress
from pybuild.options import Values

if TYPE_CHECKING:
    # Imported on use: a build that nothing changed for is answered without them.
    from engine.build import BuildRequest
    from ocispec.platform import Platform
    from ocispec.reference import Reference

# Options that say how a build is done or shown, not what comes out.
_PRESENTATION: Final = frozenset(
    {"help", "iidfile", "jobs", "metadata_file", "progress", "quiet", "root"}
)


def build_command(values: Values, positional: Sequence[str]) -> int:
    """Build as *values* say, with the context *positional*; 0 if it worked."""
    if len(positional) != 1:
        raise Usage(
            f"'pybuild build' requires 1 argument, got {len(positional)}",
            hint="usage: pybuild build [OPTIONS] PATH",
        )
    kind = "quiet" if values["quiet"] else _text(values, "progress") or "auto"
    question = _question(values, positional[0])
    answer = None if question is None else answers.find(question)
    with progress.shown(kind) as display:
        if answer is not None:
            answer.replay(display.on_event)
        else:
            answer = _build(values, positional[0], question, display)
    _write_results(values, answer)
    if kind == "quiet":
        print(answer.config)
    return 0


def _question(values: Values, context: str) -> answers.Question | None:
    """The build as a question that may have been answered before; None if it must be done."""
    file = _text(values, "file")
    if values["no_cache"] or values["pull"] or file == "-":
        return None
    settings = {name: values[name] for name in values if name not in _PRESENTATION}
    del settings["file"]
    taken = {name: places.environment(name) for name in ("SOURCE_DATE_EPOCH",)}
    for text in _texts(values, "build_arg"):
        if "=" not in text:
            taken[text] = places.environment(text)
    return answers.Question(
        places.store_root(_text(values, "root")),
        Path(context).absolute(),
        Path(file).absolute() if file else None,
        json.dumps([settings, taken], sort_keys=True),
    )


def _build(
    values: Values, context: str, question: answers.Question | None, display: progress.Display
) -> answers.Answer:
    from engine.build import build
    from engine.engine import Engine

    request = _request(values, context)
    jobs = values["jobs"]
    root = places.store_root(_text(values, "root"))
    with Engine(
        root,
        jobs=jobs if isinstance(jobs, int) and jobs else None,
        docker_config=places.docker_config(),
    ) as engine:
        result = build(engine, request, display.on_event, question)
    return answers.Answer(result.manifest.json(), result.config, result.identity, [], [])


def _request(values: Values, context: str) -> BuildRequest:
    from engine.build import BuildRequest
    from pybuild.units import added_host, size_in_bytes

    file = _text(values, "file")
    build_args = dict(_build_arg(text) for text in _texts(values, "build_arg"))
    shm_size = _text(values, "shm_size")
    _refuse_remote(context)
    return BuildRequest(
        context=Path(context).absolute(),
        dockerfile=Path(file).absolute() if file and file != "-" else None,
        dockerfile_text=sys.stdin.buffer.read() if file == "-" else None,
        tags=tuple(_tag(text) for text in _texts(values, "tag")),
        target=_text(values, "target"),
        build_args=build_args,
        labels=dict(_pair(text, "--label") for text in _texts(values, "label")),
        platform=_platform(_text(values, "platform")),
        no_cache=bool(values["no_cache"]),
        pull=bool(values["pull"]),
        network=_text(values, "network") or "default",
        add_hosts=tuple(added_host(text) for text in _texts(values, "add_host")),
        shm_size=size_in_bytes(shm_size, "--shm-size") if shm_size else None,
        ulimits=dict(_ulimit(text) for text in _texts(values, "ulimit")),
        epoch=_epoch(_text(values, "timestamp"), build_args.get("SOURCE_DATE_EPOCH")),
        resolv_conf=places.resolv_conf(),
    )


def _refuse_remote(context: str) -> None:
    if context == "-" or context.startswith(("http://", "https://", "git@", "git://", "ssh://")):
        raise Usage(
            f"build context {context!r} is not supported in this version",
            hint="name a directory of this machine",
        )


def _tag(text: str) -> Reference:
    from ocispec.reference import Reference

    ref = Reference.parse(text)
    if ref.digest is not None:
        raise Invalid(f"invalid tag {text!r}: an image is not named by its digest")
    return ref.with_default_tag()


def _platform(text: str | None) -> Platform | None:
    from ocispec.platform import Platform

    if text is not None and "," in text:
        raise Usage("several platforms at once are not built yet", hint="build one after the other")
    return Platform.parse(text) if text else None


def _epoch(option: str | None, argument: str | None) -> int | None:
    """The option's, else the build argument's (as BuildKit), else the environment's."""
    text = option or argument or places.environment("SOURCE_DATE_EPOCH")
    if not text:
        return None
    if not (text.isascii() and text.isdigit()) or int(text) >= 1 << 33:
        raise Usage(f"invalid timestamp {text!r}", hint="write seconds since 1970")
    return int(text)


def _build_arg(text: str) -> tuple[str, str | None]:
    name, equals, value = text.partition("=")
    if not name:
        raise Usage(f"invalid build argument {text!r}", hint="write NAME=VALUE")
    return name, value if equals else places.environment(name)


def _pair(text: str, flag: str) -> tuple[str, str]:
    name, _, value = text.partition("=")
    if not name:
        raise Usage(f"invalid argument {text!r} for {flag}", hint="write NAME=VALUE")
    return name, value


def _ulimit(text: str) -> tuple[str, tuple[int, int]]:
    name, _, limits = text.partition("=")
    soft, colon, hard = limits.partition(":")
    try:
        low = int(soft)
        return name.lower(), (low, int(hard) if colon else low)
    except ValueError:
        raise Usage(f"invalid ulimit {text!r}", hint="write NAME=SOFT[:HARD]") from None


def _write_results(values: Values, answer: answers.Answer) -> None:
    iidfile = _text(values, "iidfile")
    if iidfile:
        Path(iidfile).write_text(answer.config)
    metadata = _text(values, "metadata_file")
    if metadata:
        document: Mapping[str, Any] = {
            "containerimage.config.digest": answer.config,
            "containerimage.descriptor": answer.manifest,
            "containerimage.digest": answer.manifest["digest"],
            "image.name": ",".join(str(_tag(text)) for text in _texts(values, "tag")),
            "pybuild.identity": answer.identity,
        }
        Path(metadata).write_text(json.dumps(document, indent=2) + "\n")


def _text(values: Values, name: str) -> str | None:
    value = values[name]
    if value is not None and not isinstance(value, str):
        raise Invalid(f"--{name} is not a text")
    return value


def _texts(values: Values, name: str) -> list[str]:
    value = values[name]
    assert isinstance(value, list)
    return value
