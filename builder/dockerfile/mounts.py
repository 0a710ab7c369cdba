"""``RUN --mount=…``: comma-separated ``key=value`` fields, quoted as in a CSV file."""

from __future__ import annotations

import re
from collections.abc import Callable

from builder.dockerfile.instructions import RunMount
from builder.dockerfile.suggest import did_you_mean
from builder.dockerfile.words import expand
from ocispec.errors import Invalid

_TYPES = ("bind", "cache", "tmpfs", "secret", "ssh")
_SHARING = ("shared", "private", "locked")
_SYNONYMS = {
    "src": "source",
    "dst": "target",
    "destination": "target",
    "ro": "readonly",
    "rw": "readwrite",
}
# Which types a key belongs to, where it is not all of them.
_ONLY = {
    "sharing": ("cache",),
    "required": ("secret", "ssh"),
    "size": ("tmpfs",),
    "env": ("secret",),
    "mode": ("cache", "secret", "ssh"),
    "uid": ("cache", "secret", "ssh"),
    "gid": ("cache", "secret", "ssh"),
}
_KEYS = ("type", "from", "source", "target", "readonly", "readwrite", "id", *_ONLY)
_BARE = ("readonly", "readwrite", "required")
_TRUE = ("1", "t", "T", "TRUE", "true", "True")  # Go's strconv.ParseBool
_FALSE = ("0", "f", "F", "FALSE", "false", "False")
_UNITS = {"": 0, "b": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_SIZE = r"(\d+(?:\.\d*)?|\.\d+) ?(?:([kmgtp])(?:i?b)?|b)?"


def parse_mount(text: str, escape: str) -> RunMount:
    """
    The mount that *text* describes. Invalid if it is malformed.

    Where *text* has variables, only its form is checked: see RunMount.
    """
    if "$" not in text:
        return expand_mount(RunMount(text), lambda value: expand(value, {}, escape=escape))
    for key, value in _fields(text):
        # It says what the stages depend on, which must be known before anything is expanded.
        if key == "from" and value is not None and re.search(r"\$.", value):
            raise Invalid(
                "'from' doesn't support variable expansion, define alias stage instead",
                hint="add a stage: FROM $… AS name, and write from=name",
            )
    literal = {k: v for k, v in _fields(text) if v is not None and "$" not in v}
    return RunMount(text, type=literal.get("type", "bind").lower(), from_=literal.get("from", ""))


def expand_mount(mount: RunMount, word: Callable[[str], str]) -> RunMount:
    """*mount* with each of its values passed through *word*, and checked. Invalid if wrong."""
    values: dict[str, str] = {}
    for key, value in _fields(mount.text):
        # The last of "ro" and "rw" wins, so they are one key here.
        if key in ("readonly", "readwrite"):
            given = value is None or _bool(key, word(value))
            values["readonly"] = "true" if given == (key == "readonly") else "false"
        elif value is None:
            values[key] = "true"
        else:
            values[key] = word(value)
    kind = values.get("type", "bind").lower()
    if kind not in _TYPES:
        hint = did_you_mean(kind, _TYPES) or "the types are " + ", ".join(_TYPES)
        raise Invalid(f'unsupported mount type "{kind}"', hint=hint)
    for key, types in _ONLY.items():
        if key in values and kind not in types:
            raise Invalid(f"unexpected key '{key}' for mount type '{kind}'")
    if kind == "secret":
        _check_secret(values)
    return _mount(mount.text, kind, values)


def _mount(text: str, kind: str, values: dict[str, str]) -> RunMount:
    sharing = values.get("sharing", "").lower()
    if "sharing" in values and sharing not in _SHARING:
        hint = did_you_mean(sharing, _SHARING) or "write one of " + ", ".join(_SHARING)
        raise Invalid(f'unsupported sharing value "{sharing}"', hint=hint)
    read_only = values.get("readonly")
    return RunMount(
        text=text,
        type=kind,
        target=values.get("target", ""),
        source=values.get("source", ""),
        from_=values.get("from", ""),
        read_only=kind not in ("cache", "tmpfs") if read_only is None else read_only == "true",
        id=values.get("id", ""),
        sharing=sharing,
        required=_bool("required", values.get("required", "false")),
        mode=_number("mode", values.get("mode"), 8),
        uid=_number("uid", values.get("uid"), 10),
        gid=_number("gid", values.get("gid"), 10),
        size=_size(values.get("size")),
        env=values.get("env"),
    )


def _check_secret(values: dict[str, str]) -> None:
    if values.get("from"):
        raise Invalid("secret mount should not have a from")
    if not (values.get("id") or values.get("source") or values.get("target")):
        raise Invalid(
            "invalid secret mount. one of source, target required",
            hint="name the secret: --mount=type=secret,id=…",
        )
    if values.get("id") and values.get("source"):
        raise Invalid("both source and id can't be set")


def _fields(text: str) -> list[tuple[str, str | None]]:
    """The keys, in their first spelling, and values; None for a bare key."""
    fields: list[tuple[str, str | None]] = []
    for field in _csv(text):
        name, equals, value = field.partition("=")
        name = name.lower()
        key = _SYNONYMS.get(name, name)
        if key not in _KEYS:
            known = (*_KEYS, *_SYNONYMS)
            hint = did_you_mean(name, known) or "the keys are " + ", ".join(known)
            raise Invalid(f"unexpected key '{name}' in '{field}'", hint=hint)
        if not equals and key not in _BARE:
            raise Invalid(f"invalid field '{field}' must be a key=value pair")
        fields.append((key, value if equals else None))
    return fields


def _csv(text: str) -> list[str]:
    """One record as Go's encoding/csv reads it: stricter about quotes than Python's csv."""
    fields: list[str] = []
    at = 0
    while True:
        if text.startswith('"', at):
            match = re.match(r'"((?:[^"]|"")*)"(?=,|\Z)', text[at:])
            if match is None:
                raise Invalid('failed to parse csv mounts: extraneous or missing " in quoted-field')
            fields.append(match[1].replace('""', '"'))
            at += match.end()
        else:
            end = text.find(",", at)
            field = text[at:] if end < 0 else text[at:end]
            if '"' in field:
                raise Invalid('failed to parse csv mounts: bare " in non-quoted field')
            fields.append(field)
            at += len(field)
        if at >= len(text):
            return fields
        at += 1


def _bool(key: str, value: str) -> bool:
    if value not in _TRUE and value not in _FALSE:
        raise Invalid(f"invalid value for {key}: {value}", hint="write true or false")
    return value in _TRUE


def _number(key: str, value: str | None, base: int) -> int | None:
    if value is None:
        return None
    digits = "01234567" if base == 8 else "0123456789"
    if not value or value.strip(digits) or len(value) > 12 or int(value, base) >= 1 << 32:
        what = "an octal mode" if base == 8 else "a number"
        raise Invalid(f"invalid value {value} for {key}", hint=f"write {what}")
    return int(value, base)


def _size(value: str | None) -> int | None:
    """Bytes, written as docker's go-units reads them: ``64m``, ``1.5 GiB``."""
    if value is None:
        return None
    match = re.fullmatch(_SIZE, value, re.IGNORECASE | re.ASCII)
    if match is None or len(value) > 40:
        raise Invalid(
            f"invalid value for size: {value}", hint="write bytes, or a number and k, m, g"
        )
    return int(float(match[1]) * (1 << _UNITS[(match[2] or "").lower()]))
