"""The kernel's answers about processes: what cannot be told is not told as "it has ended"."""

from __future__ import annotations

import contextlib
import os
import resource
import signal

import pytest

from gimli import process
from gimli.monitor import config
from gimli.monitor.cgroups import Cgroups
from gimli.monitor.kernel import Kernel
from gimli.monitor.spawn import Surroundings, load_spawner
from gimli.monitor.spool import Spool
from gimli.process import ProcessId

pytestmark = pytest.mark.real


@pytest.fixture
def kernel():
    return Kernel(load_spawner(), Cgroups(None), Spool(None))


@contextlib.contextmanager
def no_descriptors():
    """None is left for this process."""
    before = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (0, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, before)


def test_a_living_process_is_identified_and_watched(kernel):
    myself = process.identify(os.getpid())
    assert kernel.identify(os.getpid()) == myself
    os.close(kernel.pidfd_of(myself))


def test_an_exec_is_seen_as_soon_as_it_has_been(tmp_path):
    """Though the monitor still holds what the child needed to begin. Its first word may be there already."""
    spawner = load_spawner()
    spawner.reserve_berths()
    kernel = Kernel(spawner, Cgroups(None), Spool(None))
    service = config.Service("app", ("sleep", "1h"), config.Log(None))
    around = Surroundings(-1, None, "bell", None, (1024, 1024))
    spawned = kernel.spawn(service, around, os.path.join(tmp_path, "app.run"))
    while process.command_name(spawned.pid) != "sleep":
        os.sched_yield()
    assert kernel.is_exec_decided(spawned.exec_fd)
    assert not kernel.exec_failure(spawned.exec_fd)
    kernel.send_signal(spawned.pidfd, signal.SIGKILL)
    os.close(spawned.exec_fd)
    assert kernel.collect(spawned).signo == signal.SIGKILL
    os.close(spawned.pidfd)


def test_one_that_has_ended_is_nobody(kernel):
    pid = os.fork()
    if pid == 0:
        os._exit(0)
    os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
    assert kernel.identify(pid) is None  # a zombie
    os.waitpid(pid, 0)
    assert kernel.identify(pid) is None
    assert kernel.pidfd_of(ProcessId(pid, 1)) is None


def test_another_with_its_pid_is_not_it(kernel):
    assert kernel.pidfd_of(ProcessId(os.getpid(), 1)) is None


def test_without_a_descriptor_nothing_is_said_of_a_process(kernel):
    """Taken for "it has ended", it would have a second copy started."""
    myself = process.identify(os.getpid())
    with no_descriptors():
        with pytest.raises(OSError, match="cannot be read"):
            kernel.identify(os.getpid())
        with pytest.raises(OSError, match="Too many open files"):
            kernel.pidfd_of(myself)
