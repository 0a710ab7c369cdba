"""Plans from Dockerfile text, with base images made up on the spot."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any

from builder.dockerfile.parse import parse
from builder.dockerfile.source import SourceFile
from builder.lower.lower import Lowering
from builder.lower.state import BaseImage, Settings
from builder.plan import Output, Plan
from ocispec.errors import NotFound
from ocispec.model import ImageConfig
from ocispec.platform import Platform

AMD64 = Platform("linux", "amd64")
PATH = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"


def lowering(
    text: str,
    *,
    bases: Mapping[str, Mapping[str, Any]] | None = None,
    build_args: Mapping[str, str] | None = None,
    labels: Mapping[str, str] | None = None,
    target: str | None = None,
    missing: Collection[str] = (),
) -> Lowering:
    """*bases* maps an image's name to the ``config`` part of its config; *missing* are none."""
    known = bases or {}

    def resolve(name: str, platform: Platform) -> BaseImage:
        if name in missing:
            raise NotFound(f"{name}: not found")
        return BaseImage(name, ImageConfig(platform, config=known.get(name, {})), ())

    settings = Settings(AMD64, AMD64, build_args or {}, labels or {}, target)
    return Lowering(parse(SourceFile("Dockerfile", text.encode())), settings, resolve)


def plan(text: str, **options: Any) -> Plan:
    return lowering(text, **options).plan()


def output(text: str, **options: Any) -> Output:
    (only,) = plan(text, **options).outputs.values()
    return only


def config(text: str, **options: Any) -> Mapping[str, Any]:
    """The ``config`` part of what *text* builds."""
    return output(text, **options).config.config


def history(text: str, **options: Any) -> list[str]:
    return [change.created_by for change in output(text, **options).changes]
