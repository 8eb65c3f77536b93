"""The kernel's answers about processes: what cannot be told is not told as "it has ended"."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess

import pytest

from gimli import process
from gimli.monitor import config
from gimli.monitor.cgroups import Cgroups
from gimli.monitor.kernel import Kernel
from gimli.monitor.spawn import Surroundings, load_spawner
from gimli.monitor.spawned import Spawned
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


def test_whether_there_was_an_exec_is_never_waited_for(tmp_path):
    """Though the monitor still holds what the child needed to begin."""
    spawner = load_spawner()
    spawner.reserve_berths()
    kernel = Kernel(spawner, Cgroups(None), Spool(None))
    service = config.Service("app", ("sleep", "1h"), config.Log(None))
    around = Surroundings(-1, None, "bell", None, (1024, 1024))
    spawned = kernel.spawn(service, around, os.path.join(tmp_path, "app.run"))
    while process.command_name(spawned.pid) != "sleep":
        os.sched_yield()
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
        # Nor of what a main process has left: nobody to be seen would be nobody left.
        for look in (
            lambda: kernel.survey("/bell"),
            lambda: kernel.orphans(set()),
            lambda: kernel.living([1]),
        ):
            with pytest.raises(OSError, match="Too many open files"):
                look()


@pytest.fixture
def pair():
    """Two children that lead a process group each."""
    children = [subprocess.Popen(["sleep", "1h"], process_group=0) for _ in range(2)]
    yield children
    for child in children:
        child.kill()
        child.wait()


def spawned(child, leader: int = 0) -> Spawned:
    return Spawned(child.pid, os.pidfd_open(child.pid), -1, adopted=True, leader=leader)


def test_the_group_of_a_main_process_is_signalled(kernel, pair):
    main = spawned(pair[0])
    kernel.signal_group(main, signal.SIGKILL)
    assert pair[0].wait() == -signal.SIGKILL
    os.close(main.pidfd)


def test_a_group_is_not_signalled_for_one_that_is_not_in_it(kernel, pair):
    """The former main process began it, and is gone: its number may be a stranger's."""
    main = spawned(pair[0], leader=pair[1].pid)
    kernel.signal_group(main, signal.SIGKILL)
    assert [child.poll() for child in pair] == [None, None]
    os.close(main.pidfd)


def test_a_group_is_not_signalled_for_one_that_was_reaped(kernel, pair):
    """Adopted, it is somebody else's child; its pid, and its group, can be a stranger's before we know."""
    gone = subprocess.Popen(["sleep", "1h"])
    dead_pidfd = os.pidfd_open(gone.pid)
    gone.kill()
    gone.wait()
    kernel.signal_group(Spawned(pair[0].pid, dead_pidfd, -1, adopted=True), signal.SIGKILL)
    assert pair[0].poll() is None
    os.close(dead_pidfd)
