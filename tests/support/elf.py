"""The smallest programs for x86: one system call, whose error number is the exit status."""

from __future__ import annotations

import struct

_BASE = 0x400000


def call64(number: int, *arguments: int) -> bytes:
    """A 64-bit program that makes a system call and exits with its errno, or 0."""
    # mov to rdi, rsi, rdx, r10, r8, r9
    registers = (b"\x48\xbf", b"\x48\xbe", b"\x48\xba", b"\x49\xba", b"\x49\xb8", b"\x49\xb9")
    code = b"".join(
        load + struct.pack("<Q", value) for load, value in zip(registers, arguments, strict=False)
    )
    code += b"\x48\xb8" + struct.pack("<Q", number) + b"\x0f\x05"  # mov rax, number; syscall
    code += b"\x48\x85\xc0\x79\x05"  # test rax, rax; jns past the next two
    code += b"\x48\xf7\xd8\xeb\x02"  # neg rax; jmp past the next
    code += b"\x31\xc0"  # xor eax, eax
    code += b"\x89\xc7\xb8\x3c\x00\x00\x00\x0f\x05"  # mov edi, eax; mov eax, 60 (exit); syscall
    header = b"\x7fELF\x02\x01\x01" + bytes(9)
    entry = _BASE + 64 + 56
    header += struct.pack("<HHIQQQIHHHHHH", 2, 62, 1, entry, 64, 0, 0, 64, 56, 1, 0, 0, 0)
    size = 64 + 56 + len(code)
    segment = struct.pack("<IIQQQQQQ", 1, 5, 0, _BASE, _BASE, size, size, 0x1000)
    return header + segment + code


def call32(number: int, *arguments: int) -> bytes:
    """The same for 32 bits, by int 0x80."""
    loads = (b"\xbb", b"\xb9", b"\xba", b"\xbe", b"\xbf")  # mov to ebx, ecx, edx, esi, edi
    code = b"".join(
        load + struct.pack("<I", value) for load, value in zip(loads, arguments, strict=False)
    )
    code += b"\xb8" + struct.pack("<I", number) + b"\xcd\x80"  # mov eax, number; int 0x80
    code += b"\x85\xc0\x79\x04"  # test eax, eax; jns past the next two
    code += b"\xf7\xd8\xeb\x02"  # neg eax; jmp past the next
    code += b"\x31\xc0"  # xor eax, eax
    code += b"\x89\xc3\xb8\x01\x00\x00\x00\xcd\x80"  # mov ebx, eax; mov eax, 1 (exit); int 0x80
    header = b"\x7fELF\x01\x01\x01" + bytes(9)
    entry = _BASE + 52 + 32
    header += struct.pack("<HHIIIIIHHHHHH", 2, 3, 1, entry, 52, 0, 0, 52, 32, 1, 0, 0, 0)
    size = 52 + 32 + len(code)
    segment = struct.pack("<IIIIIIII", 1, 0, _BASE, _BASE, size, size, 5, 0x1000)
    return header + segment + code
