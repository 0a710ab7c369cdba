"""
The options of ``pybuild build``: one table, read by hand as pflag reads them.

Reading by hand keeps argument parsers off the path of a cached build. The Typer command, which
prints the help, is made from the same table, so the two cannot drift apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final, Literal, NamedTuple

from ocispec.errors import Usage

Value = str | bool | int | list[str] | None
Values = Mapping[str, Value]


class Option(NamedTuple):
    """
    One option. ``flag`` is a switch; ``text`` and ``number`` take the last value, ``texts`` all.

    The flags of an ``unbuilt`` option are known, so that using one is an error that names it.
    """

    name: str
    flags: tuple[str, ...]
    kind: Literal["flag", "text", "number", "texts", "unbuilt"]
    metavar: str
    help: str
    default: str | None = None
    choices: tuple[str, ...] = ()


PROGRESS: Final = ("auto", "plain", "tty", "quiet", "json", "rawjson")
NETWORKS: Final = ("default", "none", "host")

_KNOWN: Final = (
    Option("tag", ("-t", "--tag"), "texts", "NAME[:TAG]", "Name the image (may be repeated)"),
    Option("file", ("-f", "--file"), "text", "FILE", "Dockerfile, - for standard input"),
    Option("target", ("--target",), "text", "STAGE", "Build this stage and what it needs"),
    Option("build_arg", ("--build-arg",), "texts", "NAME[=VALUE]", "Set an ARG of the Dockerfile"),
    Option("label", ("--label",), "texts", "NAME=VALUE", "Add a label to the image"),
    Option("platform", ("--platform",), "text", "OS/ARCH", "Build for this platform"),
    Option("no_cache", ("--no-cache",), "flag", "", "Execute every step anew"),
    Option("pull", ("--pull",), "flag", "", "Ask the registry for newer base images"),
    Option(
        *("network", ("--network",), "text", "MODE", "Network of RUN"),
        default="default",
        choices=NETWORKS,
    ),
    Option("add_host", ("--add-host",), "texts", "NAME:IP", "Add a line to /etc/hosts of RUN"),
    Option("shm_size", ("--shm-size",), "text", "BYTES", "Size of /dev/shm of RUN"),
    Option("ulimit", ("--ulimit",), "texts", "NAME=SOFT[:HARD]", "Set a limit of RUN"),
    Option("iidfile", ("--iidfile",), "text", "FILE", "Write the image ID there"),
    Option("metadata_file", ("--metadata-file",), "text", "FILE", "Write the result there as JSON"),
    Option(
        *("progress", ("--progress",), "text", "TYPE", "How progress is shown"),
        default="auto",
        choices=PROGRESS,
    ),
    Option("quiet", ("-q", "--quiet"), "flag", "", "Show no progress, print the image ID"),
    Option(
        *("timestamp", ("--timestamp", "--source-date-epoch"), "text", "SECONDS"),
        "No time in the image is later than this (default: SOURCE_DATE_EPOCH)",
    ),
    Option("jobs", ("--jobs",), "number", "NUMBER", "Steps that are executed at once"),
    Option("root", ("--root",), "text", "DIR", "The store (default: PYBUILD_ROOT)"),
    Option("help", ("-h", "--help"), "flag", "", "Show this message and exit."),
    *(
        Option(flag[2:].replace("-", "_"), (flag,), "unbuilt", "", "")
        for flag in (
            *("--allow", "--annotation", "--attest", "--build-context", "--builder"),
            *("--cache-from", "--cache-to", "--call", "--cgroup-parent", "--check"),
            *("--compress", "--cpu-period", "--cpu-quota", "--cpu-shares", "--cpuset-cpus"),
            *("--cpuset-mems", "--debug", "--force-rm", "--isolation", "--load", "--memory"),
            *("--memory-swap", "--no-cache-filter", "--policy", "--print", "--provenance"),
            *("--push", "--resource", "--rm", "--sbom", "--secret", "--security-opt", "--squash"),
            *("--ssh", "--stream"),
        )
    ),
    Option("output", ("-o", "--output"), "unbuilt", "", ""),
    Option("memory_short", ("-m",), "unbuilt", "", ""),
    Option("cpu_shares_short", ("-c",), "unbuilt", "", ""),
    Option("debug_short", ("-D",), "unbuilt", "", ""),
)
BUILD: Final = tuple(option for option in _KNOWN if option.kind != "unbuilt")
UNBUILT: Final = tuple(option for option in _KNOWN if option.kind == "unbuilt")
_SEE: Final = "pybuild build --help lists the options"
_TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})  # Go's strconv.ParseBool
_FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})


def parse(options: Sequence[Option], args: Sequence[str]) -> tuple[Values, list[str]]:
    """
    The value of every one of *options* by its name, and the words that are none of an option.

    As pflag: ``--name=value``, ``--name value``, ``-nvalue``, ``-n=value``, ``-n value``, several
    switches behind one dash, options after arguments, and ``--`` before what only looks like an
    option. What follows ``--help`` is not read. Usage for what pflag would not take.
    """
    reader = _Reader(options, args)
    while reader.todo and not reader.values.get("help"):
        word = reader.todo.pop(0)
        if word == "--":
            reader.rest += reader.todo
            break
        if word.startswith("--"):
            reader.long(word)
        elif word.startswith("-") and word != "-":
            reader.short(word)
        else:
            reader.rest.append(word)
    return complete(options, reader.values), reader.rest


def complete(options: Sequence[Option], values: Values) -> Values:
    """*values* with the defaults of what is not in them. Usage for a value that is no choice."""
    whole: dict[str, Value] = {}
    for option in options:
        value = values.get(option.name)
        if value is None:
            value = _default(option)
        if option.choices and value not in option.choices:
            raise Usage(
                f"invalid value {value!r} for {option.flags[-1]}",
                hint=f"choose one of {', '.join(option.choices)}",
            )
        whole[option.name] = value
    return whole


def _default(option: Option) -> Value:
    if option.kind == "texts":
        return []
    return False if option.kind == "flag" else option.default


class _Reader:
    def __init__(self, options: Sequence[Option], args: Sequence[str]) -> None:
        self.todo = list(args)
        self.rest: list[str] = []
        self.values: dict[str, Value] = {}
        self._options = {flag: option for option in (*options, *UNBUILT) for flag in option.flags}

    def long(self, word: str) -> None:
        flag, equals, value = word.partition("=")
        option = self._find(flag)
        if option.kind == "flag":
            self._switch(option, flag, value if equals else "true")
        else:
            self._set(option, flag, value if equals else self._next(flag))

    def short(self, word: str) -> None:
        letters = word[1:]
        while letters:
            flag, letters = f"-{letters[0]}", letters[1:]
            option = self._find(flag)
            if option.kind != "flag":
                self._set(option, flag, letters.removeprefix("=") if letters else self._next(flag))
                return
            if letters.startswith("="):
                self._switch(option, flag, letters[1:])
                return
            self._switch(option, flag, "true")

    def _find(self, flag: str) -> Option:
        option = self._options.get(flag)
        if option is None:
            raise Usage(f"unknown flag: {flag}", hint=_suggestion(flag, list(self._options)))
        if option.kind == "unbuilt":
            raise Usage(f"{flag} is an option of docker build that is not built yet", hint=_SEE)
        return option

    def _next(self, flag: str) -> str:
        if not self.todo:
            raise Usage(f"flag needs an argument: {flag}", hint=_SEE)
        return self.todo.pop(0)

    def _switch(self, option: Option, flag: str, text: str) -> None:
        if text not in _TRUE | _FALSE:
            raise Usage(f"invalid value {text!r} for {flag}", hint="write true or false")
        self.values[option.name] = text in _TRUE

    def _set(self, option: Option, flag: str, value: str) -> None:
        if option.kind == "texts":
            earlier = self.values.get(option.name) or []
            assert isinstance(earlier, list)
            self.values[option.name] = [*earlier, value]
        elif option.kind == "number":
            if not (value.isascii() and value.isdigit() and len(value) < 10):
                raise Usage(f"invalid value {value!r} for {flag}", hint="write a whole number")
            self.values[option.name] = int(value)
        else:
            self.values[option.name] = value


def _suggestion(flag: str, known: list[str]) -> str:
    from difflib import get_close_matches

    close = get_close_matches(flag, known, 1, 0.75)
    return f"did you mean {close[0]}?" if close else _SEE
