"""One instruction's text to its value: a function for each form."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import NamedTuple

from builder.dockerfile import arguments
from builder.dockerfile.flags import Flags, split_flags
from builder.dockerfile.heredocs import Heredoc, parse_heredoc
from builder.dockerfile.instructions import (
    Add,
    Arg,
    Cmd,
    Copy,
    Entrypoint,
    Env,
    Expose,
    From,
    Healthcheck,
    Instruction,
    Label,
    Maintainer,
    Onbuild,
    Run,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from builder.dockerfile.mounts import parse_mount
from builder.dockerfile.source import Span
from builder.dockerfile.suggest import did_you_mean
from builder.dockerfile.words import SPACE
from ocispec.errors import Invalid

_LETTERS = frozenset("abcdefghijklmnopqrstuvwxyz")
_STAGE_NAME = _LETTERS | frozenset("0123456789-_.")
_NETWORKS = ("default", "none", "host")
_SECURITY = ("sandbox", "insecure")


class Parts(NamedTuple):
    """An instruction's text, cut: *keyword* is upper case, *text* comes after the flags."""

    written: str  # the keyword as it stands
    keyword: str
    flags: list[str]
    text: str


def split(line: str) -> Parts:
    """*line* cut. Invalid if its flags are malformed."""
    keyword, rest = arguments.first_word(line.strip(SPACE))
    flags, rest = split_flags(rest)
    return Parts(keyword, keyword.upper(), flags, rest.strip(SPACE))


def instruction(
    parts: Parts, span: Span, original: str, escape: str, heredocs: tuple[Heredoc, ...]
) -> Instruction:
    """The instruction that *parts* are. Invalid, without a place, if they are none."""
    form = _FORMS.get(parts.keyword)
    if form is None:
        raise Invalid(f"unknown instruction: {parts.written}", did_you_mean(parts.keyword, _FORMS))
    flags = Flags(parts.keyword, parts.flags)
    return form(_Request(parts.keyword, flags, parts.text, span, original, escape, heredocs))


class _Request(NamedTuple):
    """One instruction, cut into its parts."""

    keyword: str  # upper case
    flags: Flags
    text: str  # what comes after the flags
    span: Span
    original: str
    escape: str
    heredocs: tuple[Heredoc, ...]


def _one(request: _Request) -> str:
    if not request.text:
        raise Invalid(f"{request.keyword} requires exactly one argument")
    return request.text


def _some(request: _Request, words: tuple[str, ...]) -> tuple[str, ...]:
    if not words:
        raise Invalid(f"{request.keyword} requires at least one argument")
    return words


def _from(request: _Request) -> From:
    words = arguments.blank_separated(request.text)
    name = ""
    if len(words) == 3 and words[1].lower() == "as":
        name = words[2].lower()
        if name[0] not in _LETTERS or not _STAGE_NAME.issuperset(name):
            raise Invalid(
                f'invalid name for build stage: "{words[2]}", '
                "name can't start with a number or contain symbols"
            )
    elif len(words) != 1:
        hint = "write FROM image, or FROM image AS name"
        raise Invalid("FROM requires either one or three arguments", hint)
    return From(request.span, request.original, words[0], name, request.flags.text("platform"))


def _arg(request: _Request) -> Arg:
    args: list[tuple[str, str | None]] = []
    for word in _some(request, tuple(arguments.quoted_words(request.text, request.escape))):
        name, equals, value = word.partition("=")
        if not name:
            raise Invalid("ARG names can not be blank")
        args.append((name, value if equals else None))
    return Arg(request.span, request.original, tuple(args))


def _env(request: _Request) -> Env:
    found, legacy = arguments.pairs("ENV", request.text, request.escape)
    return Env(request.span, request.original, found, legacy)


def _label(request: _Request) -> Label:
    found, legacy = arguments.pairs("LABEL", request.text, request.escape)
    return Label(request.span, request.original, found, legacy)


def _run(request: _Request) -> Run:
    argv, is_exec = arguments.command(request.text)
    if not argv:
        raise Invalid("RUN requires at least one argument")
    flags = request.flags
    network = flags.text("network", "default")
    if network not in _NETWORKS:
        hint = did_you_mean(network, _NETWORKS) or "write default, none or host"
        raise Invalid(f'unsupported network mode "{network}"', hint)
    security = flags.text("security", "sandbox")
    if security not in _SECURITY:
        hint = did_you_mean(security, _SECURITY) or "write sandbox or insecure"
        raise Invalid(f'security "{security}" is not valid', hint)
    return Run(
        request.span,
        request.original,
        not is_exec,
        argv,
        request.heredocs,
        tuple(parse_mount(text, request.escape) for text in flags.each("mount")),
        network,
        security,
        flags.each("device"),
    )


class _Paths(NamedTuple):
    sources: tuple[str, ...]
    dest: str
    heredocs: tuple[Heredoc, ...]


def _paths(request: _Request) -> _Paths:
    words, is_exec = arguments.listed(request.text)
    if len(words) < 2:
        given = "only one was provided" if words else "none was provided"
        raise Invalid(
            f"{request.keyword} requires at least two arguments, but {given}. "
            "Destination could not be determined"
        )
    *sources, dest = words
    if is_exec:
        return _Paths(tuple(sources), dest, ())
    if _starts_heredoc(dest) is not None:
        raise Invalid(f"{request.keyword} cannot accept a heredoc as a destination")
    bodies = {heredoc.name: heredoc for heredoc in request.heredocs}
    paths: list[str] = []
    heredocs: list[Heredoc] = []
    for source in sources:
        heredoc = _starts_heredoc(source)
        if heredoc is None:
            paths.append(source)
        elif heredoc.name in bodies:
            heredocs.append(bodies[heredoc.name])
        else:
            hint = "something else on the line hides it: an unpaired quote or a bad ${…}"
            raise Invalid(f"heredoc {heredoc.name} has no body", hint)
    if len(heredocs) < len(request.heredocs):
        unused = ", ".join(d.name for d in request.heredocs if d not in heredocs)
        hint = "here a blank may stand neither before the name nor in it"
        raise Invalid(f"heredoc {unused} is not a source of {request.keyword}", hint)
    return _Paths(tuple(paths), dest, tuple(heredocs))


def _starts_heredoc(word: str) -> Heredoc | None:
    try:
        return parse_heredoc(word)
    except Invalid:
        return None  # an odd quote: then it is a file name, as in BuildKit


def _copy(request: _Request) -> Copy:
    paths, flags = _paths(request), request.flags
    return Copy(
        request.span,
        request.original,
        *paths,
        from_=flags.text("from"),
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.on("link"),
        parents=flags.on("parents"),
        excludes=flags.each("exclude"),
    )


def _add(request: _Request) -> Add:
    paths, flags = _paths(request), request.flags
    return Add(
        request.span,
        request.original,
        *paths,
        chown=flags.text("chown"),
        chmod=flags.text("chmod"),
        link=flags.on("link"),
        excludes=flags.each("exclude"),
        checksum=flags.text("checksum"),
        unpack=flags.maybe("unpack"),
        keep_git_dir=flags.maybe("keep-git-dir"),
    )


def _workdir(request: _Request) -> Workdir:
    return Workdir(request.span, request.original, _one(request))


def _user(request: _Request) -> User:
    return User(request.span, request.original, _one(request))


def _stopsignal(request: _Request) -> Stopsignal:
    return Stopsignal(request.span, request.original, _one(request))


def _maintainer(request: _Request) -> Maintainer:
    return Maintainer(request.span, request.original, _one(request))


def _volume(request: _Request) -> Volume:
    words = _some(request, arguments.listed(request.text).words)
    paths = tuple(word.strip(SPACE) for word in words)
    if not all(paths):
        raise Invalid("VOLUME specified can not be an empty string")
    return Volume(request.span, request.original, paths)


def _expose(request: _Request) -> Expose:
    words = _some(request, tuple(arguments.blank_separated(request.text)))
    return Expose(request.span, request.original, tuple(sorted(words)))


def _cmd(request: _Request) -> Cmd:
    argv, is_exec = arguments.command(request.text)
    # A bare CMD is the empty command for the shell, as in BuildKit; only CMD [] is none at all.
    return Cmd(request.span, request.original, not is_exec, argv if argv or is_exec else ("",))


def _entrypoint(request: _Request) -> Entrypoint:
    argv, is_exec = arguments.command(request.text)
    argv = argv if argv or is_exec else ("",)
    return Entrypoint(request.span, request.original, not is_exec, argv)


def _shell(request: _Request) -> Shell:
    argv, is_exec = arguments.command(request.text)
    _some(request, argv)
    if not is_exec:
        hint = 'write SHELL ["executable", "parameter"]; a backslash in it is written twice'
        raise Invalid("SHELL requires the arguments to be in JSON form", hint)
    return Shell(request.span, request.original, argv)


def _healthcheck(request: _Request) -> Healthcheck:
    kind, rest = arguments.first_word(request.text)
    if not kind:
        raise Invalid("HEALTHCHECK requires at least one argument")
    if kind.upper() == "NONE":
        if rest:
            raise Invalid("HEALTHCHECK NONE takes no arguments")
        return Healthcheck(request.span, request.original, ("NONE",))
    if kind.upper() != "CMD":
        raise Invalid(f'Unknown type "{kind.upper()}" in HEALTHCHECK (try CMD)')
    argv, is_exec = arguments.command(rest)
    if not argv:
        raise Invalid("Missing command after HEALTHCHECK CMD")
    flags = request.flags
    return Healthcheck(
        request.span,
        request.original,
        ("CMD" if is_exec else "CMD-SHELL", *argv),
        interval=arguments.duration("interval", flags.text("interval")),
        timeout=arguments.duration("timeout", flags.text("timeout")),
        start_period=arguments.duration("start-period", flags.text("start-period")),
        start_interval=arguments.duration("start-interval", flags.text("start-interval")),
        retries=_retries(flags.text("retries", "0")),
    )


def _retries(text: str) -> int:
    digits = text.removeprefix("+").removeprefix("-")
    if not (digits.isascii() and digits.isdigit()) or len(digits) > 10 or int(digits) >= 1 << 31:
        raise Invalid(f'invalid value "{text}" for --retries', "write a number")
    if text.startswith("-") and int(digits):
        raise Invalid(f"--retries cannot be negative ({text})")
    return int(digits)


def _onbuild(request: _Request) -> Onbuild:
    if not request.text:
        raise Invalid("ONBUILD requires at least one argument")
    inner = split(request.text)
    if inner.keyword == "ONBUILD":
        raise Invalid("Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed")
    trigger = instruction(inner, request.span, request.text, request.escape, request.heredocs)
    if isinstance(trigger, From | Maintainer | Onbuild):
        raise Invalid(f"{inner.keyword} isn't allowed as an ONBUILD trigger")
    bodies = "".join(f"\n{doc.content}{doc.name}" for doc in request.heredocs)
    return Onbuild(request.span, request.original, request.text + bodies, trigger)


_FORMS: Mapping[str, Callable[[_Request], Instruction]] = {
    "ADD": _add,
    "ARG": _arg,
    "CMD": _cmd,
    "COPY": _copy,
    "ENTRYPOINT": _entrypoint,
    "ENV": _env,
    "EXPOSE": _expose,
    "FROM": _from,
    "HEALTHCHECK": _healthcheck,
    "LABEL": _label,
    "MAINTAINER": _maintainer,
    "ONBUILD": _onbuild,
    "RUN": _run,
    "SHELL": _shell,
    "STOPSIGNAL": _stopsignal,
    "USER": _user,
    "VOLUME": _volume,
    "WORKDIR": _workdir,
}
