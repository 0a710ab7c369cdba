"""Platforms: what an image runs on (image-spec image-index.md, "platform")."""

from __future__ import annotations

import os
from dataclasses import dataclass
from typing import Any

from ocispec.errors import Invalid

_ARCHITECTURES = {
    "x86_64": "amd64",
    "x86-64": "amd64",
    "aarch64": "arm64",
    "armhf": "arm",
    "armel": "arm",
    "i386": "386",
    "i686": "386",
}
_VARIANTS = {"armhf": "v7", "armel": "v6"}
_PART = frozenset("abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789_.-")


@dataclass(frozen=True, slots=True)
class Platform:
    """An operating system, an architecture and its variant, normalised as containerd does."""

    os: str
    architecture: str
    variant: str = ""

    def __str__(self) -> str:
        return "/".join(part for part in (self.os, self.architecture, self.variant) if part)

    @classmethod
    def parse(cls, text: str) -> Platform:
        """``os/arch[/variant]``, ``arch`` or ``os`` as docker reads them. Invalid otherwise."""
        parts = text.split("/")
        if not 1 <= len(parts) <= 3 or not all(p and _PART.issuperset(p) for p in parts):
            raise Invalid(f"not a platform: {text!r}", hint="write os/arch[/variant]")
        if len(parts) == 1:
            known = parts[0].lower()
            if known in ("linux", "windows", "darwin", "freebsd"):
                return normalise(known, host().architecture, "")
            return normalise("linux", known, "")
        return normalise(parts[0], parts[1], parts[2] if len(parts) == 3 else "")

    def json(self) -> dict[str, Any]:
        fields = {"architecture": self.architecture, "os": self.os}
        if self.variant:
            fields["variant"] = self.variant
        return fields

    def matches(self, other: Platform) -> bool:
        """True if an image for *other* is one for this platform; a missing variant matches any."""
        return (
            self.os == other.os
            and self.architecture == other.architecture
            and (self.variant == other.variant or not self.variant or not other.variant)
        )


def normalise(system: str, architecture: str, variant: str) -> Platform:
    """The platform under the names Go uses; arm64's v8 and arm's v7 are the default variants."""
    arch = architecture.lower()
    variant = variant.lower() or _VARIANTS.get(arch, "")
    arch = _ARCHITECTURES.get(arch, arch)
    if arch == "arm64" and variant in ("8", "v8"):
        variant = ""
    if arch == "arm":
        variant = {"": "v7", "5": "v5", "6": "v6", "7": "v7", "8": "v8"}.get(variant, variant)
    if arch == "amd64" and variant == "v1":
        variant = ""
    return Platform(system.lower(), arch, variant)


def host() -> Platform:
    """The platform of this machine."""
    return normalise("linux", os.uname().machine, "")
