from __future__ import annotations

import hashlib
from dataclasses import replace

import pytest

from layers.entry import Entry
from layers.identity import ContentHash, Identity, is_timed_pyc, record

FILE = Entry("d/f", "file", 0o644, 1, 2, 3, 4, xattrs={"user.a": b"1"})
PYC = b"\xa7\r\r\n" + bytes(4) + b"TIME" + b"size" + b"code"


def digest(*entries: Entry, content: str = "c" * 64) -> str:
    identity = Identity()
    for entry in entries:
        identity.add(entry, content)
    return identity.digest()


@pytest.mark.parametrize(
    "other",
    [
        replace(FILE, path="d/g"),
        replace(FILE, kind="link"),
        replace(FILE, mode=0o600),
        replace(FILE, uid=9),
        replace(FILE, gid=9),
        replace(FILE, target="t"),
        replace(FILE, major=9),
        replace(FILE, minor=9),
        replace(FILE, xattrs={}),
        replace(FILE, xattrs={"user.a": b"2"}),
        replace(FILE, xattrs={"user.b": b"1"}),
        replace(FILE, xattrs={"user.a": b"1", "user.b": b""}),
        replace(FILE, path="d", target="/f"),
    ],
)
def test_whatever_differs_but_a_time_makes_another_identity(other: Entry) -> None:
    assert digest(FILE) != digest(other)


def test_other_bytes_make_another_identity() -> None:
    assert digest(FILE) != digest(FILE, content="d" * 64)


def test_another_order_makes_another_identity() -> None:
    assert digest(FILE, replace(FILE, path="x")) != digest(replace(FILE, path="x"), FILE)


def test_times_do_not_matter() -> None:
    assert digest(FILE) == digest(replace(FILE, mtime_ns=99))


def test_the_order_of_xattrs_does_not_matter() -> None:
    one = replace(FILE, xattrs={"user.a": b"1", "user.b": b"2"})
    other = replace(FILE, xattrs={"user.b": b"2", "user.a": b"1"})

    assert digest(one) == digest(other)


def test_records_of_one_entry_are_never_those_of_two() -> None:
    # A name may hold line ends, blanks and digits: all that a record is made of.
    inner = record(replace(FILE, xattrs={}), "").decode()
    forged = replace(FILE, path=f"x\n{inner}")

    assert digest(forged) != digest(replace(FILE, path="x"), replace(FILE, xattrs={}))


def test_records_may_be_given_one_by_one_or_together() -> None:
    entries = [replace(FILE, path=f"f{n}") for n in range(3000)]
    together = Identity()
    together.update(b"".join(record(entry, "c" * 64) for entry in entries))

    assert digest(*entries) == together.digest()


@pytest.mark.parametrize(
    ("path", "head", "expected"),
    [
        ("a.pyc", PYC, True),
        ("d/__pycache__/a.cpython-311.pyc", PYC, True),
        ("a.py", PYC, False),
        ("a.pyc", PYC[:15], False),
        ("a.pyc", b"\xa7\r\r\n" + b"\1\0\0\0" + PYC[8:], False),
        ("a.pyc", b"\xa7\r\r\n" + b"\3\0\0\0" + PYC[8:], False),
        ("a.pyc", b"\xa7\r\0\0" + PYC[4:], False),
        ("a.pyc", b"", False),
    ],
    ids=["old", "new", "no pyc", "short", "unchecked hash", "checked hash", "no magic", "empty"],
)
def test_only_a_pyc_with_its_sources_time_is_one(path: str, head: bytes, expected: bool) -> None:
    assert expected == is_timed_pyc(path, head)


def test_the_time_in_a_pyc_is_a_time() -> None:
    one, other = ContentHash("a.pyc"), ContentHash("a.pyc")
    one.update(PYC)
    other.update(PYC.replace(b"TIME", b"1234"))

    assert one.hexdigest() == other.hexdigest()
    assert one.hexdigest() != hashlib.sha256(PYC).hexdigest()


def test_the_size_and_code_in_a_pyc_are_not() -> None:
    one, other = ContentHash("a.pyc"), ContentHash("a.pyc")
    one.update(PYC)
    other.update(PYC.replace(b"size", b"1234"))

    assert one.hexdigest() != other.hexdigest()


def test_the_digest_of_a_layer_is_known() -> None:
    # Cache records hold identities: another form needs another version in identity.py.
    assert (
        digest(FILE)
        == "sha256:"
        + hashlib.sha256(
            b"pybuild layer identity 1\n"
            b"file 644 1 2 0 0 1 3:d/f 0: " + b"c" * 64 + b"\n6:user.a 1:1\n"
        ).hexdigest()
    )
