"""
A .dockerignore pattern to a regular expression, by way of the one that moby makes.

moby/patternmatcher writes a Go regular expression from the pattern and knows nothing of classes
while it does so; what it makes of ``[*]`` or ``\\d`` is odd, and is what images are built with. So
its expression is made first, character by character, and then said in Python's dialect.
"""

from __future__ import annotations

import re

from ocispec.errors import Invalid

_ESCAPED = frozenset(".+()|{}$")
_STAR = "[^/]*"
_DEEP = "(.*/)?"

# Go's \d, \s and \w are ASCII.
_PERL = {
    "d": "0-9",
    "D": "\\x00-/:-\\U0010ffff",
    "s": "\\t\\n\\f\\r ",
    "S": "\\x00-\\x08\\x0b\\x0e-\\x1f!-\\U0010ffff",
    "w": "0-9A-Z_a-z",
    "W": "\\x00-/:-@\\[-\\^`{-\\U0010ffff",
}
_POSIX = {
    "[:alnum:]": "0-9A-Za-z",
    "[:alpha:]": "A-Za-z",
    "[:ascii:]": "\\x00-\\x7f",
    "[:blank:]": "\\t ",
    "[:cntrl:]": "\\x00-\\x1f\\x7f",
    "[:digit:]": "0-9",
    "[:graph:]": "!-~",
    "[:lower:]": "a-z",
    "[:print:]": " -~",
    "[:punct:]": "!-/:-@\\[-`{-~",
    "[:space:]": "\\t\\n\\v\\f\\r ",
    "[:upper:]": "A-Z",
    "[:word:]": "0-9A-Z_a-z",
    "[:xdigit:]": "0-9A-Fa-f",
}


def translated(pattern: str) -> str:
    """
    A Python expression that, with re.DOTALL and fullmatch(), matches what *pattern* does.

    *pattern* has been found well-formed by builder.glob; Invalid if it has none the less no
    meaning as a Go expression (``\\q``, ``[z-a]``).
    """
    plain = _plain(pattern)
    if plain is not None:
        return plain
    expression = _expression(pattern)
    if "[" in pattern:
        expression = _dialect(expression, pattern)
    else:
        expression = _committed(expression, pattern)
    try:
        re.compile(expression)
    except re.error as error:
        raise _bad(pattern, str(error)) from error
    return f"(?:{expression})"


def _plain(pattern: str) -> str | None:
    """Patterns that moby does not make an expression of: it compares prefixes and suffixes."""
    if pattern.startswith("**") and _is_plain(pattern[2:]):
        suffix = pattern[2:]
        if suffix.startswith("/"):
            return f"(?:.*/)?{re.escape(suffix[1:])}"
        return ".*" + re.escape(suffix)
    if pattern.endswith("**") and _is_plain(pattern[:-2]):
        return re.escape(pattern[:-2]) + ".*"
    return re.escape(pattern) if _is_plain(pattern) else None


def _is_plain(text: str) -> bool:
    return not any(c in text for c in "*?[]\\")


def _expression(pattern: str) -> str:
    """The Go expression, without its ``^`` and ``$``."""
    out: list[str] = []
    at = 0
    while at < len(pattern):
        c = pattern[at]
        at += 1
        if c == "*" and pattern.startswith("*", at):
            at += 1
            if pattern.startswith("/", at):
                at += 1
            out.append(_DEEP if at < len(pattern) else ".*")
        elif c == "*":
            out.append(_STAR)
        elif c == "?":
            out.append("[^/]")
        elif c == "\\":
            out.append(c + pattern[at : at + 1])
            at += 1
        else:
            out.append("\\" + c if c in _ESCAPED else c)
    return "".join(out)


def _committed(expression: str, pattern: str) -> str:
    """
    Go's *expression*, which has no classes, in Python's syntax, without needless backtracking.

    Go's engine is linear in any case. Here a wildcard takes the earliest place where what follows
    fits, for good (an atomic group), if the next wildcard can make up for it: after a star any
    star can, and after ``**/…/`` any ``**/``.
    """
    # Text at even places, wildcards at odd ones.
    parts = re.split(r"(\[\^/\]\*|\(\.\*/\)\?)", expression)
    out = [_dialect(parts[0], pattern)]
    for at in range(1, len(parts), 2):
        wildcard, text = parts[at], _dialect(parts[at + 1], pattern)
        following = parts[at + 2] if at + 2 < len(parts) else ""
        if wildcard == following == _STAR:
            out.append(f"(?>[^/]*?{text})")
        elif wildcard == following == _DEEP and text.endswith("/"):
            out.append(f"(?>(?:.*?/)??{text})")
        else:
            out.append(wildcard + text)
    return "".join(out)


def _dialect(expression: str, pattern: str) -> str:
    """Go's *expression* in Python's syntax."""
    out: list[str] = []
    at = 0
    while at < len(expression):
        c = expression[at]
        at += 1
        if c == "[":
            text, at = _class(expression, at, pattern)
            out.append(text)
        elif c == "\\":
            out.append(_escape(expression[at : at + 1], pattern, in_class=False))
            at += 1
        elif c in "(.*)?^":
            out.append(c)
        else:
            out.append(re.escape(c))
    return "".join(out)


def _class(expression: str, at: int, pattern: str) -> tuple[str, int]:
    """The class whose ``[`` is before *at*, and where it ends (regexp/syntax, parseClass)."""
    out: list[str] = []
    negated = expression.startswith("^", at)
    at += negated
    first = True
    while first or not expression.startswith("]", at):
        first = False
        if at >= len(expression):
            raise _bad(pattern, "a class is open")
        if expression.startswith("[:", at) and ":]" in expression[at:]:
            end = expression.index(":]", at) + 2
            name = expression[at:end]
            if name not in _POSIX:
                raise _bad(pattern, f"no such class: {name}")
            out.append(_POSIX[name])
            at = end
            continue
        if expression[at] == "\\" and expression[at + 1 : at + 2] in _PERL:
            out.append(_PERL[expression[at + 1]])
            at += 2
            continue
        low, at = _class_char(expression, at, pattern)
        high = low
        if expression.startswith("-", at) and expression[at + 1 : at + 2] not in ("]", ""):
            high, at = _class_char(expression, at + 1, pattern)
        if high < low:
            raise _bad(pattern, f"{low}-{high} is no range")
        out.append(f"{_literal(low)}-{_literal(high)}" if high != low else _literal(low))
    return f"[{'^' if negated else ''}{''.join(out)}]", at + 1


def _class_char(expression: str, at: int, pattern: str) -> tuple[str, int]:
    c = expression[at]
    if c != "\\":
        return c, at + 1
    c = expression[at + 1 : at + 2]
    _escape(c, pattern, in_class=True)
    return c, at + 2


def _escape(c: str, pattern: str, *, in_class: bool) -> str:
    """An escaped character; of letters and digits only Perl's classes are understood."""
    if not in_class and c in _PERL:
        return f"[{_PERL[c]}]"
    if not c or not c.isascii() or c.isalnum():
        # Go reads \a, \pL, \x41 … as it does in any expression. That nobody can have meant.
        raise _bad(pattern, f"\\{c} is not an escape")
    return re.escape(c)


def _literal(c: str) -> str:
    return f"\\U{ord(c):08x}"


def _bad(pattern: str, why: str) -> Invalid:
    hint = "a backslash is for the characters * ? [ ] \\ and their like"
    return Invalid(f"syntax error in pattern {pattern!r}: {why}", hint)
