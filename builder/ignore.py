"""
What a .dockerignore leaves out, exactly as github.com/moby/patternmatcher decides it.

The last pattern that matches wins; a pattern that matches a directory matches all below it. As in
BuildKit's walk of a context, what matched a directory is handed down to its entries
(MatchesUsingParentResults), which is not the same as asking for each path anew: after ``a/b`` and
``!a``, "a/b" is left out, for "a" itself never got as far as the second pattern.

One difference: a newline in a path is a character like any other here, where Go's ``.`` does not
match it.
"""

from __future__ import annotations

import posixpath
import re
from collections.abc import Sequence

from builder.dockerfile.words import SPACE
from builder.glob import Glob
from builder.ignore_regexp import translated
from ocispec.errors import Invalid

_BOM = b"\xef\xbb\xbf"
_LONGEST = 65535  # bytes of a line; Go's bufio.Scanner

_MARKS = frozenset("*?[]\\^")  # what a pattern has besides plain text


class Ignore:
    """
    The patterns of a .dockerignore, or of ``--exclude``, for one walk.

    Paths are relative and clean; a directory is to be asked for before what is in it, though
    nothing goes wrong otherwise. Not for use by several threads.
    """

    def __init__(self, patterns: Sequence[str]) -> None:
        """Invalid for a malformed pattern. A blank one counts for nothing."""
        self._runs: list[_Run] = []
        for pattern in patterns:
            cleaned = pattern.strip(SPACE)
            if cleaned:
                self._add(_clean(cleaned))
        self._directories: dict[str, tuple[bool, ...]] = {}

    @classmethod
    def parse(cls, data: bytes, path: str = ".dockerignore") -> Ignore:
        """The file's patterns. Invalid, with the line, if one is malformed."""
        ignore = cls(())
        for number, raw in enumerate(data.removeprefix(_BOM).split(b"\n"), 1):
            if len(raw) > _LONGEST:
                raise Invalid(f"{path}:{number}: the line is longer than {_LONGEST} bytes")
            pattern = _pattern(raw.decode("utf-8", "surrogateescape"))
            if not pattern:
                continue
            try:
                ignore._add(_clean(pattern))
            except Invalid as error:
                raise Invalid(f"{path}:{number}: {error.message}", error.hint) from error
        return ignore

    def __bool__(self) -> bool:
        """True if there is a pattern at all."""
        return bool(self._runs)

    def excludes(self, path: str, is_dir: bool) -> bool:
        """True if *path* is left out. (What is in it may be not: see may_contain_included().)"""
        if not self._runs:
            return False
        parent, _, name = path.rpartition("/")
        inherited = self._directories.get(parent) or self._matched(parent)
        if is_dir:
            inherited = self._directories[path] = self._inherit(inherited, path, name)
            return self._outcome(inherited)
        excluded = False
        for run, before in zip(self._runs, inherited, strict=True):
            if before or (run.negated == excluded and run.matches(path, name)):
                excluded = not run.negated
        return excluded

    def may_contain_included(self, directory: str) -> bool:
        """False if everything below *directory*, which is left out, is left out too."""
        matched = self._matched(directory)
        for run, did_match in zip(reversed(self._runs), reversed(matched), strict=True):
            if run.negated and (did_match or run.may_match_below(directory)):
                return True
            if did_match and not run.negated:
                return False  # all below inherits this match, and no later pattern undoes it
        return True

    def _add(self, pattern: str) -> None:
        negated = pattern.startswith("!")
        if negated:
            pattern = pattern[1:]
            if not pattern:
                raise Invalid(
                    'illegal exclusion pattern: "!"', hint="name what is not to be ignored: !path"
                )
        Glob(pattern)
        if not self._runs or self._runs[-1].negated != negated:
            self._runs.append(_Run(negated))
        self._runs[-1].add(pattern)

    def _matched(self, directory: str) -> tuple[bool, ...]:
        """Which runs matched *directory* or something above it; "" is the root."""
        known = self._directories.get(directory)
        if known is not None:
            return known
        if not directory:
            return (False,) * len(self._runs)
        # Down from the root, not by recursion: a path may have 2000 components.
        at = 0
        matched = self._matched("")
        while at <= len(directory):
            end = directory.find("/", at)
            end = len(directory) if end < 0 else end
            prefix = directory[:end]
            matched = self._inherit(matched, prefix, directory[at:end])
            at = end + 1
        self._directories[directory] = matched
        return matched

    def _inherit(self, inherited: tuple[bool, ...], path: str, name: str) -> tuple[bool, ...]:
        excluded = False
        matched: list[bool] = []
        for run, before in zip(self._runs, inherited, strict=True):
            # A pattern that could change nothing is not even looked at, and then does not count
            # as a match for what is below.
            match = before or (run.negated == excluded and run.matches(path, name))
            matched.append(match)
            if match:
                excluded = not run.negated
        return tuple(matched)

    def _outcome(self, matched: tuple[bool, ...]) -> bool:
        for index in range(len(matched) - 1, -1, -1):
            if matched[index]:
                return not self._runs[index].negated
        return False


class _Run:
    """
    Patterns in a row that are all negated or all not. Their order does not matter, so they are
    sorted by how cheap they are to match: most files of a big context match none of them.
    """

    def __init__(self, negated: bool) -> None:
        self.negated = negated
        self._patterns: list[str] = []
        self._paths: set[str] = set()  # "docs/a.md"
        self._names: set[str] = set()  # "**/node_modules"
        self._name_regexps: list[str] = []  # "**/*.pyc"
        self._path_regexps: list[str] = []
        self._name: re.Pattern[str] | None = None
        self._path: re.Pattern[str] | None = None
        self._compiled = False

    def add(self, pattern: str) -> None:
        self._patterns.append(pattern)
        deep = pattern.removeprefix("**/")
        if _MARKS.isdisjoint(pattern):
            self._paths.add(pattern)
        elif deep != pattern and _MARKS.isdisjoint(deep) and "/" not in deep:
            self._names.add(deep)
        elif deep != pattern and _is_name_glob(deep):
            self._name_regexps.append(translated(deep))
        else:
            self._path_regexps.append(translated(pattern))

    def matches(self, path: str, name: str) -> bool:
        if path in self._paths or name in self._names:
            return True
        if not self._compiled:
            self._name = _any_of(self._name_regexps)
            self._path = _any_of(self._path_regexps)
            self._compiled = True
        return (self._name is not None and self._name.fullmatch(name) is not None) or (
            self._path is not None and self._path.fullmatch(path) is not None
        )

    def may_match_below(self, directory: str) -> bool:
        parts = directory.split("/")
        return any(_may_match_below(pattern.split("/"), parts) for pattern in self._patterns)


def _is_name_glob(pattern: str) -> bool:
    """True if *pattern* speaks of one component only. (A class can match a "/".)"""
    return "/" not in pattern and "**" not in pattern and "[" not in pattern and "^" not in pattern


def _any_of(regexps: list[str]) -> re.Pattern[str] | None:
    return re.compile("|".join(regexps), re.DOTALL) if regexps else None


def _may_match_below(pattern: list[str], directory: list[str]) -> bool:
    for wanted, part in zip(pattern, directory, strict=False):
        if "**" in wanted or "[" in wanted:
            return True  # these match across components
        if _MARKS.isdisjoint(wanted) and wanted != part:
            return False
    return len(pattern) > len(directory)


def _pattern(line: str) -> str:
    """The pattern on a line of the file; "" if there is none."""
    if line.startswith("#"):
        return ""
    pattern = line.strip(SPACE)
    mark = pattern[:1] if pattern.startswith("!") else ""
    pattern = pattern.removeprefix("!").strip(SPACE) if mark else pattern
    if pattern:
        pattern = _clean(pattern)
        if len(pattern) > 1:
            pattern = pattern.removeprefix("/")
    return mark + pattern


def _clean(path: str) -> str:
    """Go's filepath.Clean; Python's normpath keeps two slashes at the front, as POSIX allows."""
    cleaned = posixpath.normpath(path)
    return cleaned[1:] if cleaned.startswith("//") else cleaned
