"""
The entry: quick for ``build``, Typer for everything else.

BuildKit's client answers a cached build in 70 ms; importing Typer alone costs as much. So the
arguments of ``build`` are read here, by the table that Typer's command is made from.
"""

from __future__ import annotations

import gc
import os
import sys
from typing import NoReturn

from ocispec.errors import Usage
from pybuild.failures import end_on_signals, guarded


def main() -> NoReturn:
    """Run the command line of this process and exit."""
    # Modules being loaded look like garbage in the making: the collector would walk them all,
    # time and again, for nothing (measured: 4 of 85 ms).
    gc.set_threshold(50_000)
    end_on_signals()
    status = run(sys.argv[1:])
    try:
        sys.stdout.flush()
        sys.stderr.flush()
    except OSError:
        # Told already, by the write that failed first; what is left of it goes nowhere.
        pass
    # Nothing is left to be done: tearing the interpreter down would cost some milliseconds.
    os._exit(status)


def run(argv: list[str]) -> int:
    """The exit status of the command line *argv*."""
    return guarded(lambda: _written(_dispatch(argv)))


def _written(status: int) -> int:
    """*status*, once all that was printed is where it goes: a full disk is a failure."""
    if status == 0:
        sys.stdout.flush()
    return status


def _dispatch(argv: list[str]) -> int:
    root, words = _global_root(argv)
    if words[:1] == ["build"]:
        from pybuild.options import BUILD, parse

        values, rest = parse(BUILD, words[1:])
        if not values["help"]:
            from pybuild.commands.build import build_command

            return build_command({**values, "root": values["root"] or root}, rest)
        words = ["build", "--help"]  # whatever stands behind it
    from pybuild.cli import run_typer

    return run_typer(words, root)


def _global_root(argv: list[str]) -> tuple[str | None, list[str]]:
    """The value of ``--root`` before the command, and the words from the command on."""
    root, words = None, list(argv)
    while words and words[0].partition("=")[0] == "--root":
        _, equals, root = words.pop(0).partition("=")
        if not equals:
            if not words:
                raise Usage("flag needs an argument: --root", hint="name a directory")
            root = words.pop(0)
    return root, words
