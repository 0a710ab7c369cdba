"""A stage while its instructions are lowered: environment, config, history, current filesystem."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from builder.dockerfile import words
from builder.dockerfile.source import Span
from builder.plan import Base, Change, Op, Step
from ocispec.errors import Invalid
from ocispec.model import ImageConfig, Layer
from ocispec.platform import Platform

PATH: Final = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
DEFAULT_SHELL: Final = ("/bin/sh", "-c")

# Usable without ARG; a command sees them, keys and history do not (Dockerfile reference,
# "Predefined ARGs").
PROXY_ARGS: Final = frozenset(
    name
    for upper in ("HTTP_PROXY", "HTTPS_PROXY", "FTP_PROXY", "NO_PROXY", "ALL_PROXY")
    for name in (upper, upper.lower())
)


# The parts of a base image's config that instructions read or add to.
_KINDS: Final[Mapping[str, type]] = {
    **dict.fromkeys(("Env", "Cmd", "Entrypoint", "Shell", "OnBuild"), list),
    **dict.fromkeys(("Labels", "ExposedPorts", "Volumes"), dict),
    **dict.fromkeys(("User", "WorkingDir"), str),
}


class BaseImage(NamedTuple):
    """A resolved base: *shown* names it with its digest; *layers* are base first."""

    shown: str
    config: ImageConfig
    layers: tuple[Layer, ...]


class Settings(NamedTuple):
    """What the command line says about a build, as far as the plan depends on it."""

    platform: Platform  # of the image that is built
    build_platform: Platform  # of this machine
    build_args: Mapping[str, str]
    labels: Mapping[str, str]
    target: str | None = None


Resolve = Callable[[str, Platform], BaseImage]


class StageState:
    """Mutable on purpose: each instruction changes a part of it, in order."""

    def __init__(
        self,
        *,
        label: str,
        root: int,
        config: dict[str, Any],
        image: ImageConfig,
        escape: str,
        env: Mapping[str, str],
    ) -> None:
        self.label = label  # "build" or "stage-1" or "", for titles
        self.total = 0  # steps of the stage, its FROM included
        self.number = 1  # of the last step
        self.root = root  # index of the step whose filesystem is the current one
        self.config = config
        self.image = image  # what the stage started from: platform, history, unknown keys
        self.escape = escape
        self.env = dict(env)  # ENV and ARG, as commands see them
        self.args: dict[str, str | None] = {}  # ARGs in scope, as declared
        self.changes: list[Change] = []
        self.author: str | None = None
        self.cmd_set = False

    def child(self, label: str) -> StageState:
        """The state of a stage that starts from this one."""
        state = StageState(
            label=label,
            root=self.root,
            config=dict(self.config),
            image=self.image,
            escape=self.escape,
            env=self.env,
        )
        state.args = dict(self.args)
        state.changes = list(self.changes)
        state.author = self.author
        return state

    def expand(self, text: str) -> str:
        """*text* as one word, quotes gone and variables replaced."""
        return words.expand(text, self.env, escape=self.escape)

    def expand_words(self, text: str) -> list[str]:
        """*text* as words, split where an unquoted variable has blanks, too."""
        return words.expand_words(text, self.env, escape=self.escape)

    def expand_body(self, text: str) -> str:
        """The body of a heredoc: variables are replaced, quotes mean nothing (BuildKit)."""
        return words.expand(text, self.env, quotes=False)

    @property
    def cwd(self) -> str:
        return str(self.config.get("WorkingDir") or "/")

    @property
    def user(self) -> str:
        return str(self.config.get("User") or "")

    @property
    def shell(self) -> tuple[str, ...]:
        return tuple(self.config.get("Shell") or DEFAULT_SHELL)

    def absolute(self, path: str) -> str:
        """*path* from the working directory, cleaned; a ``/`` or ``/.`` at the end is a ``/``."""
        joined = path if path.startswith("/") else f"{self.cwd}/{path}"
        parts: list[str] = []
        for part in joined.split("/"):
            if part == "..":
                del parts[-1:]
            elif part not in ("", "."):
                parts.append(part)
        directory = path in ("", ".") or path.endswith(("/", "/."))
        clean = "/" + "/".join(parts)
        return clean + "/" if directory and clean != "/" else clean

    def title(self, text: str) -> str:
        """The next step's title, as BuildKit numbers them."""
        self.number += 1
        prefix = f"{self.label} " if self.label else ""
        return f"[{prefix}{self.number}/{self.total}] {text}"

    def set_env(self, name: str, value: str) -> None:
        """ENV: for the commands that follow, and in the image."""
        self.env[name] = value
        pairs: Sequence[str] = self.config.get("Env") or ()
        entry = f"{name}={value}"
        names = [pair.partition("=")[0] for pair in pairs]
        if name in names:
            at = names.index(name)
            self.config["Env"] = [*pairs[:at], entry, *pairs[at + 1 :]]
        else:
            self.config["Env"] = [*pairs, entry]

    def note(self, created_by: str) -> None:
        """A history entry that has no layer."""
        self.changes.append(Change(created_by, None, self.author or ""))


class Steps:
    """The plan's steps while they are collected."""

    def __init__(self) -> None:
        self.all: list[Step] = []

    def add_base(self, op: Base, span: Span) -> None:
        """Append a base image; its title waits until its stage's steps are counted."""
        self.all.append(Step(op, (), span, ""))

    def add(self, op: Op, inputs: tuple[int, ...], state: StageState, span: Span, text: str) -> int:
        """Append a step of *state*'s stage titled *text*; its index."""
        self.all.append(Step(op, inputs, span, state.title(text)))
        return len(self.all) - 1


def checked(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """The config of the base image *name*. Invalid if a part that is read here is malformed."""
    for key, value in config.items():
        kind = _KINDS.get(key)
        if kind is None or value is None:
            continue
        texts = value if kind is list else ()
        if not isinstance(value, kind) or not all(isinstance(text, str) for text in texts):
            raise Invalid(f"{name}: its config has a malformed {key}")
    return dict(config)


def env_pairs(config: Mapping[str, Any]) -> dict[str, str]:
    """The ``Env`` of a config by name; the last of equal names wins, as in a process."""
    pairs: Sequence[str] = config.get("Env") or ()
    return {name: value for name, _, value in (pair.partition("=") for pair in pairs)}
