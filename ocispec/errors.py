"""
The error kinds of pybuild. Each edge (command line, HTTP) maps a kind to a status once.

    PybuildError
    ├── Invalid       input that can never work: a bad reference, a bad Dockerfile, a bad document
    │   └── Usage     the command line itself is wrong
    ├── NotFound      the named thing is not there
    ├── Exists        the name is taken
    ├── Denied        credentials or permissions are missing
    ├── Unavailable   it may work later: network, registry, lock
    ├── Corrupt       bytes that are not what their digest or size says
    ├── Conflict      the state does not allow it: an image in use
    ├── Unsupported   a feature that this version or this host does not have
    ├── Failed        a command of the build or container ended with a status
    └── Cancelled     stopped on request
"""

from __future__ import annotations


class PybuildError(Exception):
    """*message* says what and which; *hint* says what the reader can do about it."""

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint


class Invalid(PybuildError):
    """Input that can never work."""


class Usage(Invalid):
    """The command line itself is wrong."""


class NotFound(PybuildError):
    """The named thing is not there."""


class Exists(PybuildError):
    """The name is taken."""


class Denied(PybuildError):
    """Credentials or permissions are missing."""


class Unavailable(PybuildError):
    """It may work later."""


class Corrupt(PybuildError):
    """Bytes that are not what their digest or size says."""


class Conflict(PybuildError):
    """The state does not allow it."""


class Unsupported(PybuildError):
    """A feature that this version or this host does not have."""


class Failed(PybuildError):
    """A command ended with *status*, as a shell would report it (128+n for signal n)."""

    def __init__(self, message: str, hint: str = "", *, status: int) -> None:
        super().__init__(message, hint)
        self.status = status


class Cancelled(PybuildError):
    """Stopped on request."""
