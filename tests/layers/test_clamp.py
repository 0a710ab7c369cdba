from __future__ import annotations

import hashlib
import importlib.util
import io
import os
import py_compile
import struct
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from support.tars import DIR, FILE, SYMLINK, member, tar

from layers.clamp import clamp, source_of
from layers.compress import decompressor
from layers.entry import Entry
from layers.layerwrite import LayerWriter, WrittenLayer
from layers.session import Session
from layers.store import Store
from layers.tarread import tar_entries
from ocispec import mediatypes
from ocispec.digest import DiffID, Digest
from ocispec.errors import Corrupt
from ocispec.model import Layer

EPOCH = 1_500_000_000
LATER = 1_600_000_000
EARLIER = 1_400_000_000
SECOND = 10**9

Files = dict[str, tuple[int, bytes]]  # path -> seconds, content


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store.at(tmp_path / "store")


@pytest.fixture
def session(store: Store) -> Iterator[Session]:
    with store.session() as session:
        yield session


def pyc(seconds: int, flags: int = 0) -> bytes:
    head = struct.pack("<II", flags, seconds) + struct.pack("<I", 7)
    return importlib.util.MAGIC_NUMBER + head + b"code"


def write(session: Session, files: Files) -> WrittenLayer:
    with LayerWriter(session) as out:
        for path, (seconds, data) in files.items():
            out.add(Entry(path, "file", size=len(data), mtime_ns=seconds * SECOND), data)
        return out.finish()


def contents(store: Store, layer: Layer) -> dict[str, tuple[int, bytes]]:
    raw = store.open(layer.blob)
    found = {
        entry.path: (entry.mtime_ns // SECOND, data.read())
        for entry, data in tar_entries(decompressor(layer.blob.media_type, raw))
    }
    raw.close()
    return found


def foreign(session: Session, data: io.BytesIO) -> Layer:
    """A layer as another tool made it, stored as it came."""
    blob = session.put_bytes(mediatypes.OCI_LAYER, data.getvalue())
    return Layer(DiffID(blob.digest), blob.digest, blob)


def test_later_times_become_the_epoch_and_earlier_ones_stay(store: Store, session: Session) -> None:
    layer = write(session, {"a": (EARLIER, b"1"), "b": (LATER, b"2"), "c": (EPOCH, b"3")}).layer
    clamped = clamp(layer, EPOCH, store, session)

    assert contents(store, clamped.layer) == {
        "a": (EARLIER, b"1"),
        "b": (EPOCH, b"2"),
        "c": (EPOCH, b"3"),
    }
    assert clamped.newest == EPOCH


def test_the_identity_stays_and_the_diff_id_does_not(store: Store, session: Session) -> None:
    files = {"d/a.py": (LATER, b"x"), "d/__pycache__/a.cpython-311.pyc": (LATER, pyc(LATER))}
    written = write(session, files)
    clamped = clamp(written.layer, EPOCH, store, session)

    assert written.layer.identity == clamped.layer.identity
    assert written.layer.diff_id != clamped.layer.diff_id
    assert (written.size, written.entries) == (clamped.size, clamped.entries)


def test_a_cached_layer_is_as_one_written_at_the_epoch(store: Store, session: Session) -> None:
    def files(seconds: int) -> Files:
        return {
            "a.py": (seconds, b"x"),
            "a.pyc": (seconds, pyc(seconds)),
            "p/b.py": (EARLIER, b"y"),
            "p/__pycache__/b.cpython-311.pyc": (seconds, pyc(EARLIER)),
            "p/c.py": (seconds, b"z"),
            "p/__pycache__/c.cpython-311.opt-1.pyc": (seconds, pyc(seconds)),
            "big": (seconds, bytes(9_000_000)),
        }

    later = write(session, files(LATER)).layer

    assert write(session, files(EPOCH)) == clamp(later, EPOCH, store, session)


def test_clamping_twice_is_clamping_once(store: Store, session: Session) -> None:
    once = clamp(write(session, {"a": (LATER, b"1")}).layer, EPOCH, store, session)

    assert once == clamp(once.layer, EPOCH, store, session)


def test_a_layer_without_later_times_is_given_back(store: Store, session: Session) -> None:
    written = write(session, {"a": (EPOCH, b"1"), "b": (EARLIER, b"2")})
    blobs = os.listdir(store.root / "blobs/sha256")

    assert written == clamp(written.layer, EPOCH, store, session)
    assert blobs == os.listdir(store.root / "blobs/sha256")


@pytest.mark.parametrize(
    ("source", "compiled", "expected"),
    [
        ((LATER, b"x"), pyc(LATER), pyc(EPOCH)),
        ((EARLIER, b"x"), pyc(EARLIER), pyc(EARLIER)),
        ((EARLIER, b"x"), pyc(LATER), pyc(LATER)),
        ((LATER, b"x"), pyc(LATER - 1), pyc(LATER - 1)),
        ((LATER, b"x"), pyc(LATER, flags=1), pyc(LATER, flags=1)),
        ((LATER, b"x"), pyc(LATER, flags=3), pyc(LATER, flags=3)),
        (None, pyc(LATER), pyc(LATER)),
        ((LATER, b"x"), b"short", b"short"),
    ],
    ids=[
        "follows",
        "source kept",
        "stale",
        "stale by a second",
        "by hash",
        "checked hash",
        "no source",
        "no pyc",
    ],
)
def test_the_time_in_a_pyc_follows_its_source(
    store: Store,
    session: Session,
    source: tuple[int, bytes] | None,
    compiled: bytes,
    expected: bytes,
) -> None:
    files: Files = {"p/__pycache__/m.cpython-311.pyc": (LATER, compiled)}
    if source is not None:
        files["p/m.py"] = source
    clamped = clamp(write(session, files).layer, EPOCH, store, session)

    assert expected == contents(store, clamped.layer)["p/__pycache__/m.cpython-311.pyc"][1]


@pytest.mark.parametrize(
    ("links", "expected"),
    [
        ({"p/m.py": "real.py"}, EPOCH),
        ({"p/m.py": "/p/./real.py"}, EPOCH),
        ({"p/m.py": "../q/n.py", "q/n.py": "../p/real.py"}, EPOCH),
        ({"p/m.py": "elsewhere.py"}, LATER),
        ({"p/m.py": "m.py"}, LATER),
        ({"p/m.py": "../../../real.py"}, LATER),
    ],
    ids=["beside", "absolute", "two links", "nowhere", "a loop", "above the root"],
)
def test_a_source_may_be_a_link_to_where_its_bytes_are(
    store: Store, session: Session, links: dict[str, str], expected: int
) -> None:
    # Debian has such: sitecustomize.py leads to /etc/python3.
    name, compiled = "p/__pycache__/m.cpython-311.pyc", pyc(LATER)
    with LayerWriter(session) as out:
        out.add(Entry(name, "file", size=len(compiled), mtime_ns=LATER * SECOND), compiled)
        out.add(Entry("p/real.py", "file", size=1, mtime_ns=LATER * SECOND), b"x")
        for link, target in links.items():
            out.add(Entry(link, "symlink", target=target, mtime_ns=EARLIER * SECOND))
        written = out.finish()

    clamped = clamp(written.layer, EPOCH, store, session)

    assert pyc(expected) == contents(store, clamped.layer)[name][1]


def test_python_does_not_compile_anew_what_was_clamped(
    store: Store, session: Session, tmp_path: Path
) -> None:
    source = tmp_path / "in" / "m.py"
    source.parent.mkdir()
    source.write_text("x = 1\n")
    os.utime(source, (LATER, LATER))
    compiled = Path(py_compile.compile(os.fspath(source), doraise=True) or "")
    name = f"__pycache__/{compiled.name}"
    files = {"m.py": (LATER, source.read_bytes()), name: (LATER, compiled.read_bytes())}
    clamped = clamp(write(session, files).layer, EPOCH, store, session)
    out = tmp_path / "out"
    for path, (seconds, data) in contents(store, clamped.layer).items():
        (out / path).parent.mkdir(parents=True, exist_ok=True)
        (out / path).write_bytes(data)
        os.utime(out / path, (seconds, seconds))
    said = subprocess.run(
        [sys.executable, "-v", "-c", "import m"],
        cwd=out,
        capture_output=True,
        text=True,
        check=True,
    ).stderr

    assert f"matches {out}/m.py" in said
    assert "# wrote" not in said


@pytest.mark.parametrize(
    ("path", "expected"),
    [
        ("a/m.pyc", "a/m.py"),
        ("m.pyc", "m.py"),
        ("a/__pycache__/m.cpython-311.pyc", "a/m.py"),
        ("a/__pycache__/m.cpython-311.opt-2.pyc", "a/m.py"),
        ("__pycache__/m.cpython-311.pyc", "m.py"),
        ("a/m.py", None),
        ("a/__pycache__", None),
    ],
)
def test_the_source_of_a_pyc_is_where_python_looks(path: str, expected: str | None) -> None:
    assert expected == source_of(path)


def test_marks_of_deletion_are_kept(store: Store, session: Session) -> None:
    with LayerWriter(session) as out:
        out.whiteout("gone")
        out.opaque("d")
        out.add(Entry("f", "file", mtime_ns=LATER * SECOND))
        written = out.finish()
    clamped = clamp(written.layer, EPOCH, store, session)

    assert {".wh.gone", "d/.wh..wh..opq", "f"} == set(contents(store, clamped.layer))
    assert written.layer.identity == clamped.layer.identity


def test_parts_of_a_second_after_the_epoch_are_later(store: Store, session: Session) -> None:
    layer = foreign(session, tar(member("f", records={b"mtime": b"%d.5" % EPOCH})))
    clamped = clamp(layer, EPOCH, store, session)

    assert contents(store, clamped.layer) == {"f": (EPOCH, b"")}
    assert layer.diff_id != clamped.layer.diff_id


def test_a_foreign_layer_keeps_what_a_layer_can_say(store: Store, session: Session) -> None:
    layer = foreign(
        session,
        tar(
            member("d", DIR, mode=0o1777, uid=5, records={b"SCHILY.xattr.user.a": b"1"}),
            member("f", FILE, b"text", gid=6, records={b"SCHILY.xattr.security.selinux": b"x"}),
            member("l", SYMLINK, link="t" * 200),
        ),
    )
    clamped = clamp(layer, EPOCH, store, session)
    raw = store.open(clamped.layer.blob)
    entries = [entry for entry, _ in tar_entries(raw)]
    raw.close()

    at = EPOCH * SECOND
    assert [
        Entry("d", "dir", 0o1777, 5, mtime_ns=at, xattrs={"user.a": b"1"}),
        Entry("f", "file", 0o644, 0, 6, 4, at),
        Entry("l", "symlink", mtime_ns=at, target="t" * 200),
    ] == entries
    assert clamped.layer.blob.media_type == mediatypes.OCI_LAYER


def test_a_blob_that_is_not_the_layers_is_refused(store: Store, session: Session) -> None:
    layer = write(session, {"a": (LATER, b"1")}).layer
    other = DiffID(Digest("sha256:" + hashlib.sha256(b"other").hexdigest()))
    with pytest.raises(Corrupt, match="its tar hashes to"):
        clamp(replace(layer, diff_id=other), EPOCH, store, session)
    store.path(layer.blob.digest).chmod(0o600)
    data = bytearray(store.path(layer.blob.digest).read_bytes())
    data[-1] ^= 1
    store.path(layer.blob.digest).write_bytes(data)
    with pytest.raises(Corrupt):
        clamp(layer, EPOCH, store, session)
