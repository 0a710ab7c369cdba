from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from registry_client.challenge import Challenge, parse, scopes

TOKEN = st.text("abcXYZ019-._~", min_size=1, max_size=8)


@pytest.mark.parametrize(
    ("header", "expected"),
    [
        ("", ()),
        ("Basic", (("basic", {}),)),
        ('Basic realm="a"', (("basic", {"realm": "a"}),)),
        ("Basic realm=a", (("basic", {"realm": "a"}),)),
        ('BASIC REALM = "a"', (("basic", {"realm": "a"}),)),
        (
            (
                'Bearer realm="https://auth.docker.io/token",service="registry.docker.io",'
                'scope="repository:library/x:pull,push"'
            ),
            (
                (
                    "bearer",
                    {
                        "realm": "https://auth.docker.io/token",
                        "service": "registry.docker.io",
                        "scope": "repository:library/x:pull,push",
                    },
                ),
            ),
        ),
        (r'Basic realm="a \"b\" \\c"', (("basic", {"realm": 'a "b" \\c'}),)),
        (
            'Negotiate, Basic realm="a", Bearer realm="b", scope="c"',
            (
                ("negotiate", {}),
                ("basic", {"realm": "a"}),
                ("bearer", {"realm": "b", "scope": "c"}),
            ),
        ),
        (
            'Negotiate dG9rZW4=, Basic realm="a"',
            (("negotiate", {}), ("basic", {"realm": "a"})),
        ),
        (
            'Newauth realm="apps", type=1,\t title="Login to \\"apps\\"", Basic realm="simple"',
            (
                ("newauth", {"realm": "apps", "type": "1", "title": 'Login to "apps"'}),
                ("basic", {"realm": "simple"}),
            ),
        ),
        (', , Basic realm="a",,', (("basic", {"realm": "a"}),)),
        ('Bearer realm="a",realm="b"', (("bearer", {"realm": "a"}),)),
        ('Bearer realm="not closed', (("bearer", {}), ("realm", {}))),
        ('"quoted"', ()),
        ("é", ()),
    ],
)
def test_challenges_are_read(header: str, expected: tuple[tuple[str, dict[str, str]], ...]) -> None:
    assert parse(header) == tuple(Challenge(scheme, params) for scheme, params in expected)


def test_an_enormous_header_says_nothing() -> None:
    assert parse("Basic realm=" + "a" * (1 << 20)) == ()


@given(
    st.lists(
        st.tuples(
            TOKEN,
            st.dictionaries(TOKEN.map(str.lower), st.text(max_size=9), min_size=1, max_size=4),
        ),
        max_size=4,
    )
)
def test_what_is_written_is_read(challenges: list[tuple[str, dict[str, str]]]) -> None:
    written = ", ".join(
        scheme + " " + ", ".join(f"{name}={_quoted(text)}" for name, text in params.items())
        for scheme, params in challenges
    )
    expected = tuple(Challenge(scheme.lower(), params) for scheme, params in challenges)

    assert parse(written) == expected


@given(st.text(max_size=200))
def test_anything_can_be_read(header: str) -> None:
    parse(header)


@pytest.mark.parametrize(
    ("needed", "asked", "expected"),
    [
        (["repository:a:pull"], "", ("repository:a:pull",)),
        (["repository:a:pull"], "repository:a:pull", ("repository:a:pull",)),
        (["repository:a:pull"], "repository:a:pull,push", ("repository:a:pull,push",)),
        (["repository:a:pull,push"], "repository:a:pull", ("repository:a:pull,push",)),
        (["repository:a:pull"], "write", ("repository:a:pull", "write")),
        (["repository:a:pull"], "aws", ("repository:a:pull", "aws")),
        (
            ["repository:a:pull,push", "repository:b:pull"],
            "repository:b:pull registry:catalog:*",
            ("repository:a:pull,push", "repository:b:pull", "registry:catalog:*"),
        ),
        (
            ["repository:h:5000/a:pull"],
            "repository:h:5000/a:push",
            ("repository:h:5000/a:pull,push",),
        ),
        (["repository:a:pull"], 'bad"scope \x00 ok:x', ("repository:a:pull", "ok:x")),
    ],
)
def test_needed_scopes_come_first_and_actions_are_joined(
    needed: list[str], asked: str, expected: tuple[str, ...]
) -> None:
    assert scopes(needed, asked) == expected


def test_a_registry_cannot_ask_for_scopes_without_end() -> None:
    assert len(scopes(["repository:a:pull"], " ".join(f"r:{n}:x" for n in range(999)))) < 20


def _quoted(text: str) -> str:
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"') + '"'
