"""``--flag=value`` between an instruction's name and its arguments."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal, TypeAlias

from builder.dockerfile.suggest import did_you_mean
from builder.dockerfile.words import SPACE
from ocispec.errors import Invalid

Kind: TypeAlias = Literal["bool", "text", "list"]

_FILES: Mapping[str, Kind] = {"chown": "text", "chmod": "text", "link": "bool", "exclude": "list"}

FLAGS: Mapping[str, Mapping[str, Kind]] = {
    "FROM": {"platform": "text"},
    "RUN": {"mount": "list", "network": "text", "security": "text", "device": "list"},
    "COPY": {**_FILES, "from": "text", "parents": "bool"},
    "ADD": {**_FILES, "checksum": "text", "keep-git-dir": "bool", "unpack": "bool"},
    "HEALTHCHECK": {
        "interval": "text",
        "timeout": "text",
        "start-period": "text",
        "start-interval": "text",
        "retries": "text",
    },
}


class Flags:
    """The flags of one instruction, checked against FLAGS. Invalid for one that is not there."""

    def __init__(self, keyword: str, words: Sequence[str]) -> None:
        self._bools: dict[str, bool] = {}
        self._texts: dict[str, str] = {}
        self._lists: dict[str, tuple[str, ...]] = {}
        for word in words:
            name, equals, value = word.removeprefix("--").partition("=")
            kind = FLAGS.get(keyword, {}).get(name)
            if kind is None:
                raise Invalid(f"unknown flag: --{name}", hint=_hint(keyword, name))
            if name in self._bools or name in self._texts:
                raise Invalid(f"duplicate flag specified: --{name}")
            if not equals and kind != "bool":
                raise Invalid(f"missing a value on flag: --{name}", hint=f"write --{name}=…")
            if kind == "bool":
                self._bools[name] = _bool(name, equals, value)
            elif kind == "text":
                self._texts[name] = value
            else:
                self._lists[name] = (*self._lists.get(name, ()), value)

    def on(self, name: str) -> bool:
        return self._bools.get(name, False)

    def maybe(self, name: str) -> bool | None:
        return self._bools.get(name)

    def text(self, name: str, default: str = "") -> str:
        return self._texts.get(name, default)

    def each(self, name: str) -> tuple[str, ...]:
        return self._lists.get(name, ())


def _bool(name: str, equals: str, value: str) -> bool:
    if not equals:
        return True
    if not value:
        raise Invalid(f"missing a value on flag: --{name}")
    if value.lower() not in ("true", "false"):
        raise Invalid(f"expecting boolean value for flag --{name}, not: {value}")
    return value.lower() == "true"


def _hint(keyword: str, name: str) -> str:
    known = FLAGS.get(keyword, {})
    near = did_you_mean(name, known)
    if near:
        return near.replace("mean ", "mean --")
    elsewhere = [other for other in FLAGS if name in FLAGS[other]]
    if elsewhere:
        return f"--{name} is a flag of {' and '.join(elsewhere)}"
    if known:
        return f"{keyword} has " + ", ".join(f"--{flag}" for flag in known)
    return f"{keyword} has no flags; a word that begins with -- comes after a lone --"


def split_flags(text: str) -> tuple[list[str], str]:
    """
    The flags *text* begins with and the rest of it.

    Quotes and backslashes are removed from flags (not the escape directive's character: it is
    always the backslash here, as in BuildKit). A lone ``--`` ends them.
    """
    flags: list[str] = []
    at = 0
    while True:
        while at < len(text) and text[at] in SPACE:
            at += 1
        if not text.startswith("--", at):
            return flags, text[at:]
        word, at = _flag(text, at)
        if word == "--":
            return flags, text[at:]
        flags.append(word)


def _flag(text: str, at: int) -> tuple[str, int]:
    """The word at *at*, unquoted, and where it ends."""
    word: list[str] = []
    quote = ""
    while at < len(text):
        c = text[at]
        if not quote and c in SPACE:
            break
        at += 1
        if c == quote:
            quote = ""
        elif c in "'\"" and not quote:
            quote = c
        elif c == "\\":
            word.append(text[at : at + 1])
            at += 1
        else:
            word.append(c)
    return "".join(word), at
