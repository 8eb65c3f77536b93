"""One service at runtime, in the test's own process: facts in, orders out."""

from __future__ import annotations

import gc
import os
import signal
import struct
import tempfile

import pytest

from gimli import heartbeat
from gimli.errors import GimliError
from gimli.journal import Journal
from gimli.loop import Loop
from gimli.monitor import config, events
from gimli.monitor.cgroups import Cgroups
from gimli.monitor.child import State
from gimli.monitor.deaths import Records
from gimli.monitor.evidence import Evidence
from gimli.monitor.kernel import Kernel
from gimli.monitor.notify_socket import NotifySocket
from gimli.monitor.requests import _refuse_snapshot
from gimli.monitor.senders import Senders
from gimli.monitor.service import Supervised
from gimli.monitor.site import Site
from gimli.monitor.spawn import load_spawner, raise_descriptor_limit
from gimli.monitor.spool import Spool

pytestmark = pytest.mark.real


class Held:
    """A service with all that it shares with others, and the loop that moves it."""

    def __init__(self, directory: str, *command: str, **policy) -> None:
        self.loop = Loop()
        self.journal = Journal(os.path.join(directory, "journal"))
        limit = raise_descriptor_limit()
        self.notify = NotifySocket(self.loop, os.path.join(directory, "notify"), lambda _: None)
        site = Site(
            Kernel(load_spawner(), Cgroups(None), Spool(None)),
            self.loop,
            self.journal,
            Evidence(self.loop, self.journal, ("/bin/false",), ()),
            directory,
            directory,
            os.path.join(directory, "bell"),
            None,
            limit,
            Senders(self.loop, self.journal, "app", directory),
            Records(),
            self.notify,
        )
        log = config.Log(os.path.join(directory, "app.log"))
        made = config.Service("app", command, log, config.Policy(**policy))
        self.states: list[State] = []
        self.service = Supervised(made, site, lambda service: self.states.append(service.child.state))

    def until(self, state: State) -> None:
        """Let the loop go round until it has been there, be it for a moment."""
        too_late = self.loop.after(20, lambda: pytest.fail(f"it never gets {state.value}"))
        while state not in self.states:
            self.loop.run_once()
        too_late.cancel()
        del self.states[: self.states.index(state) + 1]


@pytest.fixture
def hold():
    with tempfile.TemporaryDirectory(prefix="gimli-") as directory:
        made = []

        def make(*command: str, **policy) -> Held:
            made.append(Held(directory, *command, **policy))
            return made[-1]

        yield make
        for held in made:
            held.service.handle(events.StopWanted())
            held.service.handle(events.StopExpired())
            held.until(State.DOWN)
            held.service.close()
            held.notify.close()


def test_a_program_runs_and_ends(hold):
    held = hold("sh", "-c", "echo said; exit 3", restart=config.Restart.NEVER)
    held.service.handle(events.StartWanted())
    held.until(State.RUNNING)
    held.until(State.DOWN)
    assert held.service.child.last_status.code == 3
    assert held.service.files.output.file.tail() == ["said"]
    assert held.service.status().pid is None


def test_an_event_that_fails_does_not_hold_back_those_that_follow(hold):
    """A bug is reported and survived (runtime): it must not leave a service that hears nothing any more."""
    held = hold("sleep", "1h")
    with pytest.raises(KeyError):
        held.service.handle("no event at all")
    held.service.handle(events.StartWanted())
    held.until(State.RUNNING)


def test_a_stop_between_fork_and_exec_reaches_the_program(hold):
    """At whatever point of its birth it is: TERM, then KILL at once."""
    held = hold("sleep", "1h")
    for _ in range(20):
        held.service.handle(events.StartWanted())
        pidfd = os.pidfd_open(held.service.pid)
        held.service.handle(events.StopWanted())
        held.service.handle(events.StopExpired())
        held.until(State.DOWN)
        with pytest.raises(ProcessLookupError):
            signal.pidfd_send_signal(pidfd, 0)
        os.close(pidfd)


def test_a_snapshot_is_refused_until_the_program_has_been_executed(hold):
    """Between fork and exec there is only a copy of the monitor to be seen."""
    held = hold("sleep", "1h")
    with pytest.raises(GimliError, match="it is down"):
        _refuse_snapshot(held.service)
    held.service.handle(events.StartWanted())
    with pytest.raises(GimliError, match="it is starting"):
        _refuse_snapshot(held.service)
    held.until(State.RUNNING)
    _refuse_snapshot(held.service)


def test_a_program_of_another_user_that_cannot_be_signalled_is_said(hold, monkeypatch):
    """`gimli run -- sudo ...`: the kernel refuses, and the monitor goes on. Here the call itself refuses."""
    held = hold("sleep", "1h")
    held.service.handle(events.StartWanted())
    held.until(State.RUNNING)

    def refuse(*_: object) -> None:
        raise PermissionError(1, "Operation not permitted")

    with monkeypatch.context() as patched:
        patched.setattr(signal, "pidfd_send_signal", refuse)
        patched.setattr(os, "killpg", refuse)
        held.service.handle(events.StopWanted())
        held.service.handle(events.StopExpired())
    told = [entry["signal"] for entry in held.journal.recent("app") if entry["event"] == "not-sent"]
    assert told == ["SIGTERM", "SIGKILL"]
    held.service.signaller.send(signal.SIGKILL, "the test asks")
    held.until(State.DOWN)


def test_a_state_that_changes_while_the_last_one_is_told_is_told_too(hold):
    """A Python program goes from starting to running within a millisecond."""
    held = hold("sleep", "1h")
    held.service.handle(events.StartWanted())
    held.until(State.RUNNING)
    said = []

    def go_on(entry: dict) -> None:
        if entry["event"] == "heartbeat":
            said.append(entry["state"])
            _say(held.service.files.page.fd, heartbeat.RUNNING)

    held.journal.subscribers.append(go_on)
    _say(held.service.files.page.fd, heartbeat.STARTING)
    held.service.look_at_page()
    assert held.service.child.state is State.STARTING
    held.until(State.RUNNING)
    assert said == ["starting", "running"]


def _say(fd: int, state: int) -> None:
    """What a program does by its mapping."""
    os.pwrite(fd, struct.pack("<ii", state, 1), heartbeat.OFFSET_STATE)


def test_nothing_is_left_open(hold):
    gc.collect()  # what earlier tests left in cycles would be closed in the middle of this one
    with tempfile.TemporaryDirectory(prefix="gimli-") as directory:
        before = set(os.listdir("/proc/self/fd"))
        held = Held(directory, "true", restart=config.Restart.NEVER)
        held.service.handle(events.StartWanted())
        held.until(State.RUNNING)
        held.until(State.DOWN)
        held.service.close()
        held.notify.close()
        held.loop._epoll.close()
        os.close(held.journal._fd)
        assert set(os.listdir("/proc/self/fd")) == before
        assert sorted(os.listdir(directory)) == ["app.log", "journal", "journal.reserve"]


def test_a_start_that_fails_waits_for_its_backoff_and_is_tried_once(hold, monkeypatch):
    """When the machine is short of processes, twice the tries would be the wrong answer."""
    held = hold("sleep", "1h", backoff=config.Backoff(first_s=3600.0, limit_s=3600.0))
    tries = []

    def refuse(*arguments):
        tries.append(arguments)
        raise BlockingIOError(11, "Resource temporarily unavailable")

    with monkeypatch.context() as patch:
        patch.setattr(held.service._kernel, "spawn", refuse)
        held.service.handle(events.StartWanted())
        assert held.service.child.state is State.BACKOFF
        held.service.handle(events.RestartDue())
    assert len(tries) == 2, "the first start, and one after its wait"
    assert held.service.child.failures == 2
    held.service.handle(events.StartWanted())
    held.until(State.RUNNING)
