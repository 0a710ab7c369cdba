"""
Users and groups, read from the image's own /etc/passwd and /etc/group.

Never through NSS: that would load the image's libraries into this process (CVE-2019-14271). The
files are hostile: they are found inside the root, must be regular, and are read up to a limit.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterator
from typing import Final, NamedTuple

from layers.inroot import walk_in_root
from ocispec.errors import Invalid

MAX_FILE: Final = 10 << 20  # bytes
_MAX_ID: Final = 2**31 - 1  # as Docker


class User(NamedTuple):
    """Who a command runs as."""

    uid: int
    gid: int
    groups: tuple[int, ...]  # supplementary
    home: str


class _Account(NamedTuple):
    name: str
    uid: int
    gid: int
    home: str


def lookup_user(root_fd: int, spec: str) -> User:
    """
    The user that *spec* names in the image open at *root_fd*.

    *spec* is ``user[:group]``, names or numbers; "" is root. As Docker: a number need not be in
    /etc/passwd; without a group it is the account's own, or 0; an explicit group is the only one.
    Invalid if a name is not there.
    """
    name, colon, group = spec.partition(":")
    accounts = list(_accounts(_read(root_fd, "etc/passwd")))
    number = as_id(name) if name else 0
    account = _find(accounts, name, number)
    if account is None and number is None:
        raise Invalid(
            f"unable to find user {name}: no matching entries in passwd file",
            hint="add the user in a RUN before, or write its number",
        )
    uid = account.uid if account is not None else number or 0
    home = (account.home if account is not None else "") or "/"
    groups = list(_groups(_read(root_fd, "etc/group")))
    if colon and group:
        return User(uid, _group_id(groups, group), (), home)
    gid = account.gid if account is not None else 0
    member = account.name if account is not None else None
    extra = {entry_gid for _, entry_gid, members in groups if member in members}
    return User(uid, gid, tuple(sorted(extra - {gid})), home)


def _find(accounts: list[_Account], name: str, number: int | None) -> _Account | None:
    for account in accounts:
        if name and account.name == name:
            return account
    for account in accounts:
        if number is not None and account.uid == number:
            return account
    return None


def _group_id(groups: list[tuple[str, int, frozenset[str]]], group: str) -> int:
    for name, gid, _ in groups:
        if name == group:
            return gid
    number = as_id(group)
    if number is None:
        raise Invalid(
            f"unable to find group {group}: no matching entries in group file",
            hint="add the group in a RUN before, or write its number",
        )
    return number


def as_id(text: str) -> int | None:
    """The number that *text* is; None if it is none. Invalid for one that no user can have."""
    if not (text.isascii() and text.isdigit()):
        return None
    number = _id(text.lstrip("0") or "0")
    if number is None:
        raise Invalid(f"user and group ids go from 0 to {_MAX_ID}, not to {text[:40]}")
    return number


def _accounts(data: bytes) -> Iterator[_Account]:
    for fields in _lines(data, 6):
        uid, gid = _id(fields[2]), _id(fields[3])
        if uid is not None and gid is not None:
            yield _Account(fields[0], uid, gid, fields[5])


def _groups(data: bytes) -> Iterator[tuple[str, int, frozenset[str]]]:
    for fields in _lines(data, 3):
        gid = _id(fields[2])
        if gid is not None:
            members = fields[3] if len(fields) > 3 else ""
            yield fields[0], gid, frozenset(filter(None, members.split(",")))


def _lines(data: bytes, least: int) -> Iterator[list[str]]:
    for line in os.fsdecode(data).split("\n"):
        fields = line.strip().split(":")
        if len(fields) >= least and not line.startswith("#"):
            yield fields


def _id(text: str) -> int | None:
    if not (text.isascii() and text.isdigit()) or len(text) > 10:
        return None
    return int(text) if int(text) <= _MAX_ID else None


def _read(root_fd: int, path: str) -> bytes:
    """The file's bytes; none if it is not there. Invalid if it is no ordinary small file."""
    try:
        parent, name, _ = walk_in_root(root_fd, path)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    try:
        # O_NONBLOCK: opening a FIFO must not wait for somebody to write.
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        fd = os.open(name, flags, dir_fd=parent)
    except OSError as error:
        if error.errno in (errno.ENOENT, errno.ENOTDIR):
            return b""
        raise
    finally:
        os.close(parent)
    try:
        status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode):
            raise Invalid(f"/{path} in the image is not a regular file")
        if status.st_size > MAX_FILE:
            raise Invalid(f"/{path} in the image is larger than {MAX_FILE} bytes")
        return os.read(fd, MAX_FILE)
    finally:
        os.close(fd)
