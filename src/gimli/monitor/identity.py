"""Whom does a program run as?

Looked up once, when a configuration is read: a directory service that does not answer then delays a person
and not a restart, and the monitor needs none of it.
"""

from __future__ import annotations

import grp
import os
import pwd

from gimli.errors import UsageError
from gimli.monitor.config import Identity

ID_MAX = 2**32 - 2
"""The last one means "leave it", setresuid(2)."""


def identify(user: str | int | None, group: str | int | None) -> Identity | None:
    """The user, the group and the further groups that a program gets.

    Args:
        user: a name or a number; None: who we are.
        group: the same; None: the user's own.

    Returns:
        None when nothing changes: not asked for, or we are that user and may not be another.

    Raises:
        UsageError: there is no such user or group, or only root could do it.
    """
    if user is None and group is None:
        return None
    account = _account(os.geteuid() if user is None else user)
    uid = account.pw_uid if account else int(user or 0)
    if group is not None:
        gid = _gid(group)
    elif account:
        gid = account.pw_gid
    else:
        raise UsageError(
            f"user {user}: the system has none with that number, so its group is not known",
            fix="name one: group = ... (--group)",
        )
    if os.geteuid() != 0:
        if (uid, gid) == (os.geteuid(), os.getegid()):
            return None
        raise UsageError(
            f"user {user or uid}: only root can run a program as another user or group",
            why=f"this is uid {os.geteuid()}, gid {os.getegid()}",
            fix="start gimli as root, or leave user and group out",
        )
    groups = os.getgrouplist(account.pw_name, gid) if account else [gid]
    environment = _environment(account) if account and user is not None else ()
    return Identity(str(user if user is not None else uid), uid, gid, tuple(groups), environment)


def _account(user: str | int) -> pwd.struct_passwd | None:
    """The entry of a user; None for a number that has none.

    Raises:
        UsageError: there is no user of that name, or there can be none of that number.
    """
    try:
        return pwd.getpwuid(_checked(user, "user")) if isinstance(user, int) else pwd.getpwnam(user)
    except KeyError:
        if isinstance(user, int):
            return None
        if user.isdecimal():
            return _account(int(user))
        raise UsageError(
            f"user {user}: the system has none of that name", fix=f"see: getent passwd; or: useradd -r {user}"
        ) from None


def _gid(group: str | int) -> int:
    if isinstance(group, int):
        return _checked(group, "group")
    try:
        return grp.getgrnam(group).gr_gid
    except KeyError:
        if group.isdecimal():
            return _checked(int(group), "group")
        raise UsageError(
            f"group {group}: the system has none of that name",
            fix=f"see: getent group; or: groupadd -r {group}",
        ) from None


def _checked(number: int, what: str) -> int:
    if not 0 <= number <= ID_MAX:
        raise UsageError(f"{what} {number}: a number is from 0 to {ID_MAX}")
    return number


def _environment(account: pwd.struct_passwd) -> tuple[tuple[str, str], ...]:
    """What a login would set: with root's HOME a program of another user reads the wrong files."""
    return (
        ("HOME", account.pw_dir),
        ("USER", account.pw_name),
        ("LOGNAME", account.pw_name),
        ("SHELL", account.pw_shell),
    )
