"""Events of a build become lines."""

from __future__ import annotations

import io
import json
import re
from collections.abc import Sequence

import pytest

from builder.events import Event, Notice, StepEnded, StepOutput, StepStarted, Warned
from ocispec.errors import Usage
from pybuild.progress import Display, Json, Plain, Quiet, shown, visible
from pybuild.tty import Terminal

STEP = (
    StepStarted(5, "[2/4] RUN make"),
    StepOutput(5, 1, b"one\ntw"),
    StepOutput(5, 2, b"err\n"),
    StepOutput(5, 1, b"o\nlast"),
    StepEnded(5, False, 1.26),
)


def _printed(kind: type[Plain | Json | Quiet | Terminal], events: Sequence[Event]) -> str:
    out = io.StringIO()
    display: Display = kind(out)
    for event in events:
        display.on_event(event)
    display.close()
    return out.getvalue()


def test_plain_is_buildkits_form() -> None:
    lines = re.sub(r"\d+\.\d{3}", "0.123", _printed(Plain, STEP))

    expected = (
        "#5 [2/4] RUN make\n#5 0.123 one\n#5 0.123 err\n#5 0.123 two\n#5 0.123 last\n#5 DONE 1.3s\n"
    )
    assert expected == lines


def test_steps_are_apart_by_a_blank_line() -> None:
    steps = (
        StepStarted(1, "a"),
        StepEnded(1, True, 0.0),
        StepStarted(2, "b"),
        Notice(2, "a remark"),
        StepEnded(2, False, 0.5, "it broke"),
    )

    assert _printed(Plain, steps) == "#1 a\n#1 CACHED\n\n#2 b\n#2 a remark\n#2 ERROR: it broke\n"


def test_a_warning_has_its_place() -> None:
    assert _printed(Plain, [Warned("odd", "Dockerfile:3")]) == "WARN: odd (Dockerfile:3)\n"


def test_a_line_that_rewrites_itself_is_printed_as_it_ended() -> None:
    text = _printed(Plain, [StepStarted(1, "a"), StepOutput(1, 1, b"10%\r50%\r100%\r\n")])

    assert text.endswith(" 100%\n")


def test_output_that_is_not_utf_8_is_shown() -> None:
    text = _printed(Plain, [StepStarted(1, "a"), StepOutput(1, 1, b"\xff\xc3\n")])

    assert text.endswith(" \ufffd\ufffd\n")


def test_json_has_every_event_with_its_fields() -> None:
    documents = [json.loads(line) for line in _printed(Json, STEP).splitlines()]

    assert [type(event).__name__ for event in STEP] == [d["event"] for d in documents]
    assert (
        documents[0]["title"],
        documents[1]["data"],
        documents[4]["seconds"],
    ) == ("[2/4] RUN make", "one\ntw", 1.26)


def test_quiet_says_nothing_of_what_worked() -> None:
    assert _printed(Quiet, [*STEP, Warned("odd"), Notice(0, "x")]) == ""


def test_quiet_shows_the_output_of_what_failed() -> None:
    failed = (*STEP[:-1], StepEnded(5, False, 1.0, "exit code: 2"))

    assert _printed(Quiet, failed) == "one\nerr\ntwo\nlast\n"


def test_a_terminal_shows_a_line_for_each_step_that_ended() -> None:
    steps = (
        *(StepStarted(1, "[1/4] FROM x"), StepEnded(1, True, 0.0)),
        *STEP,
        *(StepStarted(6, "[3/4] RUN no"), StepOutput(6, 1, b"why\x1b[31m not\n")),
        StepEnded(6, False, 0.1, "exit code: 1"),
    )

    expected = (
        " => CACHED [1/4] FROM x\n => [2/4] RUN make  1.3s\n    why not\n => ERROR [3/4] RUN no\n"
    )
    assert expected == _printed(Terminal, steps)


@pytest.mark.parametrize(
    ("text", "safe"),
    [
        ("plain ünicode", "plain ünicode"),
        ("\x1b[31mred\x1b[0m", "red"),
        ("\x1b]0;title\x07x", "x"),
        ("\x1b]0;title\x1b\\x", "x"),
        ("bell\x07", "bell\ufffd"),
        ("a\tb", "a       b"),
        ("\x9b31m", "\ufffd31m"),
    ],
    ids=repr,
)
def test_what_drives_a_terminal_is_taken_out(text: str, safe: str) -> None:
    assert safe == visible(text)


def test_a_form_that_there_is_not_is_refused() -> None:
    with pytest.raises(Usage, match="fancy"), shown("fancy"):
        pass
