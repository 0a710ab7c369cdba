"""An interpreter of classic BPF, as seccomp(2) runs it: to ask a filter what it would do."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import TypeAlias

Program: TypeAlias = list[tuple[int, int, int, int]]


def parse(code: bytes) -> Program:
    """Instructions: code, distance if true, distance if false, value."""
    return list(struct.iter_unpack("HBBI", code))


def run(program: Program, number: int, architecture: int, arguments: Sequence[int] = ()) -> int:
    """What the filter returns for a system call. AssertionError for what a kernel would refuse."""
    padded = [*arguments, *[0] * (6 - len(arguments))]
    data = struct.pack("IIQ6Q", number, architecture, 0, *padded)
    at, loaded = 0, 0
    scratch = [0] * 16
    while True:
        assert 0 <= at < len(program), "jumps out of the program"
        code, if_true, if_false, value = program[at]
        at += 1
        match code:
            case 0x20:
                assert value % 4 == 0
                (loaded,) = struct.unpack_from("I", data, value)
            case 0x54:
                loaded &= value
            case 0x05:
                at += value
            case 0x15:
                at += if_true if loaded == value else if_false
            case 0x25:
                at += if_true if loaded > value else if_false
            case 0x35:
                at += if_true if loaded >= value else if_false
            case 0x02:
                scratch[value] = loaded
            case 0x60:
                loaded = scratch[value]
            case 0x06:
                return value
            case _:
                raise AssertionError(f"instruction {code:#x}")
