"""What goes wrong becomes a message and an exit status: here, once, for every command."""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable

from ocispec.errors import PybuildError, Usage

FAILED = 1
MISUSED = 2  # the command line is wrong
BROKEN_PIPE = 141  # as a shell reports SIGPIPE


class Ended(KeyboardInterrupt):
    """A signal asked this process to end: what is under way is undone, as after Ctrl-C."""

    def __init__(self, number: int = signal.SIGINT) -> None:
        super().__init__()
        self.number = number


def end_on_signals() -> None:
    """Let the signals that end a process end this one as Ctrl-C does, with everything undone."""

    def end(number: int, frame: object) -> None:
        del frame
        raise Ended(number)

    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
            signal.signal(number, end)


def guarded(action: Callable[[], int], *, failed: int = FAILED) -> int:
    """The exit status of *action*; *failed*, with a message, if it raises one of our errors."""
    try:
        return action()
    except PybuildError as error:
        tell(error.message, error.hint)
        return MISUSED if isinstance(error, Usage) and failed == FAILED else failed
    except KeyboardInterrupt as error:
        number = error.number if isinstance(error, Ended) else signal.SIGINT
        tell("interrupted" if number == signal.SIGINT else "terminated")
        return 128 + number  # as a shell reports a signal
    except BrokenPipeError:
        # Whoever read our output has enough; later writes, also of the interpreter, go nowhere.
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)
        return BROKEN_PIPE
    except OSError as error:
        tell(described(error))
        return failed
    except RecursionError:
        tell("the input is nested too deeply")
        return failed


def tell(message: str, hint: str = "") -> None:
    """Print an error as every command prints it."""
    print(f"ERROR: {_printable(message)}", file=sys.stderr)
    if hint:
        print(f"hint: {_printable(hint)}", file=sys.stderr)


def described(error: OSError) -> str:
    """What failed, and on which file."""
    where = f"{os.fsdecode(error.filename)}: " if error.filename else ""
    return f"{where}{error.strerror or error}"


def _printable(text: str) -> str:
    """*text* without what drives a terminal: part of it may come from a registry or a tar."""
    return "".join(
        c if c.isprintable() or c in "\n\t" else "\N{REPLACEMENT CHARACTER}" for c in text
    )
