"""
Which devices a sandbox may use: its own /dev, and nothing else that it makes a node for.

Making nodes is allowed, as Docker does: images with device nodes are built in sandboxes. Opening
them is what is filtered.
"""

from __future__ import annotations

import ctypes
import struct

from runner.inside import linux

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Sequence

# Character devices, major and minor (None: any); Linux, admin-guide/devices.txt. The last three:
# console, ptmx, pts.
_ALLOWED: Sequence[tuple[int, int | None]] = (
    (1, 3),
    (1, 5),
    (1, 7),
    (1, 8),
    (1, 9),
    (5, 0),
    (5, 1),
    (5, 2),
    (136, None),
)
# linux/bpf.h
_PROG_LOAD, _PROG_ATTACH = 5, 8
_TYPE_CGROUP_DEVICE, _ATTACH_DEVICE, _ALLOW_MULTI = 15, 6, 2
_DEVCG_MKNOD, _DEVCG_CHAR = 1, 2
_LOAD_WORD, _COPY, _SHIFT_RIGHT, _AND = 0x61, 0xBC, 0x74, 0x54
_UNLESS_EQUAL, _SET, _EXIT = 0x55, 0xB7, 0x95


def rules() -> list[str]:
    """The lines for devices.allow of cgroup v1, after ``a`` went to devices.deny."""
    lines = ["c *:* m", "b *:* m"]
    for major, minor in _ALLOWED:
        lines.append(f"c {major}:{'*' if minor is None else minor} rwm")
    return lines


def load() -> int:
    """A descriptor of the filter as a program in the kernel, for attach()."""
    code = program()
    text = ctypes.create_string_buffer(code, len(code))
    license_ = ctypes.create_string_buffer(b"Apache-2.0")
    return _bpf(
        _PROG_LOAD,
        struct.pack(
            "IIQQIIQI",
            _TYPE_CGROUP_DEVICE,
            len(code) // 8,
            ctypes.addressof(text),
            ctypes.addressof(license_),
            *(0, 0, 0, 0),  # no log
        ),
    )


def attach(loaded: int, group: int) -> None:
    """Make the filter hold for the cgroup v2 directory *group* and all below it."""
    _bpf(_PROG_ATTACH, struct.pack("IIII", group, loaded, _ATTACH_DEVICE, _ALLOW_MULTI))


def program() -> bytes:
    """
    The filter in the kernel's instructions.

    Its argument is struct bpf_cgroup_dev_ctx: access << 16 | type, major, minor.
    """
    access_and_type, access, major, minor = 2, 3, 4, 5  # registers
    code = [
        _instruction(_LOAD_WORD, access_and_type, source=1, offset=0),
        _instruction(_LOAD_WORD, major, source=1, offset=4),
        _instruction(_LOAD_WORD, minor, source=1, offset=8),
        _instruction(_COPY, access, source=access_and_type),
        _instruction(_SHIFT_RIGHT, access, value=16),
        _instruction(_AND, access_and_type, value=0xFFFF),
        *_return_if([(access, _DEVCG_MKNOD)]),
    ]
    for number, other in _ALLOWED:
        tests = [(access_and_type, _DEVCG_CHAR), (major, number)]
        if other is not None:
            tests.append((minor, other))
        code += _return_if(tests)
    code += _return(0)
    return b"".join(code)


def _return_if(tests: list[tuple[int, int]]) -> list[bytes]:
    """Allow if each register has its value."""
    code = [
        # past the tests that are left, and the two instructions of the return
        _instruction(_UNLESS_EQUAL, register, offset=len(tests) - index + 1, value=value)
        for index, (register, value) in enumerate(tests)
    ]
    return code + _return(1)


def _return(value: int) -> list[bytes]:
    return [_instruction(_SET, 0, value=value), _instruction(_EXIT, 0)]


def _instruction(
    code: int, register: int, *, source: int = 0, offset: int = 0, value: int = 0
) -> bytes:
    return struct.pack("BBhi", code, register | source << 4, offset, value)


def _bpf(command: int, attributes: bytes) -> int:
    padded = attributes.ljust(128, b"\0")
    return linux.syscall("bpf", command, padded, len(padded))
