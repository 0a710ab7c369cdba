"""
The quick answer: when nothing that a build reads has changed, its last result stands.

An answer is one small file, found by the question (the command line and what it takes from the
environment). It holds when the names in the store, the Dockerfile, the ignore files, and all that
stat(2) tells of the context are what they were; else the build goes its ordinary way, which finds
the same image in the cache. This module loads next to nothing: the answer to a build of a few
hundred files takes less time than the imports of the builder.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

from builder.events import Event, Notice, OnEvent, StepEnded, StepStarted
from layers.tree import Tree, fingerprint

if TYPE_CHECKING:
    from layers.session import Session
    from layers.tree import Select

FOLDER: Final = "answers"
_FORMAT: Final = 1  # raised when an answer of an older program would be another one now


class Question(NamedTuple):
    """A build, as far as it is known before anything is read."""

    store: Path
    context: Path
    dockerfile: Path | None  # None: Dockerfile in the context
    settings: str  # all else that the result depends on, as one text; it is only ever hashed

    @property
    def name(self) -> str:
        """The file of its answer."""
        fields = [_FORMAT, str(self.context), str(self.dockerfile), self.settings]
        return hashlib.sha256(json.dumps(fields).encode()).hexdigest()

    def dockerfiles(self) -> list[Path]:
        """Where the Dockerfile may be, in order."""
        if self.dockerfile is not None:
            return [self.dockerfile]
        return [self.context / "Dockerfile", self.context / "dockerfile"]

    def ignore_files(self) -> list[Path]:
        """Where the ignore file may be, in order: the Dockerfile's own, then the context's."""
        named = self.dockerfile or self.context / "Dockerfile"
        return [named.with_name(named.name + ".dockerignore"), self.context / ".dockerignore"]


class Answer(NamedTuple):
    """What the build gave: the fields of a BuildResult, and the titles and remarks it showed."""

    manifest: dict[str, Any]  # the descriptor
    config: str
    identity: str
    titles: list[str]  # of the steps; the last is the export's
    notices: list[str]  # of the export

    def replay(self, on_event: OnEvent) -> None:
        """The events of a build that found everything in the cache."""
        last = len(self.titles)
        for number, title in enumerate(self.titles, 1):
            on_event(StepStarted(number, title))
            if number == last:
                for text in self.notices:
                    on_event(Notice(number, text))
            on_event(StepEnded(number, number != last, 0.0))


def find(question: Question) -> Answer | None:
    """The answer to *question*, if it still holds; the cache records behind it count as used."""
    if question.dockerfile is not None and not question.dockerfile.is_file():
        return None  # a pipe can be read once only, by the build
    try:
        data = (question.store / FOLDER / question.name).read_bytes()
        document = json.loads(data)
        answer = Answer(**document["answer"])
        holds = _holds(question, document, answer)
    except (OSError, ValueError, KeyError, TypeError):
        # Missing or damaged: it is no more than a short cut.
        return None
    if not holds:
        return None
    for key in document["keys"]:
        _touch(question.store / "keys" / key)
    return answer


def remember(
    question: Question,
    session: Session,
    answer: Answer,
    *,
    index: bytes | None,
    read: dict[str, bytes | None],
    context: str | None,
    keys: Sequence[str],
) -> None:
    """
    Keep *answer* for the next time.

    *index* is index.json as the build left it, None if a name there no longer means what the build
    took it for. *read* is what the build read of Dockerfiles and ignore files, None for one that
    was not there; *context* is the fingerprint of the context, "" if it was not looked at, None if
    it is too young to be relied on. Without an index or with so young a context nothing is kept.
    """
    if context is None or index is None:
        return
    document = {
        "index": _digest(index),
        "files": {path: data and _digest(data) for path, data in read.items()},
        "context": context,
        "keys": list(keys),
        "answer": answer._asdict(),
    }
    session.put_record(FOLDER, question.name, json.dumps(document).encode())


def recorded(events: list[Event]) -> tuple[list[str], list[str]]:
    """The titles of the steps that were shown, and the remarks of the last."""
    titles = {event.step: event.title for event in events if isinstance(event, StepStarted)}
    numbered = [titles[number] for number in sorted(titles) if number]
    last = max(titles, default=0)
    notices = [e.text for e in events if isinstance(e, Notice) and e.step == last]
    return numbered, notices


def _holds(question: Question, document: dict[str, Any], answer: Answer) -> bool:
    if _digest((question.store / "index.json").read_bytes()) != document["index"]:
        return False
    for path, digest in document["files"].items():
        if _read(path) != digest:
            return False
    manifest = str(answer.manifest["digest"]).partition(":")[2]
    if not (question.store / "blobs/sha256" / manifest).exists():
        return False
    if not document["context"]:
        return True
    entries = Tree(question.context, None).scan(_rule(question))
    return fingerprint(entries) == str(document["context"])


def _rule(question: Question) -> Select | None:
    for path in question.ignore_files():
        try:
            data = path.read_bytes()
        except FileNotFoundError:
            continue
        from builder.ignore import Ignore
        from builder.scanning import scan_rule

        return scan_rule(Ignore.parse(data))
    return None


def _read(path: str) -> str | None:
    try:
        return _digest(Path(path).read_bytes())
    except FileNotFoundError:
        return None


def _touch(path: Path) -> None:
    try:
        os.utime(path)
    except FileNotFoundError:
        # The image is there all the same; only a later change would have to be built anew.
        return


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
