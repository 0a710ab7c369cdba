"""RUN --mount."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from builder.dockerfile.instructions import RunMount
from builder.dockerfile.mounts import expand_mount, parse_mount
from builder.dockerfile.words import expand
from ocispec.errors import Invalid


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("target=/a", {"type": "bind", "target": "/a", "read_only": True}),
        ("type=bind,dst=/a,rw", {"target": "/a", "read_only": False}),
        ("TYPE=BIND,Destination=/a,src=b", {"target": "/a", "source": "b"}),
        ("target=/a,rw,ro", {"target": "/a"}),
        ("target=/a,ro,rw=true", {"target": "/a", "read_only": False}),
        ("target=/a,readonly=0", {"target": "/a", "read_only": False}),
        ("target=/a,from=base", {"target": "/a", "from_": "base"}),
        (
            "type=cache,target=/c,id=x,sharing=LOCKED,mode=0700,uid=1,gid=2",
            {
                "type": "cache",
                "target": "/c",
                "id": "x",
                "sharing": "locked",
                "mode": 0o700,
                "uid": 1,
                "gid": 2,
                "read_only": False,
            },
        ),
        ("type=cache,target=/c,ro", {"type": "cache", "target": "/c"}),
        (
            "type=tmpfs,target=/t,size=64m",
            {"type": "tmpfs", "target": "/t", "size": 64 << 20, "read_only": False},
        ),
        ("size=1,type=tmpfs", {"type": "tmpfs", "size": 1, "read_only": False}),
        ("type=secret,id=k", {"type": "secret", "id": "k"}),
        (
            "type=secret,id=k,env=K,required",
            {"type": "secret", "id": "k", "env": "K", "required": True},
        ),
        (
            "type=secret,target=/run/k,mode=0400",
            {"type": "secret", "target": "/run/k", "mode": 256},
        ),
        ("type=ssh", {"type": "ssh"}),
        ("type=ssh,id=a,required=false", {"type": "ssh", "id": "a"}),
        ('type=bind,"target=/a,b"', {"target": "/a,b"}),
        ('"target=/a""b""c"', {"target": "/abc"}),
        ("target=/a=b", {"target": "/a=b"}),
        ("target=", {}),
    ],
)
def test_a_mount_is_its_fields(text: str, expected: dict[str, object]) -> None:
    assert RunMount(text)._asdict() | expected == parse_mount(text, "\\")._asdict()


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("", "unexpected key '' in ''", "the keys are"),
        ("type=volume", 'unsupported mount type "volume"', "the types are bind"),
        ("type=chache", 'unsupported mount type "chache"', "did you mean cache?"),
        ("tagret=/a", "unexpected key 'tagret' in 'tagret=/a'", "did you mean target?"),
        ("target", "invalid field 'target' must be a key=value pair", ""),
        ("target=/a,", "unexpected key '' in ''", "the keys are"),
        ("target=/a,ro=maybe", "invalid value for readonly: maybe", "write true or false"),
        ("target=/a,required", "unexpected key 'required' for mount type 'bind'", ""),
        ("target=/a,mode=0755", "unexpected key 'mode' for mount type 'bind'", ""),
        ("type=tmpfs,uid=0", "unexpected key 'uid' for mount type 'tmpfs'", ""),
        ("type=bind,sharing=locked", "unexpected key 'sharing' for mount type 'bind'", ""),
        ("type=cache,size=1", "unexpected key 'size' for mount type 'cache'", ""),
        ("type=ssh,env=X", "unexpected key 'env' for mount type 'ssh'", ""),
        ("type=cache,sharing=lock", 'unsupported sharing value "lock"', "did you mean locked?"),
        ("type=cache,mode=0999", "invalid value 0999 for mode", "write an octal mode"),
        ("type=cache,uid=root", "invalid value root for uid", "write a number"),
        ("type=cache,uid=-1", "invalid value -1 for uid", "write a number"),
        ("type=cache,gid=4294967296", "invalid value 4294967296 for gid", "write a number"),
        ("type=tmpfs,size=big", "invalid value for size: big", "write bytes"),
        ("type=secret", "invalid secret mount. one of source, target required", "name the secret"),
        ("type=secret,id=a,src=b", "both source and id can't be set", ""),
        ("type=secret,id=a,from=b", "secret mount should not have a from", ""),
        ('target="a"', 'failed to parse csv mounts: bare " in non-quoted field', ""),
        ('"target=a', 'failed to parse csv mounts: extraneous or missing " in quoted-field', ""),
        ('"target=a"b', 'failed to parse csv mounts: extraneous or missing " in quoted-field', ""),
        ("from=$X", "'from' doesn't support variable expansion", "add a stage"),
    ],
)
def test_a_wrong_mount_is_invalid(text: str, message: str, hint: str) -> None:
    with pytest.raises(Invalid, match=re.escape(message)) as caught:
        parse_mount(text, "\\")

    assert caught.value.hint.startswith(hint)


def test_variables_wait_for_their_values() -> None:
    mount = parse_mount("type=cache,target=$HOME/.cache,from=base,id=${ID:-x}", "\\")
    assert (mount.type, mount.from_, mount.target) == ("cache", "base", "")

    whole = expand_mount(mount, lambda word: expand(word, {"HOME": "/root"}))

    assert whole.target == "/root/.cache"
    assert whole.id == "x"
    assert not whole.read_only


def test_the_key_of_a_mount_with_variables_is_checked_at_once() -> None:
    with pytest.raises(Invalid, match="unexpected key 'tagret'"):
        parse_mount("type=cache,tagret=$HOME", "\\")


def test_a_value_that_turns_out_wrong_is_invalid() -> None:
    mount = parse_mount("type=cache,target=/c,mode=$MODE", "\\")

    with pytest.raises(Invalid, match="invalid value rwx for mode"):
        expand_mount(mount, lambda word: expand(word, {"MODE": "rwx"}))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("0", 0),
        ("1k", 1024),
        ("1K", 1024),
        ("1kb", 1024),
        ("1KiB", 1024),
        ("10b", 10),
        ("1.5 g", 3 << 29),
        (".5m", 1 << 19),
        ("2T", 2 << 40),
        ("1p", 1 << 50),
    ],
)
def test_a_size_is_written_as_docker_writes_it(text: str, expected: int) -> None:
    assert expected == parse_mount(f"type=tmpfs,target=/t,size={text}", "\\").size


@given(st.text(st.sampled_from('abtypesrc=,"$ro\\w01/-{}:') | st.characters(), max_size=40))
def test_any_text_is_a_mount_or_invalid(text: str) -> None:
    with contextlib.suppress(Invalid):
        expand_mount(parse_mount(text, "\\"), lambda word: expand(word, {}))
