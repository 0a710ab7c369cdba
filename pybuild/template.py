"""The part of Go's templates that ``--format`` is used with: fields, json and index."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from ocispec.errors import Invalid, Usage

_ACTION: Final = re.compile(r"\{\{(.*?)\}\}", re.DOTALL)
_FIELD: Final = re.compile(r"\.|(?:\.[A-Za-z_][A-Za-z0-9_]*)+")
_WORD: Final = re.compile(r'"(?:[^"\\]|\\.)*"|\S+')
_ESCAPES: Final = (("\\t", "\t"), ("\\n", "\n"))


def render(template: str, value: Mapping[str, Any]) -> str:
    """
    *template* with each ``{{…}}`` replaced by what it says of *value*.

    ``{{.A.B}}``, ``{{json .A}}`` and ``{{index .A "key" 0}}``; Usage for anything else, Invalid
    for a field that *value* does not have.
    """
    for escape, character in _ESCAPES:
        template = template.replace(escape, character)
    return _ACTION.sub(lambda match: _evaluate(match[1].strip(" -"), value), template)


def fields(template: str) -> list[str]:
    """The names of the fields that *template* shows, for the heading of a table."""
    return [match[1].strip().rpartition(".")[2] for match in _ACTION.finditer(template)]


def _evaluate(action: str, value: Mapping[str, Any]) -> str:
    words = _WORD.findall(action)
    if len(words) == 1:
        return go_text(_field(words[0], value))
    if len(words) == 2 and words[0] == "json":
        return json.dumps(_field(words[1], value), ensure_ascii=False, separators=(",", ":"))
    if len(words) >= 3 and words[0] == "index":
        found = _field(words[1], value)
        for word in words[2:]:
            found = _element(found, word, action)
        return go_text(found)
    raise _unknown(action)


def _field(path: str, value: Mapping[str, Any]) -> Any:
    if not _FIELD.fullmatch(path):
        raise _unknown(path)
    found: Any = value
    for name in filter(None, path.split(".")):
        if not isinstance(found, Mapping) or name not in found:
            raise Invalid(f"template: there is no {path}", hint="{{json .}} shows what there is")
        found = found[name]
    return found


def _element(value: Any, word: str, action: str) -> Any:
    try:
        key = json.loads(word)
        return value[key]
    except (ValueError, KeyError, IndexError, TypeError):
        raise Invalid(f"template: there is no {{{{{action}}}}}") from None


def go_text(value: Any) -> str:
    """*value* as Go's ``%v`` prints it."""
    if value is None:
        return "<no value>"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, Mapping):
        return "map[" + " ".join(f"{k}:{go_text(value[k])}" for k in sorted(value)) + "]"
    if isinstance(value, Sequence) and not isinstance(value, str):
        return "[" + " ".join(map(go_text, value)) + "]"
    return str(value)


def _unknown(action: str) -> Usage:
    return Usage(
        f"template: {action!r} is not understood",
        hint="{{.Field}}, {{json .Field}} and {{index .Field 0}} are",
    )
