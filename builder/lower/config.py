"""Instructions that change nothing but the config: ENV, LABEL, CMD, EXPOSE and the like."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any, Final

from builder.dockerfile.instructions import (
    Cmd,
    Entrypoint,
    Env,
    Expose,
    Healthcheck,
    Label,
    Maintainer,
    Onbuild,
    Shell,
    Stopsignal,
    User,
    Volume,
)
from builder.lower.state import StageState
from ocispec.errors import Invalid

ConfigInstruction = (
    Cmd
    | Entrypoint
    | Env
    | Expose
    | Healthcheck
    | Label
    | Maintainer
    | Onbuild
    | Shell
    | Stopsignal
    | User
    | Volume
)

_PORT: Final = re.compile(r"(?:.*:)?([0-9]{1,9})(?:-([0-9]{1,9}))?(?:/([A-Za-z0-9]+))?")
_SIGNAL: Final = re.compile(r"(?:SIG)?(RTMIN|RTMAX)(?:[+-][0-9]{1,2})?|[0-9]{1,3}", re.IGNORECASE)


def lower(state: StageState, item: ConfigInstruction) -> None:
    """Apply *item* to the stage's config and history."""
    match item:
        case Env():
            _env(state, item)
        case Label():
            _label(state, item)
        case Cmd():
            _cmd(state, item)
        case Entrypoint():
            _entrypoint(state, item)
        case Expose():
            _expose(state, item)
        case Healthcheck():
            _healthcheck(state, item)
        case Volume():
            _volume(state, item)
        case User():
            state.config["User"] = state.expand(item.user)
            state.note(f"USER {state.config['User']}")
        case Stopsignal():
            _stopsignal(state, item)
        case Shell():
            state.config["Shell"] = list(item.argv)
            state.note(f"SHELL [{' '.join(item.argv)}]")
        case Maintainer():
            state.author = item.author
            state.note(f"MAINTAINER {item.author}")
        case Onbuild():
            state.config["OnBuild"] = [*(state.config.get("OnBuild") or ()), item.trigger]
            state.note(f"ONBUILD {item.trigger}")


def _env(state: StageState, item: Env) -> None:
    # All values see the environment before this instruction (dockerfile reference, ENV).
    pairs = _expanded(state, item)
    for name, value in pairs:
        state.set_env(name, value)
    state.note("ENV" + "".join(f" {name}={value}" for name, value in pairs))


def _label(state: StageState, item: Label) -> None:
    pairs = _expanded(state, item)
    state.config["Labels"] = {**(state.config.get("Labels") or {}), **dict(pairs)}
    state.note("LABEL" + "".join(f" {name}={value}" for name, value in pairs))


def _expanded(state: StageState, item: Env | Label) -> list[tuple[str, str]]:
    pairs = [(state.expand(name), state.expand(value)) for name, value in item.pairs]
    if any(not name for name, _ in pairs):
        raise Invalid(f"{type(item).__name__.upper()} names can not be blank")
    return pairs


def command(state: StageState, shell: bool, argv: Sequence[str]) -> list[str]:
    """The command in exec form; the current SHELL takes a text."""
    return [*state.shell, *argv] if shell else list(argv)


def _cmd(state: StageState, item: Cmd) -> None:
    argv = command(state, item.shell, item.argv)
    state.config["Cmd"] = argv
    state.config["ArgsEscaped"] = True  # as BuildKit: the command needs no more quoting
    state.cmd_set = True
    state.note(f"CMD {quoted(argv)}")


def _entrypoint(state: StageState, item: Entrypoint) -> None:
    argv = command(state, item.shell, item.argv)
    state.config["Entrypoint"] = argv or None
    if not state.cmd_set:
        # An inherited CMD was meant for another entrypoint.
        state.config["Cmd"] = None
    state.note(f"ENTRYPOINT {quoted(argv)}")


def _expose(state: StageState, item: Expose) -> None:
    ports: set[str] = set()
    for text in item.ports:
        for word in state.expand_words(text):
            ports |= _ports(word)
    state.config["ExposedPorts"] = {
        **(state.config.get("ExposedPorts") or {}),
        **{port: {} for port in sorted(ports)},
    }
    state.note(f"EXPOSE [{' '.join(sorted(ports))}]")


def _ports(word: str) -> set[str]:
    match = _PORT.fullmatch(word)
    if match is None:
        raise Invalid(f"invalid containerPort: {word}", hint="write PORT, PORT/udp or FIRST-LAST")
    first = int(match[1])
    last = int(match[2] or first)
    protocol = (match[3] or "tcp").lower()
    if not 0 < first <= last <= 65535:
        raise Invalid(f"invalid containerPort: {word}", hint="ports go from 1 to 65535")
    if protocol not in ("tcp", "udp", "sctp"):
        raise Invalid(f"invalid proto: {protocol}", hint="tcp, udp and sctp are known")
    return {f"{port}/{protocol}" for port in range(first, last + 1)}


def _healthcheck(state: StageState, item: Healthcheck) -> None:
    times = (item.interval, item.timeout, item.start_period, item.start_interval)
    numbers = zip(
        ("Interval", "Timeout", "StartPeriod", "StartInterval", "Retries"),
        (*times, item.retries),
        strict=True,
    )
    check: dict[str, Any] = {"Test": list(item.test)}
    check |= {key: value for key, value in numbers if value}
    state.config["Healthcheck"] = check
    shown = " ".join(f'"{_duration(value)}"' for value in times)
    state.note(f"HEALTHCHECK &{{{quoted(item.test)} {shown} '\\x{item.retries:02x}'}}")


def _volume(state: StageState, item: Volume) -> None:
    paths = [state.expand(path) for path in item.paths]
    if not all(paths):
        raise Invalid("VOLUME specified can not be an empty string")
    state.config["Volumes"] = {
        **(state.config.get("Volumes") or {}),
        **{path: {} for path in paths},
    }
    state.note(f"VOLUME [{' '.join(paths)}]")


def _stopsignal(state: StageState, item: Stopsignal) -> None:
    import signal

    text = state.expand(item.signal)
    name = text.upper().removeprefix("SIG")
    if f"SIG{name}" not in signal.Signals.__members__ and not _SIGNAL.fullmatch(text):
        raise Invalid(f"invalid signal: {text!r}", hint="write a name such as SIGTERM or a number")
    state.config["StopSignal"] = text
    state.note(f"STOPSIGNAL {text}")


def quoted(argv: Sequence[str]) -> str:
    """*argv* as Go prints a list of quoted strings; BuildKit's histories have it."""
    return "[" + " ".join(_go_quote(arg) for arg in argv) + "]"


def _go_quote(text: str) -> str:
    plain = text.replace("\\", "\\\\").replace('"', '\\"')
    return '"' + plain.replace("\n", "\\n").replace("\t", "\\t").replace("\r", "\\r") + '"'


def _duration(nanoseconds: int) -> str:
    """As Go prints a time.Duration, for whole milliseconds and more."""
    if nanoseconds == 0:
        return "0s"
    if nanoseconds < 1_000_000_000:
        return f"{nanoseconds / 1_000_000:g}ms"
    minutes, rest = divmod(nanoseconds, 60_000_000_000)
    hours, minutes = divmod(minutes, 60)
    seconds = f"{rest / 1_000_000_000:g}s"
    if hours:
        return f"{hours}h{minutes}m{seconds}"
    return f"{minutes}m{seconds}" if minutes else seconds
