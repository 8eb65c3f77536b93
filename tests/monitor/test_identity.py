"""Users and groups, by what this system knows of them."""

from __future__ import annotations

import os
import pwd

import pytest

from gimli.errors import UsageError
from gimli.monitor.identity import identify

NOBODY = pwd.getpwnam("nobody")
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root runs programs as others")


def test_nothing_asked_changes_nothing():
    assert identify(None, None) is None


@as_root
@pytest.mark.parametrize("user", ["nobody", NOBODY.pw_uid, str(NOBODY.pw_uid)])
def test_a_user_brings_its_groups_and_its_home(user):
    who = identify(user, None)
    assert (who.uid, who.gid) == (NOBODY.pw_uid, NOBODY.pw_gid)
    assert set(who.groups) == set(os.getgrouplist("nobody", NOBODY.pw_gid))
    assert dict(who.environment)["HOME"] == NOBODY.pw_dir
    assert dict(who.environment)["USER"] == "nobody"


@as_root
def test_a_group_of_its_own():
    who = identify("nobody", "daemon")
    assert who.gid in who.groups
    assert who.gid != NOBODY.pw_gid


@as_root
def test_a_group_alone_keeps_the_user_and_its_environment():
    who = identify(None, 12345)
    assert (who.uid, who.gid, who.environment) == (0, 12345, ())


@as_root
def test_a_number_that_nobody_has_needs_a_group_and_gets_no_other():
    who = identify(54321, 12345)
    assert (who.uid, who.gid, who.groups, who.environment) == (54321, 12345, (12345,), ())
    with pytest.raises(UsageError, match="its group is not known"):
        identify(54321, None)


@pytest.mark.parametrize(
    ("user", "group", "expected"),
    [
        ("no-such-user", None, "user no-such-user: the system has none of that name"),
        (None, "no-such-group", "group no-such-group: the system has none of that name"),
        (-2, None, "user -2: a number is from 0"),
        (None, 2**32 - 1, "group 4294967295: a number is from 0"),
    ],
)
def test_who_is_not_there_is_told(user, group, expected):
    with pytest.raises(UsageError, match=expected):
        identify(user, group)
