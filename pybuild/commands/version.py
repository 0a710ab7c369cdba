"""``version``."""

from __future__ import annotations

import os
import platform
from importlib import metadata

from ocispec.platform import host
from pybuild.template import render


def version_command(form: str | None) -> int:
    """Print this program's version and what it runs on."""
    version = metadata.version("pybuild-oci")
    facts = {
        "Version": version,
        "Python": platform.python_version(),
        "Platform": str(host()),
        "Kernel": os.uname().release,
    }
    if form == "json":
        form = "{{json .}}"
    if form is not None:
        print(render(form, facts))
        return 0
    print(f"pybuild {version}")
    for name in ("Python", "Platform", "Kernel"):
        print(f" {name + ':':10}{facts[name]}")
    return 0
