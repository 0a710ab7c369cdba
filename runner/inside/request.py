"""
What the zygote and its caller agree on.

The form of a request is for the type checker only: typing is slow to import.
"""

from __future__ import annotations

CONTROL, INTERPRETER = 3, 4  # descriptors that the zygote starts with

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import TypedDict

    class MountRequest(TypedDict):
        type: str
        source: str
        target: str
        options: list[str]

    class LimitsRequest(TypedDict):
        memory: int | None
        swap: int | None
        pids: int | None
        cpus: float | None

    class Request(TypedDict):
        argv: list[str]
        env: list[str]
        cwd: str
        uid: int
        gid: int
        groups: list[int]
        root: MountRequest
        mounts: list[MountRequest]
        fds: list[int]  # the caller's numbers of the extra descriptors, in the order sent
        namespaces: dict[str, str | None]
        capabilities: int  # a mask
        filter: str  # seccomp program, in hex; empty: none
        no_new_privs: bool
        hostname: str
        read_only: bool
        rlimits: list[tuple[str, int, int, int]]  # name, RLIMIT_ number, soft, hard
        files: dict[str, str]  # target -> content in hex; read-only
        terminal: bool
        timeout: float | None
        grace: float
        shm_size: int
        limits: LimitsRequest
        masked_paths: list[str]
        readonly_paths: list[str]
