"""
Decisions about system calls as a classic BPF program (seccomp(2), linux/filter.h).

Code is put together from pieces whose jumps stay inside the piece, so that a piece is its bytes.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TypeAlias

ALLOW = 0x7FFF0000  # SECCOMP_RET_ALLOW
MAX_INSTRUCTIONS = 4096  # linux/bpf_common.h, BPF_MAXINSNS

_LOAD, _AND, _JUMP, _RETURN = 0x20, 0x54, 0x05, 0x06
_IF_EQUAL, _IF_ABOVE, _IF_NOT_BELOW = 0x15, 0x25, 0x35
_SIZE = 8  # bytes of one instruction
_FARTHEST = 255  # instructions that a conditional jump can skip
# struct seccomp_data: nr, arch, instruction pointer, six arguments of 64 bits
_NUMBER, _ARCHITECTURE, _ARGUMENTS = 0, 4, 16


@dataclass(frozen=True, slots=True)
class Condition:
    """
    A test of the lower 32 bits of one argument.

    The arguments that matter are ints to the kernel, which drops the upper bits; to compare those,
    too, would let them hide what is asked for.
    """

    argument: int
    mask: int = 0xFFFFFFFF
    equals: int | None = None
    below: int | None = None
    above: int | None = None


# What the filter returns; or alternatives, of which one must hold for ALLOW, and else EPERM.
Action: TypeAlias = int | tuple[Condition, ...]


def errno(code: int) -> int:
    """The return value that makes a call fail with *code*."""
    return 0x00050000 | code  # SECCOMP_RET_ERRNO


def choose(actions: Mapping[int, Action], otherwise: int) -> bytes:
    """A piece that loads the call's number and does what *actions* says, else *otherwise*."""
    ranges: list[tuple[int, Action]] = [(0, otherwise)]  # each up to the next one's start
    for number in sorted(actions):
        if ranges[-1][0] == number:
            ranges.pop()
        _append(ranges, number, actions[number])
        ranges.append((number + 1, otherwise))
    merged: list[tuple[int, Action]] = []
    for start, action in ranges:
        _append(merged, start, action)
    return _instruction(_LOAD, _NUMBER) + _search(merged)


def refuse_from(number: int, answer: int) -> bytes:
    """A piece that returns *answer* for calls numbered *number* and above, and else goes on."""
    return (
        _instruction(_LOAD, _NUMBER)
        + _instruction(_IF_NOT_BELOW, number, 0, 1)
        + _instruction(_RETURN, answer)
    )


def dispatch(pieces: Mapping[int, bytes], otherwise: int) -> bytes:
    """The program: the piece for the architecture that the call was made for."""
    program = _instruction(_LOAD, _ARCHITECTURE)
    for architecture, piece in pieces.items():
        program += _if(_IF_EQUAL, architecture, piece, b"")
    program += _instruction(_RETURN, otherwise)
    assert len(program) <= MAX_INSTRUCTIONS * _SIZE
    return program


def _append(ranges: list[tuple[int, Action]], start: int, action: Action) -> None:
    if not ranges or ranges[-1][1] != action:
        ranges.append((start, action))


def _search(ranges: Sequence[tuple[int, Action]]) -> bytes:
    if len(ranges) == 1:
        return _act(ranges[0][1])
    middle = len(ranges) // 2
    return _if(_IF_NOT_BELOW, ranges[middle][0], _search(ranges[middle:]), _search(ranges[:middle]))


def _act(action: Action) -> bytes:
    if isinstance(action, int):
        return _instruction(_RETURN, action)
    code = b"".join(_allow_if(condition) for condition in action)
    return code + _instruction(_RETURN, errno(1))


def _allow_if(condition: Condition) -> bytes:
    """ALLOW if it holds, else on to what follows."""
    allow = _instruction(_RETURN, ALLOW)
    # The lower half comes first: both architectures here are little-endian.
    code = _instruction(_LOAD, _ARGUMENTS + 8 * condition.argument)
    code += _instruction(_AND, condition.mask)
    if condition.equals is not None:
        return code + _if(_IF_EQUAL, condition.equals, allow, b"")
    if condition.above is not None:
        return code + _if(_IF_ABOVE, condition.above, allow, b"")
    assert condition.below is not None
    return code + _instruction(_IF_NOT_BELOW, condition.below, 1, 0) + allow


def _if(test: int, value: int, then: bytes, rest: bytes) -> bytes:
    """*then*, which returns, if the loaded value passes; else *rest* or what follows."""
    distance = len(then) // _SIZE
    if distance <= _FARTHEST:
        return _instruction(test, value, 0, distance) + then + rest
    return _instruction(test, value, 1, 0) + _instruction(_JUMP, distance) + then + rest


def _instruction(code: int, value: int, if_true: int = 0, if_false: int = 0) -> bytes:
    return struct.pack("HBBI", code, if_true, if_false, value)
