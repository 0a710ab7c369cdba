from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocispec.digest import Digest
from ocispec.errors import Invalid
from ocispec.reference import Reference

HEX = "f" * 64
DIGEST = f"sha256:{HEX}"


@pytest.mark.parametrize(
    ("text", "whole", "familiar"),
    [
        ("busybox", "docker.io/library/busybox", "busybox"),
        ("busybox:1", "docker.io/library/busybox:1", "busybox:1"),
        ("library/busybox", "docker.io/library/busybox", "busybox"),
        ("docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("docker.io/library/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/busybox", "docker.io/library/busybox", "busybox"),
        ("index.docker.io/a/b", "docker.io/a/b", "a/b"),
        ("docker.io/library/a/b", "docker.io/library/a/b", "library/a/b"),
        ("me/app", "docker.io/me/app", "me/app"),
        ("me/app:v1", "docker.io/me/app:v1", "me/app:v1"),
        (f"me/app@{DIGEST}", f"docker.io/me/app@{DIGEST}", f"me/app@{DIGEST}"),
        (f"me/app:v1@{DIGEST}", f"docker.io/me/app:v1@{DIGEST}", f"me/app:v1@{DIGEST}"),
        ("a/b/c/d", "docker.io/a/b/c/d", "a/b/c/d"),
        ("localhost/app", "localhost/app", "localhost/app"),
        ("localhost:5000/app:v1", "localhost:5000/app:v1", "localhost:5000/app:v1"),
        ("127.0.0.1:5000/app", "127.0.0.1:5000/app", "127.0.0.1:5000/app"),
        ("[::1]:5000/app", "[::1]:5000/app", "[::1]:5000/app"),
        ("[2001:db8::1]/app", "[2001:db8::1]/app", "[2001:db8::1]/app"),
        ("ghcr.io/me/app", "ghcr.io/me/app", "ghcr.io/me/app"),
        ("test.com:8080", "docker.io/library/test.com:8080", "test.com:8080"),
        ("test:5000/repo", "test:5000/repo", "test:5000/repo"),
        ("Registry/app", "Registry/app", "Registry/app"),
        ("xn--n3h.com/app", "xn--n3h.com/app", "xn--n3h.com/app"),
        ("a__b/c--d.e_f", "docker.io/a__b/c--d.e_f", "a__b/c--d.e_f"),
        ("foo_bar.com:8080", "docker.io/library/foo_bar.com:8080", "foo_bar.com:8080"),
        ("app:_x.Y-z", "docker.io/library/app:_x.Y-z", "app:_x.Y-z"),
        ("app:" + "t" * 128, "docker.io/library/app:" + "t" * 128, "app:" + "t" * 128),
        ("docker.io", "docker.io/library/docker.io", "docker.io"),
        (HEX[:63], f"docker.io/library/{HEX[:63]}", HEX[:63]),
        (f"me/{HEX}", f"docker.io/me/{HEX}", f"me/{HEX}"),
    ],
)
def test_references_are_read_as_docker_reads_them(text: str, whole: str, familiar: str) -> None:
    ref = Reference.parse(text)

    assert (str(ref), ref.familiar) == (whole, familiar)


@pytest.mark.parametrize(
    "text",
    [
        "",
        ":tag",
        "@" + DIGEST,
        "app:",
        "app@",
        "app:tag:tag",
        f"app@{DIGEST}@{DIGEST}",
        f"app@{DIGEST}:tag",
        "app@sha256:abc",
        f"app@sha256:{HEX.upper()}",
        f"app@md5:{HEX}",
        "Upper",
        "me/Upper",
        "UPPER/Upper",
        "a//b",
        "/app",
        "app/",
        "-app",
        "app-",
        ".app",
        "app.",
        "a..b",
        "a___b",
        "a._b",
        "a b",
        "app:-tag",
        "app:.tag",
        "app:t/x",
        "app:" + "t" * 129,
        "localhost:port/app",
        "localhost:123456/app",
        "-host.com/app",
        "host-.com/app",
        "ho_st.com/app",
        "[::1/app",
        "[::1]5000/app",
        "http://host.com/app",
        "user@host.com/app",
        "a/../b",
        "../a",
        "./a",
        "app?x=y",
        "app#x",
        "app%2fx",
        "app\r\nX-Header: y",
        "app\n",
        "app\x00",
        "äpp",
        "app:tág",
        HEX,
        "host.com/" + "a" * 250,
    ],
    ids=ascii,
)
def test_r17_other_text_is_no_reference(text: str) -> None:
    with pytest.raises(Invalid, match="invalid reference"):
        Reference.parse(text)


def test_upper_case_is_put_right_in_the_hint() -> None:
    with pytest.raises(Invalid) as caught:
        Reference.parse("MyApp")

    assert caught.value.hint == "did you mean myapp?"


def test_the_message_shows_only_so_much() -> None:
    with pytest.raises(Invalid) as caught:
        Reference.parse("x" * 100_000)

    assert len(caught.value.message) < 400


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("app", "app:latest"),
        ("app:v1", "app:v1"),
        (f"app@{DIGEST}", f"app@{DIGEST}"),
        (f"app:v1@{DIGEST}", f"app:v1@{DIGEST}"),
    ],
)
def test_latest_is_for_what_has_neither_tag_nor_digest(text: str, expected: str) -> None:
    assert Reference.parse(text).with_default_tag().familiar == expected


COMPONENT = st.from_regex(r"[a-z0-9]{1,6}(?:(?:\.|_|__|-{1,3})[a-z0-9]{1,6}){0,2}", fullmatch=True)
HOSTS = st.sampled_from(
    ["docker.io", "ghcr.io", "localhost", "localhost:5000", "10.0.0.1:80", "[::1]:5000", "A.b"]
)
TAGS = st.none() | st.from_regex(r"[A-Za-z0-9_][A-Za-z0-9_.-]{0,10}", fullmatch=True)
DIGESTS = st.none() | st.binary(max_size=4).map(Digest.of)
FIRST = st.from_regex(r"[a-z0-9]{1,6}", fullmatch=True)  # one with a dot would be read as a host
REFERENCES = st.builds(
    lambda host, first, path, tag, digest: Reference(host, "/".join([first, *path]), tag, digest),
    HOSTS,
    FIRST,
    st.lists(COMPONENT, min_size=1, max_size=3),
    TAGS,
    DIGESTS,
)


@given(REFERENCES)
def test_what_is_shown_is_read_back(ref: Reference) -> None:
    assert Reference.parse(str(ref)) == ref


@given(REFERENCES)
def test_the_familiar_form_is_read_back(ref: Reference) -> None:
    assert Reference.parse(ref.familiar) == ref


@given(st.text("aA0./:@_-[]%?#\\ \n\x00é", max_size=30) | st.text(max_size=30))
def test_r17_any_text_is_a_safe_reference_or_invalid(text: str) -> None:
    try:
        ref = Reference.parse(text)
    except Invalid:
        return

    assert Reference.parse(str(ref)) == ref
    assert str(ref).isascii()
    assert str(ref).isprintable()
    assert not set(str(ref)) & set(" \\%?#")
    assert ".." not in ref.repository.split("/")
