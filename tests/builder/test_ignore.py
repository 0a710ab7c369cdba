"""What a .dockerignore leaves out."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.ignore import Ignore
from builder.ignore_regexp import translated
from ocispec.errors import Invalid


def _excluded(patterns: str, path: str) -> bool:
    return Ignore.parse(patterns.encode()).excludes(path, is_dir=False)


@pytest.mark.parametrize(
    ("pattern", "path", "expected"),
    [
        ("a", "a", True),
        ("a", "a/b/c", True),
        ("a", "b/a", False),
        ("a/", "a", True),
        ("/a", "a", True),
        ("//a", "a", True),
        ("./a", "a", True),
        ("a/../b", "b", True),
        ("a/b", "a", False),
        ("a/b", "a/b/c", True),
        ("*", "a", True),
        ("*", "a/b", True),
        ("*.py", "a.py", True),
        ("*.py", "b/a.py", False),
        ("*/*.py", "b/a.py", True),
        ("*/*.py", "c/b/a.py", False),
        ("a?c", "abc", True),
        ("a?c", "a/c", False),
        ("a[b-d]e", "ace", True),
        ("a[b-d]e", "aae", False),
        ("a[^b-d]e", "aze", True),
        (".*", ".git", True),
        (".*", "git", False),
        ("a.c", "abc", False),
        ("a(b)c|+{}$", "a(b)c|+{}$", True),
        ("a^b", "a^b", True),
        ("**", "a", True),
        ("**", "a/b/c", True),
        ("**/", "a", True),
        ("**/a", "a", True),
        ("**/a", "b/c/a", True),
        ("**/a", "b/xa", False),
        ("**/a", "b/a/c", True),
        ("**a", "b/xa", True),
        ("**/*.py", "a.py", True),
        ("**/*.py", "b/c/a.py", True),
        ("**/.foo", "bar.foo", False),
        ("**/a/b", "x/a/b", True),
        ("**/a/*", "x/a/b", True),
        ("**/**/*.txt", "d/d/f.txt", True),
        ("a**/*.txt", "a/d/f.txt", True),
        ("a**/*.txt", "a/f.txt", True),
        ("a/*.txt**", "a/f.txt", True),
        ("a/**", "a", False),
        ("a/**", "a/b", True),
        ("a/**", "a/b/c", True),
        ("a/**/b", "a/b", True),
        ("a/**/b", "a/x/y/b", True),
        ("a**", "abc/d", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "axb", False),
        ("\\!a", "!a", True),
        ("#a", "#a", False),
        (" #a", "#a", True),
        (" a ", "a", True),
        ("a b", "a b", True),
        ("\\#a", "#a", True),
        ("é*", "éa", True),
        ("*.py", "a\nb.py", True),
        ("**/*.py", "a\nb/c.py", True),
        ("..", "a", False),
        (".", "a", False),
        ("/", "a", False),
    ],
)
def test_a_pattern_leaves_out_what_moby_leaves_out(pattern: str, path: str, expected: bool) -> None:
    assert expected is _excluded(pattern, path)


@pytest.mark.parametrize(
    ("patterns", "path", "expected"),
    [
        ("*\n!a", "a", False),
        ("*\n!a", "a/b", False),
        ("*\n!a", "b", True),
        ("*\n!a\na/b", "a/b", True),
        ("*\n!a\na/b", "a/c", False),
        ("a\n!a/b", "a/b", False),
        ("a\n!a/b", "a/c", True),
        ("a/*\n!a/b", "a/b", False),
        ("!a\n*", "a", True),
        ("**\n!d/*.whl", "d/x.whl", False),
        ("**/*.md\n!**/README.md", "x/README.md", False),
        ("*.md\n!README*.md\nREADME-secret.md", "README-secret.md", True),
        ("*.md\n!README*.md\nREADME-secret.md", "README-x.md", False),
        ("a\n! a", "a", False),
        ("a\n!/a", "a", False),
        ("a\n !a", "a", False),
        ("a/b\n!a", "a/b", True),
        ("a/b\n!a/b", "a/b", False),
    ],
)
def test_the_last_match_wins(patterns: str, path: str, expected: bool) -> None:
    assert expected is _excluded(patterns, path)


def test_the_file_may_have_a_bom_comments_and_crlf() -> None:
    ignore = Ignore.parse(b"\xef\xbb\xbf# notes\r\n\r\n  \na\r\n!a/b\r\n")

    assert ignore.excludes("a", is_dir=True)
    assert not ignore.excludes("a/b", is_dir=False)


def test_a_bom_alone_is_no_pattern() -> None:
    assert not Ignore.parse(b"\xef\xbb\xbf")
    assert not Ignore.parse(b"")
    assert Ignore.parse(b"a")


def test_names_that_are_not_utf8_can_be_left_out() -> None:
    ignore = Ignore.parse(b"caf\xe9*")

    assert ignore.excludes("caf\udce9", is_dir=False)
    assert not ignore.excludes("café", is_dir=False)


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"a\n!\n", '.dockerignore:2: illegal exclusion pattern: "!"'),
        (b"! ", '.dockerignore:1: illegal exclusion pattern: "!"'),
        (b"!/", '.dockerignore:1: illegal exclusion pattern: "!"'),
        (b"a\n\n[", ".dockerignore:3: syntax error in pattern '['"),
        (b"a\\", ".dockerignore:1: syntax error in pattern 'a\\\\'"),
        (b"[z-a]", ".dockerignore:1: syntax error in pattern"),
        (b"[[:what:]]", ".dockerignore:1: syntax error in pattern"),
        (b"a\\q*", ".dockerignore:1: syntax error in pattern"),
        (b"x" * 65536, ".dockerignore:1: the line is longer than 65535 bytes"),
    ],
)
def test_a_malformed_pattern_is_invalid_with_its_line(data: bytes, message: str) -> None:
    with pytest.raises(Invalid, match=re.escape(message)):
        Ignore.parse(data)


def test_patterns_of_a_flag_keep_their_slash() -> None:
    """Only the file's reader removes it; so ``--exclude=/a`` matches nothing, as in BuildKit."""
    assert not Ignore(["/a"]).excludes("a", is_dir=False)
    assert Ignore([" a ", ""]).excludes("a", is_dir=False)


@pytest.mark.parametrize(
    ("pattern", "expression"),
    [
        ("a[*]", "a[[^/]*]"),
        ("[\\d]x", "[0-9]x"),
        ("\\dx", "[0-9]x"),
        ("[[:digit:]]*", "[0-9][^/]*"),
        ("[a-c\\]]", "[a-c\\]]"),
        ("[^^]", "[^^]"),
        ("a^*", "a^[^/]*"),
    ],
)
def test_moby_s_expressions_are_said_in_python(pattern: str, expression: str) -> None:
    """What moby does with these is odd, and is what images are built with."""
    ours = re.compile(translated(pattern), re.DOTALL)
    theirs = re.compile(expression.replace("[[^/]*]", "[\\[^/]*\\]"), re.DOTALL)

    for name in ("a", "ax", "5", "5x", "dx", "a[", "a[]", "a^^]", "a]", "b", "]", "^", "a^", "15"):
        assert bool(theirs.fullmatch(name)) is bool(ours.fullmatch(name)), name


@pytest.mark.parametrize(
    ("patterns", "directory", "expected"),
    [
        ("a", "a", False),
        ("a\n!b", "a", False),
        ("a\n!a/b", "a", True),
        ("a\n!a/b", "a/c", False),
        ("a\n!a/b/c", "a/b", True),
        ("!a/b\na", "a", False),
        ("a\n!**/b", "a", True),
        ("a\n!*/b", "a", True),
        ("a/b\n!*", "a/b", False),
        ("a\n!*/*/x", "a/b", True),
        ("a\n!a/b\na/b", "a/b", False),
        ("a\n!a/b\na/c", "a", True),
        ("a\n![x]", "a", True),
        ("a\n!a/\\*", "a", True),
        ("b", "a", True),
        ("a\n!a/b", "a/b", True),
    ],
)
def test_a_directory_is_pruned_if_nothing_below_can_be_wanted(
    patterns: str, directory: str, expected: bool
) -> None:
    assert expected is Ignore.parse(patterns.encode()).may_contain_included(directory)


def test_it_does_not_matter_whether_the_directory_was_asked_for() -> None:
    text = b"*\n!a\na/b\n!a/b/c\n"
    walked, asked = Ignore.parse(text), Ignore.parse(text)
    for directory in ("a", "a/b", "a/b/c"):
        walked.excludes(directory, is_dir=True)

    assert not asked.excludes("a/b/c/d", is_dir=False)
    assert not walked.excludes("a/b/c/d", is_dir=False)
    assert asked.excludes("a/b/d", is_dir=False)


def test_a_very_deep_path_is_no_trouble() -> None:
    path = "/".join(["d"] * 2000)

    assert Ignore.parse(b"**/x\n!d\n").excludes(path + "/x", is_dir=False)


def test_many_wildcards_do_not_take_for_ever() -> None:
    stars, deep = "*a" * 30 + "b", "**/a/" * 30 + "b"

    assert not Ignore([stars]).excludes("a" * 250, is_dir=False)
    assert not Ignore([deep]).excludes("/".join(["a"] * 100), is_dir=False)


_PART = st.sampled_from(["a", "b", "ab", "*", "**", "a*", "?", "*b", "[ab]", "**a", "a**", "a\\*"])
_PATTERN = st.builds(
    lambda negated, parts: ("!" if negated else "") + "/".join(parts),
    st.booleans(),
    st.lists(_PART, min_size=1, max_size=3),
)
_PATH = st.lists(st.sampled_from(["a", "b", "ab", "aab"]), min_size=1, max_size=4)


@given(st.lists(_PATTERN, max_size=5), st.lists(_PATH, min_size=1, max_size=6))
def test_a_walk_decides_as_the_plain_model_does(
    patterns: list[str], paths: list[list[str]]
) -> None:
    ignore = Ignore.parse("\n".join(patterns).encode())

    for parts in paths:
        path = "/".join(parts)
        assert _model(patterns, parts)[0] == ignore.excludes(path, is_dir=len(parts) < 3), path


@given(st.lists(_PATTERN, max_size=5), _PATH, _PATH)
def test_nothing_wanted_is_below_a_pruned_directory(
    patterns: list[str], directory: list[str], below: list[str]
) -> None:
    ignore = Ignore.parse("\n".join(patterns).encode())
    path = "/".join(directory)
    if ignore.excludes(path, is_dir=True) and not ignore.may_contain_included(path):
        assert ignore.excludes("/".join(directory + below), is_dir=False)


@given(st.binary(max_size=60), st.text(max_size=20))
def test_nothing_but_invalid_is_raised(data: bytes, path: str) -> None:
    with contextlib.suppress(Invalid):
        ignore = Ignore.parse(data)
        ignore.excludes(path.strip("/") or "a", is_dir=True)
        ignore.may_contain_included(path.strip("/") or "a")


@given(st.text(st.sampled_from("a[]^-\\*?/dq:.!"), max_size=14), st.text(max_size=8))
def test_any_pattern_is_matched_or_invalid(pattern: str, path: str) -> None:
    with contextlib.suppress(Invalid):
        Ignore([pattern]).excludes(path.strip("/") or "a", is_dir=False)


def _model(patterns: list[str], parts: list[str]) -> tuple[bool, list[bool]]:
    """MatchesUsingParentResults as it is written, one pattern after the other, nothing grouped."""
    above = _model(patterns, parts[:-1])[1] if len(parts) > 1 else [False] * len(patterns)
    excluded = False
    matches: list[bool] = []
    for pattern, before in zip(patterns, above, strict=True):
        negated = pattern.startswith("!")
        match = before
        if not match and negated == excluded:
            match = _matches(_tokens(pattern.removeprefix("!")), "/".join(parts))
        matches.append(match)
        if match:
            excluded = not negated
    return excluded, matches


def _tokens(pattern: str) -> list[str]:
    """One token a string: "**/", "**" at the end, "*", "?", "[ab]", or a character."""
    return re.findall(r"\*\*/?|\*|\?|\[ab\]|\\?.", pattern)


def _matches(tokens: list[str], path: str) -> bool:
    if not tokens:
        return not path
    token, *rest = tokens
    if token == "**" and not rest:
        return True
    if token.startswith("**"):
        # Go's "(.*/)?" where a regular expression is made, but a plain suffix otherwise: "**a".
        if token == "**" and all(c not in "*?[\\" for t in rest for c in t):
            return path.endswith("".join(rest))
        ends = [0] + [at + 1 for at, c in enumerate(path) if c == "/"]
        return any(_matches(rest, path[end:]) for end in ends)
    if token == "*":
        segment = path.split("/", 1)[0]
        return any(_matches(rest, path[at:]) for at in range(len(segment) + 1))
    if not path:
        return False
    fits = {"?": path[0] != "/", "[ab]": path[0] in "ab"}.get(token, path[0] == token[-1])
    return fits and _matches(rest, path[1:])
