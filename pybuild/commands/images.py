"""``images``, ``inspect``, ``history``, ``tag`` and ``rmi``."""

from __future__ import annotations

import fnmatch
import json
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Final

from engine import images
from engine.images import HistoryRow, StoredImage
from ocispec.errors import Invalid, PybuildError, Usage
from ocispec.reference import Reference
from pybuild.commands.opening import open_engine
from pybuild.failures import FAILED, tell
from pybuild.tables import formatted
from pybuild.template import render
from pybuild.units import human_age, human_size

_NONE: Final = "<none>"
_SHORT_ID: Final = 12  # digits
_CREATED_BY: Final = 45  # characters
_IMAGE_HEADINGS: Final = {
    "Repository": "REPOSITORY",
    "Tag": "TAG",
    "Digest": "DIGEST",
    "ID": "IMAGE ID",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "Size": "SIZE",
}
_HISTORY_HEADINGS: Final = {
    "ID": "IMAGE",
    "CreatedSince": "CREATED",
    "CreatedAt": "CREATED AT",
    "CreatedBy": "CREATED BY",
    "Size": "SIZE",
    "Comment": "COMMENT",
}
Filter = Callable[[StoredImage, Reference | None], bool]


def images_command(
    root: str | None,
    *,
    repository: str | None,
    filters: Sequence[str],
    form: str | None,
    quiet: bool,
    digests: bool,
    no_trunc: bool,
) -> int:
    """Print the images, newest first, a line for each name."""
    chosen = [_filter(text) for text in filters]
    if repository is not None:
        chosen.append(_named(repository))
    with open_engine(root) as engine:
        found = list(images.all_images(engine.store))
    found.sort(key=lambda image: _moment(image.config.created), reverse=True)
    shown = [
        (image, name)
        for image in found
        for name in sorted(image.names, key=str) or (None,)
        if all(keep(image, name) for keep in chosen)
    ]
    if quiet:
        ids = [_id(image.id, no_trunc=no_trunc) for image, _ in shown]
        lines = list(dict.fromkeys(ids))
    else:
        rows = [_image_row(image, name, no_trunc=no_trunc) for image, name in shown]
        digest = ("Digest",) if digests else ()
        columns = ("Repository", "Tag", *digest, "ID", "CreatedSince", "Size")
        lines = formatted(rows, form, _IMAGE_HEADINGS, columns)
    _print(lines)
    return 0


def _image_row(image: StoredImage, name: Reference | None, *, no_trunc: bool) -> dict[str, str]:
    return {
        "Containers": "N/A",
        "CreatedAt": _at(image.config.created),
        "CreatedSince": _since(image.config.created),
        "Digest": str(image.root.digest) if name is not None else _NONE,
        "ID": _id(image.id, no_trunc=no_trunc),
        "Repository": name.familiar_name if name is not None else _NONE,
        "SharedSize": "N/A",
        "Size": human_size(image.size),
        "Tag": (name.tag or _NONE) if name is not None else _NONE,
        "UniqueSize": "N/A",
    }


def _named(pattern: str) -> Filter:
    """Names that *pattern* fits: a repository, or one with its tag, with wildcards."""

    def keep(_: StoredImage, name: Reference | None) -> bool:
        return name is not None and any(
            fnmatch.fnmatchcase(text, pattern)
            for text in (name.familiar_name, name.familiar, name.name, str(name))
        )

    return keep


def _filter(text: str) -> Filter:
    key, equals, value = text.partition("=")
    if key == "reference" and equals:
        return _named(value)
    if key == "dangling" and value in ("true", "false", "1", "0"):
        return lambda _, name: (name is None) == (value in ("true", "1"))
    if key == "label" and value:
        return lambda image, _: _has_label(image, value)
    raise Usage(f"invalid filter {text!r}", hint="reference=…, dangling=true and label=… are known")


def _has_label(image: StoredImage, text: str) -> bool:
    name, equals, value = text.partition("=")
    labels = image.config.config.get("Labels")
    if not isinstance(labels, dict) or name not in labels:
        return False
    return not equals or labels[name] == value


def inspect_command(root: str | None, *, names: Sequence[str], form: str | None) -> int:
    """Print what is known of each image; 1 if one is not there."""
    found, missing = [], []
    with open_engine(root) as engine:
        for name in names:
            try:
                found.append(images.inspected(images.find(engine.store, name)))
            except PybuildError as error:
                missing.append(error)
    if form is not None and form != "json":
        _print([render(form, value) for value in found])
    else:
        print(json.dumps(found, indent=4, ensure_ascii=False))
    for reason in missing:
        tell(reason.message, reason.hint)
    return FAILED if missing else 0


def history_command(
    root: str | None, *, name: str, form: str | None, quiet: bool, no_trunc: bool, human: bool
) -> int:
    """Print how the image came to be, newest first."""
    with open_engine(root) as engine:
        found = images.history(images.find(engine.store, name))
    rows = [_history_row(row, no_trunc=no_trunc, human=human) for row in found]
    if quiet:
        _print([row["ID"] for row in rows])
        return 0
    when = "CreatedSince" if human else "CreatedAt"
    columns = ("ID", when, "CreatedBy", "Size", "Comment")
    _print(formatted(rows, form, _HISTORY_HEADINGS, columns))
    return 0


def _history_row(row: HistoryRow, *, no_trunc: bool, human: bool) -> dict[str, str]:
    by = " ".join(row.created_by.split("\n")).replace("\t", " ")
    if not no_trunc and len(by) > _CREATED_BY:
        by = by[: _CREATED_BY - 1] + "…"
    return {
        "Comment": row.comment,
        "CreatedAt": _at(row.created, zone=True),
        "CreatedBy": by,
        "CreatedSince": _since(row.created),
        "ID": row.id if row.id.startswith("<") else _id(row.id, no_trunc=no_trunc),
        "Size": human_size(row.size) if human else str(row.size),
    }


def tag_command(root: str | None, *, source: str, target: str) -> int:
    """Give the image *source* the name *target* too."""
    ref = Reference.parse(target)
    if ref.digest is not None:
        raise Invalid(f"{target}: a name with a digest cannot be given", hint="write a tag")
    with open_engine(root) as engine:
        images.tag(engine, source, ref)
    return 0


def rmi_command(root: str | None, *, names: Sequence[str], force: bool) -> int:
    """Take names away, and forget images whose last name it was; 1 if one is not there."""
    status = 0
    with open_engine(root) as engine:
        for name in names:
            try:
                _print(images.remove(engine, name, force=force))
            except PybuildError as error:
                tell(error.message, error.hint)
                status = FAILED
    return status


def _id(digest: str, *, no_trunc: bool) -> str:
    return digest if no_trunc else digest.partition(":")[2][:_SHORT_ID]


def _moment(text: str | None) -> float:
    """Seconds since 1970; -1 for what is no time."""
    try:
        return datetime.fromisoformat(text or "").timestamp()
    except ValueError:
        return -1


def _since(text: str | None) -> str:
    moment = _moment(text)
    return "N/A" if moment < 0 else human_age(max(0.0, time.time() - moment))


def _at(text: str | None, *, zone: bool = False) -> str:
    moment = _moment(text)
    if moment < 0:
        return "N/A"
    if zone:
        return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return datetime.fromtimestamp(moment, UTC).strftime("%Y-%m-%d %H:%M:%S +0000 UTC")


def _print(lines: Sequence[str]) -> None:
    for line in lines:
        print(line)
