from __future__ import annotations

import asyncio
import importlib.util
import os
import socket
import struct
import subprocess
import sys
import threading
import time

import pytest

from gimli import client as installed
from gimli import heartbeat
from gimli.heartbeat import PageFile

SOURCE = os.path.dirname(os.path.dirname(installed.__file__))


@pytest.fixture
def page(tmp_path):
    """The monitor's side of a page."""
    file = PageFile(str(tmp_path / "page"))
    file.reset()
    yield file
    file.close()


@pytest.fixture
def bell(tmp_path):
    """The monitor's bell."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as receiver:
        receiver.bind(str(tmp_path / "bell"))
        yield receiver


@pytest.fixture
def load(monkeypatch, tmp_path):
    """A client as a new process has it: a module of its own, which has attached to nothing yet."""

    def make(page_fd, *, bell=None):
        monkeypatch.setenv(heartbeat.ENV_PAGE_FD, str(page_fd))
        monkeypatch.setenv(heartbeat.ENV_SERVICE, "orders")
        monkeypatch.setenv(heartbeat.ENV_BELL, bell.getsockname() if bell else str(tmp_path / "nobody"))
        spec = importlib.util.spec_from_file_location("fresh_client", installed.__file__)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module

    return make


def rings(bell):
    """How often it rang since it was last asked, and for whom."""
    heard = []
    while True:
        try:
            heard.append(bell.recv(100).decode())
        except BlockingIOError:
            return heard


def test_the_first_beat_attaches_and_says_running(load, page, bell):
    client = load(page.fd, bell=bell)
    before_ns = time.monotonic_ns()
    client.beat()
    seen = page.read()
    assert (seen.state, seen.library) == (heartbeat.RUNNING, heartbeat.LIBRARY_PYTHON)
    assert before_ns <= seen.beat_ns <= time.monotonic_ns()
    assert struct.unpack("<i", os.pread(page.fd, 4, heartbeat.OFFSET_ATTACHED_PID)) == (os.getpid(),)
    assert set(rings(bell)) == {"orders"}


def test_a_beat_imported_by_name_before_attaching_works(load, page):
    client = load(page.fd)
    beat = client.beat
    assert client.attach()
    beat()
    beat()
    assert page.read().ticks >= 2


def test_beats_count_and_do_not_ring(load, page, bell):
    """A bell per beat would wake the monitor for nothing: it sleeps until the deadline and looks then."""
    client = load(page.fd, bell=bell)
    client.running()
    rings(bell)
    before = page.read().ticks
    for _ in range(5):
        client.beat()
    assert page.read().ticks == before + 5
    assert rings(bell) == []


def test_a_beat_keeps_the_state_that_was_said(load, page, bell):
    client = load(page.fd, bell=bell)
    for say, state in (
        (client.starting, heartbeat.STARTING),
        (client.running, heartbeat.RUNNING),
        (client.stopping, heartbeat.STOPPING),
    ):
        say()
        client.beat()
        assert page.read().state == state
    assert rings(bell) == ["orders"] * 3


def test_saying_the_same_again_does_not_ring(load, page, bell):
    client = load(page.fd, bell=bell)
    client.running()
    rings(bell)
    client.running()
    assert rings(bell) == []


def test_a_worker_that_beats_does_not_undo_that_the_program_stops(load, page):
    """Beats write no state: two processes of one page would fight over it."""
    worker, program = load(page.fd), load(page.fd)
    worker.beat()
    program.stopping()
    worker.beat()
    assert page.read().state == heartbeat.STOPPING


def test_ticks_go_on_from_zero_when_their_bits_are_used_up(load, page):
    client = load(page.fd)
    client.running()
    client._count_ticks_from(0x7FFFFFFF)
    client.beat()
    client.beat()
    seen = page.read()
    assert (seen.state, seen.ticks) == (heartbeat.RUNNING, 0)


@pytest.mark.parametrize("descriptor", ["", "x", "-1", "999999", "9" * 30, "1.5"])
def test_without_a_page_everything_is_a_no_op(load, descriptor):
    client = load(descriptor)
    assert not client.attach()
    client.beat()
    client.starting()
    client.note("nobody reads this")
    with client.pulse("p", 1) as alive:
        alive.beat()
        alive.pause()
        alive.resume()
    assert list(client.beating([1, 2])) == [1, 2]


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"a log file of somebody else",
        bytes(4096),
        bytes(8) + b"GIMLIMHB" + bytes(4080),
        bytes(8) + struct.pack("<QII", heartbeat.MAGIC, 99, 4096) + bytes(4072),
        bytes(8) + struct.pack("<QII", heartbeat.MAGIC, heartbeat.VERSION, 4096) + bytes(4096),
        os.urandom(4096),
    ],
)
def test_a_file_that_is_not_a_page_is_never_written_to(load, tmp_path, content):
    """The number may be stale: a child closes descriptors and opens its own files under the same numbers."""
    path = tmp_path / "foreign"
    path.write_bytes(content)
    with path.open("r+b") as file:
        client = load(file.fileno())
        assert not client.attach()
        client.running()
        client.note("mine")
        client.pulse("p", 1).beat()
    assert path.read_bytes() == content


def test_a_descriptor_that_is_no_file_or_may_not_be_written_is_left_alone(load, page):
    read_end, write_end = os.pipe()
    read_only = os.open(page.path, os.O_RDONLY)
    for fd in (read_end, write_end, read_only):
        assert not load(fd).attach()
        os.close(fd)


def test_a_page_that_is_overwritten_later_breaks_nothing(load, page):
    client = load(page.fd)
    with client.pulse("p", 1) as alive:
        os.pwrite(page.fd, os.urandom(heartbeat.PAGE_SIZE), 0)
        client.beat()
        client.running()
        alive.beat()
        client.note("still here")
        client.pulse("q", 1).close()
    assert page.read().note == "still here"


def test_a_note_is_cut_between_characters(load, page):
    client = load(page.fd)
    client.note("importing customers")
    assert page.read().note == "importing customers"
    client.note("x" + "ü" * 300)
    assert page.read().note == "x" + "ü" * 127
    client.note("")
    assert page.read().note == ""


def test_a_pulse_is_watched_from_opening_to_closing(load, page, bell):
    client = load(page.fd, bell=bell)
    client.running()
    rings(bell)
    with client.pulse("writer-2", 0.5) as alive:
        (seen,) = page.read().pulses
        assert (seen.name, seen.tid, seen.interval_ns) == ("writer-2", threading.get_native_id(), 500_000_000)
        assert seen.active
        assert rings(bell) == ["orders"]
        alive.beat()
        assert page.read().pulses[0].beat_ns > seen.beat_ns
        alive.pause()
        assert not page.read().pulses[0].active
        alive.resume()
        assert page.read().pulses[0].active
        rings(bell)
    assert page.read().pulses == ()
    assert rings(bell) == ["orders"]


def test_closing_twice_does_not_close_the_pulse_of_another(load, page):
    client = load(page.fd)
    first = client.pulse("first", 1)
    first.close()
    others = [client.pulse(f"other {number}", 1) for number in range(heartbeat.PULSES_MAX)]
    first.close()
    first.beat()
    first.resume()
    assert len(page.read().pulses) == len(others)


def test_a_pulse_too_many_works_and_nobody_watches_it(load, page):
    client = load(page.fd)
    pulses = [client.pulse(f"p{number}", 1) for number in range(heartbeat.PULSES_MAX + 1)]
    pulses[-1].beat()
    assert {seen.name for seen in page.read().pulses} == {f"p{n}" for n in range(heartbeat.PULSES_MAX)}
    pulses[0].close()
    client.pulse("now there is room", 1)
    assert "now there is room" in {seen.name for seen in page.read().pulses}


@pytest.mark.parametrize("interval", [0, -1, float("nan")])
def test_an_interval_that_means_nothing_is_refused_with_and_without_a_monitor(load, page, interval):
    for fd in (page.fd, ""):
        with pytest.raises(ValueError, match="expected seconds above 0"):
            load(fd).pulse("p", interval)


def test_threads_that_open_pulses_at_once_get_one_each(load, page):
    client = load(page.fd)
    together = threading.Barrier(16)
    pulses = []

    def open_one(number):
        together.wait()
        pulses.append(client.pulse(f"p{number}", 1))

    threads = [threading.Thread(target=open_one, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(page.read().pulses) == 16


def test_beating_watches_the_work_and_not_the_wait(load, page):
    client = load(page.fd)
    while_waiting = []

    def jobs():
        for job in range(3):
            while_waiting.append([seen.active for seen in page.read().pulses])
            yield job

    done = []
    for job in client.beating(jobs(), "worker", interval=30):
        (seen,) = page.read().pulses
        assert (seen.name, seen.active) == ("worker", True)
        done.append(job)
    assert done == [0, 1, 2]
    assert while_waiting == [[False]] * 3
    assert page.read().pulses == ()


def test_beating_ends_with_the_loop_however_it_ends(load, page):
    client = load(page.fd)
    for _ in client.beating(range(9)):
        assert page.read().pulses[0].name == threading.current_thread().name
        break
    assert page.read().pulses == ()
    with pytest.raises(ZeroDivisionError):
        _ = [1 // 0 for _ in client.beating(range(9))]
    assert page.read().pulses == ()


class VirtualLoop(asyncio.SelectorEventLoop):
    """A loop whose clock jumps to the next timer instead of waiting for it."""

    now_s = 0.0

    def time(self):
        """Seconds, of nobody's clock."""
        return self.now_s

    def _run_once(self):
        if not self._ready and self._scheduled:
            self.now_s = max(self.now_s, self._scheduled[0]._when)
        super()._run_once()


def run(main):
    loop = VirtualLoop()
    try:
        with asyncio.Runner(loop_factory=lambda: loop) as runner:
            runner.run(main())
    finally:
        loop.close()


def test_a_loop_that_turns_beats_and_a_blocked_one_does_not(load, page):
    client = load(page.fd)

    async def main():
        client.watch_loop(interval=8)
        await asyncio.sleep(10)
        first = page.read()
        assert first.pulses[0].name == "asyncio"
        assert first.ticks >= 10, "at least once a second, for the sake of a short --watchdog"
        # Blocked: whatever this coroutine computes without awaiting, no beat comes from the loop.
        while time.monotonic_ns() == first.beat_ns:
            pass
        blocked = page.read()
        assert (blocked.beat_ns, blocked.pulses) == (first.beat_ns, first.pulses)
        await asyncio.sleep(10)
        assert page.read().pulses[0].beat_ns > blocked.pulses[0].beat_ns
        assert page.read().beat_ns > blocked.beat_ns

    run(main)
    assert page.read().pulses == (), "the end of a loop is no hang"


def test_a_loop_that_ends_before_the_watch_began_leaves_no_pulse(load, page):
    client = load(page.fd)

    async def main():
        client.watch_loop()

    run(main)
    assert page.read().pulses == ()
    assert client._loop_watches == set()


def test_a_watch_ends_with_its_block(load, page):
    client = load(page.fd)

    async def main():
        async with client.watch_loop(name="batch"):
            assert page.read().pulses[0].name == "batch"
        assert page.read().pulses == ()

    run(main)


def test_a_new_image_of_the_process_frees_the_pulses_of_the_old_one(load, page):
    """After execve nobody beats them: they would be reported as hangs."""
    load(page.fd).pulse("of the old image", 1)
    load(page.fd).attach()
    assert page.read().pulses == ()


def test_a_monitor_that_is_gone_or_deaf_is_no_fault_of_the_program(load, page, bell):
    client = load(page.fd)  # its bell does not exist
    client.running()
    deaf = load(page.fd, bell=bell)
    for _ in range(2000):  # More than the socket's queue holds: sending must not block.
        deaf.starting()
        deaf.running()
    assert page.read().state == heartbeat.RUNNING


def test_a_program_of_its_own_beats_on_an_inherited_page(page):
    """The real thing, with fork: a child's beats count, and its pulse is its own."""
    program = """
import os, sys
from gimli import client
client.beat()
client.note("parent")
child = os.fork()
if child == 0:
    client.beat()
    client.pulse("child", 5)
    os._exit(0)
os.waitpid(child, 0)
"""
    environment = os.environ | {heartbeat.ENV_PAGE_FD: str(page.fd), "PYTHONPATH": SOURCE}
    subprocess.run([sys.executable, "-c", program], env=environment, pass_fds=[page.fd], check=True)
    seen = page.read()
    assert (seen.state, seen.note) == (heartbeat.RUNNING, "parent")
    assert seen.ticks == 3
    assert [pulse.name for pulse in seen.pulses] == ["child"]


def test_importing_it_brings_nothing_heavy():
    heavy = {"asyncio", "socket", "dataclasses", "typing", "threading", "inspect", "contextlib", "logging"}
    code = f"import sys; sys.path.insert(0, {SOURCE!r}); import gimli.client; print(*sys.modules)"
    result = subprocess.run(
        [sys.executable, "-I", "-S", "-c", code], capture_output=True, text=True, check=True
    )
    assert heavy & set(result.stdout.split()) == set()
