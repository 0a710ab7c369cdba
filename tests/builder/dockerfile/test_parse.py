"""A Dockerfile's text to its instructions."""

from __future__ import annotations

import contextlib
import itertools
import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

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
    RunMount,
    Shell,
    Stopsignal,
    User,
    Volume,
    Workdir,
)
from builder.dockerfile.parse import Dockerfile, parse, parse_trigger
from builder.dockerfile.source import DockerfileError, SourceFile, Span

ROOT = str(Path(__file__).resolve().parents[3])
S = Span("Dockerfile", 2, 2)
_HEALTHCHECK = (
    "HEALTHCHECK --interval=5s --timeout=1s --start-period=1m --start-interval=2s "
    "--retries=3 cmd curl a"
)
_NAMES = "name can't start with a number or contain symbols"


def _too_few(keyword: str, given: str) -> str:
    return (
        f"{keyword} requires at least two arguments, but {given} was provided. "
        "Destination could not be determined"
    )


def _parse(text: str | bytes) -> Dockerfile:
    data = text.encode() if isinstance(text, str) else text
    return parse(SourceFile("Dockerfile", data))


def _one(text: str) -> Instruction:
    _, instruction = _parse("FROM x\n" + text).instructions
    return instruction


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("FROM a:1", From(S, "FROM a:1", "a:1")),
        ("from a as B", From(S, "from a as B", "a", "b")),
        (
            "FROM --platform=$P a AS x-1_2.y",
            From(S, "FROM --platform=$P a AS x-1_2.y", "a", "x-1_2.y", "$P"),
        ),
        ("ARG a", Arg(S, "ARG a", (("a", None),))),
        ("ARG a= b=1 c", Arg(S, "ARG a= b=1 c", (("a", ""), ("b", "1"), ("c", None)))),
        ('ARG a="b c"', Arg(S, 'ARG a="b c"', (("a", '"b c"'),))),
        ("ENV a=1 b='2 3'", Env(S, "ENV a=1 b='2 3'", (("a", "1"), ("b", "'2 3'")))),
        ("ENV a b  c", Env(S, "ENV a b  c", (("a", "b  c"),), legacy=True)),
        ("LABEL a.b=c", Label(S, "LABEL a.b=c", (("a.b", "c"),))),
        ("LABEL a b", Label(S, "LABEL a b", (("a", "b"),), legacy=True)),
        ("RUN echo  'a' \\\\", Run(S, "RUN echo  'a' \\\\", True, ("echo  'a' \\\\",))),
        ('RUN ["a", "b c"]', Run(S, 'RUN ["a", "b c"]', False, ("a", "b c"))),
        ("RUN [ -f a ]", Run(S, "RUN [ -f a ]", True, ("[ -f a ]",))),
        (
            "RUN --network=none --security=insecure --device=x a",
            Run(
                S,
                "RUN --network=none --security=insecure --device=x a",
                True,
                ("a",),
                network="none",
                security="insecure",
                devices=("x",),
            ),
        ),
        (
            "RUN --mount=target=/a --mount=type=ssh a",
            Run(
                S,
                "RUN --mount=target=/a --mount=type=ssh a",
                True,
                ("a",),
                mounts=(
                    RunMount("target=/a", target="/a"),
                    RunMount("type=ssh", type="ssh"),
                ),
            ),
        ),
        ("COPY a b /c/", Copy(S, "COPY a b /c/", ("a", "b"), "/c/")),
        ('COPY ["a b", "/c"]', Copy(S, 'COPY ["a b", "/c"]', ("a b",), "/c")),
        (
            "COPY --from=x --chown=a:b --chmod=u+x --link --parents --exclude=*.a --exclude=b . /",
            Copy(
                S,
                "COPY --from=x --chown=a:b --chmod=u+x --link --parents --exclude=*.a "
                "--exclude=b . /",
                (".",),
                "/",
                from_="x",
                chown="a:b",
                chmod="u+x",
                link=True,
                parents=True,
                excludes=("*.a", "b"),
            ),
        ),
        ("COPY --link=false a b", Copy(S, "COPY --link=false a b", ("a",), "b")),
        ("ADD a b", Add(S, "ADD a b", ("a",), "b")),
        (
            "ADD --checksum=sha256:0 --keep-git-dir --unpack=false --link=true http://a/b /c",
            Add(
                S,
                "ADD --checksum=sha256:0 --keep-git-dir --unpack=false --link=true http://a/b /c",
                ("http://a/b",),
                "/c",
                link=True,
                checksum="sha256:0",
                unpack=False,
                keep_git_dir=True,
            ),
        ),
        ("WORKDIR /a b", Workdir(S, "WORKDIR /a b", "/a b")),
        ("USER a:b", User(S, "USER a:b", "a:b")),
        ("VOLUME /a /b", Volume(S, "VOLUME /a /b", ("/a", "/b"))),
        ('VOLUME ["/a b"]', Volume(S, 'VOLUME ["/a b"]', ("/a b",))),
        ("EXPOSE 80 443/udp $P", Expose(S, "EXPOSE 80 443/udp $P", ("$P", "443/udp", "80"))),
        ("CMD a b", Cmd(S, "CMD a b", True, ("a b",))),
        ('CMD ["a"]', Cmd(S, 'CMD ["a"]', False, ("a",))),
        ("CMD []", Cmd(S, "CMD []", False, ())),
        ("CMD", Cmd(S, "CMD", True, ("",))),
        ("ENTRYPOINT []", Entrypoint(S, "ENTRYPOINT []", False, ())),
        ("ENTRYPOINT a", Entrypoint(S, "ENTRYPOINT a", True, ("a",))),
        ("HEALTHCHECK NONE", Healthcheck(S, "HEALTHCHECK NONE", ("NONE",))),
        (
            _HEALTHCHECK,
            Healthcheck(
                S,
                _HEALTHCHECK,
                ("CMD-SHELL", "curl a"),
                5 * 10**9,
                10**9,
                60 * 10**9,
                2 * 10**9,
                3,
            ),
        ),
        (
            'HEALTHCHECK CMD ["a", "b"]',
            Healthcheck(S, 'HEALTHCHECK CMD ["a", "b"]', ("CMD", "a", "b")),
        ),
        ("STOPSIGNAL SIGTERM", Stopsignal(S, "STOPSIGNAL SIGTERM", "SIGTERM")),
        ('SHELL ["a", "-c"]', Shell(S, 'SHELL ["a", "-c"]', ("a", "-c"))),
        ("MAINTAINER A <a@b>", Maintainer(S, "MAINTAINER A <a@b>", "A <a@b>")),
        (
            "ONBUILD  RUN --network=none a",
            Onbuild(
                S,
                "ONBUILD  RUN --network=none a",
                "RUN --network=none a",
                Run(S, "RUN --network=none a", True, ("a",), network="none"),
            ),
        ),
        ("  \tuser\ta  ", User(S, "user\ta", "a")),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_an_instruction_is_its_parts(text: str, expected: Instruction) -> None:
    found = _one(text)

    assert type(expected) is type(found)
    assert expected == found


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("RUNN a", "unknown instruction: RUNN"),
        ("foo", "unknown instruction: foo"),
        ("\\", "unknown instruction: "),
        ("FROM", "FROM requires either one or three arguments"),
        ("FROM a b", "FROM requires either one or three arguments"),
        ("FROM a is b", "FROM requires either one or three arguments"),
        (
            "FROM a AS 1b",
            f'invalid name for build stage: "1b", {_NAMES}',
        ),
        (
            "FROM a AS b/c",
            f'invalid name for build stage: "b/c", {_NAMES}',
        ),
        ("ARG", "ARG requires at least one argument"),
        ("ARG =a", "ARG names can not be blank"),
        ("ENV", "ENV requires at least one argument"),
        ("LABEL", "LABEL requires at least one argument"),
        ("LABEL a", "LABEL must have two arguments"),
        ("RUN", "RUN requires at least one argument"),
        ("RUN []", "RUN requires at least one argument"),
        ("RUN --mount=type=ssh", "RUN requires at least one argument"),
        (
            "RUN [1]",
            "when using JSON array syntax, arrays must be comprised of strings only",
        ),
        ("RUN --network=bridge a", 'unsupported network mode "bridge"'),
        ("RUN --security=none a", 'security "none" is not valid'),
        ("RUN --mount=x a", "unexpected key 'x' in 'x'"),
        (
            "COPY",
            _too_few("COPY", "none"),
        ),
        (
            "COPY a",
            _too_few("COPY", "only one"),
        ),
        (
            'ADD ["a"]',
            _too_few("ADD", "only one"),
        ),
        ("COPY --from a b", "missing a value on flag: --from"),
        ("COPY --link --link a b", "duplicate flag specified: --link"),
        ("WORKDIR", "WORKDIR requires exactly one argument"),
        ("USER", "USER requires exactly one argument"),
        ("STOPSIGNAL", "STOPSIGNAL requires exactly one argument"),
        ("MAINTAINER", "MAINTAINER requires exactly one argument"),
        ("MAINTAINER --boo a", "unknown flag: --boo"),
        ("VOLUME", "VOLUME requires at least one argument"),
        ("VOLUME []", "VOLUME requires at least one argument"),
        ('VOLUME [" "]', "VOLUME specified can not be an empty string"),
        ("EXPOSE", "EXPOSE requires at least one argument"),
        ("SHELL", "SHELL requires at least one argument"),
        ("SHELL []", "SHELL requires at least one argument"),
        ("SHELL sh -c", "SHELL requires the arguments to be in JSON form"),
        ('SHELL ["c:\\windows"]', "SHELL requires the arguments to be in JSON form"),
        ("HEALTHCHECK", "HEALTHCHECK requires at least one argument"),
        ("HEALTHCHECK NONE a", "HEALTHCHECK NONE takes no arguments"),
        ("HEALTHCHECK CMD", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK CMD []", "Missing command after HEALTHCHECK CMD"),
        ("HEALTHCHECK curl a", 'Unknown type "CURL" in HEALTHCHECK (try CMD)'),
        ("HEALTHCHECK --retries=x CMD a", 'invalid value "x" for --retries'),
        ("HEALTHCHECK --retries=-1 CMD a", "--retries cannot be negative (-1)"),
        ("HEALTHCHECK --retries=2147483648 CMD a", 'invalid value "2147483648" for --retries'),
        ("HEALTHCHECK --interval=1us CMD a", 'Interval "interval" cannot be less than 1ms'),
        ("ONBUILD", "ONBUILD requires at least one argument"),
        ("ONBUILD ONBUILD RUN a", "Chaining ONBUILD via `ONBUILD ONBUILD` isn't allowed"),
        ("ONBUILD from a", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD MAINTAINER a", "MAINTAINER isn't allowed as an ONBUILD trigger"),
        ("ONBUILD FOO", "unknown instruction: FOO"),
        (
            "ONBUILD COPY a",
            _too_few("COPY", "only one"),
        ),
        ("ONBUILD --x RUN a", "unknown flag: --x"),
    ],
)
def test_a_wrong_instruction_is_an_error_with_its_line(text: str, reason: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        _parse("FROM x\n" + text + "\n")

    assert reason == caught.value.reason
    assert caught.value.span == S
    assert caught.value.message.startswith(f"Dockerfile:2: {reason}\nDockerfile:2\n")


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("RUNN a", "did you mean RUN?"),
        ("COPPY a b", "did you mean COPY?"),
        ("RUN --mout=type=ssh a", "did you mean --mount?"),
        ("RUN --network=hots a", "did you mean host?"),
        ("RUN --mount=type=bnid a", "did you mean bind?"),
    ],
)
def test_an_error_suggests_what_was_meant(text: str, hint: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        _one(text)

    assert hint == caught.value.hint


@pytest.mark.parametrize(
    ("text", "reason", "line"),
    [
        ("", "file with no instructions", 1),
        ("# only\n# comments\n", "file with no instructions", 2),
        ("ARG a\n", "dockerfile contains no stages to build", 1),
        ("\nRUN a\nFROM x\n", "no build stage in current context", 2),
        ("ARG a\nENV b=c\nFROM x\n", "no build stage in current context", 2),
    ],
)
def test_a_file_needs_a_stage(text: str, reason: str, line: int) -> None:
    with pytest.raises(DockerfileError) as caught:
        _parse(text)

    assert reason == caught.value.reason
    assert line == caught.value.span.first


def test_args_may_come_before_the_first_stage() -> None:
    dockerfile = _parse("ARG V=1\nFROM x:$V\nRUN a\nFROM y\n")

    assert [type(i).__name__ for i in dockerfile.instructions] == ["Arg", "From", "Run", "From"]


def test_an_error_spans_all_lines_of_the_instruction() -> None:
    with pytest.raises(DockerfileError) as caught:
        _parse("FROM x\nCOPY \\\n  # why\n  a\nRUN b\n")

    assert caught.value.span == Span("Dockerfile", 2, 4)


def test_the_escape_directive_reaches_every_reader() -> None:
    dockerfile = _parse("# escape=`\nFROM x\nENV a=b` c d=\\ e=f\nRUN a `\n  C:\\b\n")

    assert dockerfile.escape == "`"
    assert list(dockerfile.instructions[1:]) == [
        Env(
            Span("Dockerfile", 3, 3),
            "ENV a=b` c d=\\ e=f",
            (("a", "b` c"), ("d", "\\"), ("e", "f")),
        ),
        Run(Span("Dockerfile", 4, 5), "RUN a   C:\\b", True, ("a   C:\\b",)),
    ]


def test_comments_and_blank_continuations_are_kept_beside() -> None:
    dockerfile = _parse("# syntax=a\n# the base\nFROM x\n# check=skip=all\nRUN a \\\n\n b\n")

    assert dockerfile.comments == (("the base",), ("check=skip=all",))
    assert dockerfile.blank_continuations == (Span("Dockerfile", 5, 7),)
    assert [d.name for d in dockerfile.directives] == ["syntax"]


def test_bytes_that_are_not_utf8_survive() -> None:
    run = _parse(b"FROM x\nRUN echo \xff\xfe\n").instructions[1]

    assert isinstance(run, Run)
    assert run.argv[0].encode("utf-8", "surrogateescape") == b"echo \xff\xfe"


def test_a_trigger_is_read_as_one_instruction() -> None:
    trigger = parse_trigger(SourceFile("ONBUILD", b"COPY <<a /x\nhello\na"))

    assert isinstance(trigger, Copy)
    assert trigger.heredocs[0].content == "hello\n"


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "onbuild trigger should be a single expression"),
        ("RUN a\nRUN b", "onbuild trigger should be a single expression"),
        ("FROM a", "FROM isn't allowed as an ONBUILD trigger"),
        ("ONBUILD RUN a", "ONBUILD isn't allowed as an ONBUILD trigger"),
        ("RUN <<a\nb", "unterminated heredoc"),
    ],
)
def test_a_trigger_that_is_none_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        parse_trigger(SourceFile("ONBUILD", text.encode()))

    assert reason == caught.value.reason


def test_the_reader_is_cheap_to_import() -> None:
    """Every build waits for it; dataclasses alone (with inspect) would double its time."""
    program = "import sys; import builder.dockerfile.parse, builder.ignore; print(*sys.modules)"

    run = subprocess.run(
        [sys.executable, "-I", "-S", "-c", f"import sys; sys.path.insert(0, {ROOT!r}); {program}"],
        capture_output=True,
        check=True,
        text=True,
    )

    dear = {"dataclasses", "inspect", "pathlib", "difflib", "csv", "tempfile", "subprocess"}
    assert set() == dear & set(run.stdout.split())


_KEYWORDS = st.sampled_from(
    ["FROM", "ARG", "ENV", "LABEL", "RUN", "COPY", "ADD", "WORKDIR", "USER", "VOLUME", "EXPOSE"]
) | st.sampled_from(
    ["CMD", "ENTRYPOINT", "HEALTHCHECK", "STOPSIGNAL", "SHELL", "ONBUILD", "MAINTAINER", "#"]
)
_PIECES = (
    _KEYWORDS
    | st.sampled_from("\n\n\t  =\"'[]{},:$<\\`-#aé")
    | st.sampled_from(["<<E", "E\n", "--mount=", "--from=x", "type=cache", '["a"]', "CMD a"])
)


@given(st.lists(_PIECES, max_size=25))
@example(["RUN ", "<<E", "\n"])
def test_text_like_a_dockerfile_is_read_or_refused_with_a_place(pieces: list[str]) -> None:
    text = "FROM x\n" + " ".join(pieces)

    with contextlib.suppress(DockerfileError):
        dockerfile = _parse(text)

        spans = [i.span for i in dockerfile.instructions]
        assert all(a.last < b.first for a, b in itertools.pairwise(spans))
        assert len(dockerfile.comments) == len(spans)


@given(st.binary(max_size=300), st.sampled_from([b"", b"FROM x\n", b"\xef\xbb\xbf# escape=`\n"]))
def test_any_bytes_are_read_or_refused_with_a_place(data: bytes, start: bytes) -> None:
    with contextlib.suppress(DockerfileError):
        _parse(start + data)
