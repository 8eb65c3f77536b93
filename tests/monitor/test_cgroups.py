"""Where is the monitor's control group? By lines of /proc as they are found on real machines."""

from __future__ import annotations

import os
import select
import signal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gimli import process
from gimli.monitor import config
from gimli.monitor.cgroups import Cgroups, find_cgroups, own_group, parse_own_group
from gimli.monitor.kernel import Kernel
from gimli.monitor.spawn import Surroundings, load_spawner
from gimli.monitor.spool import Spool

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


@pytest.mark.real
def test_who_is_born_into_a_group_that_was_killed_lives(tmp_path):
    """Linux 6.14 to 6.18, and perhaps later, kill it at its birth if nothing is done about that."""
    if os.geteuid() != 0 or own_group() is None:
        pytest.skip("needs root and cgroup v2")
    groups = find_cgroups("test", str(tmp_path))
    kernel = Kernel(load_spawner(), groups, Spool(None))
    service = config.Service("app", ("sleep", "1h"), config.Log(None))
    around = Surroundings(-1, None, "bell", None, (1024, 1024))
    for _ in range(3):
        spawned = kernel.spawn(service, around, os.path.join(tmp_path, "app.run"))
        assert spawned.grouped
        while not kernel.let_go():
            os.sched_yield()
        assert select.select([spawned.exec_fd], [], [], 20)[0]
        assert kernel.exec_failure(spawned.exec_fd) == ""
        assert process.command_name(spawned.pid) == "sleep"
        kernel.kill_group("app")
        assert kernel.collect(spawned).signo == signal.SIGKILL
        os.close(spawned.exec_fd)
        os.close(spawned.pidfd)
    groups.close()
