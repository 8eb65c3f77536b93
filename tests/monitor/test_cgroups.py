"""Where is the monitor's control group? By lines of /proc as they are found on real machines."""

from __future__ import annotations

import os

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli.monitor.cgroups import Cgroups, find_cgroups, own_group, parse_own_group

UNIFIED = "30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate"
HYBRID = "41 31 0:38 / /sys/fs/cgroup/unified rw,relatime - cgroup2 cgroup2 rw"
OLD = "35 31 0:32 / /sys/fs/cgroup/cpu rw - cgroup cgroup rw,cpu"
CONTAINER = "30 24 0:26 /docker/abc /sys/fs/cgroup ro - cgroup2 cgroup rw"


@pytest.mark.parametrize(
    ("memberships", "mounts", "path"),
    [
        (["0::/system.slice/gimli.service"], [UNIFIED], "/sys/fs/cgroup/system.slice/gimli.service"),
        (["8:pids:/", "1:cpu:/", "0::/"], [OLD, HYBRID], "/sys/fs/cgroup/unified"),
        (["0::/docker/abc/x"], [CONTAINER], "/sys/fs/cgroup/x"),
        (["0::/"], [OLD], None),
        (["4:pids:/a"], [UNIFIED], None),
        (["0::/elsewhere"], [CONTAINER], None),
        (["0::/docker/abcdef"], [CONTAINER], None),  # another container whose name begins alike
        (["0::/../.."], [CONTAINER], None),  # a process of another cgroup namespace
    ],
)
def test_the_own_group_is_found(memberships, mounts, path):
    assert parse_own_group(memberships, mounts) == path


@given(st.lists(st.text()), st.lists(st.text()))
def test_any_lines_are_a_group_or_none(memberships, mounts):
    assert parse_own_group(memberships, mounts) is None or memberships


def test_without_groups_nothing_is_known_and_nothing_fails():
    none = Cgroups(None)
    assert none.open_group("a") == -1
    assert none.members("a") is None
    none.remove("a")
    none.close()


def test_a_directory_that_is_no_cgroup_tells_nothing(tmp_path):
    """Somebody has unmounted the hierarchy under us."""
    (tmp_path / "a").mkdir()
    assert Cgroups(str(tmp_path)).members("a") is None


@pytest.mark.real
def test_a_group_is_made_found_again_and_removed(tmp_path):
    if os.geteuid() != 0 or own_group() is None:
        pytest.skip("needs root and cgroup v2")
    groups = find_cgroups("test", str(tmp_path))
    fd = groups.open_group("a")
    assert fd >= 0
    os.close(fd)
    assert groups.members("a") == []
    again = find_cgroups("another name, the same directory", str(tmp_path))
    assert again.members("a") == []
    again.close()
    assert groups.members("a") is None
