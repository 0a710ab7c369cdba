"""Which extended attributes a layer carries. By itself, since every build asks, cached or not."""

from __future__ import annotations


def is_exported(xattr: str) -> bool:
    """
    True for the extended attributes that belong to a layer.

    File capabilities and the user's own. Not what overlayfs (``userxattr``) and rootless unpackers
    keep for themselves under ``user.``: in a layer those would speak to the host's kernel.
    """
    if xattr == "security.capability":
        return True
    return xattr.startswith("user.") and not xattr.startswith(
        ("user.overlay.", "user.rootlesscontainers")
    )
