"""
Run by a Python that has libseccomp's module (Debian: /usr/bin/python3 with python3-seccomp).

Reads a filter as JSON and writes the BPF program that libseccomp makes of it; on stderr, the names
that libseccomp does not know, one a line.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
from typing import Any

seccomp: Any = importlib.import_module("seccomp")  # not of the Python that is type-checked

COMPARISONS = {"==": seccomp.EQ, "<": seccomp.LT, ">": seccomp.GT, "&==": seccomp.MASKED_EQ}

request = json.load(sys.stdin)
program = seccomp.SyscallFilter(seccomp.ERRNO(request["otherwise"]))
native = os.uname().machine  # a new filter has this architecture
for architecture in request["architectures"]:
    if architecture != native:
        program.add_arch(seccomp.Arch(architecture))
if native not in request["architectures"]:
    program.remove_arch(seccomp.Arch(native))
for name, action, tests in request["rules"]:
    what = seccomp.ALLOW if action == 0 else seccomp.ERRNO(action)
    arguments = [seccomp.Arg(number, COMPARISONS[how], *values) for number, how, values in tests]
    try:
        program.add_rule(what, name, *arguments)
    except RuntimeError:
        sys.stderr.write(f"{name}\n")
program.export_bpf(sys.stdout)
