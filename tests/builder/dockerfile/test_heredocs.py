"""Heredocs."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile.heredocs import Heredoc, heredocs_in, parse_heredoc
from builder.dockerfile.instructions import Add, Copy, Instruction, Onbuild, Run
from builder.dockerfile.parse import parse
from builder.dockerfile.source import DockerfileError, SourceFile
from ocispec.errors import Invalid


def _parse(text: str) -> tuple[Instruction, ...]:
    return parse(SourceFile("Dockerfile", ("FROM x\n" + text).encode())).instructions[1:]


def _run(text: str) -> Run:
    (instruction,) = _parse(text)
    assert isinstance(instruction, Run)
    return instruction


@pytest.mark.parametrize(
    ("word", "expected"),
    [
        ("<<EOF", Heredoc("EOF")),
        ("<<-EOF", Heredoc("EOF", strip_tabs=True)),
        ("3<<EOF", Heredoc("EOF", fd=3)),
        ("<<'EOF'", Heredoc("EOF", expand=False)),
        ('<<"EOF"', Heredoc("EOF", expand=False)),
        ("<<E'O'F", Heredoc("EOF", expand=False)),
        ("<<eo\\'f", Heredoc("eo'f")),
        ("<<'e'o\\'f", Heredoc("eo'f", expand=False)),
        ("<<'one two'", Heredoc("one two", expand=False)),
        ("<<$EOF", Heredoc("$EOF")),
        ("<<  EOF", Heredoc("EOF")),
        ("<<- EOF", Heredoc("EOF", strip_tabs=True)),
        ("<< -EOF", Heredoc("-EOF")),
        ("<<a.txt", Heredoc("a.txt")),
        ("", None),
        ("EOF", None),
        ("<<", None),
        ("<<-", None),
        ("<EOF", None),
        ("<<<EOF", None),
        ("<<EOF sh", None),
        ("x<<EOF", None),
        ("'<<EOF'", None),
        ("²<<EOF", None),
    ],
)
def test_a_word_may_start_a_heredoc(word: str, expected: Heredoc | None) -> None:
    assert expected == parse_heredoc(word)


@pytest.mark.parametrize("word", ["<<'EOF", '<<"EOF', "<<EOF'", '<<EOF"'])
def test_a_name_with_an_odd_quote_is_invalid(word: str) -> None:
    with pytest.raises(Invalid):
        parse_heredoc(word)


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("RUN <<EOF", ["EOF"]),
        ("RUN <<a cat <<b >f && 4<<c d", ["a", "b", "c"]),
        ("RUN << EOF > f", ["EOF"]),
        ("RUN '<<EOF' \"<<EOF\"", []),
        ("RUN echo a<<EOF", []),
        ("RUN cat <<<EOF", []),
        ("RUN echo $((1<<4))", []),
        ("RUN it's <<EOF", []),
        ("RUN ${x:0:3} <<EOF", ["EOF"]),
        ("RUN ${x^^} <<EOF", []),
        ("RUN \\<<EOF", []),
        ("RUN $(cat <<EOF)", ["EOF)"]),
    ],
)
def test_heredocs_are_found_where_buildkit_finds_them(line: str, expected: list[str]) -> None:
    assert expected == [heredoc.name for heredoc in heredocs_in(line)]


def test_a_run_that_is_only_a_heredoc_is_a_script() -> None:
    run = _run("RUN <<EOF\n# kept\necho hello \\\n\nEOF\n")

    assert run.script == Heredoc("EOF", "# kept\necho hello \\\n\n")
    assert (run.span.first, run.span.last) == (2, 6)
    assert run.original == "RUN <<EOF"


def test_a_run_with_more_than_a_heredoc_is_given_to_the_shell_whole() -> None:
    run = _run("RUN cat <<A >x && cat <<-'B' >y\na\nA\n\tb\n\tB\n")

    assert run.script is None
    assert run.shell_text == "cat <<A >x && cat <<-'B' >y\na\nA\n\tb\nB"
    assert [doc.text for doc in run.heredocs] == ["a\n", "b\n"]


def test_the_script_comes_after_the_flags() -> None:
    run = _run("RUN --mount=type=cache,target=/c <<EOF\nx\nEOF\n")

    assert run.script == Heredoc("EOF", "x\n")
    assert run.mounts[0].target == "/c"


def test_bodies_follow_in_order() -> None:
    (copy,) = _parse("COPY <<X <<Y /d/\nY\nX\nX\nY\n")

    assert isinstance(copy, Copy)
    assert copy.heredocs == (Heredoc("X", "Y\n"), Heredoc("Y", "X\n"))
    assert copy.dest == "/d/"


def test_files_and_heredocs_can_be_copied_together() -> None:
    (add,) = _parse("ADD a <<b c /d/\nB\nb\n")

    assert isinstance(add, Add)
    assert add.sources == ("a", "c")
    assert add.heredocs == (Heredoc("b", "B\n"),)


def test_a_body_keeps_its_line_ends() -> None:
    run = _run("RUN <<EOF\r\na\r\nb\nEOF\r\n")

    assert run.heredocs == (Heredoc("EOF", "a\r\nb\n"),)


def test_a_terminator_with_blanks_is_none() -> None:
    run = _run("RUN <<EOF\n EOF\nEOF \n\tEOF\nEOF")

    assert run.heredocs[0].content == " EOF\nEOF \n\tEOF\n"


def test_a_trigger_keeps_its_heredoc() -> None:
    (onbuild,) = _parse("ONBUILD COPY <<a /x\nhello\na\n")

    assert isinstance(onbuild, Onbuild)
    assert onbuild.trigger == "COPY <<a /x\nhello\na"
    assert isinstance(onbuild.instruction, Copy)
    assert onbuild.instruction.heredocs == (Heredoc("a", "hello\n"),)


def test_the_exec_form_has_no_heredocs() -> None:
    run = _run('RUN ["cat", "<<EOF"]\n')
    (copy,) = _parse('COPY ["<<EOF", "/x"]\n')

    assert run.heredocs == ()
    assert isinstance(copy, Copy)
    assert (copy.sources, copy.heredocs) == (("<<EOF",), ())


def test_other_instructions_have_no_heredocs() -> None:
    with pytest.raises(DockerfileError, match="unknown instruction: EOF"):
        _parse("CMD cat <<EOF\nEOF\n")


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("RUN <<EOF\nEOF2\n", "unterminated heredoc"),
        ("COPY <<a <<b /x\na\n", "unterminated heredoc"),
        ("COPY a <<b\nb\n", "COPY cannot accept a heredoc as a destination"),
        ("COPY << EOF /x\nEOF\n", "heredoc EOF is not a source of COPY"),
        ("COPY <<a it's /x\n", "heredoc a has no body"),
    ],
)
def test_a_heredoc_that_cannot_be_is_an_error(text: str, reason: str) -> None:
    with pytest.raises(DockerfileError) as caught:
        _parse(text)

    assert reason == caught.value.reason
    assert caught.value.span.first == 2


def test_an_odd_quote_hides_a_heredoc() -> None:
    run = _run("RUN <<'a\n")

    assert (run.argv, run.heredocs) == (("<<'a",), ())


@given(st.text(st.characters(codec="utf-8")), st.booleans())
def test_any_body_comes_back_as_it_is(body: str, strip_tabs: bool) -> None:
    body = body.replace("TERMINATOR", "") + "\n"
    mark = "-" if strip_tabs else ""

    run = _run(f"RUN <<{mark}TERMINATOR\n{body}TERMINATOR\n")

    assert body == run.heredocs[0].content
