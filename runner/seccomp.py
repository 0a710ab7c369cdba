"""The default seccomp profile: which system calls a command may make."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from ocispec.errors import Unsupported
from runner import bpf

_ENOSYS, _EPERM = 38, 1

# linux/audit.h
_AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
# What a processor executes: its own instruction set and an older one.
_EXECUTES = {"x86_64": ("x86_64", "i386"), "aarch64": ("aarch64", "arm")}
# asm/unistd.h, __X32_SYSCALL_BIT: x32 has the architecture value of x86_64. Nobody builds for it.
_X32 = 0x40000000


@dataclass(frozen=True, slots=True)
class Profile:
    """What is allowed; a known call that is not fails with EPERM, one unknown to us with ENOSYS."""

    allow: frozenset[str]
    allow_with: Mapping[str, frozenset[str]]  # capability to calls
    allow_if: Mapping[str, tuple[bpf.Condition, ...]]  # call to alternatives
    unknown: frozenset[str]  # fail with ENOSYS where not allowed

    @classmethod
    def load(cls, document: Mapping[str, Any]) -> Profile:
        return cls(
            frozenset(name for names in document["allow"].values() for name in names),
            {name: frozenset(names) for name, names in document["allow_with"].items()},
            {
                name: tuple(bpf.Condition(**test) for test in rule["any"])
                for name, rule in document["allow_if"].items()
            },
            frozenset(document["unknown"]["names"]),
        )

    def action(self, name: str, capabilities: frozenset[str]) -> bpf.Action:
        """What becomes of the call *name* made with *capabilities*."""
        if name in self.allow or any(
            name in self.allow_with.get(capability, ()) for capability in capabilities
        ):
            return bpf.ALLOW
        if name in self.allow_if:
            return self.allow_if[name]
        return bpf.errno(_ENOSYS if name in self.unknown else _EPERM)


@cache
def program(capabilities: frozenset[str], machine: str = os.uname().machine) -> bytes:
    """The filter for seccomp(2) on *machine*, as uname names it. Unsupported for another one."""
    if machine not in _EXECUTES:
        raise Unsupported(
            f"no system call table for {machine}", hint="run it without the seccomp profile"
        )
    profile = Profile.load(_read("seccomp_profile.json"))
    numbers = _read("syscalls.json")
    pieces = {}
    for architecture in _EXECUTES[machine]:
        column = numbers["architectures"].index(architecture)
        actions = {
            row[column]: profile.action(name, capabilities)
            for name, row in numbers["numbers"].items()
            if row[column] is not None
        }
        pieces[_AUDIT[architecture]] = bpf.choose(actions, bpf.errno(_ENOSYS))
    if machine == "x86_64":
        own = _AUDIT["x86_64"]
        pieces[own] = bpf.refuse_from(_X32, bpf.errno(_ENOSYS)) + pieces[own]
    return bpf.dispatch(pieces, bpf.errno(_EPERM))


def _read(name: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads(Path(__file__).with_name(name).read_bytes())
    return document
