"""
Quotes and ``${variables}``, as BuildKit's frontend/dockerfile/shell/lex.go reads them.

Expansion and word splitting are one pass: what an unquoted variable gives is split at its blanks.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import TypeAlias

from ocispec.errors import Invalid

# What Go's unicode.IsSpace() accepts; str.isspace() has U+001C to U+001F besides.
SPACE = (
    "\t\n\v\f\r \x85\xa0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006"
    "\u2007\u2008\u2009\u200a\u2028\u2029\u202f\u205f\u3000"
)

_SPECIAL = frozenset("@*#?-$!0")  # POSIX 2.5.2: parameters with a one-character name
_DEEPEST = 100  # ${a:-${b:-…}}; Python's own stack ends at 1000 frames
_END = ""  # what peek() gives after the last character

Callback: TypeAlias = Callable[[str], object]


def expand(
    text: str,
    env: Mapping[str, str],
    *,
    escape: str = "\\",
    quotes: bool = True,
    raw_quotes: bool = False,
    raw_escapes: bool = False,
    keep_unset: bool = False,
    found: Callback | None = None,
    missing: Callback | None = None,
) -> str:
    """
    *text* as one word: variables replaced, quotes and escapes removed. Invalid if it is malformed
    or a ``${name:?}`` fails.

    *quotes* False takes quotes as ordinary characters; *raw_quotes* and *raw_escapes* keep them;
    *keep_unset* leaves references to unset variables as they are. *found* and *missing* are told
    the name of every variable that was looked up.
    """
    if "$" not in text and escape not in text and '"' not in text and "'" not in text:
        return text
    lexer = _Lexer(text, env, escape, quotes, raw_quotes, raw_escapes, keep_unset)
    lexer.found, lexer.missing = found, missing
    return lexer.run()


def expand_words(
    text: str,
    env: Mapping[str, str],
    *,
    escape: str = "\\",
    raw_quotes: bool = False,
    raw_escapes: bool = False,
    keep_unset: bool = False,
    found: Callback | None = None,
    missing: Callback | None = None,
) -> list[str]:
    """As expand(), split at blanks that are not quoted. An empty quoted word is lost (lex.go)."""
    lexer = _Lexer(text, env, escape, True, raw_quotes, raw_escapes, keep_unset)
    lexer.found, lexer.missing = found, missing
    lexer.run()
    return lexer.words.all()


class _Words:
    """Words under construction."""

    def __init__(self) -> None:
        self._done: list[str] = []
        self._word = ""

    def add(self, text: str) -> None:
        """Unquoted characters: a blank ends the word."""
        for c in text:
            if c not in SPACE:
                self._word += c
            elif self._word:
                self._done.append(self._word)
                self._word = ""

    def add_raw(self, text: str) -> None:
        self._word += text

    def all(self) -> list[str]:
        return [*self._done, self._word] if self._word else self._done


class _Lexer:
    def __init__(
        self,
        text: str,
        env: Mapping[str, str],
        escape: str,
        quotes: bool,
        raw_quotes: bool,
        raw_escapes: bool,
        keep_unset: bool,
    ) -> None:
        self.text = text
        self.at = 0
        self.env = env
        self.escape = escape
        self.quotes = quotes
        self.raw_quotes = raw_quotes
        self.raw_escapes = raw_escapes
        self.keep_unset = keep_unset
        self.found: Callback | None = None
        self.missing: Callback | None = None
        self.words = _Words()
        self.depth = 0

    def run(self) -> str:
        try:
            return self.until(_END, self.raw_escapes, self.words)
        except Invalid as error:
            shown = self.text if len(self.text) <= 200 else self.text[:200] + "…"
            raise Invalid(f'failed to process "{shown}": {error.message}', error.hint) from None

    def peek(self) -> str:
        return self.text[self.at : self.at + 1]

    def next(self) -> str:
        c = self.text[self.at : self.at + 1]
        self.at += len(c)
        return c

    def until(self, stop: str, raw_escapes: bool, words: _Words | None = None) -> str:
        """What stands before *stop* (or the end, if it is empty), expanded; *stop* is consumed."""
        self.depth += 1
        if self.depth > _DEEPEST:
            raise Invalid("variables are nested too deeply")
        outer, self.raw_escapes = self.raw_escapes, raw_escapes
        out: list[str] = []
        while c := self.peek():
            if c == stop:
                break
            if c == "$":
                part, raw = self.dollar(), False
            elif c == "'" and self.quotes:
                part, raw = self.single_quoted(), True
            elif c == '"' and self.quotes:
                part, raw = self.double_quoted(), True
            elif c == self.escape:
                part, raw = self.escaped(), True
            elif c == "<":
                part, raw = self.arrows(), True
            else:
                part, raw = self.plain(stop), False
            out.append(part)
            if words is not None:
                (words.add_raw if raw else words.add)(part)
        self.raw_escapes = outer
        self.depth -= 1
        if stop and not self.next():
            raise Invalid(f"unexpected end of statement while looking for matching {stop}")
        return "".join(out)

    def plain(self, stop: str) -> str:
        """The run of characters up to the next one that means something."""
        start = self.at
        special = "$<" + self.escape + stop + ("'\"" if self.quotes else "")
        while (c := self.peek()) and c not in special:
            self.at += 1
        return self.text[start : self.at]

    def arrows(self) -> str:
        """``<``, or ``<<`` with the blanks after it: a heredoc's name is part of the same word."""
        start = self.at
        self.next()
        if self.peek() == "<":
            self.next()
            while (c := self.peek()) and c in SPACE:
                self.next()
        return self.text[start : self.at]

    def escaped(self) -> str:
        mark = self.next()
        following = self.next()  # nothing at the very end: the escape is dropped
        return mark + following if self.raw_escapes else following

    def single_quoted(self) -> str:
        end = self.text.find("'", self.at + 1)
        if end < 0:
            self.at = len(self.text)
            raise Invalid(
                "unexpected end of statement while looking for matching single-quote",
                hint="close the quote, or escape it",
            )
        start, self.at = self.at, end + 1
        return self.text[start : end + 1] if self.raw_quotes else self.text[start + 1 : end]

    def double_quoted(self) -> str:
        quote = self.next()
        mark = quote if self.raw_quotes else ""
        out = [mark]
        while c := self.peek():
            if c == '"':
                self.next()
                return "".join(out) + mark
            if c == "$":
                out.append(self.dollar())
                continue
            self.next()
            if c == self.escape:
                if self.raw_escapes:
                    out.append(c)
                following = self.peek()
                if not following:
                    break
                # Only these three can be escaped in double quotes; any other escape stays.
                if following in ('"', "$", self.escape):
                    c = self.next()
            out.append(c)
        raise Invalid(
            "unexpected end of statement while looking for matching double-quote",
            hint="close the quote, or escape it",
        )

    def dollar(self) -> str:
        self.next()
        if self.peek() != "{":
            name = self.name()
            if not name:
                return "$"
            value = self.lookup(name)
            if value is None:
                return "$" + name if self.keep_unset else ""
            return value
        self.next()
        if self.peek() == _END:
            raise Invalid("syntax error: missing '}'")
        if self.peek() in "{}:":
            raise Invalid("syntax error: bad substitution")
        return self.braced(self.name())

    def braced(self, name: str) -> str:
        operator = self.next()
        if operator == _END:
            raise Invalid("syntax error: missing '}'")
        if operator == "}":
            value = self.lookup(name)
            if value is None:
                return f"${{{name}}}" if self.keep_unset else ""
            return value
        if operator == "/":
            return self.replaced(name)
        if operator == ":":
            operator += self.next()
        elif operator not in "+-?#%":
            raise Invalid(f"unsupported modifier ({operator}) in substitution")
        word = self.closed_by("}", raw_escapes=operator[-1] in "#%", lost="missing '}'")
        value = self.lookup(name)
        if value is None and self.keep_unset:
            return f"${{{name}{operator}{word}}}"
        return _modified(name, operator, word, value)

    def replaced(self, name: str) -> str:
        """The rest of ``${name/pattern/replacement}`` or ``${name//pattern/replacement}``."""
        every = self.peek() == "/"
        if every:
            self.next()
        pattern = self.closed_by("/", raw_escapes=True, lost="missing '/' in ${}")
        replacement = self.closed_by("}", raw_escapes=True, lost="missing '}'")
        value = self.lookup(name)
        if value is None and self.keep_unset:
            return f"${{{name}/{pattern}/{replacement}}}"
        matcher = _matcher(pattern, greedy=True, shown=pattern)
        if every:
            return _replace_all(matcher, replacement, value or "")
        # A function, so that backslashes in the replacement are not references.
        return matcher.sub(lambda _: replacement, value or "", count=1)

    def closed_by(self, stop: str, *, raw_escapes: bool, lost: str) -> str:
        try:
            return self.until(stop, raw_escapes)
        except Invalid as error:
            if self.peek() == _END and self.depth <= _DEEPEST:
                raise Invalid(f"syntax error: {lost}", error.hint) from None
            raise

    def name(self) -> str:
        """A name, a number, one special parameter, or nothing."""
        start, first = self.at, self.peek()
        if first.isdecimal():
            while self.peek().isdecimal():
                self.at += 1
        elif first and first in _SPECIAL:
            self.at += 1
        else:
            while (c := self.peek()) and (c.isalpha() or c.isdecimal() or c == "_"):
                self.at += 1
        return self.text[start : self.at]

    def lookup(self, name: str) -> str | None:
        value = self.env.get(name)
        callback = self.missing if value is None else self.found
        if callback is not None:
            callback(name)
        return value


def _modified(name: str, operator: str, word: str, value: str | None) -> str:
    kind = operator[-1]
    absent = value is None or (operator[0] == ":" and not value)
    if kind == "-":
        return word if absent else value or ""
    if kind == "+":
        return "" if absent else word
    if kind == "?":
        if absent:
            state = "unset" if value is None else "empty"
            raise Invalid(f"{name}: {word or f'is not allowed to be {state}'}")
        return value or ""
    if kind not in "#%":
        raise Invalid(f"unsupported modifier ({operator}) in substitution")
    greedy = word.startswith(kind)
    pattern = word[1:] if greedy else word
    return _trimmed(value or "", pattern, greedy, suffix=kind == "%")


def _trimmed(value: str, pattern: str, greedy: bool, *, suffix: bool) -> str:
    if not suffix:
        found = _matcher(pattern, greedy, shown=pattern).match(value)
        return value[found.end() :] if found else value
    # A search finds the leftmost match, not the shortest rightmost one: so do it backwards.
    reverse = "".join(reversed(re.findall(r"(?s)\\.|.", pattern)))
    found = _matcher(reverse, greedy, shown=pattern).match(value[::-1])
    return value[: len(value) - found.end()] if found else value


def _matcher(pattern: str, greedy: bool, *, shown: str) -> re.Pattern[str]:
    """
    *pattern* with ``*`` and ``?`` as a regular expression; there are no ``[]`` here.

    Every star but the last takes the earliest place where what follows it fits, for good (an
    atomic group): that is never worse, and a row of stars stays quadratic.
    """
    chunks = [""]
    position = 0
    while position < len(pattern):
        c = pattern[position]
        position += 1
        if c == "*":
            chunks.append("")
            continue
        if c == "\\":
            c = pattern[position : position + 1]
            position += 1
            # "}" and "/" need the escape only to get past the end of ${}.
            if not c or c not in "*?\\}/":
                raise Invalid(f"invalid pattern ({shown}) in substitution: invalid escape '\\{c}'")
            chunks[-1] += re.escape(c)
        else:
            chunks[-1] += "." if c == "?" else re.escape(c)
    first, *rest = chunks
    if not rest:
        return re.compile(first)
    middle = "".join(f"(?>.*?{chunk})" for chunk in rest[:-1])
    return re.compile(f"{first}{middle}{'.*' if greedy else '.*?'}{rest[-1]}")


def _replace_all(matcher: re.Pattern[str], template: str, value: str) -> str:
    """Go's Regexp.ReplaceAllString: an empty match right after another one does not count."""
    out: list[str] = []
    copied, last_end = 0, 0
    for match in matcher.finditer(value):
        if match.end() > last_end or match.start() == 0:
            out += (value[copied : match.start()], _filled(template, match[0]))
            copied = match.end()
        last_end = match.end()
    return "".join(out) + value[copied:]


def _filled(template: str, match: str) -> str:
    """Go's Regexp.Expand without groups: ``$0`` is the match, any other ``$name`` is nothing."""

    def reference(found: re.Match[str]) -> str:
        if found[0] == "$$":
            return "$"
        return match if found[0] in ("$0", "${0}") else ""

    return re.sub(r"\$(?:\$|\w+|\{\w+\})", reference, template)
