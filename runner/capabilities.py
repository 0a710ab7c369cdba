"""Linux capabilities by name (linux/capability.h; the position in the list is the number)."""

from __future__ import annotations

from collections.abc import Iterable

from ocispec.errors import Invalid

_NAMES = [
    "CHOWN",
    "DAC_OVERRIDE",
    "DAC_READ_SEARCH",
    "FOWNER",
    "FSETID",
    "KILL",
    "SETGID",
    "SETUID",
    "SETPCAP",
    "LINUX_IMMUTABLE",
    "NET_BIND_SERVICE",
    "NET_BROADCAST",
    "NET_ADMIN",
    "NET_RAW",
    "IPC_LOCK",
    "IPC_OWNER",
    "SYS_MODULE",
    "SYS_RAWIO",
    "SYS_CHROOT",
    "SYS_PTRACE",
    "SYS_PACCT",
    "SYS_ADMIN",
    "SYS_BOOT",
    "SYS_NICE",
    "SYS_RESOURCE",
    "SYS_TIME",
    "SYS_TTY_CONFIG",
    "MKNOD",
    "LEASE",
    "AUDIT_WRITE",
    "AUDIT_CONTROL",
    "SETFCAP",
    "MAC_OVERRIDE",
    "MAC_ADMIN",
    "SYSLOG",
    "WAKE_ALARM",
    "BLOCK_SUSPEND",
    "AUDIT_READ",
    "PERFMON",
    "BPF",
    "CHECKPOINT_RESTORE",
]

ALL_CAPABILITIES = frozenset(f"CAP_{name}" for name in _NAMES)

# What Docker grants (moby, oci/caps/defaults.go).
DEFAULT_CAPABILITIES = frozenset(
    f"CAP_{name}"
    for name in [
        "CHOWN",
        "DAC_OVERRIDE",
        "FOWNER",
        "FSETID",
        "KILL",
        "SETGID",
        "SETUID",
        "SETPCAP",
        "NET_BIND_SERVICE",
        "NET_RAW",
        "SYS_CHROOT",
        "MKNOD",
        "AUDIT_WRITE",
        "SETFCAP",
    ]
)


def normalise(name: str) -> str:
    """``net_raw``, ``NET_RAW`` and ``CAP_NET_RAW`` are all ``CAP_NET_RAW``. Invalid if unknown."""
    full = name.upper()
    if not full.startswith("CAP_"):
        full = f"CAP_{full}"
    if full not in ALL_CAPABILITIES:
        raise Invalid(f"unknown capability: {name!r}", hint="see capabilities(7) for the names")
    return full


def mask(names: Iterable[str]) -> int:
    """The set as the kernel writes it: bit n for capability n."""
    return sum(1 << _NAMES.index(name[4:]) for name in {normalise(name) for name in names})
