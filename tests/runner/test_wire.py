from __future__ import annotations

import json
import os
from typing import Any

import pytest

from ocispec.errors import Invalid, PybuildError, Unsupported
from runner import wire
from runner.spec import HOST_NETWORK, NO_NETWORK, Mount, Sandbox

_ROOT = (Mount("bind", "/srv", "/"),)


def _sandbox(**changes: Any) -> Sandbox:
    return Sandbox(**{"argv": ("true",), "root": _ROOT, **changes})


def _mounts(*fields: Any) -> dict[str, tuple[Mount, ...]]:
    return {"mounts": (Mount(*fields),)}


def test_strings_that_are_not_utf_8_survive() -> None:
    odd = os.fsdecode(b"\xff\xfe")

    request, _ = wire.encode(_sandbox(argv=("echo", odd), hosts=b"\xff"))

    decoded = json.loads(request)
    assert decoded["argv"] == ["echo", odd]
    assert bytes.fromhex(decoded["files"]["/etc/hosts"]) == b"\xff"


def test_descriptors_are_sent_once_and_in_order() -> None:
    mounts = tuple(Mount("bind", f"fd:{number}", "/m") for number in (9, 7, 9))

    request, descriptors = wire.encode(_sandbox(mounts=mounts))

    assert descriptors == json.loads(request)["fds"] == [7, 9]


def test_capabilities_go_as_a_mask() -> None:
    request, _ = wire.encode(_sandbox(capabilities=frozenset({"CAP_CHOWN", "CAP_KILL"})))

    assert json.loads(request)["capabilities"] == 0b100001


@pytest.mark.parametrize(
    ("changes", "kind"),
    [
        pytest.param({"argv": ()}, Invalid, id="no command"),
        pytest.param({"argv": ("",)}, Invalid, id="empty command"),
        pytest.param({"argv": ("a\0b",)}, Invalid, id="NUL in the command"),
        pytest.param({"env": ("A=\0",)}, Invalid, id="NUL in the environment"),
        pytest.param({"env": ("A",)}, Invalid, id="no equals sign"),
        pytest.param({"env": ("=A",)}, Invalid, id="no name"),
        pytest.param({"cwd": "/\0"}, Invalid, id="NUL in the working directory"),
        pytest.param({"root": ()}, Invalid, id="no root"),
        pytest.param({"root": _ROOT * 2}, Invalid, id="two roots"),
        pytest.param({"root": (Mount("bind", "/srv", "/a"),)}, Invalid, id="root elsewhere"),
        pytest.param(_mounts("bind", "/srv", "a"), Invalid, id="relative target"),
        pytest.param(_mounts("bind", "srv", "/a"), Invalid, id="relative source"),
        pytest.param(_mounts("bind", "fd:x", "/a"), Invalid, id="no descriptor"),
        pytest.param(_mounts("bind", "/srv", "/a", ("shared",)), Invalid, id="unknown option"),
        pytest.param(_mounts("nfs", "srv", "/a"), Unsupported, id="unknown mount type"),
        pytest.param({"rlimits": {"files": (1, 1)}}, Invalid, id="unknown resource limit"),
        pytest.param({"capabilities": frozenset({"CAP_X"})}, Invalid, id="unknown capability"),
        pytest.param({"namespaces": {**HOST_NETWORK, "time": None}}, Unsupported, id="time"),
        pytest.param({"namespaces": {"mount": None}}, Unsupported, id="the host's processes"),
        pytest.param(
            {"namespaces": {**NO_NETWORK, "mount": "/proc/1/ns/mnt"}},
            Unsupported,
            id="other mounts",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(changes: dict[str, Any], kind: type[PybuildError]) -> None:
    with pytest.raises(kind):
        wire.encode(_sandbox(**changes))
