"""
One frozen value per instruction. Nothing is expanded yet.

*original* is the logical line as BuildKit records it: continuations joined, comments dropped,
blanks at both ends removed, heredoc bodies left out. Text that was not UTF-8 is kept by
surrogateescape.

These are named tuples and not dataclasses because every build imports them: 25 frozen, slotted
dataclasses cost 12 ms of CPU to create, 25 named tuples 2 ms (CPython 3.11; the annotations are
evaluated, for as strings each would be compiled once more). Use _replace().
"""

from typing import NamedTuple, TypeAlias

from builder.dockerfile.heredocs import Heredoc, is_lone_heredoc
from builder.dockerfile.source import Span

Pair: TypeAlias = tuple[str, str]


class From(NamedTuple):
    """``FROM [--platform=P] base [AS name]``."""

    span: Span
    original: str
    base: str
    name: str = ""  # lower case; "" if the stage has none
    platform: str = ""


class Arg(NamedTuple):
    """``ARG name[=value] …``; None is "no default", which differs from an empty one."""

    span: Span
    original: str
    args: tuple[tuple[str, str | None], ...]


class Env(NamedTuple):
    """``ENV name=value …``, or the legacy ``ENV name value``. Quotes are still there."""

    span: Span
    original: str
    pairs: tuple[Pair, ...]
    legacy: bool = False


class Label(NamedTuple):
    """As Env."""

    span: Span
    original: str
    pairs: tuple[Pair, ...]
    legacy: bool = False


class RunMount(NamedTuple):
    """
    One ``--mount``.

    *text* is the flag's value. Where it has a ``$`` the other fields are complete only in what
    mounts.expand_mount() returns; *type*'s keys are checked then, too.
    """

    text: str
    type: str = "bind"  # bind, cache, tmpfs, secret, ssh
    target: str = ""
    source: str = ""
    from_: str = ""
    read_only: bool = True
    id: str = ""
    sharing: str = ""  # cache: shared, private, locked; "" is shared
    required: bool = False
    mode: int | None = None
    uid: int | None = None
    gid: int | None = None
    size: int | None = None  # tmpfs, bytes
    env: str | None = None  # secret: the variable; None if it is a file


class Run(NamedTuple):
    """
    ``RUN``. In shell form *argv* is the one text for the shell; in exec form (JSON) the command.
    """

    span: Span
    original: str
    shell: bool
    argv: tuple[str, ...]
    heredocs: tuple[Heredoc, ...] = ()
    mounts: tuple[RunMount, ...] = ()
    network: str = "default"  # default, none, host
    security: str = "sandbox"  # sandbox, insecure
    devices: tuple[str, ...] = ()

    @property
    def script(self) -> Heredoc | None:
        """The heredoc, if the command is nothing but one (``RUN <<EOF``)."""
        if self.heredocs and is_lone_heredoc(self.argv[0]):
            return self.heredocs[0]
        return None

    @property
    def shell_text(self) -> str:
        """What the shell is given if it reads the heredocs itself: the line, then the bodies."""
        bodies = "".join(f"\n{doc.content}{doc.name}" for doc in self.heredocs)
        return " ".join(self.argv) + bodies


class Copy(NamedTuple):
    """``COPY``. The heredocs among the sources are in *heredocs*, not in *sources*."""

    span: Span
    original: str
    sources: tuple[str, ...]
    dest: str
    heredocs: tuple[Heredoc, ...] = ()
    from_: str = ""
    chown: str = ""
    chmod: str = ""
    link: bool = False
    parents: bool = False
    excludes: tuple[str, ...] = ()


class Add(NamedTuple):
    """``ADD``; None where the default depends on the source."""

    span: Span
    original: str
    sources: tuple[str, ...]
    dest: str
    heredocs: tuple[Heredoc, ...] = ()
    chown: str = ""
    chmod: str = ""
    link: bool = False
    excludes: tuple[str, ...] = ()
    checksum: str = ""
    unpack: bool | None = None
    keep_git_dir: bool | None = None


class Workdir(NamedTuple):
    span: Span
    original: str
    path: str


class User(NamedTuple):
    span: Span
    original: str
    user: str


class Volume(NamedTuple):
    span: Span
    original: str
    paths: tuple[str, ...]


class Expose(NamedTuple):
    """``EXPOSE``; sorted, as BuildKit has it. Each is to be expanded into words."""

    span: Span
    original: str
    ports: tuple[str, ...]


class Cmd(NamedTuple):
    """As Run: *argv* is one text if *shell*."""

    span: Span
    original: str
    shell: bool
    argv: tuple[str, ...]


class Entrypoint(NamedTuple):
    """As Run: *argv* is one text if *shell*; empty for ``ENTRYPOINT []``."""

    span: Span
    original: str
    shell: bool
    argv: tuple[str, ...]


class Healthcheck(NamedTuple):
    """*test* as the config has it: ``NONE`` or ``CMD``/``CMD-SHELL`` and the command."""

    span: Span
    original: str
    test: tuple[str, ...]
    interval: int = 0  # nanoseconds, as the four below; 0 is inherited
    timeout: int = 0
    start_period: int = 0
    start_interval: int = 0
    retries: int = 0


class Stopsignal(NamedTuple):
    span: Span
    original: str
    signal: str


class Shell(NamedTuple):
    span: Span
    original: str
    argv: tuple[str, ...]


class Maintainer(NamedTuple):
    span: Span
    original: str
    author: str


Trigger: TypeAlias = (
    Arg
    | Env
    | Label
    | Run
    | Copy
    | Add
    | Workdir
    | User
    | Volume
    | Expose
    | Cmd
    | Entrypoint
    | Healthcheck
    | Stopsignal
    | Shell
)


class Onbuild(NamedTuple):
    """*trigger* is the instruction's text with its heredoc bodies; *instruction* is it, parsed."""

    span: Span
    original: str
    trigger: str
    instruction: Trigger


Instruction: TypeAlias = From | Trigger | Onbuild | Maintainer
