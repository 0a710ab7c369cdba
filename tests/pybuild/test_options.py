"""The words of ``build`` are read as pflag reads docker's."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocispec.errors import Usage
from pybuild.options import BUILD, UNBUILT, Option, parse


@pytest.mark.parametrize(
    ("words", "name", "value"),
    [
        (["-t", "a"], "tag", ["a"]),
        (["-ta"], "tag", ["a"]),
        (["-t=a"], "tag", ["a"]),
        (["--tag", "a"], "tag", ["a"]),
        (["--tag=a"], "tag", ["a"]),
        (["--tag="], "tag", [""]),
        (["--tag", "--no-cache"], "tag", ["--no-cache"]),
        (["-t", "a", "-tb", "--tag=c"], "tag", ["a", "b", "c"]),
        (["--build-arg", "A=b=c"], "build_arg", ["A=b=c"]),
        (["-f", "-"], "file", "-"),
        (["--target=a", "--target", "b"], "target", "b"),
        (["-qt", "a"], "tag", ["a"]),
        (["-qta"], "quiet", True),
        (["-q=false"], "quiet", False),
        (["--quiet=0"], "quiet", False),
        (["--no-cache"], "no_cache", True),
        (["--no-cache=true"], "no_cache", True),
        (["--source-date-epoch=5"], "timestamp", "5"),
        (["--jobs", "3"], "jobs", 3),
        ([], "tag", []),
        ([], "network", "default"),
        ([], "progress", "auto"),
        ([], "quiet", False),
        ([], "target", None),
    ],
    ids=str,
)
def test_an_option_is_read_in_every_form(words: list[str], name: str, value: object) -> None:
    values, rest = parse(BUILD, words)

    assert (value, []) == (values[name], rest)


@pytest.mark.parametrize(
    ("words", "rest"),
    [
        (["."], ["."]),
        ([".", "-q"], ["."]),
        (["-q", "."], ["."]),
        (["-"], ["-"]),
        (["--", "-q"], ["-q"]),
        (["a", "--", "--tag", "--"], ["a", "--tag", "--"]),
        (["-t", "--", "."], ["."]),
    ],
    ids=str,
)
def test_what_is_no_option_is_left_over(words: list[str], rest: list[str]) -> None:
    _, left = parse(BUILD, words)

    assert rest == left


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--nope"], "unknown flag: --nope"),
        (["--nope=1"], "unknown flag: --nope"),
        (["-x"], "unknown flag: -x"),
        (["-qx"], "unknown flag: -x"),
        (["--tag"], "flag needs an argument: --tag"),
        (["-t"], "flag needs an argument: -t"),
        (["-qt"], "flag needs an argument: -t"),
        (["--quiet=maybe"], "invalid value 'maybe' for --quiet"),
        (["--progress=fancy"], "invalid value 'fancy' for --progress"),
        (["--network=bridge"], "invalid value 'bridge' for --network"),
        (["--jobs=many"], "invalid value 'many' for --jobs"),
        (["--jobs=-1"], "invalid value '-1' for --jobs"),
        (["--secret", "id=a"], "--secret is an option of docker build that is not built yet"),
        (["--push"], "--push is an option of docker build that is not built yet"),
        (["-o", "x"], "-o is an option of docker build that is not built yet"),
    ],
    ids=str,
)
def test_what_cannot_be_read_is_an_error_that_names_it(words: list[str], message: str) -> None:
    with pytest.raises(Usage) as caught:
        parse(BUILD, words)

    assert message == caught.value.message


def test_a_misspelt_option_gets_the_right_one_as_a_hint() -> None:
    with pytest.raises(Usage) as caught:
        parse(BUILD, ["--no-cach"])

    assert caught.value.hint == "did you mean --no-cache?"


def test_no_two_options_share_a_name_or_a_flag() -> None:
    names = [option.name for option in (*BUILD, *UNBUILT)]
    flags = [flag for option in (*BUILD, *UNBUILT) for flag in option.flags]

    assert (sorted(set(names)), sorted(set(flags))) == (sorted(names), sorted(flags))


def _words(option: Option) -> st.SearchStrategy[list[str]]:
    value = st.text(st.characters(exclude_categories=["Cs"]), max_size=5)
    return st.tuples(st.sampled_from(option.flags), value).map(list)


_TEXTS = [option for option in BUILD if option.kind == "texts"]


@given(st.lists(st.sampled_from(_TEXTS).flatmap(lambda o: st.tuples(st.just(o), _words(o)))))
def test_repeated_options_keep_every_value_in_order(given: list[tuple[Option, list[str]]]) -> None:
    values, rest = parse(BUILD, [word for _, words in given for word in words])

    expected = {
        option.name: [words[1] for other, words in given if other is option] for option in _TEXTS
    }
    assert (expected, []) == ({option.name: values[option.name] for option in _TEXTS}, rest)
