from __future__ import annotations

import errno
import json
import os
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from support import bpf as interpreter
from support.elf import call32, call64
from support.rootfs import TinyRoot, run

from ocispec.errors import Unsupported
from runner import bpf, seccomp
from runner.capabilities import ALL_CAPABILITIES, DEFAULT_CAPABILITIES
from runner.namespace import NamespaceRunner

_FOLDER = Path(seccomp.__file__).parent
_PROFILE_DOCUMENT: dict[str, Any] = json.loads((_FOLDER / "seccomp_profile.json").read_bytes())
_PROFILE = seccomp.Profile.load(_PROFILE_DOCUMENT)
_TABLE: dict[str, Any] = json.loads((_FOLDER / "syscalls.json").read_bytes())
_AUDIT = {"x86_64": 0xC000003E, "i386": 0x40000003, "aarch64": 0xC00000B7, "arm": 0x40000028}
_ARCHITECTURES = [
    ("x86_64", "x86_64"),
    ("x86_64", "i386"),
    ("aarch64", "aarch64"),
    ("aarch64", "arm"),
]
_CAPABILITIES = {
    "docker": DEFAULT_CAPABILITIES,
    "none": frozenset[str](),
    "all": ALL_CAPABILITIES,
    "admin": DEFAULT_CAPABILITIES | {"CAP_SYS_ADMIN"},
}
_SAMPLES = (0, 1, 2, 8, 16, 17, 38, 39, 40, 41, 131072, 131080, 0x10000000, 0x20011, 0xFFFFFFFF)
_EPERM, _ENOSYS = bpf.errno(errno.EPERM), bpf.errno(errno.ENOSYS)


def _numbers(architecture: str) -> dict[str, int]:
    column = _TABLE["architectures"].index(architecture)
    return {name: row[column] for name, row in _TABLE["numbers"].items() if row[column] is not None}


def _holds(test: bpf.Condition, value: int) -> bool:
    value &= test.mask
    if test.equals is not None:
        return value == test.equals
    if test.above is not None:
        return value > test.above
    assert test.below is not None
    return value < test.below


def _expected(action: bpf.Action, value: int) -> int:
    if isinstance(action, int):
        return action
    return bpf.ALLOW if any(_holds(test, value & 0xFFFFFFFF) for test in action) else _EPERM


def test_every_call_in_the_profile_is_in_the_table() -> None:
    named = _PROFILE.allow | _PROFILE.unknown | _PROFILE.allow_if.keys()
    named |= frozenset[str]().union(*_PROFILE.allow_with.values())

    assert set() == named - _TABLE["numbers"].keys()


def test_every_capability_in_the_profile_is_one() -> None:
    assert set() == _PROFILE.allow_with.keys() - ALL_CAPABILITIES


@pytest.mark.parametrize("architecture", _AUDIT)
def test_names_of_one_number_have_one_action(architecture: str) -> None:
    actions: dict[int, set[bpf.Action]] = {}
    for name, number in _numbers(architecture).items():
        actions.setdefault(number, set()).add(_PROFILE.action(name, DEFAULT_CAPABILITIES))

    assert [number for number, found in actions.items() if len(found) > 1] == []


@pytest.mark.parametrize("capabilities", _CAPABILITIES.values(), ids=_CAPABILITIES.keys())
@pytest.mark.parametrize(("machine", "architecture"), _ARCHITECTURES)
def test_the_program_does_what_the_profile_says(
    machine: str, architecture: str, capabilities: frozenset[str]
) -> None:
    program = interpreter.parse(seccomp.program(capabilities, machine))
    numbers = {number: name for name, number in _numbers(architecture).items()}
    differences = []
    for number in [*range(1100), *numbers, 0x3FFFFFFF]:
        name = numbers.get(number)
        action = _PROFILE.action(name, capabilities) if name else _ENOSYS
        samples = (0,) if isinstance(action, int) else _SAMPLES
        for value in samples:
            found = interpreter.run(program, number, _AUDIT[architecture], [value])
            if found != _expected(action, value):
                differences.append((number, name, value, hex(found)))

    assert differences == []


@pytest.mark.parametrize("number", [0x40000000, 0x40000000 + 59, 0x7FFFFFFF, 0xFFFFFFFF])
def test_x32_calls_do_not_exist(number: int) -> None:
    program = interpreter.parse(seccomp.program(ALL_CAPABILITIES, "x86_64"))

    assert interpreter.run(program, number, _AUDIT["x86_64"]) == _ENOSYS


def test_a_foreign_architecture_may_do_nothing() -> None:
    program = interpreter.parse(seccomp.program(ALL_CAPABILITIES, "x86_64"))

    assert interpreter.run(program, 0, _AUDIT["aarch64"]) == _EPERM


@pytest.mark.parametrize("family", [38, 40], ids=["AF_ALG", "AF_VSOCK"])
def test_the_upper_half_of_an_argument_hides_nothing(family: int) -> None:
    program = interpreter.parse(seccomp.program(DEFAULT_CAPABILITIES, "x86_64"))

    found = interpreter.run(program, 41, _AUDIT["x86_64"], [family | 1 << 32])

    assert found == _EPERM


def test_a_machine_without_a_table_is_unsupported() -> None:
    with pytest.raises(Unsupported):
        seccomp.program(DEFAULT_CAPABILITIES, "sparc64")


@pytest.mark.skipif(os.uname().machine != "x86_64", reason="the test programs are for x86_64")
class TestInTheKernel:
    @pytest.mark.parametrize(
        ("number", "arguments", "code"),
        [
            pytest.param(41, (38, 5, 0), errno.EPERM, id="socket AF_ALG"),
            pytest.param(41, (40, 1, 0), errno.EPERM, id="socket AF_VSOCK"),
            pytest.param(41, (1, 1, 0), 0, id="socket AF_UNIX"),
            pytest.param(425, (1, 0), errno.EPERM, id="io_uring_setup"),
            pytest.param(250, (0, 0), errno.EPERM, id="keyctl"),
            pytest.param(321, (0, 0, 0), errno.EPERM, id="bpf"),
            pytest.param(272, (0x10000000,), errno.EPERM, id="unshare"),
            pytest.param(56, (0x10000000,), errno.EPERM, id="clone NEWUSER"),
            pytest.param(435, (0, 0), errno.ENOSYS, id="clone3"),
            pytest.param(165, (0, 0, 0), errno.EPERM, id="mount"),
            pytest.param(135, (8,), 0, id="personality"),
            pytest.param(135, (0x40000,), errno.EPERM, id="personality without ASLR"),
            pytest.param(1000, (), errno.ENOSYS, id="unknown"),
            pytest.param(0x40000000 + 39, (), errno.ENOSYS, id="x32 getpid"),
        ],
    )
    def test_a_64_bit_call(
        self,
        runner: NamespaceRunner,
        root: TinyRoot,
        number: int,
        arguments: tuple[int, ...],
        code: int,
    ) -> None:
        _install(root, call64(number, *arguments))

        assert run(runner, root.sandbox("/call")).status == code

    @pytest.mark.parametrize(
        ("number", "arguments", "code"),
        [
            pytest.param(20, (), 0, id="getpid"),
            pytest.param(359, (38, 5, 0), errno.EPERM, id="socket AF_ALG"),
            pytest.param(310, (0x10000000,), errno.EPERM, id="unshare"),
        ],
    )
    def test_a_32_bit_call(
        self,
        runner: NamespaceRunner,
        root: TinyRoot,
        number: int,
        arguments: tuple[int, ...],
        code: int,
    ) -> None:
        _install(root, call32(number, *arguments))

        assert run(runner, root.sandbox("/call")).status == code

    def test_without_the_profile_the_calls_are_there(
        self, runner: NamespaceRunner, root: TinyRoot
    ) -> None:
        _install(root, call64(435, 0, 0))

        result = run(runner, root.sandbox("/call", seccomp=False))

        assert result.status == errno.EINVAL


def _install(root: TinyRoot, program: bytes) -> None:
    (root.top / "call").write_bytes(program)
    (root.top / "call").chmod(0o755)


# Sys V IPC and sockets have two ways each on i386; libseccomp names the one, the kernel has both.
_MULTIPLEXED = {102, 117, 337, 345, *range(359, 374), *range(393, 403)}
_LIBSECCOMP_NAMES = {"x86_64": "x86_64", "i386": "x86", "aarch64": "aarch64", "arm": "arm"}


@pytest.mark.oracle
@pytest.mark.parametrize("capabilities", _CAPABILITIES.values(), ids=_CAPABILITIES.keys())
@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_libseccomp_makes_a_program_that_does_the_same(
    machine: str, capabilities: frozenset[str]
) -> None:
    ours = interpreter.parse(seccomp.program(capabilities, machine))
    both = [architecture for own, architecture in _ARCHITECTURES if own == machine]
    code, unknown = _libseccomp(both, capabilities)
    theirs = interpreter.parse(code)
    differences = []
    for architecture in both:
        for name, number in _numbers(architecture).items():
            if name in unknown or (architecture == "i386" and number in _MULTIPLEXED):
                continue
            for value in _SAMPLES:
                call = number, _AUDIT[architecture], [value]
                if (found := interpreter.run(ours, *call)) != interpreter.run(theirs, *call):
                    differences.append((architecture, name, value, hex(found)))

    assert differences == []


def _libseccomp(architectures: list[str], capabilities: frozenset[str]) -> tuple[bytes, set[str]]:
    python = "/usr/bin/python3"
    if subprocess.run(
        [python, "-c", "import seccomp"], capture_output=True, check=False
    ).returncode:
        pytest.skip(f"needs the module seccomp for {python} (Debian: python3-seccomp)")
    rules: list[tuple[str, int, list[tuple[int, str, list[int]]]]] = []
    for name in _TABLE["numbers"]:
        action = _PROFILE.action(name, capabilities)
        if isinstance(action, int):
            if action != _EPERM:  # what libseccomp does with the rest
                rules.append((name, 0 if action == bpf.ALLOW else errno.ENOSYS, []))
        else:
            rules += [(name, 0, [_comparison(test)]) for test in action]
    request = {
        "architectures": [_LIBSECCOMP_NAMES[name] for name in architectures],
        "otherwise": errno.EPERM,
        "rules": rules,
    }
    script = Path(__file__).parents[1] / "support/libseccomp_export.py"
    done = subprocess.run(
        [python, script], input=json.dumps(request).encode(), capture_output=True, check=True
    )
    return done.stdout, set(done.stderr.decode().split())


def _comparison(test: bpf.Condition) -> tuple[int, str, list[int]]:
    if test.equals is not None:
        return test.argument, "&==", [test.mask, test.equals]
    if test.below is not None:
        return test.argument, "<", [test.below]
    assert test.above is not None
    return test.argument, ">", [test.above]


_CONTAINERS = Path("/usr/share/containers/seccomp.json")
# What podman's profile leaves to the kernel's own checks and Docker's does not.
_STRICTER = set(
    """
    fsconfig fsmount fsopen fspick get_mempolicy keyctl mbind mount mount_setattr move_mount
    open_tree pidfd_getfd pivot_root reboot set_mempolicy setns syslog umount umount2 unshare
    clone3
    """.split()  # noqa: SIM905
)
# Calls that are not on our architectures, and one that is not a call.
_ELSEWHERE = {"readdir", "s390_pci_mmio_read", "s390_pci_mmio_write", "s390_runtime_instr"}
_ELSEWHERE |= {"syscall", "timerfd"}
# Docker allows these; most are younger than Debian's copy of podman's profile.
_WIDER = set(
    """
    cachestat fchmodat2 futex_requeue futex_wait futex_waitv futex_wake getxattrat io_pgetevents
    io_pgetevents_time64 listxattrat map_shadow_stack mseal removexattrat setxattrat vmsplice
    """.split()  # noqa: SIM905
)


@pytest.mark.oracle
def test_podman_s_profile_allows_the_same_but_for_what_is_known() -> None:
    theirs = {name for rule in _podman_rules() for name in rule["names"]}
    ours = {*_PROFILE.allow, *_PROFILE.allow_if}

    assert (theirs - ours, ours - theirs) == (_STRICTER | _ELSEWHERE, _WIDER)


def _podman_rules() -> Iterator[dict[str, Any]]:
    if not _CONTAINERS.exists():
        pytest.skip(f"needs {_CONTAINERS} (Debian: golang-github-containers-common)")
    for rule in json.loads(_CONTAINERS.read_bytes())["syscalls"]:
        if rule["action"] == "SCMP_ACT_ALLOW" and not rule.get("includes", {}).get("caps"):
            yield rule
