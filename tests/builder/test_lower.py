"""What each instruction means for the plan, the config and the history."""

from __future__ import annotations

import pytest
from support.plans import PATH, config, history, lowering, output, plan

from builder.plan import Base, Copy, Run, Workdir
from ocispec.errors import Invalid, NotFound, Unsupported


def test_scratch_has_a_path_and_no_layers() -> None:
    assert dict(config("FROM scratch\n")) == {"WorkingDir": "/", "Env": [PATH]}


def test_a_base_keeps_its_own_path() -> None:
    bases = {"x": {"Env": ["PATH=/bin", "A=1"]}}

    assert config("FROM x\n", bases=bases)["Env"] == ["PATH=/bin", "A=1"]


def test_env_sees_the_environment_before_the_instruction() -> None:
    text = "FROM scratch\nENV a=hello\nENV a=bye b=$a\nENV c=$a\n"

    assert config(text)["Env"] == [PATH, "a=bye", "b=hello", "c=bye"]


def test_env_is_replaced_in_place() -> None:
    bases = {"x": {"Env": ["PATH=/bin", "A=1", "B=2"]}}

    assert config("FROM x\nENV A=3\n", bases=bases)["Env"] == ["PATH=/bin", "A=3", "B=2"]


def test_a_build_argument_wins_over_the_default() -> None:
    text = "FROM scratch\nARG v=1\nENV x=$v\n"

    assert "x=1" in config(text)["Env"]
    assert "x=2" in config(text, build_args={"v": "2"})["Env"]


def test_a_global_argument_is_seen_in_a_stage_only_after_arg() -> None:
    text = "ARG v=1\nFROM scratch\nENV a=[$v]\nARG v\nENV b=[$v]\n"

    assert config(text)["Env"][1:] == ["a=[]", "b=[1]"]


def test_env_after_arg_wins_and_arg_after_env_wins_for_commands() -> None:
    text = "FROM scratch\nARG v=arg\nENV v=env\nRUN a\nENV w=env\nARG w=arg\nRUN b\n"
    runs = [step.op for step in plan(text).steps if isinstance(step.op, Run)]

    assert "v=env" in runs[0].env
    assert "w=arg" in runs[1].env
    assert "w=env" in config(text)["Env"]


def test_platform_arguments_need_a_declaration() -> None:
    text = "FROM scratch\nENV a=[$TARGETARCH]\nARG TARGETARCH\nENV b=[$TARGETARCH]\n"

    assert config(text)["Env"][1:] == ["a=[]", "b=[amd64]"]


def test_a_proxy_argument_reaches_the_command_and_not_the_key() -> None:
    text = "FROM scratch\nRUN a\n"
    (run,) = (
        step.op
        for step in plan(text, build_args={"http_proxy": "http://p"}).steps
        if isinstance(step.op, Run)
    )

    assert run.env == (PATH,)
    assert run.unkeyed_env == ("http_proxy=http://p",)


def test_a_build_argument_that_nobody_declares_is_reported() -> None:
    low = lowering("FROM scratch\nARG a\n", build_args={"a": "1", "b": "2", "no_proxy": "x"})
    low.plan()

    assert low.unused_args() == ["b"]


@pytest.mark.parametrize(
    ("lines", "workdir"),
    [
        ("WORKDIR /a", "/a"),
        ("WORKDIR /a\nWORKDIR b/../c", "/a/c"),
        ("WORKDIR a/", "/a"),
        ("WORKDIR /a\nWORKDIR ../..", "/"),
        ("ENV d=/x\nWORKDIR $d/y", "/x/y"),
    ],
)
def test_workdir_is_relative_to_the_one_before(lines: str, workdir: str) -> None:
    assert workdir == config(f"FROM scratch\n{lines}\n")["WorkingDir"]


def test_workdir_at_the_root_makes_no_step() -> None:
    steps = plan("FROM scratch\nWORKDIR /\nWORKDIR /a\n").steps

    assert [Workdir("/a", "")] == [step.op for step in steps if isinstance(step.op, Workdir)]


def test_entrypoint_clears_an_inherited_command_only() -> None:
    bases = {"x": {"Cmd": ["old"]}}

    assert "Cmd" not in config('FROM x\nENTRYPOINT ["e"]\n', bases=bases)
    assert config('FROM x\nCMD ["c"]\nENTRYPOINT ["e"]\n', bases=bases)["Cmd"] == ["c"]


def test_shell_form_uses_the_shell_of_the_moment() -> None:
    text = 'FROM scratch\nCMD a b\nSHELL ["/bin/bash","-ec"]\nENTRYPOINT c d\n'

    assert config(text)["Cmd"] == ["/bin/sh", "-c", "a b"]
    assert config(text)["Entrypoint"] == ["/bin/bash", "-ec", "c d"]


@pytest.mark.parametrize(
    ("text", "ports"),
    [
        ("80", ["80/tcp"]),
        ("80-82/udp", ["80/udp", "81/udp", "82/udp"]),
        ("$p 1/sctp", ["1/sctp", "53/tcp", "54/udp"]),
        ("127.0.0.1:90:80", ["80/tcp"]),
    ],
)
def test_exposed_ports(text: str, ports: list[str]) -> None:
    exposed = config(f'FROM scratch\nENV p="53 54/udp"\nEXPOSE {text}\n')["ExposedPorts"]

    assert ports == sorted(exposed)


@pytest.mark.parametrize("text", ["0", "70000", "5-3", "x", "80/icmp"])
def test_bad_ports_are_refused_with_their_place(text: str) -> None:
    with pytest.raises(Invalid, match="Dockerfile:2"):
        plan(f"FROM scratch\nEXPOSE {text}\n")


def test_labels_of_the_command_line_come_last() -> None:
    text = "FROM scratch\nLABEL a=1 b=2\n"

    assert config(text, labels={"b": "3"})["Labels"] == {"a": "1", "b": "3"}


def test_histories_read_as_those_of_buildkit() -> None:
    text = (
        "FROM scratch\nARG A=1\nARG B\nENV x=y\nRUN echo hi\nCOPY --chown=1 a b /c/\nWORKDIR /w\n"
        'CMD ["a b", "c"]\nEXPOSE 80\nVOLUME /v\nUSER 5\nLABEL l=m\nHEALTHCHECK CMD t\n'
    )
    path = "|2 A=1 B= /bin/sh -c echo hi"

    assert [
        "ARG A=1",
        "ARG B",
        "ENV x=y",
        f"RUN {path} # buildkit",
        "COPY --chown=1 a b /c/ # buildkit",
        "WORKDIR /w",
        'CMD ["a b" "c"]',
        "EXPOSE [80/tcp]",
        "VOLUME [/v]",
        "USER 5",
        "LABEL l=m",
        'HEALTHCHECK &{["CMD-SHELL" "t"] "0s" "0s" "0s" "0s" \'\\x00\'}',
    ] == history(text)


def test_titles_number_the_steps_of_a_stage() -> None:
    text = "FROM x AS build\nRUN a\nENV b=c\nRUN d\nFROM y\nCOPY --from=build /a /b\n"

    assert {
        "[build 1/3] FROM x",
        "[build 2/3] RUN a",
        "[build 3/3] RUN d",
        "[stage-1 1/2] FROM y",
        "[stage-1 2/2] COPY --from=build /a /b",
    } == {step.title for step in plan(text).steps}


def test_only_what_the_target_needs_is_planned() -> None:
    text = "FROM x AS a\nRUN a\nFROM y AS b\nRUN b\nFROM z AS c\nCOPY --from=a / /\n"
    bases = [step.op.name for step in plan(text).steps if isinstance(step.op, Base)]

    assert sorted(bases) == ["x", "z"]
    assert [step.op.name for step in plan(text, target="b").steps if isinstance(step.op, Base)] == [
        "y"
    ]


@pytest.mark.parametrize("target", ["B", "b", "1"])
def test_a_target_is_a_name_in_any_case_or_an_index(target: str) -> None:
    text = "FROM x AS a\nFROM y AS B\nLABEL me=b\nFROM z\n"

    assert config(text, target=target)["Labels"] == {"me": "b"}


def test_an_unknown_target_names_the_stages() -> None:
    with pytest.raises(Invalid) as caught:
        plan("FROM x AS a\n", target="zz")

    assert "a" in caught.value.hint


def test_a_stage_inherits_environment_and_arguments() -> None:
    text = "FROM scratch AS a\nARG v=1\nENV e=2\nFROM a\nRUN x\nENV w=$v$e\n"

    assert "w=12" in config(text)["Env"]
    assert "RUN |1 v=1 /bin/sh -c x # buildkit" in history(text)


def test_onbuild_of_an_image_runs_once_and_is_not_inherited() -> None:
    bases = {"x": {"OnBuild": ["ENV a=1", "RUN hello"]}}
    text = "FROM x AS a\nENV b=$a\nFROM a\n"

    assert config(text, bases=bases)["Env"] == [PATH, "a=1", "b=1"]
    assert "OnBuild" not in config(text, bases=bases)
    assert sum(isinstance(step.op, Run) for step in plan(text, bases=bases).steps) == 1


def test_onbuild_of_a_stage_in_the_same_file_fires_in_its_child() -> None:
    text = "FROM scratch AS a\nONBUILD ENV z=1\nFROM a\n"

    assert "z=1" in config(text)["Env"]
    assert config(text, target="a")["OnBuild"] == ["ENV z=1"]


def test_onbuild_may_bring_in_another_stage() -> None:
    text = "FROM scratch AS tools\nRUN t\nFROM x\n"
    bases = {"x": {"OnBuild": ["COPY --from=tools /a /b"]}}

    assert any(
        isinstance(step.op, Run) and step.op.argv[-1] == "t"
        for step in plan(text, bases=bases).steps
    )


def test_copy_from_an_index_a_name_and_an_image() -> None:
    text = (
        "FROM x AS a\nRUN a\nFROM y\nCOPY --from=0 /1 /\nCOPY --from=A /2 /\nCOPY --from=z /3 /\n"
    )
    built = plan(text)
    copies = [step for step in built.steps if isinstance(step.op, Copy)]
    origins = [built.steps[step.inputs[1]].op for step in copies]

    assert [Run, Run, Base] == [type(op) for op in origins]


@pytest.mark.parametrize("name", ["1", "2"])
def test_copy_from_a_stage_that_is_not_before_is_refused(name: str) -> None:
    with pytest.raises(Invalid, match="Dockerfile:2"):
        plan(f"FROM x\nCOPY --from={name} /a /\nFROM y AS later\n", target="0")


def test_copy_from_a_later_name_says_so() -> None:
    with pytest.raises(NotFound, match="comes later"):
        plan("FROM x AS a\nCOPY --from=later /a /\nFROM y AS later\n", target="a")


@pytest.mark.parametrize(
    "line",
    [
        "RUN --mount=type=cache,target=/x a",
        "RUN --security=insecure a",
        "COPY --link a /b",
        "COPY --parents a /b",
        "COPY --exclude=c a /b",
        "ADD --checksum=sha256:00 a /b",
        "ADD https://example.org/a /b",
        "ADD git@example.org:a.git /b",
    ],
)
def test_what_is_not_built_yet_is_refused_by_name(line: str) -> None:
    with pytest.raises((Unsupported, Invalid)):
        plan(f"FROM scratch\n{line}\n")


@pytest.mark.parametrize("mode", ["9", "u+x", "100000"])
def test_a_bad_mode_is_refused(mode: str) -> None:
    with pytest.raises(Invalid, match="chmod"):
        plan(f"FROM scratch\nCOPY --chmod={mode} a /b\n")


def test_several_sources_need_a_directory() -> None:
    with pytest.raises(Invalid, match="more than one source"):
        plan("FROM scratch\nCOPY a b /c\n")


def test_the_target_of_a_copy_is_relative_to_the_working_directory() -> None:
    text = "FROM scratch\nWORKDIR /w\nCOPY a .\nCOPY a b/\nCOPY a ../c\nCOPY a /\n"
    copies = [step.op for step in plan(text).steps if isinstance(step.op, Copy)]

    assert [op.target for op in copies] == ["/w/", "/w/b/", "/c", "/"]


def test_a_heredoc_file_is_expanded_unless_quoted() -> None:
    text = "FROM scratch\nENV v=1\nCOPY <<a <<'b' /d/\n$v \"q\"\na\n$v\nb\n"
    (copy,) = (step.op for step in plan(text).steps if isinstance(step.op, Copy))

    assert [(file.name, file.data) for file in copy.inline] == [("a", b'1 "q"\n'), ("b", b"$v\n")]


def test_a_heredoc_command_with_an_interpreter_is_a_file() -> None:
    text = "FROM scratch\nRUN <<E\n#!/usr/bin/env x\nbody $v\nE\n"
    (run,) = (step.op for step in plan(text).steps if isinstance(step.op, Run))

    assert run.argv == ("/dev/pipes/E",)
    assert run.stdin_files[0].data == b"#!/usr/bin/env x\nbody $v\n"


def test_a_heredoc_command_without_one_is_given_to_the_shell() -> None:
    text = "FROM scratch\nRUN <<E\nbody $v\nE\nRUN cat <<A >/x\nhi\nA\n"
    runs = [step.op for step in plan(text).steps if isinstance(step.op, Run)]

    assert runs[0].argv == ("/bin/sh", "-c", "body $v\n")
    assert runs[1].argv == ("/bin/sh", "-c", "cat <<A >/x\nhi\nA")


def test_maintainer_is_the_author() -> None:
    assert output("FROM scratch\nMAINTAINER me\n").config.author == "me"


def test_an_empty_base_name_is_refused() -> None:
    with pytest.raises(Invalid, match="should not be blank"):
        plan("ARG a\nFROM $a\n")


@pytest.mark.parametrize(
    ("text", "line", "hint"),
    [
        ("FROM nobase\n", 1, "no stage of this file"),
        ("FROM scratch AS build\nFROM scratch\nCOPY --from=biuld /x /\n", 3, "the stage build?"),
        ("FROM scratch AS a\nFROM scratch AS b\nCOPY --from=a /x /\nFROM c\n", 4, "no stage"),
    ],
    ids=["FROM", "COPY", "after another stage"],
)
def test_an_image_that_is_not_there_is_shown_at_its_place(text: str, line: int, hint: str) -> None:
    with pytest.raises(NotFound, match=f"^Dockerfile:{line}: ") as caught:
        plan(text, missing=("nobase", "biuld", "c"))

    assert hint in caught.value.hint


@pytest.mark.parametrize(
    "text",
    [
        "FROM scratch\nRUN --mount=type=ssh true\n",
        "FROM scratch\nADD https://example.org/x /\n",
        "FROM scratch AS a\nADD --checksum=sha256:0 x /\nFROM scratch\nCOPY --from=a / /\n",
    ],
    ids=["RUN", "ADD", "in another stage"],
)
def test_what_is_not_built_yet_is_shown_at_its_place(text: str) -> None:
    with pytest.raises(Unsupported, match=r"^Dockerfile:2: ") as caught:
        plan(text)

    assert caught.value.message.count(">>>") == 1


@pytest.mark.parametrize(
    "link",
    ["FROM s{before} AS s{this}\n", "FROM scratch AS s{this}\nCOPY --from=s{before} /a /a\n"],
    ids=["FROM", "COPY --from"],
)
def test_a_thousand_stages_may_stand_on_each_other(link: str) -> None:
    text = "FROM scratch AS s0\nCOPY a /a\n"
    text += "".join(link.format(before=i, this=i + 1) for i in range(1000))

    assert "COPY a /a" in plan(text).steps[1].title


@pytest.mark.parametrize(
    ("line", "said"),
    [
        (f"COPY --from={'9' * 5000} /a /b", "not before this one"),
        (f"EXPOSE {'9' * 5000}", "invalid containerPort"),
        (f"EXPOSE 1-{'9' * 5000}", "invalid containerPort"),
    ],
    ids=["from", "port", "ports"],
)
def test_a_number_of_any_length_is_refused_with_its_line(line: str, said: str) -> None:
    with pytest.raises(Invalid, match=said) as caught:
        plan(f"FROM scratch\n{line}\n")

    assert "Dockerfile:2" in caught.value.message


def test_a_target_of_any_length_is_not_found() -> None:
    with pytest.raises(Invalid, match="could not be found"):
        plan("FROM scratch\n", target="9" * 5000)


def test_an_empty_target_is_the_last_stage() -> None:
    assert config("FROM scratch AS a\nFROM scratch\nENV x=1\n", target="")["Env"][1:] == ["x=1"]


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("Env", "A=1"),
        ("Env", [1]),
        ("Env", {}),
        *((key, "sh") for key in ("Cmd", "Entrypoint", "Shell", "OnBuild")),
        *((key, [None]) for key in ("Cmd", "Entrypoint", "Shell", "OnBuild")),
        *((key, ["x"]) for key in ("Labels", "ExposedPorts", "Volumes", "User", "WorkingDir")),
        *((key, 5) for key in ("Labels", "ExposedPorts", "Volumes", "User", "WorkingDir")),
    ],
)
def test_a_base_with_a_malformed_config_is_refused_at_its_from(key: str, value: object) -> None:
    with pytest.raises(Invalid, match=f"x: its config has a malformed {key}") as caught:
        plan("FROM x\nENV a=b\n", bases={"x": {key: value}})

    assert "Dockerfile:1" in caught.value.message


def test_a_base_may_leave_everything_out() -> None:
    bases = {"x": dict.fromkeys(("Env", "Cmd", "Labels", "ExposedPorts", "User", "WorkingDir"))}

    assert config("FROM x\nLABEL a=b\n", bases=bases)["Labels"] == {"a": "b"}


def test_every_step_has_a_title() -> None:
    text = "FROM scratch AS a\nCOPY a /a\nFROM a\nCOPY --from=x /b /b\nCOPY --from=a /a /c\n"

    assert "FROM x" in [step.title for step in plan(text).steps]
    assert all(step.title for step in plan(text).steps)
