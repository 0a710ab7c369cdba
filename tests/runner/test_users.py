"""Users come from the image's own files, which may be anything."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ocispec.errors import Invalid
from runner.users import MAX_FILE, User, lookup_user

PASSWD = """\
root:x:0:0:root:/root:/bin/sh
# comment:x:7:7::/:/
daemon:x:1:1::/usr/sbin:/usr/sbin/nologin
www-data:x:33:33:www:/var/www:/bin/sh
twin:x:33:44:second of that number:/home/twin:/bin/sh
42:x:1042:1042:a name of digits:/home/42:/bin/sh
homeless:x:50:50:::
broken:x:many:1::/:/
short:x:9
huge:x:99999999999:1::/:/
"""
GROUP = """\
root:x:0:
daemon:x:1:
www-data:x:33:
staff:x:50:root,www-data
audio:x:29:www-data
7:x:107:
broken:x:nine:root
"""


@pytest.fixture
def root(tmp_path: Path) -> Iterator[int]:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_text(PASSWD)
    (tmp_path / "etc/group").write_text(GROUP)
    fd = os.open(tmp_path, os.O_RDONLY | os.O_DIRECTORY)
    yield fd
    os.close(fd)


@pytest.mark.parametrize(
    ("spec", "user"),
    [
        ("", User(0, 0, (50,), "/root")),
        ("root", User(0, 0, (50,), "/root")),
        ("0", User(0, 0, (50,), "/root")),
        ("daemon", User(1, 1, (), "/usr/sbin")),
        ("www-data", User(33, 33, (29, 50), "/var/www")),
        ("33", User(33, 33, (29, 50), "/var/www")),
        ("twin", User(33, 44, (), "/home/twin")),
        ("42", User(1042, 1042, (), "/home/42")),
        ("homeless", User(50, 50, (), "/")),
        ("1234", User(1234, 0, (), "/")),
        ("1234:77", User(1234, 77, (), "/")),
        ("www-data:audio", User(33, 29, (), "/var/www")),
        ("www-data:7", User(33, 107, (), "/var/www")),
        ("root:", User(0, 0, (50,), "/root")),
        (":audio", User(0, 29, (), "/root")),
        ("2147483647", User(2147483647, 0, (), "/")),
    ],
    ids=repr,
)
def test_a_user_is_found_by_name_or_number(root: int, spec: str, user: User) -> None:
    assert user == lookup_user(root, spec)


@pytest.mark.parametrize(
    ("spec", "part"),
    [
        ("nobody", "unable to find user nobody"),
        ("broken", "unable to find user broken"),
        ("short", "unable to find user short"),
        ("huge", "unable to find user huge"),
        ("# comment", "unable to find user # comment"),
        ("root:nobody", "unable to find group nobody"),
        ("root:broken", "unable to find group broken"),
        ("2147483648", "ids go from 0 to 2147483647"),
        ("root:2147483648", "ids go from 0 to 2147483647"),
        ("-1", "unable to find user -1"),
        ("٣", "unable to find user ٣"),
    ],
    ids=repr,
)
def test_what_is_not_in_the_files_is_an_error(root: int, spec: str, part: str) -> None:
    with pytest.raises(Invalid, match=part):
        lookup_user(root, spec)


def test_numbers_need_no_files(tmp_path: Path) -> None:
    assert User(5, 6, (), "/") == _lookup(tmp_path, "5:6")


def test_names_need_files(tmp_path: Path) -> None:
    with pytest.raises(Invalid, match="unable to find user mail"):
        _lookup(tmp_path, "mail")


def _fifo(etc: Path) -> None:
    os.mkfifo(etc / "passwd")


def _directory(etc: Path) -> None:
    (etc / "passwd").mkdir()


def _huge(etc: Path) -> None:
    (etc / "passwd").touch()
    os.truncate(etc / "passwd", MAX_FILE + 1)


def _magic_link(etc: Path) -> None:
    (etc / "passwd").symlink_to("passwd")


@pytest.mark.parametrize("make", [_fifo, _directory, _huge, _magic_link])
def test_a_passwd_that_is_no_ordinary_file_is_refused(
    tmp_path: Path, make: Callable[[Path], None]
) -> None:
    (tmp_path / "etc").mkdir()
    make(tmp_path / "etc")

    with pytest.raises((Invalid, OSError)):
        _lookup(tmp_path, "root")


def test_a_link_in_the_image_cannot_reach_the_hosts_files(tmp_path: Path) -> None:
    outside = tmp_path / "passwd"
    outside.write_text("spy:x:7:7::/:/\n")
    image = tmp_path / "image"
    (image / "etc").mkdir(parents=True)
    (image / "etc/passwd").symlink_to("../../passwd")

    with pytest.raises(Invalid, match="unable to find user spy"):
        _lookup(image, "spy")


def test_a_link_is_followed_inside_the_image(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "real").write_text("mail:x:8:9::/var/mail:/\n")
    (tmp_path / "etc/passwd").symlink_to("/real")

    assert User(8, 9, (), "/var/mail") == _lookup(tmp_path, "mail")


def test_names_need_not_be_utf_8(tmp_path: Path) -> None:
    (tmp_path / "etc").mkdir()
    (tmp_path / "etc/passwd").write_bytes(b"m\xe9l:x:8:9::/\xff:/\n")

    assert User(8, 9, (), "/\udcff") == _lookup(tmp_path, "m\udce9l")


@given(st.binary(max_size=300), st.binary(max_size=300), st.text(max_size=12))
def test_whatever_the_files_hold_there_is_a_user_or_a_clear_error(
    tmp_path_factory: pytest.TempPathFactory, passwd: bytes, group: bytes, spec: str
) -> None:
    image = tmp_path_factory.mktemp("image")
    (image / "etc").mkdir()
    (image / "etc/passwd").write_bytes(passwd)
    (image / "etc/group").write_bytes(group)

    try:
        user = _lookup(image, spec)
    except Invalid:
        return
    assert 0 <= user.uid < 1 << 31


def _lookup(image: Path, spec: str) -> User:
    fd = os.open(image, os.O_RDONLY | os.O_DIRECTORY)
    try:
        return lookup_user(fd, spec)
    finally:
        os.close(fd)
