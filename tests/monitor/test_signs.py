"""Signs of life, held by hand: what must survive a monitor, and what must not be left open."""

from __future__ import annotations

import gc
import json
import os
import socket
import tempfile

import pytest

from gimli import clock, heartbeat
from gimli.loop import Loop
from gimli.monitor import config, events
from gimli.monitor.child import Child, State
from gimli.monitor.descriptor_store import STORED_MAX, DescriptorStore
from gimli.monitor.notify_socket import NotifySocket
from gimli.monitor.signs import Signs

pytestmark = pytest.mark.real

FD = config.Signs(config.ReadyBy.FD, access=config.Access.ALL)


class Held:
    """A service as its signs see it, and a record of what they do with it."""

    def __init__(self, directory: str, told: config.Signs) -> None:
        self.loop = Loop()
        self.page = heartbeat.PageFile(os.path.join(directory, "page"))
        self.page.reset()
        self.events: list[events.Event] = []
        self.told: list[str] = []
        self.config = config.Service("app", ("app",), config.Log(None), signs=told)
        self.child = Child(self.config.policy, State.STARTING)
        self.handle = self.events.append

    def signs(self) -> Signs:
        """Its signs."""
        return Signs(self, self.page, self.loop, "/notify")

    def look_at_page(self) -> None:
        """Nothing is done with it."""

    def tell(self, event: str, **_: object) -> None:
        """To the journal."""
        self.told.append(event)

    def extend_stop(self, delay_s: float) -> None:
        """It is not being stopped."""

    def change_main(self, _pid: int, pidfd: int) -> int:
        """As if it had been the main one before."""
        return pidfd

    def settle(self) -> None:
        """It is executed."""

    def start_command(self, command: tuple[str, ...]):
        """Nothing is to be started."""
        pytest.fail(f"{command} was started")


@pytest.fixture
def hold():
    with tempfile.TemporaryDirectory(prefix="gimli-") as directory:
        yield lambda told: Held(directory, told)


def open_fds() -> set[str]:
    return set(os.listdir("/proc/self/fd"))


def test_what_is_known_survives_a_takeover(hold):
    """Plain data, through JSON, and descriptors by their numbers; then the newline comes."""
    before = hold(FD)
    signs = before.signs()
    signs.store.keep([os.memfd_create("state")], "state", polled=True)
    given = signs.prepare()
    program_fd = os.dup(given.placed[0][0])
    signs.forked(os.getpid())
    packed = json.loads(json.dumps(signs.pack()))

    after = hold(FD)
    again = after.signs()
    again.restore(packed)
    assert again.pack() == packed
    assert again.is_main(os.getpid())
    os.write(program_fd, b"\n")
    while not after.events:
        after.loop.run_once()
    assert after.events == [events.BecameReady("fd")]
    assert dict(again.prepare().environment)["LISTEN_FDNAMES"] == "state"


def test_a_program_that_beats_by_its_page_too_is_not_written_over(hold):
    """It has said STARTING itself, and will say RUNNING itself: a write of ours could come after that."""
    held = hold(FD)
    signs = held.signs()
    signs.prepare()
    signs.forked(os.getpid())
    held.page.set_state(heartbeat.STARTING, clock.monotonic_ns() + 1)
    signs._pipe_ready()
    assert held.events == [events.BecameReady("fd")]
    assert held.page.read().state == heartbeat.STARTING
    signs.close()


def test_a_delay_survives_a_takeover(hold):
    told = config.Signs(config.ReadyBy.DELAY, ready_delay_s=0.01)
    signs = hold(told).signs()
    signs.forked(1)
    signs.executed()
    after = hold(told)
    after.signs().restore(signs.pack())
    while not after.events:
        after.loop.run_once()
    assert after.events == [events.BecameReady("delay")]


def test_an_instance_that_was_found_needs_three_facts(hold):
    signs = hold(FD).signs()
    signs.restore({"leader": 7, "main": 8, "is_ready": True})
    assert signs.is_main(8)
    assert signs.is_kin((7, 1))
    assert not signs.is_kin((9, 1))


def test_a_service_that_is_down_has_no_kin(hold):
    """Else session 0, of processes that the kernel began, would be its own."""
    assert not hold(FD).signs().is_kin((0, 0))


def test_nothing_is_left_open(hold):
    gc.collect()  # what earlier tests left in cycles would be closed in the middle of this one
    held = hold(FD)
    fds = open_fds()
    signs = held.signs()
    signs.prepare()
    signs.forked(None)
    signs.prepare()
    signs.forked(os.getpid())
    signs.store.keep([os.memfd_create(str(number)) for number in range(3)], "some", polled=True)
    signs.ended()
    signs.close()
    assert open_fds() == fds


def test_a_store_is_bounded_and_keeps_nothing_twice():
    store = DescriptorStore(Loop())
    here, there = os.pipe()
    ends = [here, there, os.dup(here), os.dup(there)]
    assert store.keep(ends, "pipe", polled=False) == 0
    assert len(store.held()) == 2, "both ends, once each"
    many = [os.memfd_create("many") for _ in range(100)]
    left = store.keep(many, "many", polled=True)
    assert left == len(many) == 100 + 2 - STORED_MAX
    assert len(store.held()) == STORED_MAX
    store.clear()
    for fd in many:
        os.close(fd)


def test_what_has_hung_up_is_not_handed_on():
    store = DescriptorStore(Loop())
    mine, theirs = socket.socketpair()
    store.keep([mine.detach()], "peer", polled=True)
    assert store.held()
    theirs.close()
    assert not store.held()


def test_a_message_says_who_sent_it_and_its_descriptors_are_closed():
    """Whatever becomes of it: also when handling it fails."""
    with tempfile.TemporaryDirectory(prefix="gimli-") as directory:
        loop = Loop()
        got = []

        def fail(message) -> None:
            got.append((message.data, message.pid, message.uid, len(message.fds), message.is_whole))
            raise RuntimeError

        receiver = NotifySocket(loop, os.path.join(directory, "notify"), fail)
        fds = open_fds()
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender:
            sender.connect(receiver.path)
            socket.send_fds(sender, [b"FDSTORE=1"], [0, 1, 2])
            socket.send_fds(sender, [b"x" * 5000], [0])
            for _ in range(2):
                with pytest.raises(RuntimeError):
                    loop.run_once()
        us = (os.getpid(), os.getuid())
        assert got == [(b"FDSTORE=1", *us, 3, True), (b"x" * 4097, *us, 1, False)]
        assert open_fds() == fds
        receiver.close()
        assert os.listdir(directory) == []


def test_a_page_takes_what_a_program_says_elsewhere(hold):
    page = hold(FD).page
    now_ns = clock.monotonic_ns()
    page.set_state(heartbeat.STARTING, now_ns)
    page.set_note("né" * 200)
    read = page.read()
    assert (read.state, read.beat_ns) == (heartbeat.STARTING, now_ns)
    assert read.note == "né" * 85, "255 bytes, the last character whole"
    assert read.pulses == ()
