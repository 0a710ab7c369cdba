"""WWW-Authenticate: what a registry asks for (RFC 9110 11.6.1), and scopes of its tokens."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Final

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
_PARAM: Final = re.compile(
    r"([!#$%&'*+.^_`|~0-9A-Za-z-]+)[ \t]*=[ \t]*"
    r'(?:"((?:[^"\\]|\\.)*)"|([!#$%&\'*+.^_`|~0-9A-Za-z-]+))(?=[ \t]*(?:,|$))',
    re.DOTALL,
)
_TOKEN68: Final = re.compile(r"[A-Za-z0-9._~+/-]+=*(?=[ \t]*(?:,|$))")
_BLANKS: Final = re.compile(r"[ \t,]*")
_SCOPE: Final = re.compile(r"[!#-\[\]-~]{1,1024}")  # RFC 6749 3.3
_MAX_HEADER: Final = 64 << 10
_MAX_SCOPES: Final = 16


@dataclass(frozen=True, slots=True)
class Challenge:
    """One way to authenticate; names of scheme and parameters are in lower case."""

    scheme: str
    params: Mapping[str, str] = field(default_factory=dict)


def parse(header: str) -> tuple[Challenge, ...]:
    """
    The challenges in *header*, or in several that were joined with commas.

    What cannot be read ends it: a challenge that was cut short is better than none.
    """
    if len(header) > _MAX_HEADER:
        return ()
    challenges: list[tuple[str, dict[str, str]]] = []
    at = 0
    while True:
        blanks = _BLANKS.match(header, at)
        at = blanks.end() if blanks else at
        if challenges and (param := _PARAM.match(header, at)):
            name, quoted, plain = param.groups()
            text = plain if quoted is None else re.sub(r"\\(.)", r"\1", quoted, flags=re.DOTALL)
            challenges[-1][1].setdefault(name.lower(), text)
            at = param.end()
        elif scheme := _TOKEN.match(header, at):
            challenges.append((scheme.group().lower(), {}))
            at = _after_token68(header, scheme.end())
        else:
            return tuple(Challenge(name, params) for name, params in challenges)


def _after_token68(header: str, at: int) -> int:
    """Behind the one unnamed value that a scheme may have; *at* if it has none."""
    blank = re.compile(r"[ \t]+").match(header, at)
    if blank is None or _PARAM.match(header, blank.end()):
        return at
    value = _TOKEN68.match(header, blank.end())
    # A word before a comma may also be the next scheme: "Negotiate, Basic realm=x" has the comma
    # first, so what follows a blank directly is the value.
    return value.end() if value else at


def scopes(needed: Iterable[str], asked: str) -> tuple[str, ...]:
    """
    The scopes to ask a token for: those *needed*, first, and what the challenge *asked* for.

    Some servers read only the first; some registries ask for what is no scope (zuul-registry).
    Actions on one resource are joined. Its name may have colons: ``repository:host:5000/x:pull``.
    """
    actions: dict[str, list[str]] = {}
    for scope in (*needed, *asked.split(" ")[:_MAX_SCOPES]):
        if not _SCOPE.fullmatch(scope):
            continue
        resource, colon, wanted = scope.rpartition(":")
        if not colon:
            resource, wanted = scope, ""
        known = actions.setdefault(resource, [])
        known += [action for action in wanted.split(",") if action and action not in known]
    return tuple(
        f"{resource}:{','.join(wanted)}" if wanted else resource
        for resource, wanted in actions.items()
    )
