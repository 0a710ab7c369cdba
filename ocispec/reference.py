"""Image references, normalised the way Docker does it (distribution/reference)."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from ocispec.digest import Digest
from ocispec.errors import Invalid

_PATH_COMPONENT = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REPOSITORY = re.compile(rf"{_PATH_COMPONENT}(?:/{_PATH_COMPONENT})*")
_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_HOST = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:.]+\])(?::[0-9]{{1,5}})?")

DEFAULT_REGISTRY = "docker.io"
_LEGACY_REGISTRY = "index.docker.io"
_OFFICIAL = "library/"


@dataclass(frozen=True, slots=True)
class Reference:
    """``registry/repository[:tag][@digest]``; Docker Hub's short names are written out."""

    registry: str
    repository: str
    tag: str | None = None
    digest: Digest | None = None

    @classmethod
    def parse(cls, text: str) -> Reference:
        """
        *text* as docker reads it, without adding a tag. Invalid if it is not a reference.

        ``busybox`` is ``docker.io/library/busybox``; the part before the first ``/`` is a registry
        if it has a dot, a colon, an upper-case letter, or is ``localhost``.
        """
        try:
            return _parse(text)
        except Invalid as error:
            raise Invalid(
                f"invalid reference {_shown(text)}: {error.message}", hint=error.hint
            ) from None

    def with_default_tag(self) -> Reference:
        """Itself if it has a tag or a digest, else with ``:latest``."""
        if self.tag is None and self.digest is None:
            return replace(self, tag="latest")
        return self

    @property
    def name(self) -> str:
        """``registry/repository``."""
        return f"{self.registry}/{self.repository}"

    @property
    def familiar_name(self) -> str:
        """The name as docker prints it: Docker Hub's registry and ``library/`` are left out."""
        if self.registry != DEFAULT_REGISTRY:
            return self.name
        return self.repository.removeprefix(_OFFICIAL) if self._is_official() else self.repository

    @property
    def familiar(self) -> str:
        """The whole reference as docker prints it."""
        return self.familiar_name + self._suffix()

    def __str__(self) -> str:
        return self.name + self._suffix()

    def _suffix(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return tag + (f"@{self.digest}" if self.digest else "")

    def _is_official(self) -> bool:
        return self.repository.count("/") == 1 and self.repository.startswith(_OFFICIAL)


def _parse(text: str) -> Reference:
    if re.fullmatch(r"[0-9a-f]{64}", text):
        raise Invalid("64 hex digits are an image ID, not a name")
    rest, at, digest_text = text.partition("@")
    digest = Digest(digest_text) if at else None
    head, slash, tail = rest.partition("/")
    if slash and (any(c in head for c in ".:[") or head == "localhost" or head != head.lower()):
        registry, path = head, tail
    else:
        registry, path = DEFAULT_REGISTRY, rest
    path, colon, tag = path.partition(":")
    if not _HOST.fullmatch(registry):
        raise Invalid("the registry's name is malformed")
    if registry == _LEGACY_REGISTRY:
        registry = DEFAULT_REGISTRY
    if path != path.lower():
        hint = f"did you mean {path.lower()}?"
        raise Invalid("the repository name must be lower case", hint=hint)
    if not _REPOSITORY.fullmatch(path):
        raise Invalid("the repository name is malformed")
    if colon and not _TAG.fullmatch(tag):
        raise Invalid("the tag is malformed")
    if registry == DEFAULT_REGISTRY and "/" not in path:
        path = _OFFICIAL + path
    if len(registry) + 1 + len(path) > 255:
        raise Invalid("the name is longer than 255 characters")
    return Reference(registry, path, tag if colon else None, digest)


def _shown(text: str) -> str:
    return repr(text if len(text) <= 200 else text[:200] + "…")
