"""A .dockerignore as a rule for scanning its context."""

from __future__ import annotations

from builder.ignore import Ignore
from layers.tree import Select, Verdict


def scan_rule(ignore: Ignore) -> Select | None:
    """What a scan of a context makes of each path; None if nothing is excluded."""
    if not ignore:
        return None

    def verdict(path: str, is_directory: bool) -> Verdict:
        if not ignore.excludes(path, is_directory):
            return Verdict.INCLUDE
        if is_directory and ignore.may_contain_included(path):
            return Verdict.DESCEND
        return Verdict.EXCLUDE

    return verdict
